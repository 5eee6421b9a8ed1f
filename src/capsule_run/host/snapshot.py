"""List a small directory for a private copy, for a workspace that no overlay can make writable.

Reads through descriptors and follows no link; the files are sent like input files. A directory that exceeds the limits is
not copied, and the caller chooses another mechanism.
"""

from __future__ import annotations

import posix
from _stat import S_ISDIR, S_ISLNK, S_ISREG

from capsule_run.host.path_resolution import DIRECTORY_FLAGS
from capsule_run.host.tree_walk import TreeCursor
from capsule_run.model.optional import Copy, WorkspaceFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.source import Source


MAX_BYTES, MAX_ENTRIES = 64 << 20, 2000
MAX_DEPTH, MAX_PATH_BYTES = 64, 2048  # entries are created by path, beneath another directory
_PAGE = 4096


class _Listing:
    """The entries to copy, and how much of the limits is left."""

    def __init__(self, source: Source, most_bytes: int) -> None:
        self._source, self._left, self._entries = source, most_bytes, MAX_ENTRIES
        self.directories: list[tuple[str, int]] = []
        self.links: list[tuple[str, str]] = []
        self.files: list[WorkspaceFile] = []

    def walk(self, root: int) -> bool:
        """List the tree beneath the open directory `root`. Return False if it exceeds the limits."""
        with TreeCursor(root) as place:
            levels = [("", self._names(place.fd))]
            while levels:
                prefix, names = levels[-1]
                if self._entries < 0:
                    return False
                if not names:
                    levels.pop()
                    if levels:
                        place.leave()
                    continue
                name = names.pop()
                if not self._add(place, name, prefix + name):
                    return False
                if place.depth == len(levels):
                    levels.append((f"{prefix}{name}/", self._names(place.fd)))
        return True

    def _names(self, directory: int) -> list[str]:
        """Return the names in a directory, at most one more than the limit allows."""
        names = []
        with posix.scandir(directory) as entries:
            for entry in entries:
                names.append(entry.name)
                self._entries -= 1
                if self._entries < 0:
                    break
        return names[::-1]

    def _add(self, place: TreeCursor, name: str, path: str) -> bool:
        """Add one entry, and enter it if it is a directory. Return False if it exceeds the limits."""
        seen = posix.stat(name, dir_fd=place.fd, follow_symlinks=False)
        if S_ISLNK(seen.st_mode):
            self.links.append((path, posix.readlink(name, dir_fd=place.fd)))
        elif S_ISDIR(seen.st_mode):
            return seen.st_dev != self._source.device or self._enter(place, name, path, seen.st_mode)
        elif S_ISREG(seen.st_mode) and posix.access(name, posix.R_OK, dir_fd=place.fd, effective_ids=True):
            self._left -= max(-(-seen.st_size // _PAGE), 1) * _PAGE
            whole = f"{self._source.path}/{path}"
            self.files.append(
                WorkspaceFile(
                    path=path, mode=seen.st_mode & 0o777 | 0o600, size=seen.st_size, content=None, source=whole,
                    device=seen.st_dev, inode=seen.st_ino,
                )
            )  # fmt: skip
        return self._left >= 0

    def _enter(self, place: TreeCursor, name: str, path: str, mode: int) -> bool:
        if place.depth >= MAX_DEPTH or len(path.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
            return False
        try:
            place.enter(name)
        except PermissionError:
            return True
        self.directories.append((path, mode & 0o777 | 0o700))
        return True


def copy_of(source: Source, most_bytes: int) -> Copy | None:
    """Return the entries of a private copy of `source`, or None if it is too large or changes meanwhile."""
    listing = _Listing(source, min(most_bytes, MAX_BYTES))
    try:
        fd = posix.open(source.path, DIRECTORY_FLAGS)
    except OSError:
        return None
    try:
        seen = posix.fstat(fd)
        if (seen.st_dev, seen.st_ino) != (source.device, source.inode) or not listing.walk(fd):
            return None
    except OSError:
        return None
    finally:
        posix.close(fd)
    return Copy(directories=tuple(listing.directories), links=tuple(listing.links), files=tuple(listing.files))
