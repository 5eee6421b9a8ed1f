"""What a run loads while others work, so that nobody waits for it. Names of modules, in the order in which they are needed."""

from __future__ import annotations

_PACKAGE = __name__.partition(".")[0]

WHILE_THE_ROOM_IS_BUILT = ("seccomp", "plan.payload")
WHILE_THE_COMMAND_RUNS = ("result.isolation", "result.report", "engine.build_result")
# Besides, for a result with all accounts.
FOR_A_FULL_RESULT = ("result.metrics", "workspace.diff", "host.load", "result.verdict")
# A failure can be told also by a process that has no descriptor left to load these with.
FOR_A_FAILED_RESULT = ("_base.error_codes", "engine.build_result")


def load(modules: tuple[str, ...]) -> None:
    """Import the modules now."""
    for name in modules:
        __import__(f"{_PACKAGE}.{name}")
