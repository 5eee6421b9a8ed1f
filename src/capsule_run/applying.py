"""Carrying over to the host what a run left: its changes to the directory that it was shown, or files to another one.

Rank 2. `outlet` writes; here is what is written in which order, and the account of what was not.
"""

from __future__ import annotations

from .errors import CapsuleError
from .hostfile import open_directory, reason_of
from .outlet import Outlet, RefusedError, transfer
from .result_parts import DELETED, NotApplied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .changes import Comparison
    from .result_parts import Change, CollectedFile

MOST_TOLD = 1000


def open_place(path: str, field: str) -> int:
    """A descriptor of the host's directory `path`, which is made with its parents if it is missing. Raises E2004."""
    try:
        return open_directory(path, make=True)
    except OSError as error:
        why, hint = reason_of(error)
        hint = hint or "name a directory that this account may write to"
        raise CapsuleError(
            "E2004", f"{field}: cannot write to `{path}`: {why}", details={"path": path}, hint=hint
        ) from None


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


def not_looked_into(comparison: Comparison) -> list[NotApplied]:
    """What the comparison could not look into, and so nothing was carried over of."""
    return [NotApplied(path=path, reason=why) for path, why in comparison.skipped]


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
