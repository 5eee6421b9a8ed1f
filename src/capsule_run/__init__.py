r"""Run untrusted commands in a Linux sandbox, and get a result that says what happened.

    import capsule_run

    result = capsule_run.run(["python", "-c", "print(42)"], timeout_ms=5000, memory="256M")
    assert result.ok and result.stdout == "42\n"

This module has the public names only. Each is imported on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

import sys

__version__ = "0.1.0"

__all__ = [
    "Bind",
    "CapsuleError",
    "Failure",
    "Isolation",
    "Metrics",
    "Pool",
    "Request",
    "Resources",
    "Result",
    "RunError",
    "Sandbox",
    "Workspace",
    "__version__",
    "execute",
    "map",
    "run",
    "run_code",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run._base.errors import CapsuleError, Failure
    from capsule_run.api import run, run_code
    from capsule_run.engine.execute import execute
    from capsule_run.model.request import Bind, Isolation, Request, Resources, Workspace
    from capsule_run.model.result import Result, RunError
    from capsule_run.model.result_parts import Metrics
    from capsule_run.sandbox.box import Sandbox
    from capsule_run.sandbox.mapping import map  # noqa: A004  # its public name
    from capsule_run.sandbox.pool import Pool

_HOMES = {
    "CapsuleError": "_base.errors",
    "Bind": "model.request",
    "Failure": "_base.errors",
    "Isolation": "model.request",
    "Metrics": "model.result_parts",
    "Pool": "sandbox.pool",
    "Request": "model.request",
    "Resources": "model.request",
    "Result": "model.result",
    "RunError": "model.result",
    "Sandbox": "sandbox.box",
    "Workspace": "model.request",
    "execute": "engine.execute",
    "map": "sandbox.mapping",
    "run": "api",
    "run_code": "api",
}


# Imports get it from `__getattr__`: pydoc would list every module of the package, and `help()` is for the public names.
_path: list[str] = globals().pop("__path__")


def __getattr__(name: str) -> object:
    if name == "__path__" and sys._getframe(1).f_globals.get("__name__") != "pydoc":  # noqa: SLF001  # the only way to know
        return _path
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module `capsule_run` has no attribute `{name}`")
    module = __import__(f"{__name__}.{home}", fromlist=[name])
    member: object = getattr(module, name)
    globals()[name] = member
    return member


def __dir__() -> list[str]:
    return sorted(__all__)
