"""One cause for each end, its evidence, and what was reached and survived: tables of what the core may have said."""

from __future__ import annotations

import pytest

from capsule_run.host.survey import survey
from capsule_run.model.report import FinishedRun, StreamCount
from capsule_run.model.request import Request, Resources
from capsule_run.policy.mounts import private_mounts
from capsule_run.policy.resolve import DRAIN_MS, resolve
from capsule_run.result import verdict
from records import record, report

MIB = 1 << 20
RESOURCES = Resources(memory_bytes=64 * MIB, cpu_time_ms=1000, max_pids=20, disk_bytes=8 * MIB, max_output_bytes=10)
USAGE = {
    "user_us": 300_000, "system_us": 100_000, "max_rss_kib": 5000, "minor_faults": 1, "major_faults": 2, "in_blocks": 3,
    "out_blocks": 4, "voluntary_switches": 5, "involuntary_switches": 6,
}  # fmt: skip
TIMES = {"received": 1, "cloned": 2, "mapped": 3, "ready": 4, "started": 5, "ended": 0, "reported": 2_000_000_005}
FULL = ["disk", str(9 * MIB), "0", "70", "900"]
ROOMY = ["disk", str(MIB), str(8 * MIB), "70", "900"]
NO_FILES = ["disk", str(MIB), str(8 * MIB), "1000", "0"]
AT_LIMIT, BELOW = ["tasks", "20", "0", "0"], ["tasks", "19", "0", "0"]
OOM = ["cgroup", "memory.events", "low%200%0ahigh%200%0amax%2041%0aoom%201%0aoom_kill%203%0a"]
NO_OOM = ["cgroup", "memory.events", "low%200%0aoom%200%0aoom_kill%200%0a"]
REFUSED, NOT_REFUSED = ["cgroup", "pids.events", "max%2012%0a"], ["cgroup", "pids.events", "max%200%0a"]
SOME_REFUSED = ["cgroup", "pids.events", "max%209%0a"]  # of 20 that may be
HALF, FEW = ["tasks", "10", "0", "0"], ["tasks", "9", "0", "0"]
AGAIN, EAGAIN = b"sh: 1: Cannot fork\n", b"read: Resource temporarily unavailable\n"
LEFT_BEHIND = {**TIMES, "ended": TIMES["reported"] - DRAIN_MS * 1_000_000}


def ended(*lines, stderr=b"", on_output_limit=None, usage=None, **said):
    """A run that ended as `said`, with these lines in its record."""
    request = Request(command=("true",), resources=RESOURCES, timeout_ms=2000, on_output_limit=on_output_limit)
    fields = {"times": TIMES, "usage": {**USAGE, **(usage or {})}, "memory_peak_kib": 70 << 10, **said}
    return FinishedRun(
        policy=resolve(request, survey(request)), report=report(**fields), record=record(*lines), program="",
        cancelled_by=0, stdout=b"", stderr=stderr,
    )  # fmt: skip


OVER = StreamCount(kept=10, total=25, over=True)
# What the core said → status, code, exit code.
ENDS = {
    "clean": (ended(ROOMY, exited=0), ("success", None, 0)),
    "clean with a full disk": (ended(FULL, exited=0), ("success", None, 0)),
    "own exit code": (ended(ROOMY, BELOW, exited=3), ("error", "E3003", 3)),
    "own signal": (ended(ROOMY, signalled=11), ("error", "E3005", 139)),
    "output": (ended(stdout=OVER, exited=0), ("killed", "E4003", 137)),
    "output before the clock": (ended(stdout=OVER, killed="clock"), ("killed", "E4003", 137)),
    "clock": (ended(ROOMY, killed="clock"), ("timeout", "E3006", 124)),
    "clock with a full disk": (ended(FULL, killed="clock"), ("timeout", "E3006", 124)),
    "watch of memory": (ended(ROOMY, killed="memory"), ("killed", "E4001", 137)),
    "group of memory, all of it": (ended(OOM, killed="lost"), ("killed", "E4001", 137)),
    "group of memory, a child": (ended(OOM, exited=1), ("killed", "E4001", 137)),
    "lost without a reason": (ended(NO_OOM, killed="lost"), ("error", "E6002", 125)),
    "processor time": (ended(ROOMY, ["spent", "1009000"], killed="cpu"), ("killed", "E4004", 137)),
    "processor time by the kernel": (ended(signalled=9, usage={"user_us": 1_000_000}), ("killed", "E4004", 137)),
    "killed by its own SIGKILL": (ended(signalled=9), ("error", "E3005", 137)),
    "disk": (ended(FULL, exited=1), ("killed", "E4005", 137)),
    "disk without room for another file": (ended(NO_FILES, exited=1), ("killed", "E4005", 137)),
    "disk, by a signal": (ended(FULL, signalled=6), ("killed", "E4005", 137)),
    "processes, as the watch saw and it says": (ended(AT_LIMIT, stderr=AGAIN, exited=2), ("killed", "E4002", 137)),
    "processes, as it says alone": (ended(BELOW, stderr=AGAIN, exited=2), ("error", "E3003", 2)),
    "processes, as the watch saw alone": (ended(AT_LIMIT, stderr=b"no", exited=2), ("error", "E3003", 2)),
    "processes, as the group counted": (ended(REFUSED, stderr=b"no", exited=2), ("killed", "E4002", 137)),
    "processes, which the group denies": (ended(NOT_REFUSED, AT_LIMIT, stderr=AGAIN, exited=2), ("error", "E3003", 2)),
    "a fork storm to its deadline": (ended(REFUSED, killed="clock"), ("killed", "E4002", 137)),
    "a fork storm, as the watch saw and it says": (
        ended(HALF, stderr=10 * AGAIN, killed="clock"),
        ("killed", "E4002", 137),
    ),
    "a fork storm, as it says alone": (ended(FEW, stderr=99 * AGAIN, killed="clock"), ("timeout", "E3006", 124)),
    "a fork storm, as the watch saw alone": (
        ended(AT_LIMIT, stderr=9 * AGAIN, killed="clock"),
        ("timeout", "E3006", 124),
    ),
    "a fork storm of a socket's words": (
        ended(AT_LIMIT, stderr=99 * EAGAIN, killed="clock"),
        ("timeout", "E3006", 124),
    ),
    "some forks refused before the deadline": (ended(SOME_REFUSED, killed="clock"), ("timeout", "E3006", 124)),
    "a fork storm left behind": (ended(REFUSED, exited=0, times=LEFT_BEHIND), ("killed", "E4002", 137)),
    "a daemon left behind": (ended(SOME_REFUSED, exited=0, times=LEFT_BEHIND), ("success", None, 0)),
    "forks refused, and an end of its own": (ended(REFUSED, exited=0), ("success", None, 0)),
    "cancelled in a fork storm": (ended(REFUSED, killed="caller"), ("killed", "E3007", 143)),
    "file size": (ended(signalled=25), ("killed", "E4006", 137)),
    "forbidden call": (ended(signalled=31), ("killed", "E5001", 137)),
    "cancelled": (ended(killed="caller"), ("killed", "E3007", 143)),
}


