"""The lines of a post-mortem, read back."""

from __future__ import annotations

from capsule_run.result.processes import in_words, postmortem
from records import record


def thread(ids, name, state, ticks, waits):
    (pid, tid), (call, channel) = ids, waits
    stat = (
        f"{tid}%20({name})%20{state}%201%203%203%200%20-1%204194560%20100%200%200%200%20{ticks}%200%200%200%2020%200%0a"
    )
    return ["thread", str(pid), str(tid), stat, call, channel]


LINES = [
    ["setup", "1", "2", "0"],
    thread((3, 3), "sh", "S", 1, ("61%200x3%200x0%0a", "do_wait")),
    thread((4, 5), "a%20b)", "R", 25, ("running%0a", "0")),
    thread((6, 6), "cat", "S", 0, ("0%200x0%200x7f00%200x10%0a", "pipe_read")),
    thread((7, 7), "odd", "Q", 0, ("%", "%")),
]


def test_postmortem_threads_are_sorted_by_cpu_time():
    """Each thread has what was seen of it, and nothing that was not."""
    found = postmortem(record(*LINES, ["threads-end"]), "x86_64")
    expected = [
        {"pid": 4, "tid": 5, "command": "a b)", "state": "running", "cpu_ms": 250.0},
        {"pid": 3, "tid": 3, "command": "sh", "state": "sleeping", "syscall": "wait4", "waits_in": "do_wait", "cpu_ms": 10.0},
        {"pid": 6, "tid": 6, "command": "cat", "state": "sleeping", "syscall": "read", "descriptor": 0, "waits_in": "pipe_read",
         "cpu_ms": 0.0},
        {"pid": 7, "tid": 7, "command": "odd", "state": "Q", "cpu_ms": 0.0},
    ]  # fmt: skip
    assert {"threads": expected, "complete": True} == found


def test_postmortem_cut_short_is_not_complete():
    """Without the launcher's last line there may have been more."""
    assert False is postmortem(record(*LINES), "x86_64")["complete"]


def test_postmortem_syscall_names_follow_the_architecture():
    """260 is wait4 on aarch64."""
    found = postmortem(record(thread((3, 3), "sh", "S", 0, ("260%200x3", "0"))), "aarch64")
    assert "wait4" == found["threads"][0]["syscall"]


def test_postmortem_in_words_has_at_most_three_lines():
    """Three lines at the most, each with who, what and how long."""
    lines = in_words(postmortem(record(*LINES), "x86_64"))
    assert [
        "a b) (process 4) was running, after 250 ms of CPU time",
        "sh (process 3) was sleeping in wait4, after 10 ms of CPU time",
        "cat (process 6) was sleeping in read of descriptor 0, after 0 ms of CPU time",
    ] == lines
