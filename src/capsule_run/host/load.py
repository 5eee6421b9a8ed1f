"""Sample how busy the host is: steal time and pressure totals of /proc."""

from __future__ import annotations

import posix
import time

from capsule_run.model.report import Sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.launcher import Launcher


PATIENCE_S = 0.02


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


def begin(core: Launcher) -> Sample | None:
    """Wait a moment for the report; a sample if it is not there by then, since the run lasts, or None."""
    return None if core.wait_readable(PATIENCE_S) else sample()
