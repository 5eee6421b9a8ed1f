"""Find what a command has changed in its workspace, from the layer that holds its writes.

Reads through two descriptors, of the upper layer and of the directory below it, and writes nothing. Follows no link. Visits
only what was written, so that the cost grows with the changes. An overlay marks a deleted file by a device 0/0 (a
whiteout), and a directory that replaces the one below by an attribute (opaque).
"""

from __future__ import annotations

import posix
from _stat import S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

from capsule_run._base.lexical_paths import within
from capsule_run._base.value import Value
from capsule_run.host.path_resolution import READ_FLAGS
from capsule_run.host.tree_walk import TreeCursor
from capsule_run.model.changes import CREATED, DELETED, MODIFIED, Change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from capsule_run.model.changes import ChangeKind, FileType

_TYPES: dict[int, FileType] = {S_IFREG: "file", S_IFDIR: "directory", S_IFLNK: "symlink"}
_MODE = 0o777
_BLOCK = 1 << 20
MAX_DEPTH = 128  # directories below this depth are not visited
MAX_SKIPPED = 1000  # that are listed


class Known(Value):
    """What is in the layer and was not written by the command."""

    mount_points: frozenset[str]  # files and directories that were mounted over
    directories: frozenset[str]  # created for input files and mount points
    copied: frozenset[str] | None  # what a copy contained at first: only that can be deleted; None for an overlay
    files: dict[str, tuple[int, int, int]]  # fingerprints of the input files when the command started


def fingerprint(seen: posix.stat_result) -> tuple[int, int, int]:
    """Return what changes whenever a file is written to, replaced or given another mode: only the kernel sets a ctime."""
    return seen.st_ino, seen.st_size, seen.st_ctime_ns


def copied_entries(copy: int) -> dict[str, tuple[int, int, int]]:
    """Read the list that the sandbox kept of what it copied: the fingerprint of each path.

    :param copy: the directory of the copy; the list lies beside it, out of the command's reach.
    """
    fd = posix.open("../copied", READ_FLAGS, dir_fd=copy)
    try:
        size = posix.fstat(fd).st_size
        listed = b""
        while len(listed) < size and (part := posix.read(fd, size - len(listed))):
            listed += part
    finally:
        posix.close(fd)
    entries: dict[str, tuple[int, int, int]] = {}
    for line in listed.split(b"\0")[:-1]:
        inode, length, changed, path = line.split(b" ", 3)
        entries[path.decode("utf-8", "surrogateescape")] = int(inode, 16), int(length, 16), int(changed, 16)
    return entries


def lstat(name: str, directory: int | None) -> posix.stat_result | None:
    """Return the status of `name` in an open directory, without following a link; None if it or the directory is missing."""
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
    """Return whether a file that was copied up is unchanged: a program that opens a file for writing need not write.

    The time counts (`make` compares times), except that of a link, which no program compares.
    """
    if (now.st_mode, now.st_size) != (before.st_mode, before.st_size):
        return False
    if _kind(now) == S_IFLNK:
        return posix.readlink(name, dir_fd=upper) == posix.readlink(name, dir_fd=lower)
    if (now.st_mtime_ns, now.st_rdev) != (before.st_mtime_ns, before.st_rdev):
        return False
    return _kind(now) != S_IFREG or _same_content(name, upper, lower)


def _same_content(name: str, upper: int, lower: int) -> bool:
    fds: list[int] = []
    try:
        fds += (posix.open(name, READ_FLAGS, dir_fd=upper), posix.open(name, READ_FLAGS, dir_fd=lower))
        while (block := posix.read(fds[0], _BLOCK)) == posix.read(fds[1], _BLOCK):
            if not block:
                return True
    except OSError:  # it was made unreadable: that is a change
        return False
    finally:
        for fd in fds:
            posix.close(fd)
    return False


def _is_opaque(directory: int) -> bool:
    try:
        return posix.getxattr(directory, "user.overlay.opaque") == b"y"
    except OSError:
        return False


class _LowerCursor:
    """The position in the lower directory that corresponds to one in the layer; `fd` is None if it does not exist.

    Directories are entered when `fd` is asked for: in a copy most never are.
    """

    def __init__(self, root: int | None) -> None:
        self._place = None if root is None else TreeCursor(root)
        self._waiting: list[str] = []  # to be entered
        self._missing = 0  # how many levels of the layer below the deepest one that exists here, too

    @property
    def fd(self) -> int | None:
        while self._waiting:
            name = self._waiting.pop(0)
            try:
                if self._missing or self._place is None:
                    raise FileNotFoundError
                self._place.enter(name)
            except OSError:
                self._missing += 1
        return None if self._missing or self._place is None else self._place.fd

    def enter(self, name: str) -> None:
        self._waiting.append(name)

    def leave(self) -> None:
        if self._waiting:
            self._waiting.pop()
            return
        if self._missing:
            self._missing -= 1
            return
        try:
            if self._place is not None:
                self._place.leave()
        except OSError:  # the lower directory was moved: from here on it is unknown
            self.close()

    def close(self) -> None:
        if self._place is not None:
            self._place.close()
            self._place = None


