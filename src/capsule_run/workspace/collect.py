"""Collect the files of a workspace that match patterns. The command may have prepared the workspace as an attack.

Reads through descriptors beneath one directory, and writes nothing. Follows no link, opens only plain files, enters no
other file system. Bounded in names read, depth, bytes of one file and of all; a sparse file counts with its full size.
"""

from __future__ import annotations

import posix
from _stat import S_ISDIR, S_ISLNK, S_ISREG
from errno import EXDEV

from capsule_run._base.value import Value
from capsule_run.host.path_resolution import READ_FLAGS
from capsule_run.host.tree_walk import TreeCursor
from capsule_run.model.result_parts import CollectedFile, NotCollected
from capsule_run.request.file_fields import MAX_NAMES, advance
from capsule_run.workspace import stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from mmap import mmap

MAX_ENTRIES = 200_000  # names read in all
MAX_NOT_COLLECTED = 1000  # that are listed
MAP_FROM = 1 << 20  # bytes: smaller files are read
_WILD = frozenset("*?[")


class Limits(Value):
    """How much may be collected."""

    total_bytes: int
    file_bytes: int
    settled: bool  # nobody can change the files any more, so that mapping them needs no copy


def read_all(fd: int, size: int) -> bytes:
    """Read the first `size` bytes of a file, or fewer if it is shorter."""
    parts, at = [], 0
    while at < size and (part := posix.pread(fd, min(size - at, 1 << 24), at)):
        parts.append(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def mapped(fd: int, size: int, *, settled: bool) -> mmap:
    """Map a large file into memory; map a copy unless `settled`, because a truncated file would be SIGBUS for us."""
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
        self.not_collected: list[NotCollected] = []
        self._device = posix.fstat(root).st_dev
        self._limits = limits
        self._left = limits.total_bytes
        self._entries = MAX_ENTRIES
        self._mount_points = mount_points

    def skip(self, path: str, reason: str, size: int = 0) -> None:
        if len(self.not_collected) < MAX_NOT_COLLECTED:
            self.not_collected.append(NotCollected(path=path, reason=reason, bytes=size))

    def add_missing(self, patterns: Sequence[str]) -> None:
        """Record the patterns without wildcards whose file does not exist."""
        met = {file.path for file in self.files} | {one.path for one in self.not_collected}
        for pattern in patterns:
            if not _WILD & set(pattern) and pattern not in met:
                self.skip(pattern, "missing")

    def _names(self, fd: int, states: Sequence[Sequence[str]]) -> Iterator[str]:
        """Yield the names to visit: those in the patterns, or all in the directory if a pattern has a wildcard."""
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
        """Visit everything that the patterns in `states` can match. A directory that is moved meanwhile ends the walk."""
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
                    self.skip(prefix, "too_many")
                levels.pop()
                try:
                    if levels:
                        place.leave()
                except OSError:
                    self.skip(prefix, "unreadable")
                    return

    def _visit(self, place: TreeCursor, prefix: str, name: str, states: Sequence[Sequence[str]]) -> list[Sequence[str]]:
        """Collect a file, or enter a directory and return the patterns left for it, or record why neither."""
        rests = advance(name, states)
        if not rests:
            return []
        path = prefix + name
        named = any(not rest for rest in rests)
        try:
            seen = posix.stat(name, dir_fd=place.fd, follow_symlinks=False)
        except OSError:
            return []  # a name in a pattern that does not exist
        if path in self._mount_points:
            self.skip(path, "mount")
        elif S_ISDIR(seen.st_mode):
            deeper = [rest for rest in rests if rest]
            if deeper:
                return deeper if self._enter(place, path) else []
            if any(tuple(rest) == (name,) for rest in states):
                self.skip(path, "directory")
        elif named and S_ISREG(seen.st_mode):
            self._read_file(place.fd, name, path)
        elif named:
            self.skip(path, "symlink" if S_ISLNK(seen.st_mode) else "special")
        return []

    def _enter(self, place: TreeCursor, path: str) -> bool:
        if place.depth >= MAX_NAMES:
            self.skip(path, "too_deep")
            return False
        try:
            place.enter(path.rpartition("/")[2], device=self._device)
        except OSError as error:
            self.skip(path, "mount" if error.errno == EXDEV else "unreadable")
            return False
        return True

    def _read_file(self, fd: int, name: str, path: str) -> None:
        stage.now.done += 1
        try:
            file = posix.open(name, READ_FLAGS, dir_fd=fd)
        except OSError:
            self.skip(path, "unreadable")
            return
        try:
            seen = posix.fstat(file)
            size = seen.st_size
            if not S_ISREG(seen.st_mode):
                self.skip(path, "special")
            elif size > self._limits.file_bytes:
                self.skip(path, "file_limit", size)
            elif size > self._left:
                self.skip(path, "total_limit", size)
            else:
                data = read_all(file, size) if size < MAP_FROM else mapped(file, size, settled=self._limits.settled)
                self._left -= size
                self.files.append(CollectedFile(path=path, data=data, mode=seen.st_mode & 0o777))
        except OSError:
            self.skip(path, "unreadable")
        finally:
            posix.close(file)


def collect(
    root: int, patterns: Sequence[str], limits: Limits, *, mount_points: frozenset[str] = frozenset()
) -> tuple[tuple[CollectedFile, ...], tuple[NotCollected, ...]]:
    """Collect the plain files beneath the directory `root` that match; return them, and what was not collected and why."""
    collection = _Collection(root, limits, mount_points)
    with stage.now.begin(stage.COLLECTING):
        collection.walk(root, [tuple(pattern.split("/")) for pattern in patterns])
    collection.add_missing(patterns)
    return tuple(collection.files), tuple(collection.not_collected)
