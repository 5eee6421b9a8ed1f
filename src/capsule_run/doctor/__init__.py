"""Diagnose what this host supports, and attack our own sandbox.

Starts only sandboxes. Read first: `diagnose`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "apparmor": "`doctor --apparmor`",
        "attack": "`doctor --attack`",
    },
)
