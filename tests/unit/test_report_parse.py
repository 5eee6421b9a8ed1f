"""The launcher's report, read back: strict, and every line that is more than one number becomes a value."""

from __future__ import annotations

import pytest

from capsule_run._base.errors import CapsuleError
from capsule_run.model.report import RecordSize, StreamCount
from capsule_run.model.report_details import FailedStep, RejectedPlan, StreamError
from capsule_run.result.report import parse_report

TIMES = "times 1 2 3 4 5 6 7 8\n"
STREAMS = "stdout 1 2 0\nstderr 3 4 1\n"


def report(lines=""):
    """Parse a report that has these lines besides those that are always there."""
    return parse_report(f"{TIMES}{lines}{STREAMS}end\n".encode())


def test_report_lines_become_typed_values():
    """Streams, a plan that was invalid, a step that failed, streams that failed and the record's size have named fields."""
    found = report("stdout-error 32\nstdin-error 5\nrecord 70 2\nstarted 6\nexited 3\nmemory 9\n")
    assert (StreamCount(kept=1, total=2, over=False), StreamCount(kept=3, total=4, over=True)) == (
        found.stdout,
        found.stderr,
    )
    assert (StreamError(stream="stdout", errno=32), StreamError(stream="stdin", errno=5)) == found.stream_errors
    assert (RecordSize(bytes=70, lost_lines=2), True, 6, 3, 9) == (
        found.record,
        found.started,
        found.landlock_abi,
        found.exited,
        found.memory_peak_kib,
    )
    assert FailedStep(half="room", step=4, errno=2) == report("failed-room 4 2\n").failed
    rejected = RejectedPlan(half="payload", step=1, reason="field")
    assert rejected == report("rejected field\nrejected-payload 1\n").rejected


def test_report_lines_that_are_absent_are_none_or_empty():
    """A report of a run that never started says so, and invents no number."""
    found = report()
    assert (None, None, None, None, None, False, ()) == (
        found.rejected,
        found.failed,
        found.lifted,
        found.exited,
        found.signalled,
        found.started,
        found.stream_errors,
    )
    assert ({}, RecordSize(bytes=0, lost_lines=0)) == (found.usage, found.record)


@pytest.mark.parametrize(
    "message",
    [
        "", "end\n", f"{TIMES}{STREAMS}", f"{TIMES}stdout 1 2\nstderr 3 4 1\nend\n", f"{STREAMS}end\n",
        f"{TIMES}stdout 1 2 0 0\nstderr 3 4 1\nend\n", f"{TIMES}exited\n{STREAMS}end\n", f"{TIMES}exited 1 2\n{STREAMS}end\n",
        f"{TIMES}started 6 6\n{STREAMS}end\n", f"{TIMES}record 1\n{STREAMS}end\n", f"{TIMES}failed-room 1\n{STREAMS}end\n",
        f"{TIMES}rejected-room 1\n{STREAMS}end\n", f"{TIMES}stdin-error x\n{STREAMS}end\n", f"{TIMES}stdin-error\n{STREAMS}end\n",
        f"{TIMES}{TIMES}{STREAMS}end\n", f"{TIMES}\u00e9 1\n{STREAMS}end\n",
    ],
)  # fmt: skip
def test_report_malformed_is_refused(message):
    """A line that is cut, doubled, missing or has other numbers is an error of ours, and no report."""
    with pytest.raises(CapsuleError, match="E6001"):
        parse_report(message.encode())
