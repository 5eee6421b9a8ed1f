"""Where a command's streams go, and what else goes along with a payload: descriptors of the caller's, and ours.

Rank 3.
"""

from __future__ import annotations

import posix

from capsule_run.launcher import memory_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.request import Request
    from capsule_run.workspace.transfer import Exchange


class Streams:
    """Where the command's streams go instead of into the result: descriptors that stay the caller's; None captures.

    `stdin` None means what the request says. A descriptor that may block for long (a terminal) should be non-blocking.
    """

    __slots__ = ("stderr", "stdin", "stdout")

    def __init__(self, *, stdin: int | None = None, stdout: int | None = None, stderr: int | None = None) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr


class StdioTargets:
    """The descriptors that go along with the payload, and the closing of those that are ours."""

    def __init__(self, request: Request, streams: Streams) -> None:
        self._request, self._streams = request, streams
        self._own: list[int] = []
        self.exchange: Exchange | None = None
        self.streams_stdin = streams.stdin is not None
        self.stdout = self.stderr = self.record = -1

    def open(self) -> list[int]:
        """Make what is missing, and return all in the order that the plan of a payload has them in."""
        self.stdout = self._sink(self._streams.stdout, "capsule-stdout")
        self.stderr = self._sink(self._streams.stderr, "capsule-stderr")
        self.record = self._keep(memory_file("capsule-record"))
        fds = [self.stdout, self.stderr, self.record]
        if self._streams.stdin is not None:
            fds.append(self._streams.stdin)
        elif self._request.stdin is not None:
            fds.append(self._keep(memory_file("capsule-stdin", self._request.stdin)))
        return fds

    def _keep(self, fd: int) -> int:
        self._own.append(fd)
        return fd

    def _sink(self, given: int | None, name: str) -> int:
        return self._keep(memory_file(name)) if given is None else given

    def content(self, fd: int, size: int) -> bytes:
        """What was captured; empty for a stream that went elsewhere."""
        if fd not in self._own or size == 0:
            return b""
        parts, at = [], 0
        while at < size and (part := posix.pread(fd, size - at, at)):  # the kernel gives 2 GiB at a time
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        if self.exchange is not None:
            self.exchange.close()
        while self._own:
            posix.close(self._own.pop())
