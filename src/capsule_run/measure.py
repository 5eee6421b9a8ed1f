"""Whether the timing of a run can be trusted: what the host did meanwhile.

Rank 2: reads /proc. Only for runs of 20 ms and more, in which its tenth of a millisecond does not matter: the first sample
is taken when a run turns out to last, the second when its report is there, and between them lies `observed_ms`.
"""

from __future__ import annotations

import posix
import time

from ._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .core import Core
    from .result_parts import Metrics

PATIENCE_S = 0.02
TICK_MS = 10  # of /proc/stat: USER_HZ is 100 on every architecture of ours
# From here on a figure is in doubt: shares of the time observed, and forced switches a second of computing.
STEAL_SHARE, CPU_SHARE, MEMORY_SHARE, IO_SHARE, SWITCHES_A_SECOND = 0.02, 0.10, 0.05, 0.10, 100
LEAST_CPU_MS = 20


class Sample(Value):
    """The host's counters at one moment. `waited_us` has the totals of /proc/pressure, absent where there is none."""

    at_ns: int
    processors: int
    steal_ticks: int
    waited_us: Mapping[str, int]


def _read(path: str) -> str:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return posix.read(fd, 4096).decode("ascii", "replace")
    except OSError:  # pressure that is switched off cannot be read
        return ""
    finally:
        posix.close(fd)


def sample() -> Sample:
    """The counters now."""
    stat = _read("/proc/stat").split("\n")
    first = stat[0].split()
    waited = {}
    for name in ("cpu", "memory", "io"):
        for line in _read(f"/proc/pressure/{name}").splitlines():
            kind, total = line.split()[0], line.rpartition("total=")[2]
            waited[f"{name}_{kind}"] = int(total)
    return Sample(
        at_ns=time.monotonic_ns(),
        processors=max(sum(line.startswith("cpu") for line in stat) - 1, 1),
        steal_ticks=int(first[8]) if len(first) > 8 else 0,
        waited_us=waited,
    )


def begin(core: Core) -> Sample | None:
    """Wait a moment for the report; a sample if it is not there by then, since the run lasts, or None."""
    return None if core.has_news(PATIENCE_S) else sample()


def measurement(before: Sample, after: Sample, metrics: Metrics) -> dict[str, object]:
    """What the host did between the samples, and what of it casts doubt on the run's figures."""
    observed_ms = (after.at_ns - before.at_ns) / 1e6
    steal_ms = (after.steal_ticks - before.steal_ticks) * TICK_MS
    waited_ms = {
        name: round((total - before.waited_us[name]) / 1000, 3)
        for name, total in after.waited_us.items()
        if name in before.waited_us
    }
    switches = metrics.involuntary_context_switches or 0
    doubts = []
    if steal_ms > STEAL_SHARE * observed_ms * before.processors:
        doubts.append("steal")
    for name, share in (("cpu_some", CPU_SHARE), ("memory_some", MEMORY_SHARE), ("io_full", IO_SHARE)):
        if waited_ms.get(name, 0) > share * observed_ms:
            doubts.append(f"{name.partition('_')[0]}_pressure")
    if metrics.cpu_ms >= LEAST_CPU_MS and switches > SWITCHES_A_SECOND * metrics.cpu_ms / 1000:
        doubts.append("forced_switches")
    return {
        "trustworthy": not doubts,
        "doubts": doubts,
        "observed_ms": round(observed_ms, 3),
        "steal_ms": steal_ms,
        "waited_ms": waited_ms,
        "forced_switches": switches,
    }
