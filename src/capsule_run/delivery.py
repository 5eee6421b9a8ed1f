"""Files in: what the host's files among them are, and the bytes of all of them on their way into the room.

Rank 2. The room's first process makes every file itself, on the sandbox's own file system and with the sandbox's own ids,
of the bytes that come through one pipe; here nothing is written anywhere. Bytes of a host file go from it to the pipe in
the kernel. Called by `host.survey` and `runner`.
"""

from __future__ import annotations

import fcntl
import posix
import select

from . import hostfile, paths
from ._value import Value
from .errors import CapsuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .core import Core
    from .model import InputFile

DEFAULT_MODE = 0o644
_STEP_BYTES = 1 << 20
_PIPE_BYTES = 1 << 20


class Delivery(Value):
    """One file to be made. `content`, or what `source` held when it was looked at: `device` and `inode` say which that is."""

    path: str
    mode: int
    size: int
    content: bytes | None
    source: str
    device: int
    inode: int


def look_at_files(files: tuple[InputFile, ...], directory: str) -> tuple[Delivery, ...]:
    """What each file will be. Raises CapsuleError E2004 for a source that is missing, a link, or not a plain file."""
    return tuple([_look(file, directory) for file in files])


def _refused(path: str, why: str, errno: int, *, hint: str | None = None) -> CapsuleError:
    return CapsuleError(
        "E2004", f"files: cannot read `{path}`: {why}", details={"path": path, "errno": errno}, hint=hint
    )


def _look(file: InputFile, directory: str) -> Delivery:
    mode = DEFAULT_MODE if file.mode is None else file.mode
    if file.source is None:
        content = file.content or b""
        return Delivery(path=file.path, mode=mode, size=len(content), content=content, source="", device=0, inode=0)
    plain = paths.join(directory, file.source)
    fd = open_plain(plain)
    try:
        seen = posix.fstat(fd)
    finally:
        posix.close(fd)
    return Delivery(
        path=file.path,
        mode=seen.st_mode & 0o777 if file.mode is None else mode,
        size=seen.st_size,
        content=None,
        source=plain,
        device=seen.st_dev,
        inode=seen.st_ino,
    )


def open_plain(path: str) -> int:
    """A descriptor of the caller's plain file at an absolute path (`hostfile`). Raises CapsuleError E2004."""
    try:
        return hostfile.open_plain(path)
    except OSError as error:
        why, hint = hostfile.reason_of(error)
        if paths.is_directory(path) and hint is None:
            hint = "show a directory with `--bind`"
        raise _refused(path, why, error.errno or 0, hint=hint) from None


class Stream:
    """The pipe through which the bytes go. Owns both of its ends until `close`."""

    def __init__(self) -> None:
        self.inner, self._outer = posix.pipe2(posix.O_CLOEXEC)
        posix.set_blocking(self._outer, False)
        try:
            fcntl.fcntl(self._outer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:  # this account has its share of pipes already: a smaller one is only slower
            pass

    def close(self) -> None:
        posix.close(self.inner)
        posix.close(self._outer)

    def send(self, files: tuple[Delivery, ...], core: Core) -> None:
        """Send all of them in order, or as much as the core takes: one that has something to say needs no more.

        The inner end stays open here, so that a core that is gone is seen on its socket and never by SIGPIPE.
        """
        poll = select.poll()
        poll.register(self._outer, select.POLLOUT)
        poll.register(core.fileno(), select.POLLIN)
        for file in files:
            if not (
                self._send_bytes(file, poll, core) if file.content is not None else self._send_source(file, poll, core)
            ):
                return

    @staticmethod
    def _may_go_on(poll: select.poll, core: Core) -> bool:
        return all(fd != core.fileno() for fd, _events in poll.poll())

    def _send_bytes(self, file: Delivery, poll: select.poll, core: Core) -> bool:
        view = memoryview(file.content or b"")
        while view:
            try:
                view = view[posix.write(self._outer, view[:_STEP_BYTES]) :]
            except BlockingIOError:
                if not self._may_go_on(poll, core):
                    return False
        return True

    def _send_source(self, file: Delivery, poll: select.poll, core: Core) -> bool:
        fd = open_plain(file.source)
        try:
            seen = posix.fstat(fd)
            if (seen.st_dev, seen.st_ino) != (file.device, file.inode):
                raise _refused(file.source, "another file has taken its place", 116)
            left = file.size
            while left > 0:
                try:
                    moved = posix.splice(fd, self._outer, min(left, _STEP_BYTES), flags=posix.SPLICE_F_NONBLOCK)
                except BlockingIOError:
                    if not self._may_go_on(poll, core):
                        return False
                    continue
                if moved == 0:
                    raise _refused(file.source, "it became shorter while it was read", 5)
                left -= moved
        finally:
            posix.close(fd)
        return True
