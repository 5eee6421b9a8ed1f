"""Attestation: compare what the kernel says of the payload, from the record, with the policy.

The core has compared the minimum already, before the command began (core/attest.c). What it cannot know is compared here:
which ids were asked for, whether Landlock was, and that the facts are there at all. A difference makes the run an error,
E6004, whatever the command did.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run.model.request import COPY_ON_WRITE
from capsule_run.policy import limits, sysv
from capsule_run.result import filter_hash
from capsule_run.seccomp import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.policy import Policy
    from capsule_run.model.report import CallerFacts, FinishedRun, PayloadFacts


SETS = ("inheritable", "permitted", "effective", "bounding", "ambient")


def _loaded_filter(finished: FinishedRun) -> str:
    """The filter that the kernel got: one that asks the launcher, or, without a listener, one that answers by itself."""
    if finished.record.listening:
        return finished.program
    return filters.without_listener(finished.program)


def _unknown(line: str) -> CapsuleError:
    return CapsuleError("E6004", f"the protections during the run are unknown: no `{line}` in the record")


def _capabilities(own: PayloadFacts) -> dict[str, int]:
    return {
        "inheritable": own.inheritable,
        "permitted": own.permitted,
        "effective": own.effective,
        "bounding": own.bounding,
        "ambient": own.ambient,
    }


def _namespaces(facts: PayloadFacts | CallerFacts) -> dict[str, int]:
    return {
        "user": facts.user_namespace,
        "mount": facts.mount_namespace,
        "pid": facts.pid_namespace,
        "net": facts.net_namespace,
        "ipc": facts.ipc_namespace,
        "uts": facts.uts_namespace,
        "cgroup": facts.cgroup_namespace,
    }


def _facts(finished: FinishedRun, *, short: bool) -> dict[str, object]:
    """The facts by name, without the hash of the filter if `short`. Raises CapsuleError E6004 if a part of them is missing."""
    own, caller, room = finished.record.attest, finished.record.attest_caller, finished.record.attest_room
    if own is None:
        raise _unknown("attest")
    if caller is None:
        raise _unknown("attest-caller")
    if room is None:
        raise _unknown("attest-room")
    namespaces = _namespaces(own)
    return {
        "capabilities": _capabilities(own),
        "no_new_privs": own.no_new_privs == 1,
        "seccomp": {
            "mode": own.seccomp_mode,
            "filters": own.seccomp_filters,
            "filters_of_caller": caller.seccomp_filters,
            **({} if short else {"sha256": filter_hash.sha256_of(_loaded_filter(finished))}),
        },
        "namespaces": namespaces,
        "shared_namespaces": [name for name, theirs in _namespaces(caller).items() if namespaces[name] == theirs],
        "landlock_abi": finished.report.landlock_abi,
        "cgroups": own.cgroups,
        # the payload's map leads to an id of the room, and the room's map from there to the host
        "user": {"inside": own.uid_inside, "host": room.uid_outside + own.uid_outside - room.uid_inside},
        "group": {"inside": own.gid_inside, "host": room.gid_outside + own.gid_outside - room.gid_inside},
    }


def _difference(facts: dict[str, object], policy: Policy) -> CapsuleError | None:
    expected: dict[str, object] = {
        "capabilities": dict.fromkeys(SETS, 0),
        "no_new_privs": True,
        "shared_namespaces": ["net"] if policy.network else [],
        "cgroups": len(policy.limit_mechanisms.groups) + len(policy.limit_mechanisms.room_groups),
        "user": {"inside": policy.user, "host": policy.identity.outside_uid},
        "group": {"inside": policy.group, "host": policy.identity.outside_gid},
    }
    seccomp = facts["seccomp"]
    assert isinstance(seccomp, dict)
    expected["seccomp"] = {**seccomp, "mode": 2, "filters": max(seccomp["filters"], seccomp["filters_of_caller"] + 1)}
    for name, wanted in expected.items():
        if facts[name] != wanted:
            details = {"fact": name, "expected": wanted, "observed": facts[name]}
            return CapsuleError(
                "E6004", f"while the command ran, `{name}` was {facts[name]}, not {wanted}", details=details
            )
    return None


def attest(finished: FinishedRun, *, short: bool = False) -> tuple[dict[str, object], CapsuleError | None]:
    """The kernel's facts of a run whose command started, and the error if they differ from the policy or are missing.

    :param short: leave out the hash of the filter, which nothing is compared with.
    """
    try:
        facts = _facts(finished, short=short)
    except CapsuleError as error:
        return {}, error
    return facts, _difference(facts, finished.policy)


def isolation_in_force(policy: Policy, landlock_abi: int, *, copied: bool = False) -> dict[str, object]:
    """The isolation layers and limit mechanisms of a run, by name, for the result and for `-v`."""
    workspace: dict[str, object] = {"kind": policy.workspace_kind}
    if policy.workspace is not None:
        workspace["source"] = policy.workspace.path
    if policy.workspace_kind == COPY_ON_WRITE:
        workspace["mechanism"] = "copy" if copied else "overlay"
    if policy.upper is not None:
        workspace["upper"] = {"directory": policy.upper.directory, "bytes": policy.upper.bytes}
    if policy.cover.masks:
        workspace["masked"] = [place for place, _is_directory in policy.cover.masks]
    return {
        "namespaces": ["user", "mount", "pid", "ipc", "uts", "cgroup", *(() if policy.network else ("net",))],
        "network": "host" if policy.network else "none",
        "user": {"inside": policy.user, "outside": policy.identity.outside_uid},
        "no_new_privs": True,
        "capabilities": [],
        "seccomp": policy.calls.profile,
        "landlock_abi": landlock_abi,
        "workspace": workspace,
        "limits": {
            "wall_time": "timer",
            "cpu_time": "watch" if policy.watched.cpu_time_ms is not None else "none",
            **dict(policy.limit_mechanisms.mechanisms),
            "output": "launcher",
            "disk": "tmpfs",
            "file_size": "rlimit",
            "open_files": "rlimit",
        },
        **({"notes": list(notes)} if (notes := _notes(policy)) else {}),
    }


def _notes(policy: Policy) -> tuple[str, ...]:
    return (*policy.notes, sysv.WITHHELD) if limits.withholds_sysv(policy) else policy.notes
