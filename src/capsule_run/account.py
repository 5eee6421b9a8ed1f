"""What a run cost and what it stood on, from the core's report. Rank 1: pure."""

from __future__ import annotations

from .model import Metrics, Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .core import Ended
    from .policy import Policy


def output(capture: tuple[int, int, bool], data: bytes) -> Output:
    _kept, total, over = capture
    return Output(data=data, total_bytes=total, truncated=over)


def startup_phases(times: dict[str, int], called_ns: int) -> dict[str, int]:
    """Microseconds of each phase before the command's first instruction, from the caller's call on."""
    names = ("received", "cloned", "mapped", "ready", "started")
    labels = ("spawn", "create", "map", "build", "confine")
    phases, before = {}, called_ns
    for name, label in zip(names, labels, strict=True):
        if not times[name]:
            break
        phases[label] = max((times[name] - before) // 1000, 0)
        before = times[name]
    return phases


def metrics(ended: Ended, called_ns: int) -> Metrics:
    report = ended.report
    usage, times = report.usage, report.times
    setup = next((words for words in ended.record if words[0] == "setup"), ("", "0", "0"))
    user = max(usage["user_us"] - int(setup[1]), 0) / 1000
    system = max(usage["system_us"] - int(setup[2]), 0) / 1000
    end = times["ended"] or times["reported"]
    return Metrics(
        wall_ms=round((end - times["started"]) / 1e6, 3) if times["started"] else 0.0,
        user_ms=round(user, 3),
        system_ms=round(system, 3),
        cpu_ms=round(user + system, 3),
        max_process_memory_bytes=(usage["max_rss_kib"] << 10) or None,
        max_memory_bytes=(report.memory_peak << 10) or None,
        io_read_bytes=usage["in_blocks"] << 9,
        io_write_bytes=usage["out_blocks"] << 9,
        voluntary_context_switches=usage["voluntary_switches"],
        involuntary_context_switches=usage["involuntary_switches"],
        minor_page_faults=usage["minor_faults"],
        major_page_faults=usage["major_faults"],
        startup=startup_phases(times, called_ns),
    )


def isolation_in_force(policy: Policy, landlock_abi: int) -> dict[str, object]:
    """The layers and mechanisms that a run stands on, by name, for the result and for `-v`."""
    workspace: dict[str, object] = {"kind": policy.workspace_kind}
    if policy.workspace is not None:
        workspace["source"] = policy.workspace.path
    return {
        "namespaces": ["user", "mount", "pid", "ipc", "uts", "cgroup", *(() if policy.network else ("net",))],
        "network": "host" if policy.network else "none",
        "user": {"inside": policy.user, "outside": policy.outside_uid},
        "no_new_privs": True,
        "capabilities": [],
        "seccomp": policy.profile,
        "landlock_abi": landlock_abi,
        "workspace": workspace,
        "limits": {
            "wall_time": "timer",
            "cpu_time": "watch" if policy.watched.cpu_time_ms is not None else "none",
            "memory": "watch",
            "processes": "rlimit",
            "cpu_shares": policy.cpu_mechanism,
            "output": "launcher",
            "disk": "tmpfs",
            "file_size": "rlimit",
            "open_files": "rlimit",
        },
        **({"notes": list(policy.notes)} if policy.notes else {}),
    }
