"""Copy input files in: send their bytes through one pipe to the room's first process."""

from __future__ import annotations

import fcntl
import posix
import select
from errno import EIO, ESTALE

from capsule_run.host.input_files import open_plain, unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.launcher import Launcher
    from capsule_run.model.optional import WorkspaceFile


_STEP_BYTES = 1 << 20
_PIPE_BYTES = 1 << 20


class Stream:
    """The pipe that carries the bytes. Owns both ends until `close`."""

    def __init__(self) -> None:
        self.inner, self._outer = posix.pipe2(posix.O_CLOEXEC)
        posix.set_blocking(self._outer, False)
        try:
            fcntl.fcntl(self._outer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:  # the account's pipe buffers are used up: a smaller pipe is only slower
            pass

    def close(self) -> None:
        """Close both ends."""
        posix.close(self.inner)
        posix.close(self._outer)

    def send(self, files: tuple[WorkspaceFile, ...], launcher: Launcher) -> None:
        """Send all files in order. Stop early if the launcher sends a message: it has failed, or exited.

        The inner end stays open here, so that a launcher that has exited is seen on its socket and never as SIGPIPE.
        """
        poll = select.poll()
        poll.register(self._outer, select.POLLOUT)
        poll.register(launcher.fileno(), select.POLLIN)
        for file in files:
            if not (
                self._send_bytes(file, poll, launcher)
                if file.content is not None
                else self._send_source(file, poll, launcher)
            ):
                return

    @staticmethod
    def _wait_for_room(poll: select.poll, launcher: Launcher) -> bool:
        return all(fd != launcher.fileno() for fd, _events in poll.poll())

    def _send_bytes(self, file: WorkspaceFile, poll: select.poll, launcher: Launcher) -> bool:
        view = memoryview(file.content or b"")
        while view:
            try:
                view = view[posix.write(self._outer, view[:_STEP_BYTES]) :]
            except BlockingIOError:
                if not self._wait_for_room(poll, launcher):
                    return False
        return True

    def _send_source(self, file: WorkspaceFile, poll: select.poll, launcher: Launcher) -> bool:
        fd = open_plain(file.source)
        try:
            seen = posix.fstat(fd)
            if (seen.st_dev, seen.st_ino) != (file.device, file.inode):
                raise unreadable(file.source, "it was replaced by another file", ESTALE)
            left = file.size
            while left > 0:
                try:
                    moved = posix.splice(fd, self._outer, min(left, _STEP_BYTES), flags=posix.SPLICE_F_NONBLOCK)
                except BlockingIOError:
                    if not self._wait_for_room(poll, launcher):
                        return False
                    continue
                if moved == 0:
                    raise unreadable(file.source, "it became shorter while it was read", EIO)
                left -= moved
        finally:
            posix.close(fd)
        return True
