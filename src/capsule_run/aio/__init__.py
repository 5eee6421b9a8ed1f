"""Run commands from asyncio: awaiting a run does not block the event loop, and cancelling it ends its sandbox.

Read first: `drive`, then `admission`. Public: `run`, `run_code`, `execute` and `map`; `Sandbox` and its `Process`; `Pool`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.aio.box import Sandbox
    from capsule_run.aio.mapping import map  # noqa: A004  # its public name
    from capsule_run.aio.one_shot import execute, run, run_code
    from capsule_run.aio.pool import Pool
    from capsule_run.aio.process import Process

__all__ = ["Pool", "Process", "Sandbox", "execute", "map", "run", "run_code"]

__getattr__ = loaded_when_used(
    __name__,
    {},
    public={
        "Pool": "pool",
        "Process": "process",
        "Sandbox": "box",
        "execute": "one_shot",
        "map": "mapping",
        "run": "one_shot",
        "run_code": "one_shot",
    },
)


def __dir__() -> list[str]:
    return list(__all__)
