"""What the threads did before a run was ended for its time."""

from __future__ import annotations

WAITS_FOR_INPUT = """
import os, threading
read, write = os.pipe()
threading.Thread(target=os.read, args=(read, 1)).start()
while True: pass
"""


def test_postmortem_threads_have_their_syscall(inside):
    """A thread that waits is seen in its call, one that computes is seen with its time."""
    for _attempt in range(5):  # a host that is busy with other tests leaves it no time
        threads = inside.python(WAITS_FOR_INPUT, timeout_ms=500)["postmortem"]["threads"]
        if len(threads) == 2:
            break
    assert ({"python3"}, True) == (
        {thread["command"] for thread in threads},
        "read" in {thread.get("syscall") for thread in threads},
    )


def test_postmortem_after_cpu_time_limit_is_present(inside):
    """So does a run that was ended for its processor time."""
    response = inside.python("while True: pass", resources={"cpu_time_ms": 200}, timeout_ms=20_000)
    assert {"python3"} >= {thread["command"] for thread in response["postmortem"]["threads"]}


def test_postmortem_has_at_most_64_threads(inside):
    """Of many threads 64 are listed, and `complete` says that there were more."""
    code = "import os, time\nfor _ in range(80):\n    if os.fork() == 0: break\ntime.sleep(60)"
    found = inside.python(code, timeout_ms=3000)["postmortem"]
    assert (True, False) == (len(found["threads"]) <= 64, found["complete"])


def test_postmortem_false_is_absent(inside):
    """`postmortem: false` looks at nothing."""
    assert "postmortem" not in inside(["sleep", "60"], timeout_ms=200, postmortem=False)


def test_postmortem_without_timeout_is_absent(inside):
    """Neither has a run that ended by itself, also within the last moments of its time."""
    assert "postmortem" not in inside(["true"])
    assert "postmortem" not in inside(["true"], timeout_ms=60_000)


def test_postmortem_on_stderr_is_in_words(inside):
    """On stderr, what it did stands under why it was ended."""
    done = inside.cli("--no-workspace", "--timeout", "300", "--", "sleep", "60")
    assert b"sleep (process " in done.stderr
