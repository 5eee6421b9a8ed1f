"""Carrying over to the host what a run left: its changes to the directory that it was shown, or files to another one.

Rank 2. `outlet` writes; here is what is written in which order, and the account of what was not.
"""

from __future__ import annotations

import posix

from .errors import CapsuleError
from .outlet import Outlet, RefusedError, transfer
from .result_parts import DELETED, NotApplied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .result_parts import Change, CollectedFile

MOST_TOLD = 1000


def open_place(path: str, field: str) -> int:
    """A descriptor of the host's directory `path`, which is made with its parents if it is missing."""
    try:
        at = ""
        for name in path.split("/")[1:]:
            at = f"{at}/{name}"
            try:
                posix.mkdir(at, 0o755)
            except FileExistsError:
                continue
        return posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        why = posix.strerror(error.errno or 0).lower()
        raise CapsuleError("E2004", f"{field}: cannot write to `{path}`: {why}", details={"path": path}) from None


def carry_over(changes: Iterable[Change], layer: int, place: int, *, deletions: bool) -> list[NotApplied]:
    """Make the directory `place` like the command left its copy. Returns what was not done, and why."""
    refused: list[NotApplied] = []
    outlet = Outlet(place)
    for change in changes:
        if change.kind == DELETED and not deletions:
            continue
        try:
            transfer(change, layer, outlet)
        except RefusedError as error:
            if len(refused) < MOST_TOLD:
                refused.append(NotApplied(path=change.path, reason=str(error.args[0])))
    return refused


def save_files(files: Iterable[CollectedFile], place: int) -> list[NotApplied]:
    """Write collected files into the directory `place`, under their own paths."""
    refused: list[NotApplied] = []
    outlet = Outlet(place)
    for file in files:
        try:
            with memoryview(file.data) as view:
                outlet.file(file.path, view, file.mode, None)
        except RefusedError as error:
            refused.append(NotApplied(path=file.path, reason=str(error.args[0])))
    return refused
