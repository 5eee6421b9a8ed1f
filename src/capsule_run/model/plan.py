"""The plan: steps for the launcher. `plan.room` and `plan.payload` compile its two halves."""

from __future__ import annotations

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    Step = tuple[str, ...]


class Plan(Value):
    """Both halves. Steps refer to descriptors by their position in the message that carries the half."""

    room: tuple[Step, ...]
    payload: tuple[Step, ...]
