"""What this host turned out not to support, and whether another attempt without it may succeed."""

from __future__ import annotations

from capsule_run.engine.attempt import _TRANSIENT
from capsule_run.host.survey import forget
from capsule_run.plan import room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.plan import Plan
    from capsule_run.model.report import Report


# What this host has refused so far, so that only the first run of a process pays for finding out.
unsupported: set[str] = set()


class RetryAttemptError(Exception):
    """The attempt found out something about the host; `args[0]` says what. Another attempt may go better."""


def raise_retry(report: Report, plan: Plan, *, stale_ok: bool) -> None:
    """Raise RetryAttemptError for a failed set-up that a second look avoids: an optional mechanism, or facts kept too long."""
    if report.failed is None or report.failed[0] != "room" or report.failed[1] >= len(plan.room):
        return

    if report.failed[2] in _TRANSIENT:  # it says nothing of the host's mechanisms, and nothing of what lies at a path
        return

    mechanism = next_mechanism(report, plan)
    if mechanism and mechanism not in unsupported:
        unsupported.add(mechanism)
        raise RetryAttemptError(mechanism)
    if stale_ok and plan.room[report.failed[1]][0] in ("source", "inner-source", "copy", "guard", "inner-bind"):
        forget()
        raise RetryAttemptError("sources")


def next_mechanism(report: Report, plan: Plan) -> str:
    """The optional mechanism that this host has just refused, with a `:` and the device if it is one's; or an empty string."""
    assert report.failed is not None
    failed = plan.room[report.failed[1]]
    devices = {str(slot): step[2] for slot, step in enumerate(step for step in plan.room if step[0] == "source")}
    if failed[0] == "idmap":
        return f"idmap:{devices[failed[1]]}"
    if failed[0] == "overlay-ro":
        sources = [step for step in plan.room if step[0] in ("source", "inner-source")]
        lower = next(step[1] for step in plan.room if step[0] == "bind" and step[2] == failed[2])
        return f"lower:{sources[int(lower)][2]}"
    if failed[0] != "overlay":
        return ""

    if failed[3].startswith(f"{room.LAYER_PLACE}/"):
        sources = [step for step in plan.room if step[0] in ("source", "inner-source")]
        layer = next(step[1] for step in plan.room if step[0] == "bind" and step[2] == room.LAYER_PLACE)
        return f"overlay:{sources[int(layer)][2]}"
    lower = next(step[1] for step in plan.room if step[0] == "bind" and step[2] == failed[2])
    mapped = any(step[:2] == ("idmap", lower) for step in plan.room)
    return f"idmap:{devices[lower]}" if mapped else "overlay"
