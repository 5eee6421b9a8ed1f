"""System calls that the filter denied while a command ran: name, count, first arguments and process; which option allows them.

From the record, which the launcher wrote (core/seccomp_notify.c). Loaded only if a call was denied.
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
    from capsule_run.model.report import FinishedRun
    from capsule_run.model.report_details import DeniedCall

# Stands for an errno: the call ended the run.
END_OF_RUN = 0xFFFF
# Groups of calls that programs make to find out whether they exist. Not worth a line if the command succeeded.
PROBES = ("spared", "probed", "")


def _process(call: DeniedCall) -> dict[str, object]:
    process: dict[str, object] = {}
    if call.name.strip():
        process["name"] = call.name.strip()
    if call.command_line:
        process["argv"] = call.command_line.removesuffix("\0").split("\0")
    return process


def denied(finished: FinishedRun) -> tuple[dict[str, object], ...]:
    """The denied calls of a run, in the order of their first occurrence."""
    counts = {(kind.call, kind.errno): kind.count for kind in finished.record.denied_counts}
    if not finished.record.denied:
        return ()
    names = {number: name for name, number in numbers_of(finished.policy.architecture).items()}
    return tuple(
        {
            "syscall": names.get(call.call, str(call.call)),
            "errno": "killed" if call.errno == END_OF_RUN else ERRNO_NAMES.get(call.errno, str(call.errno)),
            "count": counts.get((call.call, call.errno), 1),  # the record was full: at least this one
            "first_args": [f"{argument:#x}" for argument in call.arguments],
            "process": _process(call),
        }
        for call in finished.record.denied
    )


def forbidden(finished: FinishedRun) -> CapsuleError:
    """The error of a run that was killed for a forbidden system call, with the call if the record has it."""
    call = next((each for each in denied(finished) if each["errno"] == "killed"), None)
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


def denied_and_failure(
    finished: FinishedRun, failure: Failure | None
) -> tuple[tuple[dict[str, object], ...], Failure | None]:
    """The denied calls, and the failure of the run: if a call ended the run, the failure that names it."""
    return denied(finished), forbidden(finished).failure() if finished.report.killed == "syscall" else failure


def _describe(call: Mapping[str, object], profile: str) -> tuple[str, str]:
    """Describe a denied call and the option that allows it. Return the text and the call's group."""
    process = call["process"]
    assert isinstance(process, dict)
    count = f", {call['count']} times" if call["count"] != 1 else ""
    by = f" by `{name(str(process['name']))}`" if "name" in process else ""
    group, better = allowing(str(call["syscall"]), profile)
    option = f"`--profile {better}` allows it" if better else "no profile allows it"
    return f"`{call['syscall']}`{by} ({call['errno']}{count}): {option}", group


def in_words(calls: tuple[Mapping[str, object], ...], profile: str, *, ended_well: bool) -> str:
    """One line that says what was denied and which option allows it, or an empty string."""
    described = [
        text for text, group in (_describe(call, profile) for call in calls) if not (ended_well and group in PROBES)
    ]
    if not described:
        return ""
    more = f"; and {len(described) - 3} more" if len(described) > 3 else ""
    return f"denied {'; '.join(described[:3])}{more}"
