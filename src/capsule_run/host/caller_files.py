"""Open the host's files that the caller names, for reading or writing. No other module does.

An earlier run with a writable share may have left a symbolic link, a FIFO or a hard link where the caller's next run reads
or writes. So a path is opened component by component through descriptors; a link is followed only if only root can have
created it (`path_resolution.possible_author`, the rule of bind sources); and content is read from plain files only, which
is checked before the file is opened. Trees to write into are the task of `workspace.export` and `tree_walk`.
Reasons: docs/decisions/links-in-sources.md. For users: docs/files.md.
"""

from __future__ import annotations

import posix
import select
from _stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFSOCK, S_ISREG
from errno import EBADF, EEXIST, EINVAL, EISDIR, ELOOP, ETIMEDOUT

from capsule_run.host import path_resolution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

PATIENCE_S = 10.0  # the longest wait for more data from a pipe of the caller's
_KINDS = {
    S_IFIFO: "a FIFO", S_IFSOCK: "a socket", S_IFCHR: "a device", S_IFBLK: "a device", S_IFDIR: "a directory",
    S_IFLNK: "a symbolic link",
}  # fmt: skip
_OBJECT = posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC
_DIRECTORY = _OBJECT | posix.O_DIRECTORY
_NEW = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
_APPEND = posix.O_WRONLY | posix.O_APPEND | posix.O_NOCTTY | posix.O_CLOEXEC
_READ = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
_AT_A_TIME = 1 << 16
_DESCRIPTORS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_NUMBERED = ("/dev/fd/", "/proc/self/fd/")


class RefusedPathError(OSError):
    """A path that the kernel would open and we do not. `strerror` says why, `hint` what to write instead."""

    def __init__(self, number: int, why: str, path: str, hint: str | None = None) -> None:
        super().__init__(number, why, path)
        self.hint = hint


def reason_of(error: OSError) -> tuple[str, str | None]:
    """Return why a path was not opened, as the end of a sentence, and a hint or None."""
    if isinstance(error, RefusedPathError):
        return error.strerror or "", error.hint
    return (posix.strerror(error.errno).lower() if error.errno else str(error)), None


def resolve(path: str) -> str:
    """Return the absolute path without links. Raises RefusedPathError for a link that not only root can have created."""
    absolute = path if path.startswith("/") else f"{posix.getcwd()}/{path}"
    real, links = path_resolution.real_and_links(path_resolution.join("/", absolute))
    if links:
        for link, _target in links:
            if who := path_resolution.possible_author(link):
                why = f"it contains the symbolic link `{link}` to `{real}`, and {who}"
                raise RefusedPathError(ELOOP, why, path, f"name `{real}` itself if that is the intended path")
    return real


def _descend(real: str, *, make: bool) -> int:
    """Open (O_PATH) the directory at a path without links. The caller closes the descriptor."""
    at = posix.open("/", _DIRECTORY)
    for name in real.split("/"):
        if not name:
            continue
        try:
            try:
                inner = posix.open(name, _DIRECTORY, dir_fd=at)
            except FileNotFoundError:
                if not make:
                    raise
                _make_directory(name, at)
                inner = posix.open(name, _DIRECTORY, dir_fd=at)
        finally:
            posix.close(at)
        at = inner
    return at


def _make_directory(name: str, parent: int) -> None:
    try:
        posix.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:  # created meanwhile; opening it checks that it is a directory
        pass


def open_directory(path: str, *, make: bool = False) -> int:
    """Open a directory; with `make`, create it and its parents if missing. The caller closes it. Raises OSError."""
    own = _descend(resolve(path), make=make)
    try:
        return posix.open(".", path_resolution.DIRECTORY_FLAGS, dir_fd=own)
    finally:
        posix.close(own)


def open_plain(path: str) -> int:
    """Open a plain file for reading; never blocks and never opens a device. The caller closes it. Raises OSError."""
    with Place(path) as place:
        return place.open(_READ)


def callers_descriptor(path: str) -> int | None:
    """Return the number of an inherited descriptor if the path names one (`/dev/stdin`, a shell's `<(...)`), else None.

    Raises RefusedPathError for a descriptor of our own; ours are close-on-exec, the caller's are not.
    """
    number = _DESCRIPTORS.get(path, -1)
    for start in _NUMBERED:
        digits = path[len(start) :] if path.startswith(start) else ""
        if digits.isascii() and digits.isdecimal() and len(digits) < 8:
            number = int(digits)
    if number < 0:
        return None
    try:
        inherited = posix.get_inheritable(number)
    except OSError:
        inherited = False
    if not inherited:
        raise RefusedPathError(EBADF, f"descriptor {number} was not passed on by the caller", path)
    return number


def read(path: str, most: int) -> bytes:
    """Read a plain file or an inherited descriptor: at most `most` + 1 bytes, so that the caller sees an excess.

    Raises OSError, ETIMEDOUT if a pipe has no data for PATIENCE_S.
    """
    number = callers_descriptor(path)
    return _content(open_plain(path) if number is None else posix.dup(number), most)


