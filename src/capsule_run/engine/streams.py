"""Descriptors that are sent with a payload: the command's standard streams and the launcher's record."""

from __future__ import annotations

import posix

from capsule_run.engine import output_pipe
from capsule_run.launcher import memory_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from capsule_run.engine.output_pipe import OutputPipe
    from capsule_run.model.request import Request

    class Terminal(Protocol):
        """The caller's terminal, for a command that gets one of its own."""

        fd: int  # the launcher copies its size and modes, and restores it if this process is killed

        def started(self) -> None:
            """Change the terminal: the launcher knows how it was. The command has started."""

        def wait(self, control: int, outputs: list[OutputPipe]) -> None:
            """Pass bytes on until `control` is readable."""

        def ended(self) -> None:
            """Restore the terminal: the run has ended, and all of its output has been passed on."""


class Streams:
    """Descriptors for the command's streams. The caller keeps them; None captures the stream in the result.

    `stdin` None takes the input from the request. A descriptor that can block for long (a terminal) should be non-blocking.
    `on_stdout` and `on_stderr` are called with each piece of a captured stream as it comes, in the thread that waits; of
    such a stream `keep_bytes` are kept, or all that the output limit lets pass. With a `terminal` the command gets one of its
    own, which takes its input from `stdin`, and whose output is stdout.
    """

    __slots__ = ("keep_bytes", "on_stderr", "on_stdout", "stderr", "stdin", "stdout", "terminal")

    def __init__(
        self,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
        keep_bytes: int | None = None,
        terminal: Terminal | None = None,
    ) -> None:
        self.terminal = terminal
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.on_stdout, self.on_stderr, self.keep_bytes = on_stdout, on_stderr, keep_bytes


class StdioTargets:
    """The descriptors that are sent with the payload. `close` closes those that this object opened."""

    def __init__(self, request: Request, streams: Streams) -> None:
        self._request, self._streams = request, streams
        self._own: list[int] = []
        self._pipes: dict[int, OutputPipe] = {}  # by the descriptor that the launcher writes to
        self.stdout = self.stderr = self.record = -1

    def open(self) -> list[int]:
        """Open what captures the streams; return all descriptors in the order of `plan.payload.payload_steps`."""
        self.stdout = self._target(self._streams.stdout, self._streams.on_stdout, "capsule-stdout")
        self.stderr = self._target(self._streams.stderr, self._streams.on_stderr, "capsule-stderr")
        self.record = self._own_fd(memory_file("capsule-record"))
        fds = [self.stdout, self.stderr, self.record]
        if self._streams.stdin is not None:
            fds.append(self._streams.stdin)
        elif self._request.stdin is not None:
            fds.append(self._own_fd(memory_file("capsule-stdin", self._request.stdin)))
        if self._streams.terminal is not None:
            fds.append(self._streams.terminal.fd)
        return fds

    def _own_fd(self, fd: int) -> int:
        self._own.append(fd)
        return fd

    def _target(self, given: int | None, on_data: Callable[[bytes], None] | None, name: str) -> int:
        if given is not None:
            return given
        if on_data is None:
            return self._own_fd(memory_file(name))
        pipe = output_pipe.OutputPipe(on_data, keep_bytes=self._streams.keep_bytes)
        self._pipes[pipe.write_fd] = pipe
        return pipe.write_fd

    def sent(self) -> None:
        """Close what only the launcher needs: it has all descriptors now."""
        for pipe in self._pipes.values():
            pipe.sent()

    @property
    def outputs(self) -> list[OutputPipe]:
        """The streams to read from while the command runs."""
        return [pipe for pipe in self._pipes.values() if pipe.fileno() >= 0]

    def content(self, fd: int, size: int) -> bytes:
        """Return the captured bytes of a stream; empty if the caller gave its descriptor."""
        if fd in self._pipes:
            self._pipes[fd].read_all()
            return self._pipes[fd].content
        if fd not in self._own or size == 0:
            return b""
        parts, at = [], 0
        while at < size and (part := posix.pread(fd, size - at, at)):  # the kernel reads at most 2 GiB at a time
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        for pipe in self._pipes.values():
            pipe.close()
        while self._own:
            posix.close(self._own.pop())
