"""Read and write the files of a sandbox that lives, from the host.

Paths are resolved in the sandbox's root by the kernel (openat2(2) with RESOLVE_IN_ROOT), so that no link that a command makes
leads out, whatever it changes meanwhile. As root, each call has the ids of the sandbox's user: it may do what a command may.
"""

from __future__ import annotations

import os
from _stat import S_IMODE, S_ISDIR, S_ISLNK, S_ISREG
from errno import EAGAIN, EINVAL, EISDIR, ENOTDIR

from capsule_run._base.lexical_paths import WORKSPACE
from capsule_run._base.value import Value
from capsule_run.host import tree_walk
from capsule_run.host.caller_files import write_all
from capsule_run.workspace.native_calls import openat2, setfsgid, setfsuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self, TypeVar

    T = TypeVar("T")

RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 0x02, 0x10  # openat2(2)
_CHUNK = 1 << 20
MOST_TRIES = 1000


class FileInfo(Value):
    """A file in the sandbox."""

    name: str
    """The last component of the path."""
    path: str
    """The absolute path inside."""
    type: str
    """`file`, `directory`, `symlink` or `special`."""
    size: int
    """Bytes."""
    mode: int
    """Permission bits."""
    modified_ns: int
    """Time of the last change of the content, in nanoseconds since the epoch."""
    target: str | None = None
    """Where a link leads; None for anything else."""


