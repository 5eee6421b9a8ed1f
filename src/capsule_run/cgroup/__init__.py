"""Find, create and remove cgroups, version 1 and 2.

Changes only cgroups that it created. The values that are written come from `policy.limits`.
Read first: `discover`, then `create`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "disks": "the request limits io",
        "v2": "the host has cgroups of version 2",
    },
)
