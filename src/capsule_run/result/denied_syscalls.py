"""System calls that the filter denied while a command ran: name, count, first arguments and process; which option allows them.

From the record, which the launcher wrote (core/seccomp_notify.c). Loaded only if a call was denied.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.printable import name
from capsule_run._base.value import replace
from capsule_run.model.report_details import ProcessEnded
from capsule_run.result import evidence
from capsule_run.seccomp.catalogue import allowing
from capsule_run.seccomp.rule import ERRNO_NAMES
from capsule_run.seccomp.ruleset import numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from capsule_run._base.errors import Failure
    from capsule_run.model.report import FinishedRun
    from capsule_run.model.report_details import DeniedCall

# Stands for an errno: the call ended the run.
END_OF_RUN = 0xFFFF
# Groups of calls that programs make to find out whether they exist. Not worth a line if the command succeeded.
PROBES = ("probed", "")
_MAX_NAMED = 3
_EXITS = 1  # the moment of a `ProcessSeen` that is about to end
_STDERR_BYTES = 64 << 10
# How programs print the errno of a denied call.
_ERRNO_WORDS = {
    "ENOSYS": ("unction not implemented", "ystem call not implemented"),
    "EPERM": ("peration not permitted",),
    "EACCES": ("ermission denied",),
    "EOPNOTSUPP": ("peration not supported",),
    "EAFNOSUPPORT": ("ddress family not supported",),
    "EPROTONOSUPPORT": ("rotocol not supported",),
}


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
    stderr = evidence.stderr(finished)[-_STDERR_BYTES:].decode("utf-8", "replace")
    failed = _failed_processes(finished)
    named = [
        (
            names.get(call.call, str(call.call)),
            "killed" if call.errno == END_OF_RUN else ERRNO_NAMES.get(call.errno, str(call.errno)),
            call,
        )
        for call in finished.record.denied
    ]
    return tuple(
        {
            "syscall": syscall,
            "errno": errno,
            "count": counts.get((call.call, call.errno), 1),  # the record was full: at least this one
            "first_args": [f"{argument:#x}" for argument in call.arguments],
            "process": _process(call),
            "reported": call.name in failed or _is_reported(syscall, errno, stderr),
        }
        for syscall, errno, call in named
    )


def _failed_processes(finished: FinishedRun) -> frozenset[str]:
    """The names of processes that ended badly; only a run with a ledger knows them."""
    ends = [
        (event.name, event.wait_status if isinstance(event, ProcessEnded) else event.code)
        for event in finished.record.process_events
        if isinstance(event, ProcessEnded) or event.moment == _EXITS
    ]
    return frozenset(name for name, status in ends if status and name)


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
    """The denied calls, and the failure of the run: if a call ended the run, the failure that names it.

    If a failure says nothing else, and denied calls explain it, its hint names the profile that allows them.
    """
    calls = denied(finished)
    if finished.report.killed == "syscall":
        return calls, forbidden(finished).failure()
    if failure is None or not _explain(calls, failure, finished):
        return calls, failure
    profile, allowed = remedy(calls, finished.policy.calls.profile)
    if not profile:
        return calls, failure
    names = ", ".join(f"`{name}`" for name in allowed[:_MAX_NAMED])
    more = f" and {len(allowed) - _MAX_NAMED} more" if len(allowed) > _MAX_NAMED else ""
    hint = f"`--profile {profile}` (`profile`) allows what was denied: {names}{more}"
    return calls, replace(failure, hint=hint)


def denied_count(finished: FinishedRun) -> int:
    """How many calls were denied in all, with those that `denied` has no room for."""
    listed = {(call.call, call.errno) for call in finished.record.denied}
    counts = {(kind.call, kind.errno): kind.count for kind in finished.record.denied_counts}
    return sum(counts.get(kind, 1) for kind in listed) + finished.record.denied_others


def _explain(calls: tuple[dict[str, object], ...], failure: Failure, finished: FinishedRun) -> bool:
    """Whether denied calls explain a failure: stderr reports one, or a signal or a silent exit has no other explanation."""
    if any(call["reported"] for call in calls):
        return failure.code in ("E3003", "E3005", "E3006") and (
            not failure.hint or failure.hint.startswith("raise `--timeout`")
        )
    if failure.hint:
        return False
    return failure.code == "E3005" or (failure.code == "E3003" and not (finished.stdout or evidence.stderr(finished)))


def _is_reported(call: str, errno: str, stderr: str) -> bool:
    """Whether stderr has the name of a call, or the words of its errno."""
    return any(
        words in stderr for words in (f"{call}(", f"{call}:", f"{call} failed", errno, *_ERRNO_WORDS.get(errno, ()))
    )


def remedy(calls: Iterable[Mapping[str, object]], profile: str) -> tuple[str, list[str]]:
    """The profile that allows every call that any profile allows, and these calls; empty for none."""
    allowed = {str(call["syscall"]): allowing(str(call["syscall"]), profile)[1] for call in calls}
    better = [one for one in dict.fromkeys(allowed.values()) if one]
    if not better:
        return "", []
    base = better[0].partition("+")[0]
    groups = [group for one in better for group in one.split("+")[1:]]
    return "+".join([base, *dict.fromkeys(groups)]), [call for call, one in allowed.items() if one]


def _describe(call: Mapping[str, object]) -> str:
    process = call["process"]
    assert isinstance(process, dict)
    count = f", {call['count']} times" if call["count"] != 1 else ""
    by = f" by `{name(str(process['name']))}`" if "name" in process else ""
    return f"`{call['syscall']}`{by} ({call['errno']}{count})"


def in_words(calls: tuple[Mapping[str, object], ...], profile: str, *, ended_well: bool) -> str:
    """One line that says what was denied and which one profile allows it, or an empty string.

    After a command that ended well, a call that programs make to find out whether it exists is worth no line, unless stderr
    reports it.
    """
    reported = [
        call
        for call in calls
        if not ended_well or call["reported"] or allowing(str(call["syscall"]), profile)[0] not in PROBES
    ]
    better, allowed = remedy(reported, profile)
    parts = []
    for can, option in ((True, f"`--profile {better}` allows"), (False, "no profile allows")):
        described = [_describe(call) for call in reported if (str(call["syscall"]) in allowed) == can]
        if described:
            more = f" and {len(described) - _MAX_NAMED} more" if len(described) > _MAX_NAMED else ""
            them = "it" if len(described) == 1 else "them"
            parts.append(f"{'; '.join(described[:_MAX_NAMED])}{more}: {option} {them}")
    return f"denied {'; '.join(parts)}" if parts else ""
