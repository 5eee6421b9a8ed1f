"""Build the `Result` of a run from all that is known of it.

Reads the clock and random bytes, changes nothing. Imported while the command runs.
"""

from __future__ import annotations

import posix
import time

from capsule_run._base.statuses import ERROR, SUCCESS
from capsule_run._base.value import replace
from capsule_run.model.result import Result
from capsule_run.result import denied_syscalls, verdict
from capsule_run.result import isolation as result_isolation
from capsule_run.result import metrics as result_metrics
from capsule_run.result import processes as result_processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from capsule_run._base.errors import CapsuleError
    from capsule_run.model.report import FinishedRun, WorkspaceOutput
    from capsule_run.model.request import Request

    class Named(TypedDict):
        """The fields that every result of a request has."""

        execution_id: str
        started_at: str


def new_execution_id() -> str:
    """A random UUID (RFC 4122, version 4)."""
    raw = bytearray(posix.urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def timestamp(time_ns: int) -> str:
    """A time of CLOCK_REALTIME, in UTC with milliseconds (RFC 3339)."""
    seconds, millis = divmod(time_ns // 1_000_000, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{millis:03d}Z"


def names(request: Request, began_ns: int) -> Named:
    """The fields that every result of a request has: its id and when it started."""
    return {"execution_id": request.execution_id or new_execution_id(), "started_at": timestamp(began_ns)}


def build(finished: FinishedRun, request: Request, *, called_ns: int, began_ns: int, short: bool) -> Result:
    """Build the result of a run whose command started. `short`: without the measurements of a run that ended well."""
    named = names(request, began_ns)
    if short and ended_quietly(finished):
        return short_result_of(finished, named)
    return result_of(finished, named, called_ns=called_ns)


def ended_quietly(finished: FinishedRun) -> bool:
    """Whether a command exited with 0, within its limits, and none of its calls was denied."""
    report = finished.report
    if report.exited != 0 or report.killed or report.stdout.over or report.stderr.over or report.stream_errors:
        return False
    return not finished.record.denied


def short_result_of(finished: FinishedRun, named: Named) -> Result:
    """The result of a run that `ended_quietly`, without metrics, for callers that show nothing but changes."""
    isolation, mismatch = result_isolation.attest(finished, short=True)
    if mismatch is not None:
        return failed_result(mismatch, named)
    result = Result(
        **named,
        status=SUCCESS,
        finished_at=timestamp(time.time_ns()),
        exit_code=0,
        signal=None,
        stdout_stream=None,
        stderr_stream=None,
        metrics=None,
        isolation={"attested": isolation},
        error=None,
    )
    return _with_output(result, finished.output)


def result_of(finished: FinishedRun, named: Named, *, called_ns: int) -> Result:
    """The result of a run with its verdict, metrics and isolation."""
    status, exit_code, signal, failure = verdict.judge(finished)
    denied: tuple[dict[str, object], ...] = ()
    if finished.record.denied:
        denied, failure = denied_syscalls.denied_and_failure(finished, failure)
    isolation = result_isolation.isolation_in_force(
        finished.policy, finished.report.landlock_abi, copied=finished.report.copied
    )
    if finished.report.started:
        isolation["attested"], mismatch = result_isolation.attest(finished)
        if mismatch is not None:
            status, exit_code, signal, failure = ERROR, 125, None, mismatch.failure()
    metrics = result_metrics.metrics(finished, called_ns) if finished.report.usage else None
    postmortem, processes = _postmortem_and_processes(finished)
    result = Result(
        **named,
        status=status,
        finished_at=timestamp(time.time_ns()),
        exit_code=exit_code,
        signal=signal,
        stdout_stream=result_metrics.output(finished.report.stdout, finished.stdout),
        stderr_stream=result_metrics.output(finished.report.stderr, finished.stderr),
        metrics=metrics,
        measurement=result_metrics.measurement(*finished.host_load, metrics)
        if finished.host_load and metrics
        else None,
        isolation=isolation,
        error=failure,
        limits_hit=verdict.limits_hit(finished, failure),
        postmortem=postmortem,
        denied=denied,
        denied_count=denied_syscalls.denied_count(finished) if denied else 0,
        processes=processes,
    )
    return _with_output(result, finished.output)


def early_result_of(finished: FinishedRun, named: Named) -> Result:
    """The result of a command that has ended before all that it started: neither measurements nor attestation."""
    status, exit_code, signal, failure = verdict.judge(finished)
    return Result(
        **named,
        status=status,
        finished_at=timestamp(time.time_ns()),
        exit_code=exit_code,
        signal=signal,
        stdout_stream=result_metrics.output(finished.report.stdout, finished.stdout),
        stderr_stream=result_metrics.output(finished.report.stderr, finished.stderr),
        metrics=None,
        isolation=result_isolation.isolation_in_force(finished.policy, 0, copied=False),
        error=failure,
    )


def _with_output(result: Result, output: WorkspaceOutput | None) -> Result:
    if output is None:
        return result
    return replace(
        result,
        collected=output.collected,
        not_collected=output.not_collected,
        changes=output.changes,
        changes_truncated=output.changes_truncated,
        diff=output.diff,
        diff_truncated=output.diff_truncated,
        not_applied=output.not_applied,
    )


def _postmortem_and_processes(
    finished: FinishedRun,
) -> tuple[dict[str, object] | None, tuple[dict[str, object], ...] | None]:
    """The threads before a timeout, and every process; None for what was not asked for or is not available."""
    postmortem = processes = None
    if finished.report.killed in ("clock", "cpu") and finished.policy.watched.postmortem:
        postmortem = result_processes.postmortem(finished.record, finished.policy.architecture)
    if finished.policy.watched.ledger and finished.record.listening:
        processes = result_processes.ledger(finished)
    return postmortem, processes


def failed_result(error: CapsuleError, named: Named) -> Result:
    """The result of a request whose command never started."""
    return Result(
        **named,
        status=ERROR,
        finished_at=timestamp(time.time_ns()),
        exit_code=None,
        signal=None,
        stdout_stream=None,
        stderr_stream=None,
        metrics=None,
        isolation={},
        error=error.failure(),
    )
