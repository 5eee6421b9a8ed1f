"""What a command has changed in its workspace, found out from the layer that its writes went to.

Rank 2: reads through two descriptors, that of the layer and that of the directory it lies over, and writes nothing. No link
is followed. What was written is looked at, and not the whole tree: the cost goes with the changes. A copy-on-write layer
marks what is gone by a device numbered 0/0 (a whiteout) and a directory that hides the one below by an attribute.
"""

from __future__ import annotations

import posix

from ._value import Value
from .paths import DIRECTORY_FLAGS, READ_FLAGS
from .result_parts import CREATED, DELETED, MODIFIED, Change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .result_parts import ChangeKind, FileType

_KIND, _PLAIN, _DIRECTORY, _LINK, _DEVICE = 0o170000, 0o100000, 0o040000, 0o120000, 0o020000
_TYPES: dict[int, FileType] = {_PLAIN: "file", _DIRECTORY: "directory", _LINK: "symlink"}
_MODE = 0o777
_BLOCK = 1 << 20
_MOST_DEPTH = 128  # deeper than that, a tree is changed as a whole and not looked into


class Known(Value):
    """What lies in the layer and was not put there by the command."""

    mount_points: frozenset[str]  # files and directories that something else was mounted on
    directories: frozenset[str]  # made for the files that were brought in, and the like
    copied: frozenset[str] | None  # what the layer began with, where it is a copy: only of that can something be gone
    files: dict[str, tuple[int, int, int]]  # files that were brought in, as they were when the command started


def fingerprint(seen: posix.stat_result) -> tuple[int, int, int]:
    """What differs once a file was written to, replaced or given another mode: nobody but the kernel sets a ctime."""
    return seen.st_ino, seen.st_size, seen.st_ctime_ns


def lstat(name: str, directory: int | None) -> posix.stat_result | None:
    """The object `name` in an open directory, itself if it is a link; None for none there, or no directory."""
    if directory is None:
        return None
    try:
        return posix.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None


def _kind(seen: posix.stat_result | None) -> int:
    return seen.st_mode & _KIND if seen is not None else 0


def _change(path: str, kind: ChangeKind, seen: posix.stat_result) -> Change:
    what = _TYPES.get(_kind(seen), "special")
    return Change(path=path, kind=kind, bytes=seen.st_size if what in ("file", "symlink") else 0, type=what)


def _same(name: str, upper: int, lower: int, now: posix.stat_result, before: posix.stat_result) -> bool:
    """Whether a file that was copied up was not changed after all: a program that opens for writing need not write."""
    if (now.st_mode, now.st_size) != (before.st_mode, before.st_size):
        return False
    if _kind(now) == _LINK:
        return posix.readlink(name, dir_fd=upper) == posix.readlink(name, dir_fd=lower)
    return _kind(now) == _PLAIN and _same_content(name, upper, lower)


def _same_content(name: str, upper: int, lower: int) -> bool:
    fds: list[int] = []
    try:
        fds += (posix.open(name, READ_FLAGS, dir_fd=upper), posix.open(name, READ_FLAGS, dir_fd=lower))
        while (block := posix.read(fds[0], _BLOCK)) == posix.read(fds[1], _BLOCK):
            if not block:
                return True
    except OSError:  # somebody took the right to read it: that is a change
        return False
    finally:
        for fd in fds:
            posix.close(fd)
    return False


def _opaque(directory: int) -> bool:
    try:
        return posix.getxattr(directory, "user.overlay.opaque") == b"y"
    except OSError:
        return False


def _open_directory(name: str, directory: int | None) -> int | None:
    if directory is None:
        return None
    try:
        return posix.open(name, DIRECTORY_FLAGS, dir_fd=directory)
    except OSError:
        return None


class Comparison:
    """Of a layer and what it lies over, or was copied from."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def changes(self, upper: int, lower: int | None, prefix: str = "") -> Iterator[Change]:
        """Each change, a directory before what lies in it. Both descriptors stay the caller's."""
        names = sorted(posix.listdir(upper))
        copied = self._known.copied
        if lower is not None and (copied is not None or _opaque(upper)):
            gone = set(posix.listdir(lower)) - set(names)
            for name in sorted(gone):
                if copied is not None and prefix + name not in copied:
                    continue
                before = lstat(name, lower)
                if before is not None:
                    yield _change(prefix + name, DELETED, before)
        for name in names:
            yield from self._changes_of(name, prefix + name, upper, lower)

    def _changes_of(self, name: str, path: str, upper: int, lower: int | None) -> Iterator[Change]:
        now, before = lstat(name, upper), lstat(name, lower)
        if now is None or path in self._known.mount_points:
            return
        if _kind(now) == _DEVICE and now.st_rdev == 0:
            if before is not None:
                yield _change(path, DELETED, before)
        elif _kind(now) == _DIRECTORY:
            yield from self._changes_in(name, path, upper, lower, before)
        elif path in self._known.files and self._known.files[path] == fingerprint(now):
            return
        elif before is None:
            yield _change(path, CREATED, now)
        elif _kind(before) == _DIRECTORY:
            yield _change(path, DELETED, before)
            yield _change(path, CREATED, now)
        elif lower is not None and not _same(name, upper, lower, now, before):
            yield _change(path, MODIFIED, now)

    def _changes_in(
        self, name: str, path: str, upper: int, lower: int | None, before: posix.stat_result | None
    ) -> Iterator[Change]:
        inner = _open_directory(name, upper)
        below = _open_directory(name, lower) if _kind(before) == _DIRECTORY else None
        try:
            if below is None:
                if before is not None and _kind(before) != _DIRECTORY:
                    yield _change(path, DELETED, before)
                if path not in self._known.directories:
                    yield Change(path=path, kind=CREATED, bytes=0, type="directory")
            if inner is not None and path.count("/") < _MOST_DEPTH:
                yield from self.changes(inner, below, f"{path}/")
        finally:
            for fd in (inner, below):
                if fd is not None:
                    posix.close(fd)
