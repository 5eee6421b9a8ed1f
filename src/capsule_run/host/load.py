"""Sample how busy the host is: steal time and pressure totals of /proc."""

from __future__ import annotations

import time

from capsule_run.host.system import read
from capsule_run.model.report_details import Sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.launcher import Launcher


PATIENCE_S = 0.02


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


def begin(core: Launcher) -> Sample | None:
    """Wait at most PATIENCE_S for the report. Return None if it came, else a sample: the run is long enough to need one."""
    return None if core.wait_readable(PATIENCE_S) else sample()
