"""Metrics of a run from the report, the record and the cgroups' counters."""

from __future__ import annotations

from capsule_run._base.value import Value
from capsule_run.model.report import SetupTime, TaskPeak
from capsule_run.model.result_parts import Metrics, Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run.model.report import DiskUse, FinishedRun, StreamCount
    from capsule_run.model.report_details import Sample


PAGE = 4096
ROUNDED_US = 20_000  # user and system time in /proc are each rounded down to a hundredth of a second
_NO_SETUP = SetupTime(user_us=0, system_us=0, uncounted_us=0)
_NO_TASKS = TaskPeak(most=0, largest_kib=0, largest_files_kib=0)
PEAK_SEEN = 0.99  # a sample that saw this share of the kernel's peak of a process saw its peak


def output(count: StreamCount, data: bytes) -> Output:
    return Output(data=data, total_bytes=count.total, truncated=count.over)


def startup_phases(times: dict[str, int], called_ns: int) -> dict[str, int]:
    """Microseconds of each phase from the caller's call to the command's first instruction."""
    names = ("received", "cloned", "mapped", "room_sent", "ready", "started")
    labels = ("spawn", "create", "map", "plan", "build", "confine")
    phases, before = {}, called_ns
    for name, label in zip(names, labels, strict=True):
        if not times[name]:
            break
        phases[label] = max((times[name] - before) // 1000, 0)
        before = max(before, times[name])  # a room that was built ahead was ready before the call
    return phases


def _memory(finished: FinishedRun, counted: Counters) -> tuple[int | None, str | None]:
    """Peak memory in bytes, and its source: `cgroup`, `watch` (the launcher's samples) or `process`.

    A cgroup's own peak is exact. Without one it is the largest sample of all processes, or the kernel's peak of the largest
    process if that is more. The latter includes mapped files: those of the sample that saw the process largest are
    subtracted, and it is not used if a sample saw the process at its peak.
    """
    if counted.memory_peak_bytes is not None:
        return counted.memory_peak_bytes + finished.policy.limit_mechanisms.uncounted_bytes, "cgroup"
    watch, largest = finished.report.memory_peak_kib << 10, finished.report.usage["max_rss_kib"] << 10
    if not watch and not largest:
        return None, None
    tasks = finished.record.tasks or _NO_TASKS
    seen_whole = watch > 0 and tasks.largest_kib << 10 >= largest * PEAK_SEEN
    used = largest - (tasks.largest_files_kib << 10)
    return (watch, "watch") if seen_whole or watch >= used else (used, "process")


def is_full(disk: DiskUse) -> bool:
    """Whether there is no room for another page or another file."""
    return disk.free_bytes < PAGE or disk.free_files == 0


def processor_ms(finished: FinishedRun, counted: Counters) -> tuple[float, float, float]:
    """User, system and total CPU time of the command and its children in ms, without set-up.

    The total is the cgroup's own count if that is more: it includes children that nobody waited for. Without a cgroup it is
    at least what the launcher's samples saw.
    """
    usage, setup = finished.report.usage, finished.record.setup or _NO_SETUP
    setup_us = setup.user_us + setup.system_us
    user, system = max(usage["user_us"] - setup.user_us, 0) / 1000, max(usage["system_us"] - setup.system_us, 0) / 1000
    whole = ((counted.cpu_us or 0) - (setup_us - setup.uncounted_us)) / 1000
    seen = lost = 0.0
    sampled = finished.record.sampled_cpu
    if sampled is not None and not counted.cpu_us:
        seen, lost = (sampled.seen_us - setup_us) / 1000, sampled.lost_us / 1000
    spent = max(finished.record.spent_us, default=0) / 1000
    return round(user, 3), round(system, 3), round(max(user + system + lost, seen, whole, spent), 3)


def cpu_ms_complete(finished: FinishedRun, counted: Counters) -> bool | None:
    """Whether `cpu_ms` is complete: True if a cgroup counted it, False if samples saw more than was waited for, else None."""
    if counted.cpu_us:
        return True
    sampled = finished.record.sampled_cpu
    if sampled is None:
        return None
    waited_us = finished.report.usage["user_us"] + finished.report.usage["system_us"]
    return False if sampled.lost_us or sampled.untracked or sampled.seen_us > waited_us + ROUNDED_US else None


def wall_ms(finished: FinishedRun) -> float:
    """From the command's start to its end, or to the report if it was killed."""
    times = finished.report.times
    end = times["ended"] or times["reported"]
    return round((end - times["started"]) / 1e6, 3) if times["started"] else 0.0


def metrics(finished: FinishedRun, called_ns: int) -> Metrics:
    """The metrics of a run, without the CPU time of set-up. `called_ns` is when the caller asked for it."""
    report, counted = finished.report, counters(finished.record.cgroup_files)
    usage = report.usage
    user, system, cpu = processor_ms(finished, counted)
    memory, source = _memory(finished, counted)
    disk, tasks = finished.record.disk, finished.record.tasks
    # the cgroup also counts init; samples do not
    most = counted.most_tasks - 1 if counted.most_tasks else tasks.most if tasks else None
    return Metrics(
        wall_ms=wall_ms(finished),
        user_ms=user,
        system_ms=system,
        cpu_ms=cpu,
        cpu_ms_complete=cpu_ms_complete(finished, counted),
        max_process_memory_bytes=(usage["max_rss_kib"] << 10) or None,
        max_memory_bytes=memory,
        memory_complete=None if source is None else source == "cgroup",
        memory_source=source,
        io_read_bytes=usage["in_blocks"] << 9 if counted.read_bytes is None else counted.read_bytes,
        io_write_bytes=usage["out_blocks"] << 9 if counted.write_bytes is None else counted.write_bytes,
        io_read_operations=counted.read_operations,
        io_write_operations=counted.write_operations,
        voluntary_context_switches=usage["voluntary_switches"],
        involuntary_context_switches=usage["involuntary_switches"],
        minor_page_faults=usage["minor_faults"],
        major_page_faults=usage["major_faults"],
        max_processes=most,
        disk_bytes=disk.used_bytes if disk else None,
        throttled_ms=None if counted.throttled_us is None else counted.throttled_us / 1000,
        pressure=counted.pressure,
        startup=startup_phases(report.times, called_ns),
    )


PRESSURE = ("cpu", "memory", "io")


class Counters(Value):
    """What the cgroups counted. Everything includes init, which is a member."""

    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    failed_forks: int | None = None
    most_tasks: int | None = None
    cpu_us: int | None = None
    throttled_us: int | None = None
    throttled_periods: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    read_operations: int | None = None
    write_operations: int | None = None
    pressure: Mapping[str, Mapping[str, float]] | None = None


NONE = Counters()


def _table(text: str | None) -> dict[str, int]:
    """Parse lines of a name and a number."""
    rows = [line.split() for line in (text or "").splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None


def _io(files: Mapping[str, str]) -> dict[str, int | None]:
    """Sum over all devices: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`, or in version 1 `8:0 Read 1` in two files."""
    if "io.stat" in files:
        words = [word.partition("=") for line in files["io.stat"].splitlines() for word in line.split()[1:]]
        names = {"read_bytes": "rbytes", "write_bytes": "wbytes", "read_operations": "rios", "write_operations": "wios"}
        return {ours: sum(int(n) for name, _eq, n in words if name == theirs) for ours, theirs in names.items()}
    sums: dict[str, int | None] = {}
    for file, unit in (("blkio.throttle.io_service_bytes", "bytes"), ("blkio.throttle.io_serviced", "operations")):
        rows = [line.split() for line in files.get(file, "").splitlines()] if file in files else None
        for kind in ("Read", "Write"):
            total = None if rows is None else sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == kind)
            sums[f"{kind.lower()}_{unit}"] = total
    return sums


def _pressure(files: Mapping[str, str]) -> dict[str, dict[str, float]] | None:
    """Milliseconds during which some, or all, members waited for a resource."""
    found = {}
    for name in PRESSURE:
        rows = [line.split() for line in files.get(f"{name}.pressure", "").splitlines()]
        totals = {
            f"{row[0]}_ms": int(row[-1].removeprefix("total=")) / 1000 for row in rows if row[-1].startswith("total=")
        }
        if totals:
            found[name] = totals
    return found or None


def counters(files: Mapping[str, str]) -> Counters:
    """Read what the run's cgroups counted from their files, name to content; `NONE` for a run without cgroups."""
    if not files:
        return NONE
    cpu = _table(files.get("cpu.stat"))
    spent_ns = _number(files.get("cpuacct.usage"))
    throttled_ns = cpu.get("throttled_time")
    peak = files.get("memory.peak", files.get("memory.max_usage_in_bytes"))
    return Counters(
        memory_peak_bytes=_number(peak),
        oom_kills=_table(files.get("memory.events", files.get("memory.oom_control"))).get("oom_kill"),
        failed_forks=_table(files.get("pids.events")).get("max"),
        most_tasks=_number(files.get("pids.peak")),
        cpu_us=cpu.get("usage_usec", spent_ns // 1000 if spent_ns is not None else None),
        throttled_us=cpu.get("throttled_usec", throttled_ns // 1000 if throttled_ns is not None else None),
        throttled_periods=cpu.get("nr_throttled"),
        pressure=_pressure(files),
        **_io(files),
    )


TICK_MS = 10  # of /proc/stat: USER_HZ is 100 on every architecture of ours
# Above these a figure is not trustworthy: shares of the observed time, and involuntary switches per second of CPU time.
STEAL_SHARE, CPU_SHARE, MEMORY_SHARE, IO_SHARE, SWITCHES_A_SECOND = 0.02, 0.10, 0.05, 0.10, 100
LEAST_CPU_MS = 20


def measurement(before: Sample, after: Sample, metrics: Metrics) -> dict[str, object]:
    """What the host did between the samples, and which of it makes the run's figures unreliable."""
    observed_ms = (after.at_ns - before.at_ns) / 1e6
    steal_ms = (after.steal_ticks - before.steal_ticks) * TICK_MS
    waited_ms = {
        name: round((total - before.waited_us[name]) / 1000, 3)
        for name, total in after.waited_us.items()
        if name in before.waited_us
    }
    switches = metrics.involuntary_context_switches or 0
    doubts = []
    if steal_ms > STEAL_SHARE * observed_ms * before.processors:
        doubts.append("steal")
    for name, share in (("cpu_some", CPU_SHARE), ("memory_some", MEMORY_SHARE), ("io_full", IO_SHARE)):
        if waited_ms.get(name, 0) > share * observed_ms:
            doubts.append(f"{name.partition('_')[0]}_pressure")
    if metrics.cpu_ms >= LEAST_CPU_MS and switches > SWITCHES_A_SECOND * metrics.cpu_ms / 1000:
        doubts.append("forced_switches")
    return {
        "trustworthy": not doubts,
        "doubts": doubts,
        "observed_ms": round(observed_ms, 3),
        "steal_ms": steal_ms,
        "waited_ms": waited_ms,
        "forced_switches": switches,
    }
