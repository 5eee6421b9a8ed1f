"""Choose the host ids of the sandbox if the caller is root: ids that no account owns (docs/decisions/static-ids.md).

Loaded only if the caller is root: an ordinary caller's sandbox held the caller's ids.
"""

from __future__ import annotations

import posix
import time

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.host import system
from capsule_run.host.system import KEPT_NS
from capsule_run.model.host import Identity

# Above all ranges that systemd assigns to accounts, dynamic users, containers and home directories.
FREE_IDS_FROM, FREE_IDS = 0x70000000, 1 << 24
CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN = 6, 7, 21


class Ranges(Value):
    """The ids that this process may map, and those in use."""

    seen_ns: int  # monotonic time of the reading
    capabilities: int  # effective, a bit set
    users: list[tuple[int, int, int]]
    groups: list[tuple[int, int, int]]
    accounts: str
    group_accounts: str


# Kept for KEPT_NS: no account is created meanwhile with id_range of 2^24 numbers far above all others.
_kept: list[Ranges] = []


def _ranges() -> Ranges:
    for kept in _kept:
        if time.monotonic_ns() - kept.seen_ns < KEPT_NS:
            return kept
    _kept[:] = [
        Ranges(
            seen_ns=time.monotonic_ns(),
            capabilities=system.capabilities(),
            users=system.id_ranges("/proc/self/uid_map"),
            groups=system.id_ranges("/proc/self/gid_map"),
            accounts=system.read("/etc/passwd", 1 << 20),
            group_accounts=system.read("/etc/group", 1 << 20),
        )
    ]
    return _kept[0]


def _free_id(ranges: list[tuple[int, int, int]], accounts: str, taken: int) -> int:
    """Return an id that no account owns and that this user namespace maps. Raises CapsuleError E2001."""
    start, _outside, count = max(ranges, key=lambda id_range: id_range[2])
    if start + count >= FREE_IDS_FROM + FREE_IDS:
        start, count = FREE_IDS_FROM, FREE_IDS
    else:  # in a container: the upper half of its range, below its `nobody`
        start, count = start + count // 2, count // 2 - 2
    for _ in range(100):
        candidate = start + int.from_bytes(posix.urandom(4), "little") % max(count, 1)
        if f":{candidate}:" not in accounts and candidate not in (0, taken, 65534):
            return candidate
    raise CapsuleError("E2001", "this user namespace has no free id for the sandbox")


def identity_of_root(gid: int) -> Identity:
    """Choose the host ids of the sandbox, and check whether the caller may create mounts. Raises CapsuleError E2001."""
    ranges = _ranges()
    held = ranges.capabilities
    widest = min(max(id_range[2] for id_range in some) for some in (ranges.users, ranges.groups))
    if held >> CAP_SETUID & 1 and held >> CAP_SETGID & 1 and widest > 1024:
        free = _free_id(ranges.users, ranges.accounts, -1)
        free_group = _free_id(ranges.groups, ranges.group_accounts, free)
        privileged = bool(held >> CAP_SYS_ADMIN & 1)
        return Identity(uid=0, gid=gid, outside_uid=free, outside_gid=free_group, privileged=privileged)
    if any(inside == 0 and outside == 0 for inside, outside, _count in ranges.users):
        raise CapsuleError(
            "E2001",
            "root without CAP_SETUID and CAP_SETGID cannot map the sandbox to an unprivileged id",
            hint="run as an ordinary user, or give the container CAP_SETUID and CAP_SETGID",
        )
    return Identity(uid=0, gid=gid, outside_uid=0, outside_gid=gid, privileged=False)
