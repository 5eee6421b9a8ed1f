"""Export the spans of a command line with OpenTelemetry's SDK, if the environment asks for it and the SDK is installed.

Loaded only if one of the standard's variables is set (`host.path_resolution.wants_traces`); a program that uses the SDK of
capsule-run sets up its own exporter.
"""

from __future__ import annotations

import sys

from capsule_run import __version__
from capsule_run.host.path_resolution import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter


def begin() -> bool:
    """Set up the provider of spans, which sends each span when it ends. Return False if the packages are not installed."""
    try:
        from opentelemetry import trace  # noqa: PLC0415  # an extra, `[otel]`
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # as above
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  # as above
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415  # as above

        exporter = _exporter()
    except ImportError:
        return False
    # the standard's variables (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) win
    names = {} if environment("OTEL_SERVICE_NAME") else {"service.name": "capsule-run"}
    provider = TracerProvider(resource=Resource.create({**names, "service.version": __version__}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return True


def _exporter() -> SpanExporter:
    """Return the exporter that OTEL_TRACES_EXPORTER names: `otlp`, the default, or `console`, which prints to stderr."""
    if environment("OTEL_TRACES_EXPORTER") == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415  # an extra

        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # an extra

    return OTLPSpanExporter()
