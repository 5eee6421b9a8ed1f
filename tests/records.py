"""Reports and records for tests, as the launcher would have written them."""

from __future__ import annotations

from capsule_run.model.report import RecordSize, Report, StreamCount
from capsule_run.result.report import parse_record

EMPTY = StreamCount(kept=0, total=0, over=False)


def record(*lines):
    """Parse a record of these lines, each a list of words."""
    return parse_record("".join(f"{' '.join(line)}\n" for line in lines).encode())


def report(**fields):
    """A report of a run whose command started, with these fields."""
    defaults = {
        "times": {}, "usage": {}, "killed": "", "rejected": None, "failed": None, "lifted": None, "started": True,
        "landlock_abi": 6, "exited": None, "signalled": None, "stdout": EMPTY, "stderr": EMPTY, "memory_peak_kib": 0,
        "record": RecordSize(bytes=0, lost_lines=0),
    }  # fmt: skip
    return Report(**{**defaults, **fields})
