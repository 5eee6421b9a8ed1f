"""Processor time of children that nobody waits for: against the limit, and in the result."""

from __future__ import annotations

import pytest

# Ten seconds of computing in pieces, each by a process that leaves a dot when it ends by itself.
SHAPES = """
import ctypes, os, signal, sys, time
shape, piece, pieces = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])

def compute():
    until = time.process_time() + piece
    while time.process_time() < until: pass
    os.write(1, b".")

def start(depth=0):
    if (pid := os.fork()) == 0:
        if depth: start(depth - 1)
        compute()
        os._exit(0)
    return pid

def wait(pid):
    try: os.waitpid(pid, 0)
    except ChildProcessError: pass

if shape == "no-wait-flag":
    action = (ctypes.c_ulong * 19)()  # struct sigaction of libc: handler, mask, flags
    ctypes.cast(ctypes.byref(action, 136), ctypes.POINTER(ctypes.c_int))[0] = 2
    assert ctypes.CDLL(None).sigaction(17, action, None) == 0
elif shape != "waited-for":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
at_once = {"parallel": 8, "nested": 1}.get(shape, 1)
each = {"nested": 3}.get(shape, 1)
for _ in range(pieces // at_once // each):
    for pid in [start(each - 1) for _ in range(at_once)]: wait(pid)
"""
UNWAITED = ["ignored", "no-wait-flag", "parallel", "nested"]


def shape(inside, name, piece, pieces, **fields):
    command = ["python3", "-c", SHAPES, name, str(piece), str(pieces)]
    return inside(command, timeout_ms=50_000, **fields)


@pytest.mark.parametrize("piece", [0.05, 0.02])
@pytest.mark.parametrize("name", [*UNWAITED, "waited-for"])
def test_cpu_time_children_nobody_waits_for_count_against_the_limit(inside, name, piece):
    """Ten seconds of computing under a limit of one are ended, no matter who waits for the children, before three are used."""
    response = shape(inside, name, piece, int(10 / piece), resources={"cpu_time_ms": 1000})
    assert "E4004" == response["error"]["code"]
    assert len(response["stdout"]) * piece < 3
    assert 1000 <= response["error"]["details"]["observed_ms"] <= 1500


@pytest.mark.parametrize("name", [*UNWAITED, "waited-for"])
def test_cpu_ms_children_nobody_waits_for_is_never_too_much(inside, name):
    """Looks at children that come and go count nothing twice, no matter who waits for them."""
    response = shape(inside, name, 0.02, 48)
    used_ms = len(response["stdout"]) * 20
    assert response["metrics"]["cpu_ms"] < used_ms * 1.25 + 250  # the interpreter's own, and of each fork


@pytest.mark.parametrize("name", UNWAITED)
def test_cpu_ms_children_nobody_waits_for_is_complete_or_says_so(inside, name):
    """Where the time of children is in nobody's account, `cpu_ms_complete` is false, or a group counted all of it."""
    response = shape(inside, name, 0.1, 12)
    metrics = response["metrics"]
    assert metrics["cpu_ms_complete"] is False or metrics["cpu_ms"] >= 1200
    assert metrics["cpu_ms"] > 400


def test_cpu_ms_children_are_waited_for_does_not_say_that_it_is_incomplete(inside):
    """A run whose children are all waited for is not said to be incomplete."""
    assert shape(inside, "waited-for", 0.05, 20)["metrics"].get("cpu_ms_complete") is not False


KILLED = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.fork() and os.fork()
last = 0
while True:
    used = int(time.process_time() * 1000)
    if used >= last + 20:
        last = used
        os.write(1, b"%d %d\\n" % (os.getpid(), used))
"""


def test_cpu_ms_processes_are_killed_at_the_end_has_their_time(inside):
    """Of processes that the clock ends while their parent ignores SIGCHLD the time is in the result."""
    response = inside(["python3", "-c", KILLED], timeout_ms=2000)
    used = dict(line.split() for line in response["stdout"].splitlines())
    assert response["metrics"]["cpu_ms"] >= 0.9 * sum(map(int, used.values()))
