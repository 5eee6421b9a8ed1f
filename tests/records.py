"""Reports, records and results for tests, as a run would have them."""

from __future__ import annotations

from capsule_run.model.report import RecordSize, Report, StreamCount
from capsule_run.model.result import Result
from capsule_run.model.result_parts import Metrics, Output
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


def result(**fields):
    """A result of a run that succeeded, with these fields."""
    defaults = {
        "execution_id": "job-7", "status": "success", "started_at": "2030-01-01T00:00:00.000Z",
        "finished_at": "2030-01-01T00:00:01.000Z", "exit_code": 0, "signal": None, "isolation": {}, "error": None,
        "stdout_stream": Output(data=b"", total_bytes=0, truncated=False),
        "stderr_stream": Output(data=b"", total_bytes=0, truncated=False),
        "metrics": Metrics(wall_ms=20.6, user_ms=1.0, system_ms=1.0, cpu_ms=2.0),
    }  # fmt: skip
    return Result(**{**defaults, **fields})
