"""Process 1 of the sandbox is ours: the payload can neither read, write, drive, stop, slow nor blind it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from inside import code_of

import capsule_run

UNREADABLE = ("exe", "cwd", "root", "fd", "environ", "mem", "maps", "map_files", "auxv", "stack", "syscall", "io", "ns")


@pytest.mark.parametrize("name", UNREADABLE)
def test_process_1_cannot_be_read(inside, name):
    """/proc/1/{exe,cwd,root,fd,environ,mem,…} answer "permission denied" (CVE-2016-10122, CVE-2024-21626)."""
    code = f"""
import os
path = "/proc/1/{name}"
for attempt in (lambda: os.listdir(path), lambda: os.read(os.open(path, os.O_RDONLY), 1), lambda: os.readlink(path)):
    try:
        print("read", attempt())
    except PermissionError:
        print("denied")
    except OSError as error:
        print(error.strerror)
"""
    seen = inside.python_says(code).splitlines()
    assert "denied" in seen
    assert not [line for line in seen if line.startswith("read")]


def test_process_1_arguments_name_nothing_of_the_host(inside):
    """/proc/1/cmdline is one word, and says nothing of the caller."""
    assert "capsule-core\0" == inside.python_says("print(open('/proc/1/cmdline').read())")


def test_process_1_ignores_every_signal(inside):
    """No signal, SIGKILL and SIGSTOP among them, does anything to process 1: the run goes on."""
    code = """
import os, subprocess
for number in range(1, 65):
    try:
        os.kill(1, number)
    except OSError:
        pass
print(subprocess.run(["echo", "reaped"], capture_output=True, text=True).stdout, end="")
print([line.split()[1] for line in open("/proc/1/status") if line.startswith("State")][0])
"""
    assert ["reaped", "S"] == inside.python_says(code).splitlines()


def test_process_1_survives_kill_of_everything(inside):
    """kill(-1, SIGKILL) ends the payload's own processes and leaves process 1, which reports."""
    code = """
import os, signal, subprocess
child = subprocess.Popen(["sleep", "100"])
os.kill(-1, signal.SIGKILL)
print(child.wait())
"""
    assert "-9" == inside.python_says(code)


@pytest.mark.parametrize("limit", ["NOFILE", "CPU", "FSIZE", "DATA", "AS", "NPROC", "CORE"])
def test_process_1_limits_cannot_be_set(inside, limit):
    """prlimit(2) on process 1, which has the payload's own host id, is refused: it would blind or end it."""
    code = f"""
import resource
try:
    resource.prlimit(1, resource.RLIMIT_{limit}, (6, 6))
    print("set")
except PermissionError:
    print("denied")
"""
    assert "denied" == inside.python_says(code)


@pytest.mark.parametrize("which", ["PRIO_PROCESS, 1", "PRIO_USER, 0", "PRIO_PGRP, 1"])
def test_process_1_priority_cannot_be_lowered(inside, which):
    """setpriority(2) does not make process 1, which watches the memory, less urgent."""
    code = f"""
import os
try:
    os.setpriority(os.{which}, 19)
except OSError:
    pass
print(os.getpriority(os.PRIO_PROCESS, 1))
"""
    assert "0" == inside.python_says(code)


def test_process_1_attack_does_not_pose_as_a_host_failure(inside):
    """Whatever the payload does to process 1, the run's end is its own, never E6002 "ended from outside"."""
    code = """
import os, resource, signal
for number in (1, 2, 6, 9, 11, 15, 31):
    try:
        os.kill(1, number)
    except OSError:
        pass
for limit in range(16):
    try:
        resource.prlimit(1, limit, (0, 0))
    except OSError:
        pass
"""
    response = inside.python(code)
    assert ("success", "") == (response["status"], code_of(response))


def test_process_1_survives_children_with_a_deadly_exit_signal(inside):
    """An orphan whose exit signal is SIGKILL is given SIGCHLD for its new parent (the kernel's old "slaying init")."""
    code = """
import ctypes, os, time
libc = ctypes.CDLL(None)
if os.fork() == 0:
    if libc.syscall(56, 9, 0, 0, 0, 0) == 0:  # clone(SIGKILL as the exit signal)
        time.sleep(0.05)
        os._exit(0)
    os._exit(0)
os.wait()
time.sleep(0.1)
print("alive", flush=True)
"""
    response = inside.python(code)
    assert ("success", "alive\n") == (response["status"], response["stdout"])


def test_core_cannot_be_overwritten(inside):
    """CVE-2019-5736: the launcher's file is the same after an attack on /proc/1/exe and /proc/self/exe."""
    core = Path(capsule_run.__file__).parent / "_core"
    before = hashlib.sha256(core.read_bytes()).digest()
    code = """
import os
for path in ("/proc/1/exe", "/proc/self/exe", "/proc/thread-self/exe", "/usr/bin/python3", "/usr/bin/env"):
    for flags in (os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
        try:
            os.write(os.open(path, flags), b"#!/bin/sh")
            print(path, "written")
        except OSError:
            pass
"""
    assert "" == inside.python_says(code)
    assert before == hashlib.sha256(core.read_bytes()).digest()


def test_status_pipe_of_process_1_is_out_of_reach(inside):
    """Nothing that the payload finds in its own descriptors leads to process 1: no report can be forged."""
    code = """
import os
for fd in range(3, 1024):
    try:
        os.write(fd, bytes(12))
        print("wrote to", fd)
    except OSError:
        pass
"""
    assert "" == inside.python_says(code)
