"""Which disks carry what a sandbox would see, for io limits. Rank 2: reads /sys; loaded only by a request that has one."""

from __future__ import annotations

import posix

from capsule_run.host.path_resolution import exists
from capsule_run.host.system import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def disks(devices: Sequence[int]) -> tuple[str, ...]:
    """The whole disks, as `MAJOR:MINOR`, behind device numbers of files; what lies on none (tmpfs, overlay) is left out."""
    found: dict[str, None] = {}
    for device in devices:
        name = f"{posix.major(device)}:{posix.minor(device)}"
        place = f"/sys/dev/block/{name}"
        if exists(f"{place}/partition"):
            name = read(f"{place}/../dev").strip()
        elif not exists(place):
            continue
        found[name] = None
    return tuple(found)
