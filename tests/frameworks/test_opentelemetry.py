"""Spans of OpenTelemetry: one for each run, with its cause and metrics, below the caller's span."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

from capsule_run.monitor import trace_export

pytestmark = pytest.mark.needs("opentelemetry")
TRACE, SPAN = "1" * 32, "2" * 16
PARENT = f"00-{TRACE}-{SPAN}-01"

IN_PROCESS = """
import asyncio, json
import capsule_run
from capsule_run import Request, aio, execute
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
capsule_run.run(["sh", "-c", "exit 3"], env={"SECRET": "hidden"})
execute(Request(command=("true",), traceparent="PARENT"))
with trace.get_tracer("caller").start_as_current_span("caller"):
    asyncio.run(aio.run(["true"]))
with capsule_run.Sandbox() as box:
    box.run("true")
for span in spans.get_finished_spans():
    print(json.dumps({
        "name": span.name, "attributes": dict(span.attributes), "status": span.status.status_code.name,
        "description": span.status.description, "trace": format(span.context.trace_id, "032x"),
        "id": format(span.context.span_id, "016x"), "parent": span.parent and format(span.parent.span_id, "016x"),
    }))
"""


def python(script, **variables):
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert "" == done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_span_of_each_run_says_how_it_ended():
    """A run from Python, a coroutine and a command of a living sandbox have a span each, with cause and metrics."""
    failed, given, inner, caller, living = python(IN_PROCESS.replace("PARENT", PARENT))
    assert ("capsule-run sh", "ERROR", "E3003 exit_code") == (failed["name"], failed["status"], failed["description"])
    attributes = failed["attributes"]
    assert (3, "error", "E3003", "exit_code") == tuple(
        attributes[f"capsule_run.{name}"] for name in ("exit_code", "status", "error.code", "error.cause")
    )
    assert 0 < attributes["capsule_run.metrics.wall_ms"]
    assert 0 < attributes["capsule_run.metrics.cpu_ms"]
    assert "hidden" not in json.dumps(failed)
    assert "exit 3" not in json.dumps(failed)
    assert (TRACE, SPAN, "UNSET") == (given["trace"], given["parent"], given["status"])
    assert (caller["trace"], caller["id"]) == (inner["trace"], inner["parent"])
    assert "success" == living["attributes"]["capsule_run.status"]


def test_span_is_below_the_span_of_the_environment():
    """Without a current span and without a request's own, TRACEPARENT names the parent."""
    failed, given, *_ = python(IN_PROCESS.replace("PARENT", f"00-{'3' * 32}-{SPAN}-01"), TRACEPARENT=PARENT)
    assert (TRACE, SPAN) == (failed["trace"], failed["parent"])
    assert "3" * 32 == given["trace"]


def command(capsule_cli, words, **variables):
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **variables}
    settings = {"capture_output": True, "timeout": 60, "cwd": "/", "check": False}
    return subprocess.run([str(capsule_cli), *words], env=environment, **settings)


def test_span_of_the_command_is_printed(capsule_cli):
    """With OTEL_TRACES_EXPORTER=console the span is on stderr, and output and exit code are the command's."""
    words = ["--no-workspace", "--", "sh", "-c", "echo out; exit 3"]
    done = command(capsule_cli, words, OTEL_TRACES_EXPORTER="console", TRACEPARENT=PARENT)
    assert (3, b"out\n") == (done.returncode, done.stdout)
    span = json.loads(done.stderr[done.stderr.index(b"{") :])
    assert (f"0x{TRACE}", f"0x{SPAN}") == (span["context"]["trace_id"], span["parent_id"])
    assert "exit_code" == span["attributes"]["capsule_run.error.cause"]
    assert "capsule-run" == span["resource"]["attributes"]["service.name"]


@pytest.mark.parametrize("variables", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_span_of_the_command_is_not_made_unless_asked_for(variables, capsule_cli):
    """No variable, or one that turns it off: nothing is printed, nothing is loaded."""
    asks = {"OTEL_TRACES_EXPORTER": "console", **variables} if variables else {}
    assert b"" == command(capsule_cli, ["--no-workspace", "--", "true"], **asks).stderr


def test_span_is_sent_to_the_collector(capsule_cli):
    """With OTEL_EXPORTER_OTLP_ENDPOINT the span has arrived there when the command ends."""
    bodies = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # the name of http.server
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{server.server_port}"
            request = json.dumps({"command": ["true"], "traceparent": PARENT}).encode()
            environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
            environment["OTEL_EXPORTER_OTLP_COMPRESSION"] = "none"
            done = subprocess.run(
                [capsule_cli, "--json"], input=request, env=environment, capture_output=True, timeout=60
            )
            assert "success" == json.loads(done.stdout)["status"]
        finally:
            server.shutdown()
            thread.join()
    ((path, body),) = bodies
    assert "/v1/traces" == path
    assert bytes.fromhex(TRACE) in body
    assert b"capsule_run.metrics.wall_ms" in body


def test_span_without_the_packages_is_left_out(monkeypatch):
    """Variables that are there for other programs change nothing where the extra is not installed."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert not trace_export.begin()
