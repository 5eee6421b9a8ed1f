"""Sample how busy the host is: steal time and pressure totals of /proc."""

from __future__ import annotations

import time

from capsule_run.host.system import read
from capsule_run.model.report_details import Sample

PATIENCE_S = 0.02  # a run that is shorter needs no samples


def _read(path: str) -> str:
    try:
        return read(path)
    except OSError:  # no free descriptor: the sample is not worth the run
        return ""


def sample() -> Sample:
    """Read the counters now."""
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
