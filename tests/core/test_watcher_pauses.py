"""The watcher where it, or the launcher, gets no processor for a while: a busy host, a frozen container, a paused machine."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from handwritten_plans import Talk, compiled

from capsule_run.model.request import Resources
from capsule_run.result.report import parse_record

PAUSE_SECONDS = 0.6  # beyond every deadline of the watcher and of the launcher
ATTEMPTS = 5  # a crowded machine can really starve any one run
WAITED_FOR = """
import os, time
for _ in range(4):
    if (pid := os.fork()) == 0:
        while time.process_time() < 0.1: pass
        os._exit(0)
    os.waitpid(pid, 0)
"""
# Two processes that have one address space for good: the plain sum is always over the limit, an exact one never.
ONE_SPACE = """
import ctypes, os, time
held = bytearray(b"x") * (45 << 20)
stack = ctypes.create_string_buffer(65536)
libc = ctypes.CDLL(None)
top = ctypes.c_void_p((ctypes.addressof(stack) + 65000) & ~15)
libc.clone(ctypes.cast(libc.sleep, ctypes.c_void_p), top, 0x100 | 17, ctypes.c_void_p(60))  # CLONE_VM
os.write(1, b"ready")
time.sleep(60)
"""


def with_cpu_watch(plan):
    """The payload's steps, with a watch of processor time that starts at once."""
    steps = [step for step in plan.payload if step[0] != "cpu-watch"]
    last = next(index for index, step in enumerate(steps) if step[0] in ("postmortem", "record"))
    return (*steps[:last], ("cpu-watch", "60000", "2"), *steps[last:])


def namespaces_of(pid):
    """In how many pid namespaces a process has an id, or 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return len(status.partition("\nNSpid:")[2].partition("\n")[0].split())


def children_of(pid):
    """The children of a process that live in its own pid namespace: of the launcher the watcher, without init."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if namespaces_of(child) == namespaces_of("self")]


def state_of(pid):
    """The letter of a process's state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def untracked_after_a_pause(core):
    """Whether the launcher has replaced the watcher when both were stopped, and the launcher went on first."""
    plan = compiled("sh", "-c", "echo ready; sleep 2")
    with Talk(core) as talk:
        talk.room(plan.room)
        talk.piped(with_cpu_watch(plan))
        assert b"ready\n" == talk.heard()
        (watcher,) = children_of(talk.pid)
        for pid in (talk.pid, watcher):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(PAUSE_SECONDS)
        os.kill(talk.pid, signal.SIGCONT)
        time.sleep(0.05)  # until the launcher has checked
        os.kill(watcher, signal.SIGCONT)
        assert 0 == talk.report().exited
        return parse_record(talk.content(talk.record)).sampled_cpu.untracked


def test_watcher_paused_with_the_launcher_is_not_replaced(core_path):
    """Where both were paused, the watcher goes on with what it knows, and the result does not say that it is incomplete."""
    assert 0 in (untracked_after_a_pause(core_path) for _ in range(ATTEMPTS))


def stop_while_sampling(launcher):
    """Stop the launcher, its watcher and the child that takes an exact sample for that; return the latter two.

    Where the machine itself is late, the launcher replaces its watcher meanwhile: then the next one is tried.
    """
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with suppress(ProcessLookupError, ValueError):  # replaced, or there is none at the moment
            (watcher,) = children_of(launcher)
            os.kill(watcher, signal.SIGSTOP)
            for sampler in children_of(watcher):
                os.kill(sampler, signal.SIGSTOP)
                if state_of(sampler) != "Z":
                    os.kill(launcher, signal.SIGSTOP)
                    return watcher, sampler
            os.kill(watcher, signal.SIGCONT)
        time.sleep(0.001)
    raise AssertionError("no exact sample")


def test_memory_shared_by_two_processes_is_within_the_limit_after_a_pause(core_path):
    """While everything was paused, nobody was late: the sum that counts shared memory twice does not end the run."""
    plan = compiled("python3", "-c", ONE_SPACE, resources=Resources(memory_bytes=64 << 20))
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.piped(plan.payload)
        assert b"ready" == talk.heard()
        for _ in range(3):
            stopped = stop_while_sampling(talk.pid)
            time.sleep(PAUSE_SECONDS)
            for pid in (*stopped, talk.pid):
                with suppress(ProcessLookupError):  # the launcher had given the watcher up before it was stopped
                    os.kill(pid, signal.SIGCONT)
            time.sleep(0.05)  # in which it takes more samples
        talk.core.send("kill", ())
        assert "caller" == talk.report().killed


@pytest.mark.needs("strace")
def test_cpu_time_of_a_room_that_is_gone_is_counted_once(core_path, tmp_path):
    """What init has waited for is not taken for lost when samples find neither it nor anybody else."""
    wrapper = tmp_path / "core"
    (tmp_path / "capsule-core").symlink_to(core_path)  # the core looks at the name that it is called by
    late = "-e trace=wait4 -e inject=wait4:delay_exit=300000"  # init is reaped, and its launcher goes on after some samples
    wrapper.write_text(
        f"#!/bin/sh\nPATH={tmp_path} exec {shutil.which('strace')} -qq -o /dev/null {late} capsule-core\n"
    )
    wrapper.chmod(0o755)
    plan = compiled("python3", "-c", WAITED_FOR)
    with Talk(str(wrapper)) as talk:
        talk.room(plan.room)
        talk.payload(with_cpu_watch(plan))
        assert 0 == talk.report().exited
        sampled = parse_record(talk.content(talk.record)).sampled_cpu
    assert (0, 0) == (sampled.lost_us, sampled.untracked)
