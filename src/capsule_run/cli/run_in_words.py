"""Describe a run in about ten lines for `-v`: what was shown, each limit with its use, and the time by phase."""

from __future__ import annotations

from capsule_run.policy import limits as policy_limits
from capsule_run.request.durations import format_duration
from capsule_run.request.sizes import format_use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from capsule_run.model.request import Request
    from capsule_run.model.result import Result
    from capsule_run.model.result_parts import Metrics

_KINDS = {
    "private": "an empty private directory",
    "cow": "a private copy-on-write view of",
    "copy": "a private copy of",
    "ro": "read-only,",
    "rw": "read-write and shared with the host,",
}


def lines(request: Request, result: Result) -> list[str]:
    """Return the lines: a name in the first column, what it is in the second."""
    facts = [("status", _status(result)), *_shown(request, result.isolation)]
    if result.metrics is not None:
        facts += [*_limits(request, result, result.metrics), ("time", _time(result.metrics))]
    if result.denied_count:
        kinds = ", ".join(dict.fromkeys(f"`{call['syscall']}`" for call in result.denied))
        facts.append(("denied", f"{result.denied_count} system calls ({kinds})"))
    facts.append(("run", result.execution_id))
    return [f"{name:<11}{text}" for name, text in facts]


def _status(result: Result) -> str:
    if result.exit_code is not None:
        return f"{result.status}, exit code {result.exit_code}"
    return f"{result.status}, {result.signal}" if result.signal else result.status


def _shown(request: Request, isolation: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the paths and the protections of a run that got that far."""
    if "workspace" not in isolation:
        return
    workspace = isolation["workspace"]
    assert isinstance(workspace, dict)
    yield "workspace", " ".join([_KINDS[workspace["kind"]], workspace.get("source", "")]).strip()
    asked = request.isolation
    shared = [
        *(f"{path} (read-only)" for path in asked.readonly_paths),
        *(f"{path} (read-write)" for path in asked.writable_paths),
        *(f"{bind.source} at {bind.destination} ({bind.mode})" for bind in asked.binds),
        *(f"{tool} (tool)" for tool in asked.tools),
    ]
    if shared:
        yield "shared", ", ".join(shared)
    network = "the host's" if isolation["network"] == "host" else "none"
    user = isolation["user"]
    assert isinstance(user, dict)
    yield (
        "isolation",
        (
            f"network {network}, user {user['inside']} (on the host {user['outside']}), "
            f"system calls {isolation['seccomp']}, no capabilities"
        ),
    )


def _limits(request: Request, result: Result, metrics: Metrics) -> Iterator[tuple[str, str]]:
    limits = policy_limits.limits(request.resources)
    mechanisms = result.isolation.get("limits", {})
    assert isinstance(mechanisms, dict)
    if metrics.max_memory_bytes is not None:
        yield "memory", f"{format_use(metrics.max_memory_bytes, limits.memory_bytes)} ({mechanisms.get('memory', '')})"
    if metrics.max_processes is not None:
        yield "processes", f"{metrics.max_processes} of {limits.max_pids} ({mechanisms.get('processes', '')})"
    cpu_limit = request.resources.cpu_time_ms
    yield "CPU", f"{metrics.cpu_ms:.0f} ms" + (f" of {format_duration(cpu_limit)}" if cpu_limit is not None else "")
    for name, stream in (("stdout", result.stdout_stream), ("stderr", result.stderr_stream)):
        if stream is not None and stream.total_bytes:
            yield name, format_use(stream.total_bytes, limits.max_output_bytes)
    if metrics.disk_bytes is not None:
        yield "files", format_use(metrics.disk_bytes, limits.disk_bytes)
    timeout = format_duration(policy_limits.timeout_ms(request))
    yield "wall clock", f"{metrics.wall_ms:.0f} ms of {timeout}"


def _time(metrics: Metrics) -> str:
    phases = metrics.startup or {}
    before = sum(phases.values()) / 1000
    parts = ", ".join(f"{name} {micros / 1000:.1f}" for name, micros in phases.items())
    return f"{before:.1f} ms before the command ({parts}), {metrics.wall_ms:.1f} ms of the command"
