"""Format what the command line reports about the workspace after a run: discarded changes, and what was not exported.

Loaded only if there is something to report.
"""

from __future__ import annotations

from capsule_run._base.printable import name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from capsule_run.model.changes import Change
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

MAX_NAMED = 3
MAX_REASONS = 10


def _counted(changes: Sequence[Change], *, more: bool) -> str:
    counts = [(kind, sum(change.kind == kind for change in changes)) for kind in ("deleted", "modified", "created")]
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts if count)
    names = ", ".join(name(change.path) for change in changes[:MAX_NAMED])
    rest = ", …" if len(changes) > MAX_NAMED else ""
    one = "change" if len(changes) == 1 else "changes"
    return f"{'more than ' if more else ''}{len(changes)} {one} ({kinds}: {names}{rest})"


def lines(request: Request, result: Result) -> list[str]:
    """Return the lines to report, without the prefix `capsule-run: `."""
    said = []
    changes = result.changes or ()
    ended_by_itself = result.status == "success" or (result.error is not None and result.error.code == "E3003")
    asked = request.apply_changes or request.save_changes is not None
    if changes and not (asked and ended_by_itself):
        counted = _counted(changes, more=result.changes_truncated)
        if asked:
            said.append(f"{counted} in /workspace discarded, because the command did not exit normally")
        else:
            said.append(
                f"{counted} in /workspace discarded; use `--apply-changes` or `--save-changes DIR` to keep them"
            )
    said += [f"not written: {name(one.path)}: {one.reason}" for one in result.not_applied[:MAX_REASONS]]
    said += [f"not collected: {name(one.path)}: {one.reason}" for one in result.not_collected[:MAX_REASONS]]
    hidden = len(result.not_applied[MAX_REASONS:]) + len(result.not_collected[MAX_REASONS:])
    if hidden:
        said.append(f"and {hidden} more files")
    return said
