"""The result of a command that has ended while something that it started lives on: what is known before the report."""

from __future__ import annotations

import time

from capsule_run.engine import build_result
from capsule_run.model.report import FinishedRun, Record, RecordSize, Report, StreamCount
from capsule_run.result.report import TIMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.policy import Policy
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result


def of(message: bytes, policy: Policy, request: Request, stdout: bytes, stderr: bytes) -> Result:
    """Return the result without measurements.

    :param message: what the launcher sent: `exited N` or `signalled N`.
    :param stdout: what has come up to now, as far as it is kept; so is `stderr`.
    """
    how, number = message.split()
    report = Report(
        times=dict.fromkeys(TIMES, 0),
        usage={},
        killed="",
        rejected=None,
        failed=None,
        lifted=None,
        started=True,
        landlock_abi=0,
        exited=int(number) if how == b"exited" else None,
        signalled=int(number) if how == b"signalled" else None,
        stdout=StreamCount(kept=len(stdout), total=len(stdout), over=False),
        stderr=StreamCount(kept=len(stderr), total=len(stderr), over=False),
        memory_peak_kib=0,
        record=RecordSize(bytes=0, lost_lines=0),
    )
    finished = FinishedRun(
        policy=policy,
        report=report,
        record=Record(),
        program="",
        cancelled_by=0,
        stdout=stdout,
        stderr=stderr,
    )
    return build_result.early_result_of(finished, build_result.names(request, time.time_ns()))
