"""Remove a directory tree that a hostile command has created, and sweep those of dead owners.

Follows no link, and opens only directories, through descriptors. Three are open at a time at any depth: a directory that is
not empty is moved to the top of the tree and emptied there.
"""

from __future__ import annotations

import posix
from _stat import S_ISDIR

from capsule_run.host.owner_tag import has_dead_owner
from capsule_run.host.path_resolution import DIRECTORY_FLAGS

_OWN_FLAGS = posix.O_PATH | posix.O_NOFOLLOW | posix.O_DIRECTORY | posix.O_CLOEXEC


def remove(name: str, parent: int) -> None:
    """Remove the directory `name` in `parent` with its contents. Raises OSError."""
    top = _open_any_mode(name, parent)
    try:
        waiting: list[str] = []
        _empty(top, top, waiting)
        while waiting:
            moved = waiting.pop()
            inner = _open_any_mode(moved, top)
            try:
                _empty(inner, top, waiting)
            finally:
                posix.close(inner)
            posix.rmdir(moved, dir_fd=top)
    finally:
        posix.close(top)
    posix.rmdir(name, dir_fd=parent)


def _open_any_mode(name: str, parent: int) -> int:
    """Open a directory whatever its mode: set the mode first, through a descriptor of the same directory."""
    own = posix.open(name, _OWN_FLAGS, dir_fd=parent)
    try:
        posix.chmod(f"/proc/self/fd/{own}", 0o700)
        return posix.open(f"/proc/self/fd/{own}", DIRECTORY_FLAGS & ~posix.O_NOFOLLOW)
    finally:
        posix.close(own)


def _empty(directory: int, top: int, waiting: list[str]) -> None:
    """Unlink everything in `directory`; move directories that are not empty to `top`, and add their new names to `waiting`."""
    with posix.scandir(directory) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        if not S_ISDIR(posix.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            posix.unlink(name, dir_fd=directory)
            continue
        try:
            posix.rmdir(name, dir_fd=directory)
        except OSError:
            posix.close(_open_any_mode(name, directory))  # makes it writable, which moving it requires
            moved = f"capsule-{posix.urandom(8).hex()}"
            posix.rename(name, moved, src_dir_fd=directory, dst_dir_fd=top)
            waiting.append(moved)


def sweep(directory: int) -> list[str]:
    """Remove the directories of this account's dead owners in an open directory; return the names."""
    removed = []
    with posix.scandir(directory) as entries:
        names = [entry.name for entry in entries if has_dead_owner(entry.name)]
    for name in names:
        try:
            seen = posix.stat(name, dir_fd=directory, follow_symlinks=False)
            if seen.st_uid == posix.geteuid() and S_ISDIR(seen.st_mode):
                remove(name, directory)
                removed.append(name)
        except OSError:  # its sandbox is still exiting, or another process sweeps it
            continue
    return removed