class LiveFiles:
    """The files beneath the root of a sandbox. The owner of `root` keeps it open meanwhile."""

    def __init__(self, root: int, *, ids: tuple[int, int] | None) -> None:
        """`ids`: the host ids of the sandbox's user, for root as caller; None for an ordinary user, who has them."""
        self._root, self._ids = root, ids

    # --- files ---

    def read(self, path: str, *, offset: int = 0, size: int | None = None) -> bytes:
        """Return the bytes of a file, `size` at most from `offset` on. Raises OSError."""
        fd = self.open_to_read(path)
        try:
            left = os.fstat(fd).st_size - offset if size is None else size
            parts = []
            while left > 0 and (part := os.pread(fd, min(left, _CHUNK), offset)):
                parts.append(part)
                offset, left = offset + len(part), left - len(part)
            return b"".join(parts)
        finally:
            os.close(fd)

    def open_to_read(self, path: str) -> int:
        """Return a descriptor of a regular file. Raises OSError, also for anything but a regular file."""
        fd = self._open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        return self._checked(fd, path)

    def open_to_write(self, path: str, *, append: bool = False, mode: int = 0o666) -> int:
        """Return a descriptor of a regular file, which is created with its missing parents. Raises OSError."""
        how = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | (os.O_APPEND if append else 0)
        try:
            fd = self._open(path, how, mode)
        except FileNotFoundError:
            self.make_directory(_absolute(path).rpartition("/")[0] or "/", parents=True)
            fd = self._open(path, how, mode)
        self._checked(fd, path)
        if not append:
            os.ftruncate(fd, 0)
        return fd

    def write(self, path: str, content: bytes, *, append: bool = False, mode: int | None = None) -> None:
        """Write a file; missing parents are made. Raises OSError."""
        fd = self.open_to_write(path, append=append)
        try:
            write_all(fd, content)
            if mode is not None:
                self._as_user(lambda: os.fchmod(fd, mode))
        finally:
            os.close(fd)

    # --- directories and names ---

    def list(self, path: str) -> list[FileInfo]:
        """Return what a directory contains, in the order of the names. Raises OSError."""
        fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return [self._info(fd, name, _beneath(_absolute(path), name)) for name in sorted(os.listdir(fd))]
        finally:
            os.close(fd)

    def info(self, path: str) -> FileInfo:
        """Return the facts about a file; a link at the end is not followed. Raises OSError."""
        with _Parent(self, path) as parent:
            return self._info(parent.fd, parent.name, _absolute(path))

    def used_bytes(self, path: str) -> tuple[int, int]:
        """Return the number of the device that a directory lies on, and how many bytes are used there. Raises OSError."""
        fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            state = os.fstatvfs(fd)
            return os.fstat(fd).st_dev, (state.f_blocks - state.f_bfree) * state.f_frsize
        finally:
            os.close(fd)

    def device_if_writable(self, path: str) -> int | None:
        """Return the number of the device that a directory lies on; None if its mount is read-only."""
        fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            read_only = os.fstatvfs(fd).f_flag & os.ST_RDONLY
            return None if read_only else os.fstat(fd).st_dev
        finally:
            os.close(fd)

    def exists(self, path: str) -> bool:
        """Return whether there is something at a path; a link counts, wherever it leads."""
        try:
            self.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def make_directory(self, path: str, *, parents: bool = False, mode: int = 0o777) -> None:
        """Make a directory. With `parents`, missing parents too, and one that exists is fine. Raises OSError."""
        if not parents:
            with _Parent(self, path) as parent:
                self._as_user(lambda: os.mkdir(parent.name, mode, dir_fd=parent.fd))
            return
        done = ""
        for name in _absolute(path).strip("/").split("/"):
            done = f"{done}/{name}"
            try:
                self.make_directory(done, mode=mode)
            except FileExistsError:
                continue
        os.close(self._open(path, os.O_RDONLY | os.O_DIRECTORY))

    def rename(self, path: str, new_path: str) -> None:
        """Rename a file or a directory. Raises OSError."""
        with _Parent(self, path) as old, _Parent(self, new_path) as new:
            self._as_user(lambda: os.rename(old.name, new.name, src_dir_fd=old.fd, dst_dir_fd=new.fd))

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or an empty directory; with `recursive`, a directory with all that is in it. Raises OSError."""
        with _Parent(self, path) as parent:
            is_directory = S_ISDIR(os.stat(parent.name, dir_fd=parent.fd, follow_symlinks=False).st_mode)
            if recursive:  # however deep it is
                self._as_user(lambda: tree_walk.delete(parent.name, parent.fd))
            elif is_directory:
                self._as_user(lambda: os.rmdir(parent.name, dir_fd=parent.fd))
            else:
                self._as_user(lambda: os.unlink(parent.name, dir_fd=parent.fd))

    def make_link(self, path: str, target: str) -> None:
        """Make a symbolic link at `path` that leads to `target`. Raises OSError."""
        with _Parent(self, path) as parent:
            self._as_user(lambda: os.symlink(target, parent.name, dir_fd=parent.fd))

    def change_mode(self, path: str, mode: int) -> None:
        """Set the permission bits of a file. Raises OSError."""
        fd = self._open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            self._as_user(lambda: os.fchmod(fd, mode))
        finally:
            os.close(fd)

    # --- how ---

    def _info(self, directory: int, name: str, path: str) -> FileInfo:
        seen = os.stat(name, dir_fd=directory, follow_symlinks=False)
        is_link = S_ISLNK(seen.st_mode)
        kind = "directory" if S_ISDIR(seen.st_mode) else "file" if S_ISREG(seen.st_mode) else "special"
        return FileInfo(
            name=path.rpartition("/")[2],
            path=path,
            type="symlink" if is_link else kind,
            size=seen.st_size,
            mode=S_IMODE(seen.st_mode),
            modified_ns=seen.st_mtime_ns,
            target=os.readlink(name, dir_fd=directory) if is_link else None,
        )

    def _checked(self, fd: int, path: str) -> int:
        mode = os.fstat(fd).st_mode
        if S_ISREG(mode):
            return fd
        os.close(fd)
        number = EISDIR if S_ISDIR(mode) else EINVAL
        raise OSError(number, os.strerror(number) if number == EISDIR else "not a regular file", path)

    def _open(self, path: str, flags: int, mode: int = 0) -> int:
        flags |= os.O_CLOEXEC
        resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        inside = os.fsencode(_absolute(path))

        def call() -> int:
            for _ in range(MOST_TRIES):
                try:
                    fd: int = openat2(self._root, inside, flags, mode if flags & os.O_CREAT else 0, resolve)
                except BlockingIOError:  # openat2(2): something was renamed meanwhile, anywhere on this host
                    continue
                except OSError as error:
                    raise OSError(error.errno, error.strerror, path) from None
                return fd
            raise OSError(EAGAIN, "the path is changed all the time", path)

        return self._as_user(call)

    def open_parent(self, path: str) -> int:
        """Return a descriptor of the directory that a path is in. Raises OSError."""
        return self._open(_absolute(path).rpartition("/")[0] or "/", os.O_PATH | os.O_DIRECTORY)

    def _as_user(self, call: Callable[[], T]) -> T:
        """Call with the file system ids of the sandbox's user, which are the calling thread's alone (setfsuid(2))."""
        if self._ids is None:
            return call()
        user, group = self._ids
        old_group, old_user = setfsgid(group), setfsuid(user)
        try:
            return call()
        finally:
            setfsuid(old_user)
            setfsgid(old_group)


class _Parent:
    """The directory that a path is in, and the last name of the path. A context manager."""

    def __init__(self, files: LiveFiles, path: str) -> None:
        self.name = _absolute(path).rpartition("/")[2] or "."
        if self.name == "..":
            raise OSError(ENOTDIR, "a path must not end with `..`", path)
        self.fd = files.open_parent(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.fd)


def _absolute(path: str) -> str:
    """Return a path inside as an absolute one: it is relative to the workspace."""
    if not path or "\0" in path:
        raise OSError(EINVAL, "a path must not be empty or contain a NUL", path)
    names = (path if path.startswith("/") else f"{WORKSPACE}/{path}").split("/")
    return "/" + "/".join(name for name in names if name not in ("", "."))


def _beneath(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"


def walk(files: LiveFiles, path: str) -> Iterator[FileInfo]:
    """Yield what can be written to beneath a directory, parents first. Follows no link, and leaves out other mounts."""
    device = files.device_if_writable(path)
    waiting = [] if device is None else [path]
    while waiting:
        for info in files.list(waiting.pop()):
            if info.type == "directory":
                if files.device_if_writable(info.path) != device:
                    continue
                waiting.append(info.path)
            yield info
