"""Remember which optional mechanisms this host does not support, and decide whether to attempt a run again without them."""

from __future__ import annotations

import errno

from capsule_run._base.errors import EXHAUSTED
from capsule_run.cgroup import discover
from capsule_run.host.survey import forget
from capsule_run.plan import room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from capsule_run.cgroup.create import ControlGroups
    from capsule_run.model.plan import Plan
    from capsule_run.model.policy import Group
    from capsule_run.model.report import Report

    RetryReason = Literal["unsupported", "stale facts", "launcher lost", "cgroup version 2"]

# Optional mechanisms that failed on this host: only the first run of a process finds out.
unsupported: set[str] = set()

# Errors that do not depend on a mechanism of the host or on the object at a path.
_TRANSIENT = frozenset((errno.EINTR, errno.EAGAIN, errno.ENOSPC, *EXHAUSTED))

UNSUPPORTED: RetryReason = "unsupported"  # an optional mechanism failed and is in `unsupported` now
STALE_FACTS: RetryReason = "stale facts"  # facts about the host that were kept have changed
LAUNCHER_LOST: RetryReason = "launcher lost"  # the launcher that the native command started could not be executed
CGROUP_VERSION_2: RetryReason = (
    "cgroup version 2"  # init must be cloned into a cgroup, and was cloned before it was found
)


class RetryAttemptError(Exception):
    """Raised when another attempt may succeed: the caller repeats the attempt, which reads what this one recorded."""

    def __init__(self, reason: RetryReason) -> None:
        super().__init__(reason)
        self.reason = reason


def create_cgroups(cgroups: ControlGroups, wanted: tuple[Group, ...]) -> None:
    """Create the cgroups of a run, unless they exist already.

    Raises RetryAttemptError if the host denies it: the next attempt uses no cgroups. Raises OSError if the host is out of
    memory or descriptors.
    """
    if cgroups.name:
        return
    try:
        cgroups.make(wanted)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        discover.forget(none="cgroups" in unsupported)
        unsupported.add("cgroups")
        raise RetryAttemptError(UNSUPPORTED) from None


def raise_retry(report: Report, plan: Plan, *, stale_ok: bool) -> None:
    """Raise RetryAttemptError if set-up failed because of an optional mechanism or of stale facts."""
    failed = report.failed
    if failed is None or failed.half != "room" or failed.step >= len(plan.room):
        return
    if failed.errno in _TRANSIENT:
        return
    step = plan.room[failed.step]
    mechanism = next_mechanism(step, plan)
    if mechanism and mechanism not in unsupported:
        unsupported.add(mechanism)
        raise RetryAttemptError(UNSUPPORTED)
    if stale_ok and step[0] in ("source", "inner-source", "copy", "guard", "inner-bind"):
        forget()
        raise RetryAttemptError(STALE_FACTS)


def next_mechanism(failed: tuple[str, ...], plan: Plan) -> str:
    """Return the optional mechanism whose step failed, such as `overlay` or `idmap:DEVICE`; empty if it is not optional."""
    devices = {str(slot): step[2] for slot, step in enumerate(step for step in plan.room if step[0] == "source")}
    if failed[0] == "idmap":
        return f"idmap:{devices[failed[1]]}"
    if failed[0] == "overlay-ro":
        sources = [step for step in plan.room if step[0] in ("source", "inner-source")]
        lower = next(step[1] for step in plan.room if step[0] == "bind" and step[2] == failed[2])
        return f"lower:{sources[int(lower)][2]}"
    if failed[0] != "overlay":
        return ""

    if failed[3].startswith(f"{room.LAYER_DIR}/"):
        sources = [step for step in plan.room if step[0] in ("source", "inner-source")]
        layer = next(step[1] for step in plan.room if step[0] == "bind" and step[2] == room.LAYER_DIR)
        return f"overlay:{sources[int(layer)][2]}"
    lower = next(step[1] for step in plan.room if step[0] == "bind" and step[2] == failed[2])
    mapped = any(step[:2] == ("idmap", lower) for step in plan.room)
    return f"idmap:{devices[lower]}" if mapped else "overlay"