@pytest.mark.parametrize("name", ENDS)
def test_verdict_has_one_cause_for_each_end(name):
    """The first reason is the cause, and what a program says is none."""
    run, expected = ENDS[name]
    status, exit_code, _signal, failure = verdict.judge(run)
    assert expected == (status, failure.code if failure else None, exit_code)


DETAILS = {
    "clock": {"limit_ms": 2000, "observed_ms": 2000.0, "source": "timer", "cpu_ms": 400.0},
    "watch of memory": {
        "limit_bytes": 64 * MIB, "observed_bytes": 70 * MIB, "source": "watch",
        "would_pass_with": {"resources.memory_bytes": 70 * MIB}, "files_bytes": MIB,
    },
    "group of memory, all of it": {
        "limit_bytes": 64 * MIB, "observed_bytes": 64 * MIB, "source": "cgroup", "counter": {"oom_kill": 3},
    },
    "processor time": {"limit_ms": 1000, "observed_ms": 1009.0, "source": "watch", "wall_ms": 2000.0},
    "disk": {
        "limit_bytes": 8 * MIB, "observed_bytes": 8 * MIB, "source": "tmpfs", "exit_code": 1,
        # where the interpreter lies in /var/tmp, that is a place of its own
        "mounts": private_mounts(resolve(Request(command=("true",)), survey(Request(command=("true",))))),
        "counter": {"free_bytes": 0, "files": 70, "free_files": 900},
    },
    "processes, as the group counted": {
        "limit": 20, "source": "cgroup", "counter": {"refused": 12}, "exit_code": 2,
        "would_pass_with": {"resources.max_pids": 21},
    },
    "a fork storm left behind": {
        "limit": 20, "source": "cgroup", "counter": {"refused": 12}, "exit_code": 0, "wall_ms": 1750.0,
        "would_pass_with": {"resources.max_pids": 21},
    },
    "a fork storm, as the watch saw and it says": {
        "limit": 20, "source": "watch", "observed": 10, "said": 10, "wall_ms": 2000.0,
        "would_pass_with": {"resources.max_pids": 21},
    },
    "output": {
        "stream": "stdout", "limit_bytes": 10, "observed_bytes": 25, "source": "launcher",
        "would_pass_with": {"resources.max_output_bytes": 25},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DETAILS)
def test_verdict_details_are_the_evidence(name):
    """Limit, observation, and who counted."""
    assert DETAILS[name] == verdict.judge(ENDS[name][0])[3].details


HITS = {
    "nothing": (ended(ROOMY, BELOW, NO_OOM, NOT_REFUSED, exited=0), []),
    "a full disk": (ended(FULL, exited=0), ["E4005"]),
    "the process limit": (ended(AT_LIMIT, exited=0), ["E4002"]),
    "refused forks": (ended(REFUSED, exited=0), ["E4002"]),
    "a child out of memory": (ended(OOM, exited=0), ["E4001"]),
    "output thrown away": (ended(stdout=OVER, on_output_limit="truncate", exited=0), ["E4003"]),
    "the clock, at a full disk": (ended(FULL, killed="clock"), ["E4005"]),
    "what ended it is not among them": (ended(FULL, exited=1), []),
}


@pytest.mark.parametrize("name", HITS)
def test_verdict_lists_limits_reached_without_ending_the_run(name):
    """What was reached and did not end the run is listed, with its evidence, and nothing else."""
    run, expected = HITS[name]
    failure = verdict.judge(run)[3]
    assert expected == [hit["code"] for hit in verdict.limits_hit(run, failure)]
