"""Find the disks of the files that a sandbox sees, for io limits."""

from __future__ import annotations

import posix

from capsule_run.host.path_resolution import exists
from capsule_run.host.system import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def disks(devices: Sequence[int]) -> tuple[str, ...]:
    """Return the whole disks, as `MAJOR:MINOR`, of these device numbers; leave out file systems without one (tmpfs, overlay)."""
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
