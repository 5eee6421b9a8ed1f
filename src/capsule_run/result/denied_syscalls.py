"""What the filter refused while a command ran: by name, how often, first how and by whom; and the option that allows it.

Rank 1: pure. Made of the record's lines, which the launcher wrote (core/seccomp_notify.c). Only a run with a refusal pays
for this.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.printable import name
from capsule_run.seccomp.catalogue import allowing
from capsule_run.seccomp.rule import ERRNO_NAMES
from capsule_run.seccomp.ruleset import numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run._base.errors import Failure
    from capsule_run.model.report import FinishedRun, RefusedCall

# In the place of an errno: the call ended the run.
END_OF_RUN = 0xFFFF
# Refusals that say nothing of a command that ended well: whoever makes these calls asks whether they are there.
PROBES = ("spared", "probed", "")


def _process(call: RefusedCall) -> dict[str, object]:
    process: dict[str, object] = {}
    if call.name.strip():
        process["name"] = call.name.strip()
    if call.command_line:
        process["argv"] = call.command_line.removesuffix("\0").split("\0")
    return process


def denied(ended: FinishedRun) -> tuple[dict[str, object], ...]:
    """The refusals of a run, in the order of their first time."""
    counts = {(kind.call, kind.errno): kind.count for kind in ended.record.refused_counts}
    if not ended.record.refused:
        return ()
    names = {number: name for name, number in numbers_of(ended.policy.architecture).items()}
    return tuple(
        {
            "syscall": names.get(call.call, str(call.call)),
            "errno": "killed" if call.errno == END_OF_RUN else ERRNO_NAMES.get(call.errno, str(call.errno)),
            "count": counts.get((call.call, call.errno), 1),  # a full record has no room for it
            "first_args": [f"{argument:#x}" for argument in call.arguments],
            "process": _process(call),
        }
        for call in ended.record.refused
    )


def forbidden(ended: FinishedRun) -> CapsuleError:
    """Which call ended the run, of all that only an attack makes."""
    refusals = denied(ended)
    call = next((each for each in refusals if each["errno"] == "killed"), None)
    if call is None:
        return CapsuleError("E5001", "the command made a system call that the policy forbids")
    process = call["process"]
    assert isinstance(process, dict)
    arguments = call["first_args"]
    assert isinstance(arguments, list)
    details = {name: call[name] for name in ("syscall", "process")}
    details["arguments"] = arguments
    by = f" by `{process['name']}`" if "name" in process else ""
    return CapsuleError(
        "E5001", f"the command made a system call that the policy forbids: `{call['syscall']}`{by}", details=details
    )


def told(ended: FinishedRun, failure: Failure | None) -> tuple[tuple[dict[str, object], ...], Failure | None]:
    """The refusals, and the failure: with the name of the call, where one ended the run."""
    return denied(ended), forbidden(ended).failure() if ended.report.killed == "syscall" else failure


def _one(call: Mapping[str, object], profile: str) -> tuple[str, str]:
    """A refusal in words, and the option that would allow it."""
    process = call["process"]
    assert isinstance(process, dict)
    count = f", {call['count']} times" if call["count"] != 1 else ""
    by = f" by `{name(str(process['name']))}`" if "name" in process else ""
    group, better = allowing(str(call["syscall"]), profile)
    option = f"`--profile {better}` allows it" if better else "no profile allows it"
    return f"`{call['syscall']}`{by} ({call['errno']}{count}): {option}", group


def in_words(refusals: tuple[Mapping[str, object], ...], profile: str, *, ended_well: bool) -> str:
    """One line for people, or an empty string: what was refused, and what would allow it."""
    told = [
        words for words, group in (_one(call, profile) for call in refusals) if not (ended_well and group in PROBES)
    ]
    if not told:
        return ""
    more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
    return f"refused {'; '.join(told[:3])}{more}"
