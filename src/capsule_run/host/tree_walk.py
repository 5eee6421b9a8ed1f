"""Walk or delete a directory tree that an attacker has created, or changes meanwhile, at any depth.

One descriptor is open at any depth, paths are one component long, and nothing recurses: entering opens a name, leaving opens
`..` and compares it with the directory that was entered from. No link is followed.
"""

from __future__ import annotations

import posix
from _stat import S_ISDIR
from errno import ESTALE, EXDEV

from capsule_run.host.path_resolution import DIRECTORY_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

BLOCK, NAMES_AT_A_TIME = 512, 1000


def _identity(seen: posix.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino


class TreeCursor:
    """A position in the tree beneath the open directory `root`, which the caller closes. A context manager."""

    def __init__(self, root: int) -> None:
        self.fd = posix.open(".", DIRECTORY_FLAGS, dir_fd=root)
        self._above: list[tuple[int, int]] = []

    @property
    def depth(self) -> int:
        """The number of directories entered."""
        return len(self._above)

    def enter(self, name: str, *, device: int | None = None) -> None:
        """Enter a subdirectory. Raises OSError, and then stays: ESTALE if `..` does not lead back.

        :param device: the only device allowed; EXDEV for a directory on another.
        """
        here = _identity(posix.fstat(self.fd))
        inner = posix.open(name, DIRECTORY_FLAGS, dir_fd=self.fd)
        try:
            above = _identity(posix.stat("..", dir_fd=inner))
        except BaseException:
            posix.close(inner)
            raise
        if above != here:
            posix.close(inner)
            raise OSError(ESTALE, posix.strerror(ESTALE), name)
        if device is not None and posix.fstat(inner).st_dev != device:
            posix.close(inner)
            raise OSError(EXDEV, posix.strerror(EXDEV), name)
        posix.close(self.fd)
        self.fd = inner
        self._above.append(here)

    def leave(self) -> None:
        """Return to the parent. Raises OSError ESTALE if the directory was moved meanwhile; then the walk cannot continue."""
        outer = posix.open("..", DIRECTORY_FLAGS, dir_fd=self.fd)
        if _identity(posix.fstat(outer)) != self._above.pop():
            posix.close(outer)
            raise OSError(ESTALE, posix.strerror(ESTALE))
        posix.close(self.fd)
        self.fd = outer

    def close(self) -> None:
        """Close the descriptor. May be called twice."""
        if self.fd >= 0:
            posix.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def open_parent(root: int, path: str) -> tuple[int, str]:
    """Open the directory beneath `root` that a path is in. Return it, which the caller closes, and the path's last component.

    Raises OSError, also for a link on the way.
    """
    *directories, name = path.split("/")
    at = posix.open(".", DIRECTORY_FLAGS, dir_fd=root)
    for directory in directories:
        try:
            inner = posix.open(directory, DIRECTORY_FLAGS, dir_fd=at)
        finally:
            posix.close(at)
        at = inner
    return at, name


def used_bytes(root: int, enough: int, *, stop: Callable[[], bool] = lambda: False) -> tuple[int, bool]:
    """Sum the disk blocks of a tree, until the sum exceeds `enough`. Return the bytes and whether all entries were counted.

    The tree may change meanwhile: removed entries are not counted; an unreadable directory makes the sum incomplete.

    :param stop: called after every NAMES_AT_A_TIME names; the sum ends, incomplete, when it returns True.
    """
    used, whole, names = 0, True, 0
    try:
        with TreeCursor(root) as place:
            waiting = [posix.listdir(place.fd)]
            while used <= enough:
                while waiting and not waiting[-1]:
                    waiting.pop()
                    if waiting:
                        place.leave()
                if not waiting:
                    break
                name = waiting[-1].pop()
                names += 1
                if names % NAMES_AT_A_TIME == 0 and stop():
                    return used, False
                try:
                    seen = posix.stat(name, dir_fd=place.fd, follow_symlinks=False)
                    used += seen.st_blocks * BLOCK
                    if not S_ISDIR(seen.st_mode):
                        continue
                    place.enter(name)
                except FileNotFoundError:  # removed meanwhile
                    continue
                except OSError:
                    whole = False
                    continue
                waiting.append(posix.listdir(place.fd))
    except OSError:  # a directory was moved meanwhile
        return used, False
    return used, whole


def _mount_of(directory: int) -> bytes:
    """Return the mount id of an open directory; two mounts of one file system share a device number but not this."""
    fd = posix.open(f"/proc/self/fdinfo/{directory}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 4096).partition(b"mnt_id:")[2].split(b"\n", 1)[0].strip()
    finally:
        posix.close(fd)


def delete(name: str, parent: int) -> None:
    """Delete a file, a link, or a directory with its contents. Ignore what is already gone.

    Raises OSError; EXDEV if it contains another mount, whose contents are not deleted: the command did not see them.
    """
    try:
        posix.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        _delete_directory(name, parent)


def _delete_directory(name: str, parent: int) -> None:
    with TreeCursor(parent) as place:
        mount = _mount_of(place.fd)
        above: list[str] = []
        waiting = [[name]]
        while waiting:
            if not waiting[-1]:
                waiting.pop()
                if above:
                    place.leave()
                    posix.rmdir(above.pop(), dir_fd=place.fd)
                continue
            entry = waiting[-1].pop()
            try:
                posix.unlink(entry, dir_fd=place.fd)
            except FileNotFoundError:
                continue
            except IsADirectoryError:
                place.enter(entry)
                if _mount_of(place.fd) != mount:
                    raise OSError(EXDEV, posix.strerror(EXDEV), entry) from None
                above.append(entry)
                waiting.append(posix.listdir(place.fd))
