"""Receive a stream of the command while it runs: a pipe from the launcher, and what has come through it."""

from __future__ import annotations

import posix
import select
from errno import EAGAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_READ_BYTES = 1 << 16


class OutputPipe:
    """One stream. Call `read` whenever `fileno` is readable; the launcher has written all of it when its report is there.

    The owner closes it. `write_fd` goes to the launcher and is closed here once that has it.
    """

    def __init__(self, on_data: Callable[[bytes], None] | None = None, *, keep_bytes: int | None = None) -> None:
        """Create the pipe.

        :param on_data: called with each piece, in the thread that calls `read`.
        :param keep_bytes: the most bytes of it that are kept; None keeps all that the launcher passes on.
        """
        self._read_fd, self.write_fd = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self._on_data, self._keep_bytes = on_data, keep_bytes
        self._kept = bytearray()

    def fileno(self) -> int:
        """Return the read end; -1 once the stream has ended."""
        return self._read_fd

    @property
    def content(self) -> bytes:
        """What has come so far, as far as it is kept."""
        return bytes(self._kept)

    def read(self) -> bool:
        """Read one piece without waiting. Return False if there is none now, or no more."""
        if self._read_fd < 0:
            return False
        try:
            piece = posix.read(self._read_fd, _READ_BYTES)
        except OSError as error:
            if error.errno != EAGAIN:
                raise
            return False
        if not piece:
            posix.close(self._read_fd)
            self._read_fd = -1
            return False
        if self._keep_bytes is None:
            self._kept += piece
        elif len(self._kept) < self._keep_bytes:
            self._kept += piece[: self._keep_bytes - len(self._kept)]
        if self._on_data is not None:
            self._on_data(piece)
        return True

    def read_all(self) -> None:
        """Read all that is there now."""
        while self.read():
            pass

    def sent(self) -> None:
        """Close the launcher's end: it has its own descriptor now."""
        if self.write_fd >= 0:
            posix.close(self.write_fd)
            self.write_fd = -1

    def close(self) -> None:
        """Close both ends."""
        self.sent()
        if self._read_fd >= 0:
            posix.close(self._read_fd)
            self._read_fd = -1


def readable_within(descriptor: int, seconds: float) -> bool:
    """Wait at most `seconds`; return whether the descriptor is readable."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def wait_readable(control: int, outputs: Sequence[OutputPipe]) -> None:
    """Read from the outputs as it comes until `control` is readable."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    for output in outputs:
        poll.register(output.fileno(), select.POLLIN)
    by_fd = {output.fileno(): output for output in outputs}
    while True:
        ready = [fd for fd, _events in poll.poll()]
        for fd in ready:
            if fd != control and not by_fd[fd].read() and by_fd[fd].fileno() < 0:
                poll.unregister(fd)
        if control in ready:
            return
