"""Format the metrics of all runs as the text that Prometheus' node exporter collects from files.

Pure. Counters cover all runs since the file was created; the one gauge is the time of the last run. A file that capsule-run
did not write is an error, and is not replaced.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.result import Result

HEAD = "# Metrics of capsule-run: every run adds to them. Do not edit."
BUCKETS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0)
_RUNS, _WALL, _HITS = "capsule_run_runs_total", "capsule_run_wall_seconds", "capsule_run_limits_hit_total"
# Name, type and meaning, in the order of the file.
FAMILIES = (
    (_RUNS, "counter", "Runs by status and error code."),
    (_WALL, "histogram", "Time from the start of the command to its end."),
    ("capsule_run_cpu_seconds_total", "counter", "CPU time of commands and their children."),
    ("capsule_run_setup_seconds_total", "counter", "Time from the call to the start of the command."),
    ("capsule_run_read_bytes_total", "counter", "Read from block devices."),
    ("capsule_run_written_bytes_total", "counter", "Written to block devices."),
    ("capsule_run_output_bytes_total", "counter", "Written to standard output and standard error."),
    (_HITS, "counter", "Limits that were reached and did not end the run, by error code."),
    ("capsule_run_last_run_timestamp_seconds", "gauge", "When the last run ended."),
)


def _parse(text: str) -> dict[str, float]:
    """Parse samples by name and labels. Raises OSError for a file that capsule-run did not write."""
    if text and not text.startswith(HEAD + "\n"):
        raise OSError(0, "it exists, and is not a metrics file of capsule-run")
    samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _blank, number = line.rpartition(" ")
            try:
                samples[name] = float(number)
            except ValueError:
                raise OSError(0, f"a line is not understood: {line[:80]!r}") from None
    return samples


def _samples_of_run(result: Result) -> dict[str, float]:
    """Return what one run adds to the samples."""
    code = result.error.code if result.error is not None else ""
    adds = {f'{_RUNS}{{status="{result.status}",code="{code}"}}': 1.0}
    for hit in result.limits_hit:
        adds[f'{_HITS}{{code="{hit["code"]}"}}'] = 1.0
    for stream in (result.stdout_stream, result.stderr_stream):
        if stream is not None:
            name = "capsule_run_output_bytes_total"
            adds[name] = adds.get(name, 0.0) + stream.total_bytes
    metrics = result.metrics
    if metrics is None:
        return adds
    wall = metrics.wall_ms / 1000
    adds.update((f'{_WALL}_bucket{{le="{limit:g}"}}', float(wall <= limit)) for limit in BUCKETS)
    adds[f'{_WALL}_bucket{{le="+Inf"}}'] = adds[f"{_WALL}_count"] = 1.0
    adds[f"{_WALL}_sum"] = wall
    adds["capsule_run_cpu_seconds_total"] = metrics.cpu_ms / 1000
    adds["capsule_run_setup_seconds_total"] = sum((metrics.startup or {}).values()) / 1e6
    adds["capsule_run_read_bytes_total"] = metrics.io_read_bytes or 0
    adds["capsule_run_written_bytes_total"] = metrics.io_write_bytes or 0
    return adds


def _shown(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:.6f}"


def accumulated(text: str, result: Result, *, now: float) -> str:
    """The file's new text: what it had, and one run more. Raises OSError for a file that is not ours."""
    samples = _parse(text)
    for name, number in _samples_of_run(result).items():
        samples[name] = samples.get(name, 0.0) + number
    samples["capsule_run_last_run_timestamp_seconds"] = round(now, 3)
    lines = [HEAD]
    for family, kind, about in FAMILIES:
        mine = [name for name in samples if name.partition("{")[0] in (family, *_parts(family, kind))]
        if mine:
            lines += (f"# HELP {family} {about}", f"# TYPE {family} {kind}")
            lines += [f"{name} {_shown(samples[name])}" for name in mine]
    return "\n".join(lines) + "\n"


def _parts(family: str, kind: str) -> tuple[str, ...]:
    return (f"{family}_bucket", f"{family}_sum", f"{family}_count") if kind == "histogram" else ()
