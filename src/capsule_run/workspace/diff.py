"""What a command has changed in its workspace, found out from the layer that its writes went to.

Rank 2: reads through two descriptors, that of the layer and that of the directory it lies over, and writes nothing. No link
is followed. What was written is looked at, and not the whole tree: the cost goes with the changes. A copy-on-write layer
marks what is gone by a device numbered 0/0 (a whiteout) and a directory that hides the one below by an attribute.
"""

from __future__ import annotations

import posix
from _stat import S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

from capsule_run._base.value import Value
from capsule_run.host.path_resolution import READ_FLAGS
from capsule_run.host.tree_walk import TreeCursor
from capsule_run.model.result_parts import CREATED, DELETED, MODIFIED, Change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from capsule_run.model.result_parts import ChangeKind, FileType

_TYPES: dict[int, FileType] = {S_IFREG: "file", S_IFDIR: "directory", S_IFLNK: "symlink"}
_MODE = 0o777
_BLOCK = 1 << 20
MOST_DEPTH = 128  # deeper than that nothing is looked into
MOST_SKIPPED = 1000  # that are told one by one


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
    return S_IFMT(seen.st_mode) if seen is not None else 0


def _change(path: str, kind: ChangeKind, seen: posix.stat_result) -> Change:
    what = _TYPES.get(_kind(seen), "special")
    return Change(path=path, kind=kind, bytes=seen.st_size if what in ("file", "symlink") else 0, type=what)


def _same(name: str, upper: int, lower: int, now: posix.stat_result, before: posix.stat_result) -> bool:
    """Whether a file that was copied up was not changed after all: a program that opens for writing need not write."""
    if (now.st_mode, now.st_size) != (before.st_mode, before.st_size):
        return False
    if _kind(now) == S_IFLNK:
        return posix.readlink(name, dir_fd=upper) == posix.readlink(name, dir_fd=lower)
    return _kind(now) == S_IFREG and _same_content(name, upper, lower)


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


class _Below:
    """The place in the directory below that goes with one in the layer; `fd` is None where there is nothing."""

    def __init__(self, root: int | None) -> None:
        self._place = None if root is None else TreeCursor(root)
        self._missing = 0  # how many directories of the layer this place is beneath the last one that is here, too

    @property
    def fd(self) -> int | None:
        return None if self._missing or self._place is None else self._place.fd

    def enter(self, name: str) -> None:
        try:
            if self._missing or self._place is None:
                raise FileNotFoundError
            self._place.enter(name)
        except OSError:
            self._missing += 1

    def leave(self) -> None:
        if self._missing:
            self._missing -= 1
            return
        try:
            if self._place is not None:
                self._place.leave()
        except OSError:  # somebody moves what is below: from here on nothing is known of it
            self.close()

    def close(self) -> None:
        if self._place is not None:
            self._place.close()
            self._place = None


class Comparison:
    """Of a layer and what it lies over, or was copied from. `skipped`: what was not looked into, and a word for why."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self.skipped: list[tuple[str, str]] = []

    def changes(self, upper: int, lower: int | None) -> Iterator[Change]:
        """Each change, a directory before what lies in it. Both descriptors stay the caller's."""
        self.skipped.clear()
        below = _Below(lower)
        try:
            with TreeCursor(upper) as place:
                levels = [("", self._in_directory("", place, below))]
                while levels:
                    prefix, entries = levels[-1]
                    found = next(entries, None)
                    if isinstance(found, Change):
                        yield found
                    elif found is not None:
                        if self._enter(found, prefix, place, below):
                            levels.append((f"{prefix}{found}/", self._in_directory(f"{prefix}{found}/", place, below)))
                    else:
                        levels.pop()
                        if levels:
                            place.leave()
                            below.leave()
        finally:
            below.close()

    def _enter(self, name: str, prefix: str, place: TreeCursor, below: _Below) -> bool:
        """Go into a directory of the layer, and into the one below if there is one."""
        if place.depth >= MOST_DEPTH:
            self._skip(prefix + name, "too_deep")
            return False
        try:
            place.enter(name)
        except OSError:
            self._skip(prefix + name, "unreadable")
            return False
        below.enter(name)
        return True

    def _skip(self, path: str, why: str) -> None:
        if len(self.skipped) < MOST_SKIPPED:
            self.skipped.append((path, why))

    def _in_directory(self, prefix: str, place: TreeCursor, below: _Below) -> Iterator[Change | str]:
        """The changes in one directory; a name alone is a directory to go into before the next one is asked for."""
        names = sorted(posix.listdir(place.fd))
        copied = self._known.copied
        if below.fd is not None and (copied is not None or _opaque(place.fd)):
            gone = set(posix.listdir(below.fd)) - set(names)
            for name in sorted(gone):
                if copied is not None and prefix + name not in copied:
                    continue
                before = lstat(name, below.fd)
                if before is not None:
                    yield _change(prefix + name, DELETED, before)
        for name in names:
            yield from self._changes_of(name, prefix + name, place.fd, below.fd)

    def _changes_of(self, name: str, path: str, upper: int, lower: int | None) -> Iterator[Change | str]:
        now, before = lstat(name, upper), lstat(name, lower)
        if now is None or path in self._known.mount_points:
            return
        if _kind(now) == S_IFCHR and now.st_rdev == 0:
            if before is not None:
                yield _change(path, DELETED, before)
        elif _kind(now) == S_IFDIR:
            if _kind(before) != S_IFDIR:
                if before is not None:
                    yield _change(path, DELETED, before)
                if path not in self._known.directories:
                    yield Change(path=path, kind=CREATED, bytes=0, type="directory")
            yield name
        elif path in self._known.files and self._known.files[path] == fingerprint(now):
            return
        elif before is None:
            yield _change(path, CREATED, now)
        elif _kind(before) == S_IFDIR:
            yield _change(path, DELETED, before)
            yield _change(path, CREATED, now)
        elif lower is not None and not _same(name, upper, lower, now, before):
            yield _change(path, MODIFIED, now)
