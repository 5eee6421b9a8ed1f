"""Request and host facts to a `Policy`: everything that will be enforced.

Pure. Read first: `resolve`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "secret_masks": "it is used",
        "sysv": "the profile may have the group `ipc`",
    },
)
