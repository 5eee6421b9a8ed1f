"""Run a request: repeat the attempt without what the host does not support, and return errors as results."""

from __future__ import annotations

import posix
import sys
import time
from errno import EMFILE

from capsule_run._base import shortage as base_shortage
from capsule_run._base.errors import MIN_DESCRIPTORS, CapsuleError, exhausted, exhaustion
from capsule_run._base.value import replace
from capsule_run.engine import audit, build_result, configuration, prefetch, tracing
from capsule_run.engine import variables as engine_variables
from capsule_run.engine.attempt import Call, attempt
from capsule_run.engine.fallbacks import STALE_FACTS, RetryAttemptError
from capsule_run.engine.streams import Streams
from capsule_run.host.path_resolution import SYSTEM_FILE, is_absent, variables
from capsule_run.launcher import PATH as CORE_PATH
from capsule_run.request import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from capsule_run.engine.attempt import Steps
    from capsule_run.launcher import Run
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

    class RunBounded(Protocol):
        """Runs a request that is within the ceilings. `whole`: the result must have its measurements."""

        def __call__(self, bounded: Request, *, whole: bool) -> Steps: ...


_TRACES = "opentelemetry.trace"
_OPEN_MAX = 4  # _SC_OPEN_MAX of sysconf(3)


def _attempts(call: Call) -> Steps:
    """Attempt the request until it has run. `fallbacks` keeps what each attempt found out about the host."""
    stale_ok = True
    while True:
        try:
            return (yield from attempt(call, stale_ok=stale_ok))
        except RetryAttemptError as retry:
            stale_ok = stale_ok and retry.reason != STALE_FACTS


def bounded(request: Request) -> Request:
    """Return the request within the ceilings of the operator's file, if there is one. Raises CapsuleError E1012, E1013."""
    return request if is_absent(SYSTEM_FILE) else configuration.bounded(request)


def bounded_timeout(timeout_ms: int) -> int:
    """Return a timeout that no caller gave within the operator's ceiling."""
    return timeout_ms if is_absent(SYSTEM_FILE) else configuration.bounded_timeout(timeout_ms, is_given=False)


def check_host_path(field: str, path: str, *, writes: bool) -> None:
    """Check a path of the host that a call reads or writes against the operator's ceiling. Raises CapsuleError E1012."""
    if not is_absent(SYSTEM_FILE):
        configuration.check_host_path(field, path, writes=writes)


def execute(
    request: Request,
    *,
    streams: Streams | None = None,
    on_start: Callable[[Run], None] | None = None,
    core_path: str = CORE_PATH,
) -> Result:
    """Run one request and return its result.

    Every outcome is a result, also a sandbox that could not be set up. Blocks until the run has ended. An exception that is
    raised in the meantime (KeyboardInterrupt) ends the sandbox before it propagates.

    :param streams: descriptors for the command's streams; None captures them.
    :param on_start: called with the `Run` once the launcher has the plan of the room.
    :raises CapsuleError: E1xxx if the request is wrong.
    """
    prefetch.load(prefetch.FOR_A_FAILED_RESULT)
    return perform(complete(request), streams=streams, on_start=on_start, core_path=core_path)


def complete(request: Request) -> Request:
    """Check a request that a program constructed, and complete it from the environment. Raises CapsuleError E1xxx."""
    checked = parse.check_request(request)
    return engine_variables.completed_request(checked) if variables() else checked


def perform(
    request: Request,
    *,
    streams: Streams | None = None,
    on_start: Callable[[Run], None] | None = None,
    core_path: str = CORE_PATH,
    short: bool = False,
) -> Result:
    """Run a request that is checked already (`request.parse`); else like `execute`.

    :param short: leave out the measurements if the run succeeds.
    """
    return wait(steps(request, streams=streams, on_start=on_start, core_path=core_path, short=short))


def steps(
    request: Request,
    *,
    streams: Streams | None = None,
    on_start: Callable[[Run], None] | None = None,
    core_path: str = CORE_PATH,
    short: bool = False,
) -> Steps:
    """Run a checked request in steps, for a caller that waits in its own way: see `attempt.Steps`. Every outcome is a result."""
    called_ns, began_ns = time.monotonic_ns(), time.time_ns()

    def attempts(bounded: Request, *, whole: bool) -> Steps:
        call = Call(
            request=bounded,
            streams=streams or Streams(),
            on_start=on_start,
            core_path=core_path,
            called_ns=called_ns,
            began_ns=began_ns,
            short=short and not whole,
        )
        return _attempts(call)

    return (yield from supervised(request, attempts, began_ns=began_ns))


def supervised(request: Request, run: RunBounded, *, began_ns: int) -> Steps:
    """Run a request in steps within the operator's ceilings, and record it in the operator's audit log, if there is either.

    The only way to a launcher. Every outcome is a result, but for a wrong request.

    :param run: takes the bounded request, and whether the result must have its measurements.
    """
    if _TRACES in sys.modules:  # the program uses OpenTelemetry
        return (yield from tracing.traced(request, lambda each: _supervised(each, run, began_ns, whole=True)))
    return (yield from _supervised(request, run, began_ns, whole=False))


def _supervised(request: Request, run: RunBounded, began_ns: int, *, whole: bool) -> Steps:
    if is_absent(SYSTEM_FILE):
        return (yield from _every_outcome_is_a_result(run(request, whole=whole), request, began_ns))
    try:
        request = configuration.bounded(request)
    except CapsuleError as error:
        if error.code.startswith("E1"):
            error.execution_id = request.execution_id
            raise
        return build_result.failed_result(error, build_result.names(request, began_ns))
    if log := configuration.audit_log():
        request = replace(request, execution_id=request.execution_id or build_result.new_execution_id())
        running = _every_outcome_is_a_result(run(request, whole=True), request, began_ns)
        return (yield from audit.recorded(log, request, running, began_ns=began_ns))
    return (yield from _every_outcome_is_a_result(run(request, whole=whole), request, began_ns))


def _every_outcome_is_a_result(running: Steps, request: Request, began_ns: int) -> Steps:
    """Take a run in steps. Return a failed result for an error that is not the request's, and for a host out of resources."""
    try:
        if 0 <= (limit := posix.sysconf(_OPEN_MAX)) < MIN_DESCRIPTORS:
            raise exhaustion(EMFILE, f"this process may have {limit} files open, which is too few for a run")
        return (yield from running)
    except CapsuleError as raised:
        if raised.code.startswith("E1"):
            raised.execution_id = request.execution_id
            raise
        error = raised
    except (OSError, ImportError, MemoryError) as failed:  # importing a module needs a descriptor, too
        found = exhausted(failed)
        if found is None:
            found = base_shortage.shortage(failed)
        if found is None:
            raise
        error = found
    try:
        return build_result.failed_result(error, build_result.names(request, began_ns))
    except (OSError, ImportError):  # no descriptor is left to import a module with
        raise error from None


def wait(running: Steps) -> Result:
    """Block until a run in steps has ended. What is raised in the meantime (KeyboardInterrupt) ends the sandbox first."""
    try:
        payload = next(running)
        while True:
            try:
                payload.wait()
            except BaseException as error:  # noqa: BLE001  # the steps handle it or raise it again
                payload = running.throw(error)
            else:
                payload = next(running)
    except StopIteration as ended:
        result: Result = ended.value
        return result
