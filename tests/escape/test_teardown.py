"""The end of a run is the end of everything in it, however much the payload, or an accident, works against it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from inside import COMMAND, descendants_named, is_alive

import capsule_run
from capsule_run.request.parse import request_from_mapping

DAEMON = """
import os, signal, sys, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
for _ in range(3):
    if os.fork():
        {first}
    os.setsid()
while True:
    time.sleep(60)
# MARK
"""


def test_teardown_ends_daemons_with_the_command(inside):
    """Double-forked, own sessions, every signal ignored: none outlives the direct child (whose status is reported)."""
    mark = f"capsule-mark-{os.getpid()}-a"
    response = inside.python(DAEMON.format(first="os._exit(7)").replace("MARK", mark), timeout_ms=5000)
    assert 7 == response["exit_code"]
    assert [] == descendants_named(mark)


@pytest.mark.limit(240)  # thirty storms, which take all that a busy machine has left
def test_teardown_final_kill_outruns_forks(attack_folder):
    """Thirty kills in the middle of a fork storm: after each, no process of it is left."""
    for _ in range(30):
        request = {"command": ["/attack/attack", "fork-storm"], "timeout_ms": 60}
        binds = [{"source": str(attack_folder), "destination": "/attack"}]
        result = capsule_run.execute(request_from_mapping({**request, "isolation": {"binds": binds}}))
        assert result.status in ("timeout", "killed")  # by the clock, or by the process limit when it is met first
        assert [] == descendants_named("/attack/attack\0fork-storm")


@pytest.mark.parametrize("victim", ["python", "launcher"])
def test_teardown_on_death_of_python_or_launcher_ends_everything(victim):
    """kill -9 of our Python or of the launcher at any moment (60 of them): no process of the run is left."""
    mark = f"capsule-mark-{os.getpid()}-{victim}"
    for attempt in range(60):
        program = subprocess.Popen(
            [*COMMAND, "--", "/bin/sh", "-c", f": {mark}; sleep 60 & sleep 60"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        time.sleep(0.002 * attempt)
        if victim == "python":
            program.kill()
        else:
            for pid in _children(program.pid):
                os.kill(pid, signal.SIGKILL)
        if victim == "launcher" and not program.poll():
            program.kill()
        program.wait()
        end = time.monotonic() + 2
        while (left := [pid for pid in descendants_named(mark) if is_alive(pid)]) and time.monotonic() < end:
            time.sleep(0.001)
        assert [] == left
    # with both of them dead nobody was left to remove their control groups: the next start does
    subprocess.run([*COMMAND, "--", "/bin/true"], stdin=subprocess.DEVNULL, cwd="/", check=True)


FORKING = """
import os, signal, sys, threading
import capsule_run
command = ["/bin/sh", "-c", f": {sys.stdin.readline()}sleep 60"]
threading.Thread(target=capsule_run.run, args=(command,)).start()
sys.stdin.readline()
if os.fork() == 0:
    sys.stdin.readline()
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_teardown_on_killed_caller_with_forked_child_ends_everything():
    """kill -9 of a program that has forked meanwhile: the child's copy of our socket keeps no process of the run alive."""
    mark = f"capsule-mark-{os.getpid()}-forked"
    program = subprocess.Popen(
        [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd="/"
    )
    try:
        program.stdin.write(f"{mark}\n".encode())
        program.stdin.flush()
        assert _within(20, lambda: descendants_named(mark))
        program.stdin.write(b"fork\n")
        program.stdin.flush()
        assert -signal.SIGKILL == program.wait(20)
        assert _within(5, lambda: not descendants_named(mark))
    finally:
        program.stdin.close()  # the child ends with it


EARLY = """
import os, signal, sys
from capsule_run.launcher import Launcher as Core
core = Core()
print(core.pid, flush=True)
if os.fork() == 0:
    sys.stdin.readline()
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_teardown_on_caller_killed_before_its_plan_leaves_no_launcher():
    """kill -9 of a program that started a core and sent it nothing: the core ends, even if others have the socket open."""
    program = subprocess.Popen([sys.executable, "-c", EARLY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
    try:
        core = int(program.stdout.readline())
        assert -signal.SIGKILL == program.wait(20)
        assert _within(5, lambda: not is_alive(core))
    finally:
        program.stdin.close()  # the child ends with it
        program.stdout.close()


def _within(seconds, condition):
    """Whether the condition came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def test_teardown_of_stopped_processes_is_in_time(inside):
    """Processes that stopped themselves (SIGSTOP) do not hold the clock."""
    response = inside(["sh", "-c", "kill -STOP $$"], timeout_ms=300)
    assert "timeout" == response["status"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_teardown_on_signal_ends_a_payload_that_ignores_it(inside_as_caller, number):
    """A payload that ignores SIGTERM and SIGINT ends all the same when the caller is asked to."""
    mark = f"capsule-mark-{os.getpid()}-{number}"
    program = subprocess.Popen(
        [*COMMAND, "--", "/bin/sh", "-c", f"trap '' TERM INT HUP; echo up; sleep 60; : {mark}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
    )  # fmt: skip
    assert b"up\n" == program.stdout.readline()
    program.send_signal(number)
    _out, said = program.communicate(timeout=5)
    assert 128 + number == program.returncode
    assert b"E3007" in said
    assert [] == descendants_named(mark)


def test_teardown_ignores_late_output_of_a_grandchild(inside):
    """What is written after the drain that follows the command's end is nobody's output."""
    began = time.monotonic()
    response = inside(["sh", "-c", "(sleep 40; echo late) & echo early"])
    assert "early\n" == response["stdout"]
    assert time.monotonic() - began < 20  # half of what the grandchild would sleep
