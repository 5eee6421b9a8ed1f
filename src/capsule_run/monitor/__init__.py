"""The audit log and the Prometheus metrics of runs.

Never fails a run for what it cannot write. Read first: `audit_log`. Public: `from capsule_run.monitor import Monitor`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.monitor.audit_log import (
        EFBIG as EFBIG,
    )
    from capsule_run.monitor.audit_log import (
        ENOSPC as ENOSPC,
    )
    from capsule_run.monitor.audit_log import (
        ETIMEDOUT as ETIMEDOUT,
    )
    from capsule_run.monitor.audit_log import (
        LOCK_PATIENCE_S as LOCK_PATIENCE_S,
    )
    from capsule_run.monitor.audit_log import (
        MOST_METRICS_BYTES as MOST_METRICS_BYTES,
    )
    from capsule_run.monitor.audit_log import (
        MOST_WORD_BYTES as MOST_WORD_BYTES,
    )
    from capsule_run.monitor.audit_log import (
        MOST_WORDS as MOST_WORDS,
    )
    from capsule_run.monitor.audit_log import (
        Monitor as Monitor,
    )
    from capsule_run.monitor.audit_log import (
        add_metrics as add_metrics,
    )
    from capsule_run.monitor.audit_log import (
        append_line as append_line,
    )
    from capsule_run.monitor.audit_log import (
        policy_hash as policy_hash,
    )

_HOMES = {  # the public names
    "EFBIG": "audit_log",
    "ENOSPC": "audit_log",
    "ETIMEDOUT": "audit_log",
    "LOCK_PATIENCE_S": "audit_log",
    "MOST_METRICS_BYTES": "audit_log",
    "MOST_WORDS": "audit_log",
    "MOST_WORD_BYTES": "audit_log",
    "Monitor": "audit_log",
    "add_metrics": "audit_log",
    "append_line": "audit_log",
    "policy_hash": "audit_log",
}
_waiting = loaded_when_used(
    __name__,
    {
        "audit_log": "the operator wants a log or metrics",
    },
)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        return _waiting(name)
    member: object = getattr(__import__(f"{__name__}.{home}", fromlist=[name]), name)
    globals()[name] = member
    return member


def __dir__() -> list[str]:
    return sorted(_HOMES)
