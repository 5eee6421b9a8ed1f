"""Files out: what a pattern names in a workspace whose command may have prepared it for whoever looks.

Rank 2: reads through descriptors, beneath one directory, and writes nothing. No link is followed, no file is opened that
is not a plain one, nothing on another file system is entered, and all of it is bounded: names looked at, depth, bytes of
one file and of all, where the bytes of a file are those that it claims to have.
"""

from __future__ import annotations

import posix
from _stat import S_ISDIR, S_ISLNK, S_ISREG
from errno import EXDEV

from capsule_run._base.value import Value
from capsule_run.host.path_resolution import READ_FLAGS
from capsule_run.host.tree_walk import TreeCursor
from capsule_run.model.result_parts import CollectedFile, NotCollected
from capsule_run.request.file_fields import MOST_NAMES, advance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from mmap import mmap

MOST_ENTRIES = 200_000  # names looked at in all
MOST_REFUSED = 1000  # that are told one by one
MAP_FROM = 1 << 20  # bytes: smaller files are read
_WILD = frozenset("*?[")


class Limits(Value):
    """How much may come out. `settled`: nobody can change the files any more, so that they need no copy."""

    total_bytes: int
    file_bytes: int
    settled: bool


def read_all(fd: int, size: int) -> bytes:
    """The first `size` bytes of a file, or as many as it has."""
    parts, at = [], 0
    while at < size and (part := posix.pread(fd, min(size - at, 1 << 24), at)):
        parts.append(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def mapped(fd: int, size: int, *, settled: bool) -> mmap:
    """A large file in memory, without a copy where nobody can cut it short any more (which would be SIGBUS for us)."""
    from mmap import ACCESS_READ, mmap  # noqa: PLC0415  # only for large files

    if settled:
        return mmap(fd, size, access=ACCESS_READ)
    copy = posix.memfd_create("capsule-collected", posix.MFD_CLOEXEC)
    try:
        at = 0
        while at < size and (moved := posix.sendfile(copy, fd, at, min(size - at, 1 << 30))):
            at += moved
        posix.ftruncate(copy, size)
        return mmap(copy, size, access=ACCESS_READ)
    finally:
        posix.close(copy)


class _Collection:
    def __init__(self, root: int, limits: Limits, mount_points: frozenset[str]) -> None:
        self.files: list[CollectedFile] = []
        self.refused: list[NotCollected] = []
        self._device = posix.fstat(root).st_dev
        self._limits = limits
        self._left = limits.total_bytes
        self._entries = MOST_ENTRIES
        self._mount_points = mount_points

    def refuse(self, path: str, reason: str, size: int = 0) -> None:
        if len(self.refused) < MOST_REFUSED:
            self.refused.append(NotCollected(path=path, reason=reason, bytes=size))

    def miss(self, patterns: Sequence[str]) -> None:
        """Tell which names, spelled out in full, were not there."""
        met = {file.path for file in self.files} | {one.path for one in self.refused}
        for pattern in patterns:
            if not _WILD & set(pattern) and pattern not in met:
                self.refuse(pattern, "missing")

    def _names(self, fd: int, states: Sequence[Sequence[str]]) -> Iterator[str]:
        """The names to look at: those that the patterns spell out, or all that are there."""
        parts = {rest[0] for rest in states}
        if not any(part == "**" or _WILD & set(part) for part in parts):
            yield from sorted(parts)
            return
        found = []
        with posix.scandir(fd) as entries:
            for entry in entries:
                self._entries -= 1
                if self._entries < 0:
                    break
                found.append(entry.name)
        yield from sorted(found)

    def walk(self, root: int, states: Sequence[Sequence[str]]) -> None:
        """Visit all that the states may lead to. A directory that is moved while it is looked into ends the walk."""
        with TreeCursor(root) as place:
            levels = [("", states, self._names(place.fd, states))]
            while levels:
                prefix, here, names = levels[-1]
                name = next(names, None)
                if name is not None:
                    deeper = self._visit(place, prefix, name, here)
                    if deeper:
                        levels.append((f"{prefix}{name}/", deeper, self._names(place.fd, deeper)))
                    continue
                if self._entries < 0:
                    self._entries = 0
                    self.refuse(prefix, "too_many")
                levels.pop()
                try:
                    if levels:
                        place.leave()
                except OSError:
                    self.refuse(prefix, "unreadable")
                    return

    def _visit(self, place: TreeCursor, prefix: str, name: str, states: Sequence[Sequence[str]]) -> list[Sequence[str]]:
        """Take a file; go into a directory, and return what is looked for there; or refuse it."""
        rests = advance(name, states)
        if not rests:
            return []
        path = prefix + name
        named = any(not rest for rest in rests)
        try:
            seen = posix.stat(name, dir_fd=place.fd, follow_symlinks=False)
        except OSError:
            return []  # a name that a pattern spells out and that is not there
        if path in self._mount_points:
            self.refuse(path, "mount")
        elif S_ISDIR(seen.st_mode):
            deeper = [rest for rest in rests if rest]
            if deeper:
                return deeper if self._enter(place, path) else []
            if any(tuple(rest) == (name,) for rest in states):
                self.refuse(path, "directory")
        elif named and S_ISREG(seen.st_mode):
            self._take(place.fd, name, path)
        elif named:
            self.refuse(path, "symlink" if S_ISLNK(seen.st_mode) else "special")
        return []

    def _enter(self, place: TreeCursor, path: str) -> bool:
        if place.depth >= MOST_NAMES:
            self.refuse(path, "too_deep")
            return False
        try:
            place.enter(path.rpartition("/")[2], device=self._device)
        except OSError as error:
            self.refuse(path, "mount" if error.errno == EXDEV else "unreadable")
            return False
        return True

    def _take(self, fd: int, name: str, path: str) -> None:
        try:
            file = posix.open(name, READ_FLAGS, dir_fd=fd)
        except OSError:
            self.refuse(path, "unreadable")
            return
        try:
            seen = posix.fstat(file)
            size = seen.st_size
            if not S_ISREG(seen.st_mode):
                self.refuse(path, "special")
            elif size > self._limits.file_bytes:
                self.refuse(path, "file_limit", size)
            elif size > self._left:
                self.refuse(path, "total_limit", size)
            else:
                data = read_all(file, size) if size < MAP_FROM else mapped(file, size, settled=self._limits.settled)
                self._left -= size
                self.files.append(CollectedFile(path=path, data=data, mode=seen.st_mode & 0o777))
        except OSError:
            self.refuse(path, "unreadable")
        finally:
            posix.close(file)


def collect(
    root: int, patterns: Sequence[str], limits: Limits, *, mount_points: frozenset[str] = frozenset()
) -> tuple[tuple[CollectedFile, ...], tuple[NotCollected, ...]]:
    """The plain files beneath the directory `root` that the patterns name, by path, and what was left out and why."""
    collection = _Collection(root, limits, mount_points)
    collection.walk(root, [tuple(pattern.split("/")) for pattern in patterns])
    collection.miss(patterns)
    return tuple(collection.files), tuple(collection.refused)
