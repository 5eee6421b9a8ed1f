"""Modules that a run imports while the launcher works, in the order in which they are needed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PACKAGE = __name__.partition(".")[0]

WHILE_THE_ROOM_IS_BUILT = ("seccomp", "plan.payload")
WHILE_THE_COMMAND_RUNS = ("result.isolation", "result.report", "engine.build_result")
# In addition, for a result with measurements.
FOR_A_FULL_RESULT = ("result.filter_hash", "result.metrics", "host.load", "result.verdict")
# Imported before the run: a process that has run out of descriptors can still return a failed result.
FOR_A_FAILED_RESULT = ("_base.error_codes", "engine.build_result")


# Imports in one piece what earlier runs needed next. The command line sets it (`_bundle`).
import_stage: Callable[[], None] | None = None


def load(modules: tuple[str, ...]) -> None:
    """Import the modules now."""
    if import_stage is not None:
        import_stage()
    for name in modules:
        __import__(f"{_PACKAGE}.{name}")
