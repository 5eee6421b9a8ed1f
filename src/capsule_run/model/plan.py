"""The two halves of a plan; `plan.room` and `plan.payload` make them."""

from __future__ import annotations

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    Step = tuple[str, ...]


class Plan(Value):
    """Both halves. `fds` of a half are numbered as they are sent along with it."""

    room: tuple[Step, ...]
    payload: tuple[Step, ...]
