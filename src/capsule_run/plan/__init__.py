"""Policy to steps for the launcher: the preamble, the room or the joining of one, the payload.

In this order; `payload` has the command's limits, streams and confinement.
Pure; docs/plan-format.md is the format. Read first: `room`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "describe": "a plan is printed, or a step failed",
        "join": "a payload joins a room",
        "payload": "the room is being built",
        "summary": "a policy is printed",
    },
)
