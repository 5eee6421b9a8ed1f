"""Whichever process dies, and whenever: nothing remains."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from handwritten_plans import Talk, compiled

import capsule_run
import leftovers
from capsule_run.cgroup import create, discover
from capsule_run.result.report import parse_report

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

# A tree that detaches itself, ignores what can be ignored, writes all the time and holds its streams.
TREE = "trap '' TERM INT HUP; (setsid sh -c 'yes & yes >&2 & sleep 1000' &); sleep 1000 & yes & wait"
LIMIT_SECONDS = 20  # far beyond what an end takes on any machine: what is not gone then, stays

CALLER = """
import os, sys, threading
sys.path[:0] = {path!r}
from capsule_run.model.request import Request, Resources
from capsule_run.engine.execute import execute
def forever():
    while True:
        execute(Request(command=("sh", "-c", {tree!r}), timeout_ms=20, on_output_limit="truncate"), core_path={core!r})
for _ in range(2):
    threading.Thread(target=forever).start()
os.write(1, b"x")
"""


def child_of(pid):
    """The process that the launcher made, or 0 while there is none."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    except (OSError, IndexError):
        return 0


def wait_for_nobody():
    """Wait until this process (which orphans come back to) has no child at all; its time in seconds."""
    began = time.monotonic()
    timer = threading.Timer(LIMIT_SECONDS, os.kill, (os.getpid(), signal.SIGALRM))
    timer.start()
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return time.monotonic() - began
    finally:
        timer.cancel()
        timer.join()


def pause(seconds):
    """A random moment: nothing to wait for, which is the point."""
    select.select([], [], [], seconds)


def measured(record_property, times):
    times = sorted(times)
    record_property("median_ms", round(times[len(times) // 2] * 1000, 2))
    record_property("max_ms", round(times[-1] * 1000, 2))


@pytest.mark.parametrize("part", range(5))
def test_caller_killed_ends_every_sandbox(core_path, part, record_property):
    """kill -9 of a Python process that runs sandboxes in two threads, at a random moment: all of them end (20 rounds)."""
    path = [str(Path(capsule_run.__file__).parent.parent)]
    script = CALLER.format(path=path, tree=TREE, core=str(core_path))
    chance, times = random.Random(f"caller {part}"), []
    for _ in range(20):
        read_end, write_end = os.pipe()
        caller = subprocess.Popen([sys.executable, "-I", "-S", "-c", script], stdout=write_end)
        os.close(write_end)
        try:
            assert b"x" == os.read(read_end, 1)
            pause(chance.uniform(0, 0.05))
        finally:
            caller.kill()
            os.close(read_end)
        caller.wait()
        times.append(wait_for_nobody())
    measured(record_property, times)
    assert [] == leftovers_of_processes()
    # one that was killed between making a group and telling the core of it leaves the group for the next start
    for place in discover.find().places:
        create.sweep(place.path)


def leftovers_of_processes():
    return list(leftovers.processes())


def begin(core_path, plan, chance):
    """A core with both halves sent, at a random moment of its life."""
    talk = Talk(core_path)
    talk.room(plan.room)
    if chance.random() < 0.9:
        talk.payload(plan.payload)
    pause(chance.choice([0, chance.uniform(0, 0.001), chance.uniform(0, 0.004), chance.uniform(0, 0.03)]))
    return talk


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("victim", ["launcher", "init", "socket"])
def test_launcher_or_init_killed_ends_everything(core_path, victim, part, record_property):
    """kill -9 of launcher or init, or letting go of the socket, at a random moment: everything ends (25 rounds).

    On a crowded machine there may be no init yet in any of them: then more, until one has been there.
    """
    plan = compiled("sh", "-c", TREE, on_output_limit="truncate")
    chance, times = random.Random(f"{victim} {part}"), []
    for number in range(500):
        if number >= 25 and times:
            break
        talk = begin(core_path, plan, chance)
        init = child_of(talk.pid)
        watched = os.pidfd_open(init) if init else -1
        began = time.monotonic()
        try:
            if victim == "init" and init:
                os.kill(init, signal.SIGKILL)
            elif victim == "launcher":
                os.kill(talk.pid, signal.SIGKILL)
            else:
                talk.core._socket.close()
            if watched >= 0:
                # readable when process 1 is gone, which is when the kernel has ended its whole namespace
                assert select.select([watched], [], [], LIMIT_SECONDS)[0], "the namespace is still there"
                times.append(time.monotonic() - began)
            if victim == "init" and init:
                report = parse_report(talk.core.receive())
                # it may be missed by the very step that writes its id maps
                step = plan.room[report.failed.step][0] if report.failed and report.failed.half == "room" else ""
                assert report.killed == "lost" or step in ("gid-map", "uid-map", "oom-score-adj", "idmap"), report
        finally:
            if watched >= 0:
                os.close(watched)
            talk.__exit__()
        wait_for_nobody()
    measured(record_property, times)
    assert [] == leftovers_of_processes()


def test_launcher_stopped_then_killed_ends_everything(core_path):
    """A launcher that is stopped and then killed ends its sandbox like one that is killed at once."""
    plan = compiled("sh", "-c", "echo ready; " + TREE, on_output_limit="truncate")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.piped(plan.payload)
        assert talk.heard().startswith(b"ready\n")
        while not (child := child_of(talk.pid)):  # proc(5): the list is exact only while nobody in it comes or goes
            pause(0.001)
        init = os.pidfd_open(child)
        try:
            os.kill(talk.pid, signal.SIGSTOP)
            os.kill(talk.pid, signal.SIGKILL)
            assert select.select([init], [], [], LIMIT_SECONDS)[0]
        finally:
            os.close(init)


def test_room_waiting_ends_with_its_owner(core_path):
    """A waiting room ends with its owner as a running one does."""
    plan = compiled("true")
    talks = [Talk(core_path) for _ in range(8)]
    for talk in talks:
        talk.room((*plan.room, ("offer", "/workspace")))
    for talk in talks:
        os.close(talk.receive()[1][0])
    inits = [os.pidfd_open(child_of(talk.pid)) for talk in talks]
    try:
        for talk, init in zip(talks, inits, strict=True):
            talk.__exit__()
            assert select.select([init], [], [], LIMIT_SECONDS)[0]
    finally:
        for init in inits:
            os.close(init)


def test_offered_directory_held_keeps_no_process_alive(core_path):
    """A descriptor of the workspace that Python still holds does not hold the processes."""
    plan = compiled("sleep", "1000")
    with Talk(core_path) as talk:
        talk.room((*plan.room, ("offer", "/workspace")))
        _message, (directory,) = talk.receive()
        talk.payload(plan.payload)
        assert 0 == talk.close()
        wait_for_nobody()
        os.close(directory)
