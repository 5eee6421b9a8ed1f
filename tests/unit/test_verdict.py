"""One cause for each end, its evidence, and what was reached and survived: tables of what the core may have said."""

from __future__ import annotations

import pytest

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.host.survey import survey
from capsule_run.model.report import FinishedRun, StreamCount
from capsule_run.model.request import Request, Resources
from capsule_run.policy.mounts import private_mounts
from capsule_run.policy.resolve import DRAIN_MS, resolve
from capsule_run.request.parse import FIELDS
from capsule_run.result import metrics, next_limit, verdict
from records import record, report

MIB = 1 << 20
RESOURCES = Resources(memory_bytes=64 * MIB, cpu_time_ms=1000, max_pids=20, disk_bytes=8 * MIB, max_output_bytes=10)
USAGE = {
    "user_us": 300_000, "system_us": 100_000, "max_rss_kib": 5000, "minor_faults": 1, "major_faults": 2, "in_blocks": 3,
    "out_blocks": 4, "voluntary_switches": 5, "involuntary_switches": 6,
}  # fmt: skip
TIMES = {
    "received": 1,
    "cloned": 2,
    "mapped": 3,
    "room_sent": 3,
    "ready": 4,
    "started": 5,
    "ended": 0,
    "reported": 2_000_000_005,
}
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


def finished_run(*lines, stderr=b"", on_output_limit=None, usage=None, **said):
    """A run that ended as `said`, with these lines in its record."""
    request = Request(command=("true",), resources=RESOURCES, timeout_ms=2000, on_output_limit=on_output_limit)
    fields = {"times": TIMES, "usage": {**USAGE, **(usage or {})}, "memory_peak_kib": 70 << 10, **said}
    return FinishedRun(
        policy=resolve(request, survey(request)), report=report(**fields), record=record(*lines), program="",
        cancelled_by=0, stdout=b"", stderr=stderr,
    )  # fmt: skip


def at_least(fields):
    """What `error.details` says of limits that were not seen to suffice."""
    return {"would_pass_with": fields, "would_pass_at_least": True}


OVER = StreamCount(kept=10, total=25, over=True)
# What the core said → status, code, exit code.
ENDS = {
    "clean": (finished_run(ROOMY, exited=0), ("success", None, 0)),
    "clean with a full disk": (finished_run(FULL, exited=0), ("success", None, 0)),
    "own exit code": (finished_run(ROOMY, BELOW, exited=3), ("error", "E3003", 3)),
    "own signal": (finished_run(ROOMY, signalled=11), ("error", "E3005", 139)),
    "output": (finished_run(stdout=OVER, exited=0), ("killed", "E4003", 137)),
    "output before the clock": (finished_run(stdout=OVER, killed="clock"), ("killed", "E4003", 137)),
    "clock": (finished_run(ROOMY, killed="clock"), ("timeout", "E3006", 124)),
    "clock with a full disk": (finished_run(FULL, killed="clock"), ("timeout", "E3006", 124)),
    "watch of memory": (finished_run(ROOMY, killed="memory"), ("killed", "E4001", 137)),
    "group of memory, all of it": (finished_run(OOM, killed="lost"), ("killed", "E4001", 137)),
    "group of memory, a child": (finished_run(OOM, exited=1), ("killed", "E4001", 137)),
    "lost without a reason": (finished_run(NO_OOM, killed="lost"), ("error", "E6002", 125)),
    "processor time": (finished_run(ROOMY, ["spent", "1009000"], killed="cpu"), ("killed", "E4004", 137)),
    "processor time by the kernel": (finished_run(signalled=9, usage={"user_us": 1_000_000}), ("killed", "E4004", 137)),
    "killed by its own SIGKILL": (finished_run(signalled=9), ("error", "E3005", 137)),
    "disk": (finished_run(FULL, exited=1), ("killed", "E4005", 137)),
    "disk without room for another file": (finished_run(NO_FILES, exited=1), ("killed", "E4005", 137)),
    "disk, by a signal": (finished_run(FULL, signalled=6), ("killed", "E4005", 137)),
    "processes, as the watch saw and it says": (
        finished_run(AT_LIMIT, stderr=AGAIN, exited=2),
        ("killed", "E4002", 137),
    ),
    "processes, as it says alone": (finished_run(BELOW, stderr=AGAIN, exited=2), ("error", "E3003", 2)),
    "processes, as the watch saw alone": (finished_run(AT_LIMIT, stderr=b"no", exited=2), ("error", "E3003", 2)),
    "processes, as the group counted": (finished_run(REFUSED, stderr=b"no", exited=2), ("killed", "E4002", 137)),
    "processes, which the group denies": (
        finished_run(NOT_REFUSED, AT_LIMIT, stderr=AGAIN, exited=2),
        ("error", "E3003", 2),
    ),
    "a fork storm to its deadline": (finished_run(REFUSED, killed="clock"), ("killed", "E4002", 137)),
    "a fork storm, as the watch saw and it says": (
        finished_run(HALF, stderr=10 * AGAIN, killed="clock"),
        ("killed", "E4002", 137),
    ),
    "a fork storm, as it says alone": (finished_run(FEW, stderr=99 * AGAIN, killed="clock"), ("timeout", "E3006", 124)),
    "a fork storm, as the watch saw alone": (
        finished_run(AT_LIMIT, stderr=9 * AGAIN, killed="clock"),
        ("timeout", "E3006", 124),
    ),
    "a fork storm of a socket's words": (
        finished_run(AT_LIMIT, stderr=99 * EAGAIN, killed="clock"),
        ("timeout", "E3006", 124),
    ),
    "some forks refused before the deadline": (finished_run(SOME_REFUSED, killed="clock"), ("timeout", "E3006", 124)),
    "a fork storm left behind": (finished_run(REFUSED, exited=0, times=LEFT_BEHIND), ("killed", "E4002", 137)),
    "a daemon left behind": (finished_run(SOME_REFUSED, exited=0, times=LEFT_BEHIND), ("success", None, 0)),
    "forks refused, and an end of its own": (finished_run(REFUSED, exited=0), ("success", None, 0)),
    "cancelled in a fork storm": (finished_run(REFUSED, killed="caller"), ("killed", "E3007", 143)),
    "cancelled while it held the streams open": (
        finished_run(REFUSED, killed="caller", times=LEFT_BEHIND),
        ("killed", "E3007", 143),
    ),
    "file size": (finished_run(signalled=25), ("killed", "E4006", 137)),
    "forbidden call": (finished_run(signalled=31), ("killed", "E5001", 137)),
    "cancelled": (finished_run(killed="caller"), ("killed", "E3007", 143)),
}


