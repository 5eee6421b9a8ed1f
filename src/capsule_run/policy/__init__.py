"""Request and host facts to a `Policy`: everything that will be enforced.

`limits` decides which mechanism holds which limit, with the cgroup files to write; `mounts` and `workspace` what is shown.
Pure. Read first: `resolve`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "later_payload": "a room was built before its payload was known",
        "own_path": "the request has a workspace",
        "secret_masks": "the request shares a directory",
        "sysv": "the request names a custom profile, or System V objects are withheld",
    },
)
