"""A hint for a command that was terminated by SIGSEGV: whether its stack may have been full.

Nobody outside sees the address that was missed: the kernel shows it to a tracer alone, and we trace nobody. What is known is
the peak memory of the largest process. A stack that recursion has filled is memory that was used, so below the stack limit
only a single large array can have missed the stack.
"""

from __future__ import annotations

from capsule_run.model.request import UNLIMITED
from capsule_run.request.sizes import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.report import FinishedRun

_REMEDY = "`--stack SIZE` (`resources.stack_bytes`) sets another limit"


def stack_hint(finished: FinishedRun) -> str:
    """Return the hint, or an empty string if the stack is not limited."""
    limit = finished.policy.stack_bytes
    if limit == UNLIMITED:
        return ""
    peak = finished.report.usage["max_rss_kib"] << 10
    if peak < limit:
        return (
            f"no process used more than {format_size(peak)} of memory: if an array that is larger lies on the stack, "
            f"which is limited to {format_size(limit)}, {_REMEDY}"
        )
    return f"the stack may be full: it is limited to {format_size(limit)}, and a process used {format_size(peak)}; {_REMEDY}"