@pytest.mark.parametrize("name", ENDS)
def test_verdict_has_one_cause_for_each_end(name):
    """The first reason is the cause, and what a program says is none."""
    run, expected = ENDS[name]
    status, exit_code, _signal, failure = verdict.judge(run)
    assert expected == (status, failure.code if failure else None, exit_code)


DETAILS = {
    "clock": {
        "limit_ms": 2000, "observed_ms": 2000.0, "source": "timer", "cpu_ms": 400.0,
        **at_least({"timeout_ms": 4000}),
    },
    "watch of memory": {
        "limit_bytes": 64 * MIB, "observed_bytes": 70 * MIB, "source": "watch",
        **at_least({"resources.memory_bytes": 140 * MIB}), "files_bytes": MIB,
    },
    "group of memory, all of it": {
        "limit_bytes": 64 * MIB, "observed_bytes": 64 * MIB, "source": "cgroup", "counter": {"oom_kill": 3},
        **at_least({"resources.memory_bytes": 128 * MIB}),
    },
    "processor time": {
        "limit_ms": 1000, "observed_ms": 1009.0, "source": "watch", "wall_ms": 2000.0,
        **at_least({"resources.cpu_time_ms": 2018}),
    },
    "disk": {
        "limit_bytes": 8 * MIB, "observed_bytes": 8 * MIB, "source": "tmpfs", "exit_code": 1,
        # where the interpreter lies in /var/tmp, that is a place of its own
        "mounts": private_mounts(resolve(Request(command=("true",)), survey(Request(command=("true",))))),
        "counter": {"free_bytes": 0, "files": 70, "free_files": 900},
        **at_least({"resources.disk_bytes": 16 * MIB}),
    },
    "processes, as the group counted": {
        "limit": 20, "source": "cgroup", "counter": {"refused": 12}, "exit_code": 2,
        **at_least({"resources.max_pids": 40}),
    },
    "a fork storm left behind": {
        "limit": 20, "source": "cgroup", "counter": {"refused": 12}, "exit_code": 0, "wall_ms": 1750.0,
        **at_least({"resources.max_pids": 40}),
    },
    "a fork storm, as the watch saw and it says": {
        "limit": 20, "source": "watch", "observed": 10, "said": 10, "wall_ms": 2000.0,
        **at_least({"resources.max_pids": 40}),
    },
    "output": {
        "stream": "stdout", "limit_bytes": 10, "observed_bytes": 25, "source": "launcher",
        **at_least({"resources.max_output_bytes": 50}),
    },
    "file size": {
        "limit_bytes": 9 * MIB, "signal": "SIGXFSZ", "source": "rlimit", **at_least({"resources.max_file_bytes": 18 * MIB}),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DETAILS)
def test_verdict_details_are_the_evidence(name):
    """Limit, observation, and who counted."""
    assert DETAILS[name] == verdict.judge(ENDS[name][0])[3].details


HITS = {
    "nothing": (finished_run(ROOMY, BELOW, NO_OOM, NOT_REFUSED, exited=0), []),
    "a full disk": (finished_run(FULL, exited=0), ["E4005"]),
    "the process limit": (finished_run(AT_LIMIT, exited=0), ["E4002"]),
    "refused forks": (finished_run(REFUSED, exited=0), ["E4002"]),
    "a child out of memory": (finished_run(OOM, exited=0), ["E4001"]),
    "output thrown away": (finished_run(stdout=OVER, on_output_limit="truncate", exited=0), ["E4003"]),
    "the clock, at a full disk": (finished_run(FULL, killed="clock"), ["E4005"]),
    "what ended it is not among them": (finished_run(FULL, exited=1), []),
}


@pytest.mark.parametrize("name", HITS)
def test_verdict_lists_limits_reached_without_ending_the_run(name):
    """What was reached and did not end the run is listed, with its evidence, and nothing else."""
    run, expected = HITS[name]
    failure = verdict.judge(run)[3]
    assert expected == [hit["code"] for hit in verdict.limits_hit(run, failure)]


def test_verdict_of_a_sum_that_counts_shared_pages_says_so():
    """A sum that counts what processes share for each is an upper bound: the message, the details and the peak agree."""
    run = finished_run(ROOMY, ["plain-sum", str(900 << 10)], killed="memory")
    failure = verdict.judge(run)[3]
    assert (
        "used up to 943 718 400 bytes of memory, which counts for each process what processes share" in failure.message
    )
    assert (900 * MIB, True) == (failure.details["observed_bytes"], failure.details["observed_is_upper_bound"])
    assert {"resources.memory_bytes": 900 * MIB} == failure.details["would_pass_with"]
    assert 70 * MIB == metrics.metrics(run, 0).max_memory_bytes


def test_verdict_of_streamed_stderr_is_the_same_as_of_captured():
    """The last part of stderr, which the record has, is as good as the captured stream."""
    (streamed, captured) = (
        verdict.judge(run)[3]
        for run in (
            finished_run(AT_LIMIT, ["stderr-tail", "sh:%20Cannot%20fork"], exited=2),
            finished_run(AT_LIMIT, stderr=AGAIN, exited=2),
        )
    )
    assert ("E4002", "E4002") == (streamed.code, captured.code)


LIMIT_CODES = ("E3006", "E4001", "E4002", "E4003", "E4004", "E4005", "E4006")


@pytest.mark.parametrize("name", [name for name, (_run, end) in ENDS.items() if end[1] in LIMIT_CODES])
def test_verdict_of_a_limit_names_more_than_the_limit_in_details_and_hint(name):
    """The figure to try next is at least twice the limit, says that it is a lower bound, and is in the hint, too."""
    failure = verdict.judge(ENDS[name][0])[3]
    assert failure.details["would_pass_at_least"]
    limit = failure.details.get("limit", failure.details.get("limit_bytes", failure.details.get("limit_ms")))
    assert [] == [field for field, figure in failure.details["would_pass_with"].items() if figure < 2 * limit]
    assert [] == [field for field in failure.details["would_pass_with"] if f"`{field}`" not in failure.hint]
    assert "at least" in failure.hint


def test_verdict_of_a_full_disk_names_memory_that_it_fits_into():
    """Files are memory: a larger disk alone would end at the memory limit."""
    request = Request(command=("true",), resources=Resources(memory_bytes=64 * MIB, disk_bytes=56 * MIB))
    full = replace(finished_run(FULL, exited=1), policy=resolve(request, survey(request)))
    figures = verdict.judge(full)[3].details["would_pass_with"]
    assert {"resources.disk_bytes": 112 * MIB, "resources.memory_bytes": 128 * MIB} == figures


def test_verdict_of_truncated_output_names_the_exact_figure():
    """A command that ended by itself has written all of its output: with that limit it would have passed."""
    (hit,) = verdict.limits_hit(finished_run(stdout=OVER, on_output_limit="truncate", exited=0), None)
    details = hit["details"]
    assert ({"resources.max_output_bytes": 25}, False) == (details["would_pass_with"], details["would_pass_at_least"])


@pytest.mark.parametrize("field", next_limit.FIELDS)
def test_next_limit_is_a_value_that_the_field_accepts(field):
    """The largest figure that is named is one that a request may have, and a larger one is not named."""
    largest = next(1 << power for power in range(63, 0, -1) if next_limit.passing({field: 1 << power}))
    FIELDS[field](largest, field)
    most = max(figure for figure in (largest, 86_400_000, 4_194_304) if next_limit.passing({field: figure}))
    assert {} == next_limit.passing({field: most + 1})
    assert None is next_limit.hint({field: most + 1})
    with pytest.raises(CapsuleError):
        FIELDS[field](most + 1, field)


@pytest.mark.parametrize(("tasks", "said"), [(AT_LIMIT, True), (BELOW, False)])
@pytest.mark.parametrize("end", [{"exited": 1}, {"signalled": 6}, {"killed": "clock"}])
def test_verdict_with_as_many_processes_as_allowed_hints_at_their_limit(tasks, said, end):
    """Programs that hide a refused thread get a hint if a sample saw as many as are allowed; it is no cause."""
    _status, _code, _signal, failure = verdict.judge(finished_run(ROOMY, tasks, **end))
    assert said == ("raise `--max-pids`" in failure.hint)
    assert failure.code != "E4002"