def deleted_and_modified_first(
    comparison: Comparison, changes: Iterator[Change], most: int
) -> tuple[list[Change], bool]:
    """Return at most `most` changes, deleted ones first, then modified, then created, and whether there are more.

    Created files never displace others: a package manager creates thousands beside the few files that matter. All
    changes are visited, except those in new directories once the list is full.
    """
    kinds: dict[ChangeKind, list[Change]] = {DELETED: [], MODIFIED: [], CREATED: []}
    more = False
    for change in changes:
        listed = kinds[change.kind]
        if len(listed) < most:
            listed.append(change)
        else:
            more = True
        if more and change.kind == CREATED:
            comparison.enters_new_directories = False
    found = [change for listed in kinds.values() for change in listed]
    return found[:most], more or len(found) > most or bool(comparison.skipped)


class Comparison:
    """Compares a layer with what it lies over or was copied from. `skipped`: paths not visited, each with a reason."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self.skipped: list[tuple[str, str]] = []
        self.enters_new_directories = True  # in a directory that was not there before, everything is created

    def changes(self, upper: int, lower: int | None) -> Iterator[Change]:
        """Yield each change, a directory before its contents. The caller closes both descriptors."""
        self.skipped.clear()
        below = _LowerCursor(lower)
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

    def _enter(self, name: str, prefix: str, place: TreeCursor, below: _LowerCursor) -> bool:
        """Enter a directory of the layer, and the one below if it exists."""
        if place.depth >= MAX_DEPTH:
            self._skip(prefix + name, "too_deep")
            return False
        if not self.enters_new_directories and _kind(lstat(name, below.fd)) != S_IFDIR:
            return False
        try:
            place.enter(name)
        except OSError:
            self._skip(prefix + name, "unreadable")
            return False
        below.enter(name)
        return True

    def _skip(self, path: str, why: str) -> None:
        if len(self.skipped) < MAX_SKIPPED:
            self.skipped.append((path, why))

    def _in_directory(self, prefix: str, place: TreeCursor, below: _LowerCursor) -> Iterator[Change | str]:
        """Yield the changes in one directory; a name alone is a directory to enter before the next value is requested."""
        names = sorted(posix.listdir(place.fd))
        copied = self._known.copied
        unchanged = prefix and self._known.files.get(prefix[:-1]) == fingerprint(posix.fstat(place.fd))
        if not unchanged and (copied is not None or _is_opaque(place.fd)) and below.fd is not None:
            gone = set(posix.listdir(below.fd)) - set(names)
            for name in sorted(gone):
                if copied is not None and prefix + name not in copied:
                    continue
                before = lstat(name, below.fd)
                if before is not None:
                    yield from self._deletion(prefix + name, before)
        for name in names:
            yield from self._changes_of(name, prefix + name, place.fd, below)

    def _deletion(self, path: str, before: posix.stat_result) -> Iterator[Change]:
        """Yield a deletion, unless it includes what the command did not see: a copied directory can be renamed with it."""
        if any(within(place, path) for place in self._known.mount_points):
            self._skip(path, "mount")
        else:
            yield _change(path, DELETED, before)

    def _changes_of(self, name: str, path: str, upper: int, below: _LowerCursor) -> Iterator[Change | str]:
        now = lstat(name, upper)
        if now is None or path in self._known.mount_points:
            return
        if path in self._known.files and self._known.files[path] == fingerprint(now):
            if _kind(now) == S_IFDIR:
                yield name
            return
        lower = below.fd
        before = lstat(name, lower)
        if _kind(now) == S_IFCHR and now.st_rdev == 0:
            if before is not None:
                yield _change(path, DELETED, before)
        elif _kind(now) == S_IFDIR:
            yield from self._changes_of_directory(path, now, before)
            yield name
        elif before is None:
            yield _change(path, CREATED, now)
        elif _kind(before) == S_IFDIR:
            yield _change(path, DELETED, before)
            yield _change(path, CREATED, now)
        elif lower is not None and not _same(name, upper, lower, now, before):
            yield _change(path, MODIFIED, now)

    def _changes_of_directory(
        self, path: str, now: posix.stat_result, before: posix.stat_result | None
    ) -> Iterator[Change]:
        """Yield the changes to a directory itself: its time is no change, because each new entry sets it."""
        if before is not None and _kind(before) != S_IFDIR:
            yield _change(path, DELETED, before)
        if path in self._known.directories:
            return
        if _kind(before) != S_IFDIR:
            yield _change(path, CREATED, now)
        elif self._known.copied is not None and path not in self._known.files:
            return  # a copy made of input files has modes of ours
        elif before is not None and now.st_mode != before.st_mode:
            yield _change(path, MODIFIED, now)
