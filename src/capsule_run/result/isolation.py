"""What was really in force: the kernel's own account of the payload, from the record, held against the policy.

Rank 1: pure. The core has compared the floor already, before the command began (core/attest.c); what it cannot know is
compared here: which ids were asked for, whether Landlock was, and that the account is there at all. A difference makes
of the run an error, E6004, whatever the command did.
"""

from __future__ import annotations

from binascii import unhexlify

from capsule_run._base.errors import CapsuleError
from capsule_run.seccomp import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.policy import Policy
    from capsule_run.model.report import FinishedRun


try:
    from _sha256 import sha256  # type: ignore[import-not-found]  # 3.11's own; hashlib would load OpenSSL, 5 ms
except ImportError:
    from _sha2 import sha256  # type: ignore[import-not-found]  # since 3.12


SETS = ("inheritable", "permitted", "effective", "bounding", "ambient")
NAMESPACES = ("user", "mount", "pid", "net", "ipc", "uts", "cgroup")
# Where the numbers of an `attest` line begin, see core/capsule-core.h.
_PRIVILEGES, _SPACES, _UID, _GID, _GROUPS, _END = 5, 8, 15, 18, 21, 22

_hashes: dict[str, str] = {}


def filter_hash(program: str) -> str:
    """The SHA-256 of a filter as it went to the kernel. Kept: of filters there are few, and of runs many."""
    if program not in _hashes:
        _hashes.clear()
        _hashes[program] = sha256(unhexlify(program)).hexdigest()
    return _hashes[program]


def _numbers(ended: FinishedRun, name: str, count: int) -> list[int]:
    rows = [row[1:] for row in ended.record if row[0] == name]
    if len(rows) != 1 or len(rows[0]) != count or not all(word.isdigit() for word in rows[0]):
        raise CapsuleError("E6004", f"what was in force while the command ran is not known: no `{name}` in the record")
    return [int(word) for word in rows[0]]


def _loaded(ended: FinishedRun) -> str:
    """The filter as it went to the kernel: one that asks the launcher, or where that cannot be, one that answers itself."""
    if any(words[0] == "listening" for words in ended.record):
        return ended.program

    return filters.without_listener(ended.program)


def _ids(own: list[int], room: list[int]) -> dict[str, int]:
    """One id inside, and the host's: the payload's map leads to the room's root, and the room's map to the host."""
    return {"inside": own[0], "host": room[1] + own[1] - room[0]}


def _facts(ended: FinishedRun) -> dict[str, object]:
    """The account by name. Raises CapsuleError E6004 where it is not there."""
    own, caller = _numbers(ended, "attest", _END), _numbers(ended, "attest-caller", _UID)
    room = _numbers(ended, "attest-room", 6)
    spaces = dict(zip(NAMESPACES, own[_SPACES:_UID], strict=True))
    return {
        "capabilities": dict(zip(SETS, own[:_PRIVILEGES], strict=True)),
        "no_new_privs": own[_PRIVILEGES] == 1,
        "seccomp": {
            "mode": own[6],
            "filters": own[7],
            "filters_of_caller": caller[7],
            "sha256": filter_hash(_loaded(ended)),
        },
        "namespaces": spaces,
        "shared_namespaces": [
            name for name, theirs in zip(NAMESPACES, caller[_SPACES:], strict=True) if spaces[name] == theirs
        ],
        "landlock_abi": ended.report.landlock_abi,
        "cgroups": own[_GROUPS],
        "user": _ids(own[_UID:_GID], room[:3]),
        "group": _ids(own[_GID:_GROUPS], room[3:]),
    }


def _difference(facts: dict[str, object], policy: Policy) -> CapsuleError | None:
    expected: dict[str, object] = {
        "capabilities": dict.fromkeys(SETS, 0),
        "no_new_privs": True,
        "shared_namespaces": ["net"] if policy.network else [],
        "cgroups": len(policy.limit_mechanisms.groups),
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


def attest(ended: FinishedRun) -> tuple[dict[str, object], CapsuleError | None]:
    """The kernel's account of a run whose command started, and the error that it is where it does not hold."""
    try:
        facts = _facts(ended)
    except CapsuleError as error:
        return {}, error
    return facts, _difference(facts, ended.policy)


def isolation_in_force(policy: Policy, landlock_abi: int) -> dict[str, object]:
    """The layers and mechanisms that a run stands on, by name, for the result and for `-v`."""
    workspace: dict[str, object] = {"kind": policy.workspace_kind}
    if policy.workspace is not None:
        workspace["source"] = policy.workspace.path
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
        **({"notes": list(policy.notes)} if policy.notes else {}),
    }