def _content(fd: int, most: int) -> bytes:
    """Read at most `most` + 1 bytes from a descriptor, and close it."""
    try:
        waits = not S_ISREG(posix.fstat(fd).st_mode)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        parts, left = [], most + 1
        while left > 0:
            if waits and not poll.poll(PATIENCE_S * 1000):
                raise OSError(ETIMEDOUT, posix.strerror(ETIMEDOUT))
            part = posix.read(fd, min(left, _AT_A_TIME))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        posix.close(fd)


class Place:
    """The place of one file: its open directory and its name. A context manager that closes the directory."""

    def __init__(self, path: str) -> None:
        self._path = path
        parent, _slash, self.name = resolve(path).rpartition("/")
        if not self.name:
            raise OSError(EISDIR, posix.strerror(EISDIR), path)
        self.directory = _descend(parent, make=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        posix.close(self.directory)

    def stat(self) -> posix.stat_result | None:
        """Return the status of the file, or None if there is none. Raises RefusedPathError if it is not a plain file."""
        try:
            seen = posix.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        self._check(seen)
        return seen

    def _check(self, seen: posix.stat_result) -> None:
        if not S_ISREG(seen.st_mode):
            kind = _KINDS.get(S_IFMT(seen.st_mode), "no file")
            raise RefusedPathError(EINVAL, f"it is {kind}, not a plain file", self._path)

    def open(self, flags: int) -> int:
        """Open the plain file. The check and the open use the same object, through a descriptor."""
        own = posix.open(self.name, _OBJECT, dir_fd=self.directory)
        try:
            self._check(posix.fstat(own))
            return posix.open(f"/proc/self/fd/{own}", flags)
        finally:
            posix.close(own)

    def read(self, most: int) -> bytes:
        """Read at most `most` + 1 bytes of the plain file. Raises OSError."""
        return _content(self.open(_READ), most)

    def open_to_append(self, mode: int) -> int:
        """Open the file for appending, or create it. Raises RefusedPathError if it may belong to another user."""
        while True:
            try:
                fd = self.open(_APPEND)
            except FileNotFoundError:
                try:
                    return posix.open(self.name, _NEW | posix.O_APPEND, mode, dir_fd=self.directory)
                except FileExistsError:
                    continue
            try:
                self._check_is_ours(posix.fstat(fd))
            except BaseException:
                posix.close(fd)
                raise
            return fd

    def _check_is_ours(self, seen: posix.stat_result) -> None:
        """Raise RefusedPathError for a file with several hard links, or one of another owner who may have planted it."""
        if seen.st_nlink > 1:
            why = f"it has {seen.st_nlink} names (hard links), and all of them would be changed"
            raise RefusedPathError(EEXIST, why, self._path, "use a file with a single name")
        ours, around = (0, posix.geteuid()), posix.fstat(self.directory)
        if seen.st_uid not in ours and (around.st_uid not in ours or around.st_mode & 0o022):
            why = f"it belongs to user {seen.st_uid}, and others may create files in its directory"
            raise RefusedPathError(
                EEXIST, why, self._path, "use a file that you own, or a directory that only you can write to"
            )

    def replace(self, content: bytes, *, mode: int = 0o666) -> None:
        """Replace or create the file, whole or not at all. An existing file keeps its mode and, if root writes, its owner.

        A new file has `mode`, less the umask. Raises OSError; then the file is unchanged.
        """
        before = self.stat()

        def fill(fd: int) -> None:
            write_all(fd, content)
            if before is not None:
                if posix.geteuid() == 0:
                    posix.fchown(fd, before.st_uid, before.st_gid)
                posix.fchmod(fd, before.st_mode & 0o777)

        replace_file(self.directory, self.name, fill, mode=mode)


def write_all(fd: int, content: bytes) -> None:
    """Write all of `content`, and wait where a non-blocking descriptor is full. Raises OSError."""
    view = memoryview(content)
    while view:
        try:
            view = view[posix.write(fd, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


def replace_file(directory: int, name: str, fill: Callable[[int], None], *, mode: int = 0o600) -> None:
    """Create the file `name` in an open directory, or replace a file or link of that name.

    `fill` writes to a temporary file, which is closed (a network or quota error appears at the close) and then renamed.
    Raises OSError, EISDIR if `name` is a directory; then nothing is changed.
    """
    temporary = _temporary_name()
    fd = posix.open(temporary, _NEW, mode, dir_fd=directory)
    try:
        try:
            fill(fd)
        finally:
            posix.close(fd)
        posix.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        _unlink_quietly(temporary, directory)
        raise


def replace_link(directory: int, name: str, target: str) -> None:
    """Create or replace the symbolic link `name` in an open directory, as `replace_file` does for a file."""
    temporary = _temporary_name()
    posix.symlink(target, temporary, dir_fd=directory)
    try:
        posix.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        _unlink_quietly(temporary, directory)
        raise


def _temporary_name() -> str:
    return f".capsule-{posix.urandom(8).hex()}"


def _unlink_quietly(name: str, directory: int) -> None:
    try:
        posix.unlink(name, dir_fd=directory)
    except OSError:  # the first error is the one to report
        pass
