"""The audit log and the Prometheus metrics of runs.

Never fails a run because it cannot write, unless the log is `required`. Read first: `audit_log`.
Public: `from capsule_run.monitor import Monitor`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.monitor.audit_log import Monitor

__all__ = ["Monitor"]

__getattr__ = loaded_when_used(
    __name__,
    {
        "audit_log": "the operator wants a log or metrics",
        "trace_export": "the environment asks for spans of OpenTelemetry",
    },
    public={"Monitor": "audit_log"},
)


def __dir__() -> list[str]:
    return list(__all__)
