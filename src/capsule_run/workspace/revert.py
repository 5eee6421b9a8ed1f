"""Undo the changes of a workspace while its sandbox lives, from the shared directory that they started from."""

from __future__ import annotations

import os

from capsule_run._base.lexical_paths import WORKSPACE, within
from capsule_run.model.changes import CREATED
from capsule_run.workspace.live import LiveFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from capsule_run.model.changes import Change


def revert(changes: Iterable[Change], files: LiveFiles, lower: int, *, hidden: Collection[str]) -> None:
    """Undo changes: what was created goes, and what was changed or deleted comes back from the shared directory.

    :param hidden: paths below that directory that the sandbox does not show. What is there now has come since, and does not
        come in: to the sandbox a file at such a path is one that was created.
    """
    listed = list(changes)
    for change in reversed(listed):  # what is in a directory before the directory
        if change.kind == CREATED or _is_hidden(change.path, hidden):
            _remove(files, f"{WORKSPACE}/{change.path}")
    source = LiveFiles(lower, ids=None)
    for change in listed:
        if change.kind != CREATED:
            _restore(source, files, change.path, hidden)


def _is_hidden(path: str, hidden: Collection[str]) -> bool:
    return any(within(path, place) for place in hidden)


def _restore(source: LiveFiles, files: LiveFiles, path: str, hidden: Collection[str]) -> None:
    if _is_hidden(path, hidden):
        return
    info, place = source.info(f"/{path}"), f"{WORKSPACE}/{path}"
    if info.type == "directory":
        files.make_directory(place, parents=True)
        for inner in source.list(f"/{path}"):
            _restore(source, files, f"{path}/{inner.name}", hidden)
        files.change_mode(place, info.mode)
    elif info.target is not None:
        _remove(files, place)
        files.make_link(place, info.target)
    else:
        if files.exists(place) and files.info(place).type != "file":
            _remove(files, place)
        _copy(source, files, path, place)
        files.change_mode(place, info.mode)


def _remove(files: LiveFiles, place: str) -> None:
    if files.exists(place):
        files.remove(place, recursive=True)


def _copy(source: LiveFiles, files: LiveFiles, path: str, place: str) -> None:
    fds = [source.open_to_read(f"/{path}"), -1]
    try:
        seen = os.fstat(fds[0])
        fds[1] = files.open_to_write(place)
        while os.sendfile(fds[1], fds[0], None, 1 << 20):
            pass
        os.utime(fds[1], ns=(seen.st_atime_ns, seen.st_mtime_ns))
    finally:
        for fd in fds:
            if fd >= 0:
                os.close(fd)
