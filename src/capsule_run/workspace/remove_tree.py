"""Removing a tree that a hostile command has made, and telling whose it was.

Rank 2. No link is followed and nothing is opened but directories, through descriptors. However deep the tree, three of them are
open at a time: a directory with something in it is moved up to the top, and emptied there.
"""

from __future__ import annotations

import posix
from _stat import S_ISDIR

from capsule_run.host.owner_tag import has_dead_owner
from capsule_run.host.path_resolution import DIRECTORY_FLAGS

_OWN_FLAGS = posix.O_PATH | posix.O_NOFOLLOW | posix.O_DIRECTORY | posix.O_CLOEXEC


def remove(name: str, parent: int) -> None:
    """Remove the directory `name` in `parent` with all that is in it. Raises OSError where the host refuses."""
    top = _enter(name, parent)
    try:
        waiting: list[str] = []
        _empty(top, top, waiting)
        while waiting:
            moved = waiting.pop()
            inner = _enter(moved, top)
            try:
                _empty(inner, top, waiting)
            finally:
                posix.close(inner)
            posix.rmdir(moved, dir_fd=top)
    finally:
        posix.close(top)
    posix.rmdir(name, dir_fd=parent)


def _enter(name: str, parent: int) -> int:
    """Open a directory whose owner may have taken every right to it; what it is was looked at through the same descriptor."""
    own = posix.open(name, _OWN_FLAGS, dir_fd=parent)
    try:
        posix.chmod(f"/proc/self/fd/{own}", 0o700)
        return posix.open(f"/proc/self/fd/{own}", DIRECTORY_FLAGS & ~posix.O_NOFOLLOW)
    finally:
        posix.close(own)


def _empty(directory: int, top: int, waiting: list[str]) -> None:
    """Unlink everything in `directory`; its directories go to `top`, under names of ours, and to `waiting`."""
    with posix.scandir(directory) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        if not S_ISDIR(posix.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            posix.unlink(name, dir_fd=directory)
            continue
        try:
            posix.rmdir(name, dir_fd=directory)
        except OSError:
            posix.close(_enter(name, directory))  # to be moved, it must be ours to write
            moved = f"capsule-{posix.urandom(8).hex()}"
            posix.rename(name, moved, src_dir_fd=directory, dst_dir_fd=top)
            waiting.append(moved)


def sweep(directory: int) -> list[str]:
    """Remove what runs of this account have left in an open directory, whose Python is dead; return the names."""
    removed = []
    with posix.scandir(directory) as entries:
        names = [entry.name for entry in entries if has_dead_owner(entry.name)]
    for name in names:
        try:
            seen = posix.stat(name, dir_fd=directory, follow_symlinks=False)
            if seen.st_uid == posix.geteuid() and S_ISDIR(seen.st_mode):
                remove(name, directory)
                removed.append(name)
        except OSError:  # its sandbox is still ending, or somebody else sweeps it
            continue
    return removed
