"""What a run cost and what it stood on, from the core's report. Rank 1: pure."""

from __future__ import annotations

from .counters import counters
from .result_parts import Metrics, Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .counters import Counters
    from .policy import Policy
    from .report import Ended


ROUNDED_US = 20_000  # user and system time in /proc are each rounded down to a hundredth of a second
SEEN_WHOLE = 0.99  # of the kernel's peak of a process: a look that has seen so much has seen its peak


def output(capture: tuple[int, int, bool], data: bytes) -> Output:
    _kept, total, over = capture
    return Output(data=data, total_bytes=total, truncated=over)


def startup_phases(times: dict[str, int], called_ns: int) -> dict[str, int]:
    """Microseconds of each phase before the command's first instruction, from the caller's call on."""
    names = ("received", "cloned", "mapped", "furnished", "ready", "started")
    labels = ("spawn", "create", "map", "plan", "build", "confine")
    phases, before = {}, called_ns
    for name, label in zip(names, labels, strict=True):
        if not times[name]:
            break
        phases[label] = max((times[name] - before) // 1000, 0)
        before = times[name]
    return phases


def _memory(ended: Ended, counted: Counters) -> tuple[int | None, str | None]:
    """The most memory used at a time, and who knows it.

    A group's own peak is exact. Without one it is the highest look of the watch at all processes, or the kernel's peak of
    the largest one where that is more. The latter also counts the files that it has mapped: so many as it had when a look
    saw it largest are taken off, and it gives way where the watch has seen that process as large as it ever was.
    """
    if counted.memory_peak_bytes is not None:
        return counted.memory_peak_bytes + ended.policy.rungs.uncounted_bytes, "cgroup"
    watch, largest = ended.report.memory_peak << 10, ended.report.usage["max_rss_kib"] << 10
    if not watch and not largest:
        return None, None
    _tasks, seen_kib, files_kib = (*_row(ended, "tasks"), 0, 0, 0)[:3]
    seen_whole = watch > 0 and seen_kib << 10 >= largest * SEEN_WHOLE
    used = largest - (files_kib << 10)
    return (watch, "watch") if seen_whole or watch >= used else (used, "process")


def _row(ended: Ended, name: str) -> tuple[int, ...]:
    return next((tuple(map(int, words[1:])) for words in ended.record if words[0] == name), ())


def processor_ms(ended: Ended, counted: Counters) -> tuple[float, float, float]:
    """User, system and all processor time of the command and its children, without that of setting the run up.

    All is the group's own count where that is more: it also has children that nobody waited for. Without one, it is at
    least what the launcher's looks saw.
    """
    usage, setup = ended.report.usage, (*_row(ended, "setup"), 0, 0, 0)
    user, system = max(usage["user_us"] - setup[0], 0) / 1000, max(usage["system_us"] - setup[1], 0) / 1000
    whole = ((counted.cpu_us or 0) - (setup[0] + setup[1] - setup[2])) / 1000  # the third went before the group counted
    seen = lost = 0.0
    if not counted.cpu_us:
        seen_us, lost_us, _untracked = (*_row(ended, "cpu-seen"), 0, 0, 0)[:3]
        seen, lost = (seen_us - setup[0] - setup[1]) / 1000, lost_us / 1000
    spent = (*_row(ended, "spent"), 0)[0] / 1000  # at which the run was ended
    return round(user, 3), round(system, 3), round(max(user + system + lost, seen, whole, spent), 3)


def cpu_ms_complete(ended: Ended, counted: Counters) -> bool | None:
    """Whether `cpu_ms` has all: yes by a group's count, no where looks saw more than was waited for, else nobody knows."""
    if counted.cpu_us:
        return True
    seen = _row(ended, "cpu-seen")
    if not seen:
        return None
    waited_us = ended.report.usage["user_us"] + ended.report.usage["system_us"]
    return False if seen[1] or seen[2] or seen[0] > waited_us + ROUNDED_US else None


def wall_ms(ended: Ended) -> float:
    """From the command's start to its end, or to the report where it was ended."""
    times = ended.report.times
    end = times["ended"] or times["reported"]
    return round((end - times["started"]) / 1e6, 3) if times["started"] else 0.0


def metrics(ended: Ended, called_ns: int) -> Metrics:
    """What the run cost, without the processor time of setting it up."""
    report, counted = ended.report, counters(ended.record)
    usage = report.usage
    user, system, cpu = processor_ms(ended, counted)
    memory, source = _memory(ended, counted)
    disk, tasks = _row(ended, "disk"), _row(ended, "tasks")
    # the group also counts our process 1; the watch does not
    most = counted.most_tasks - 1 if counted.most_tasks else tasks[0] if tasks else None
    return Metrics(
        wall_ms=wall_ms(ended),
        user_ms=user,
        system_ms=system,
        cpu_ms=cpu,
        cpu_ms_complete=cpu_ms_complete(ended, counted),
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
        disk_bytes=disk[0] if disk else None,
        throttled_ms=None if counted.throttled_us is None else counted.throttled_us / 1000,
        pressure=counted.pressure,
        startup=startup_phases(report.times, called_ns),
    )


def isolation_in_force(policy: Policy, landlock_abi: int) -> dict[str, object]:
    """The layers and mechanisms that a run stands on, by name, for the result and for `-v`."""
    workspace: dict[str, object] = {"kind": policy.workspace_kind}
    if policy.workspace is not None:
        workspace["source"] = policy.workspace.path
    if policy.upper is not None:
        workspace["upper"] = {"directory": policy.upper.directory, "bytes": policy.upper.bytes}
    if policy.cover.masks:
        workspace["masked"] = [place for place, _is_directory in policy.cover.masks]
    return {
        "namespaces": ["user", "mount", "pid", "ipc", "uts", "cgroup", *(() if policy.network else ("net",))],
        "network": "host" if policy.network else "none",
        "user": {"inside": policy.user, "outside": policy.identity.outside_uid},
        "no_new_privs": True,
        "capabilities": [],
        "seccomp": policy.calls.profile,
        "landlock_abi": landlock_abi,
        "workspace": workspace,
        "limits": {
            "wall_time": "timer",
            "cpu_time": "watch" if policy.watched.cpu_time_ms is not None else "none",
            **dict(policy.rungs.mechanisms),
            "output": "launcher",
            "disk": "tmpfs",
            "file_size": "rlimit",
            "open_files": "rlimit",
        },
        **({"notes": list(policy.notes)} if policy.notes else {}),
    }
