"""A span of OpenTelemetry for each run. Loaded only in a process that has loaded `opentelemetry.trace` itself.

Nothing of the command but its program's name is in a span: arguments, variables and output may hold secrets.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from capsule_run import __version__
from capsule_run._base.errors import CapsuleError
from capsule_run.host.path_resolution import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

    from capsule_run.engine.attempt import Steps
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

PREFIX = "capsule_run."  # of every attribute of ours
_KINDS = (bool, int, float, str)


def _parent(request: Request) -> Context | None:
    """Return the context of the span's parent; None for the current one.

    The request names it, or the program's current span is it, or the environment names it (TRACEPARENT, TRACESTATE).
    """
    if request.traceparent is not None:
        return TraceContextTextMapPropagator().extract({"traceparent": request.traceparent})
    if trace.get_current_span().get_span_context().is_valid:
        return None
    carrier = {"traceparent": environment("TRACEPARENT"), "tracestate": environment("TRACESTATE")}
    return TraceContextTextMapPropagator().extract({name: text for name, text in carrier.items() if text})


def traced(request: Request, run: Callable[[Request], Steps]) -> Steps:
    """Run a request in steps inside a span."""
    program = request.command[0].rpartition("/")[2]
    span = trace.get_tracer("capsule_run", __version__).start_span(
        f"capsule-run {program}", context=_parent(request), attributes={"process.executable.name": program}
    )
    try:
        result = yield from run(request)
    except BaseException as error:
        cause = f"{error.code} {error.cause}" if isinstance(error, CapsuleError) else type(error).__name__
        span.set_status(trace.StatusCode.ERROR, cause)
        raise
    else:
        span.set_attributes(attributes_of(result))
        if result.error is not None:
            span.set_status(trace.StatusCode.ERROR, f"{result.error.code} {result.error.cause}")
        return result
    finally:
        span.end()


def attributes_of(result: Result) -> dict[str, bool | int | float | str]:
    """Return what a span says about a run: how it ended, why, and each metric that is a single value."""
    fields: dict[str, object] = {"execution_id": result.execution_id, "status": result.status}
    fields.update(exit_code=result.exit_code, signal=result.signal)
    if result.error is not None:
        fields["error.code"], fields["error.cause"] = result.error.code, result.error.cause
    if result.metrics is not None:
        fields.update({f"metrics.{name}": value for name, value in result.metrics.to_dict().items()})
    return {PREFIX + name: value for name, value in fields.items() if isinstance(value, _KINDS)}
