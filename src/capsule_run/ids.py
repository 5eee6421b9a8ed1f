"""Which host ids the sandbox of a caller who is root gets: ones that no account owns (docs/decisions/static-ids.md).

Rank 2. Imported only where root calls: an ordinary caller's sandbox has the caller's.
"""

from __future__ import annotations

import posix

from .errors import CapsuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import Static

# Above every range that systemd's table of ids gives to accounts, dynamic users, containers and home directories.
FREE_IDS_FROM, FREE_IDS = 0x70000000, 1 << 24
CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN = 6, 7, 21


def _free_id(ranges: list[tuple[int, int, int]], accounts: str, taken: int) -> int:
    """An id that no account owns, within what this user namespace maps."""
    start, _outside, count = max(ranges, key=lambda one: one[2])
    if start + count >= FREE_IDS_FROM + FREE_IDS:
        start, count = FREE_IDS_FROM, FREE_IDS
    else:  # in a container: the upper half of what it has, below its `nobody`
        start, count = start + count // 2, count // 2 - 2
    for _ in range(100):
        candidate = start + int.from_bytes(posix.urandom(4), "little") % max(count, 1)
        if f":{candidate}:" not in accounts and candidate not in (0, taken, 65534):
            return candidate
    raise CapsuleError("E2001", "this user namespace has no id to spare for the sandbox")


def outside_ids(static: Static, gid: int) -> tuple[int, int, bool]:
    """The host ids that the sandbox's root maps to, and whether the caller has the power to open mounts for it."""
    has = static.capabilities
    widest = min(max(one[2] for one in ranges) for ranges in (static.uid_ranges, static.gid_ranges))
    if has >> CAP_SETUID & 1 and has >> CAP_SETGID & 1 and widest > 1024:
        free = _free_id(static.uid_ranges, static.accounts, -1)
        return free, _free_id(static.gid_ranges, static.groups, free), bool(has >> CAP_SYS_ADMIN & 1)
    if any(inside == 0 and outside == 0 for inside, outside, _count in static.uid_ranges):
        raise CapsuleError(
            "E2001",
            "root without CAP_SETUID and CAP_SETGID cannot map the sandbox to an unprivileged id",
            hint="run as an ordinary user, or give the container CAP_SETUID and CAP_SETGID",
        )
    return static.uid, gid, False
