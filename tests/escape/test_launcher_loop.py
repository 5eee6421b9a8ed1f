"""A payload that makes readers of its /proc files wait: the clock, the caps, the kill and the memory limit keep their time."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from inside import COMMAND, Inside, code_of

MIB = 1 << 20
CLOCK_MS = 2000
LATE_MS = 1000  # stalls that were seen are many times that; a busy machine is not
LOADS = {
    "one memory of many mappings in many processes": ["mapped", "/attack/large", "60", "28"],
    "page tables that are moved all the time": ["moved", "40", "512"],
    "a thousand threads": ["threads", "1000"],
    "programs that are executed all the time": ["executing", "40"],
    "large page tables that are taken down all the time": ["dying", "/attack/large", "10", "10"],
}
OPTIONS = {"plain": (), "ledger": ("--ledger",), "cpu time": ("--cpu-time", "100000")}


def _fields(attack_folder, **fields):
    bind = {"source": str(attack_folder), "destination": "/attack"}
    limits = {"memory_bytes": 256 * MIB, "max_pids": 1100}
    return {"timeout_ms": CLOCK_MS, "resources": limits, "isolation": {"binds": [bind]}, **fields}


def _last_tick(stdout):
    """When everything was killed, in ms from its beginning: the last of the moments that a process of its own printed."""
    return int(stdout.split()[-1])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("load", LOADS)
def test_launcher_clock_is_kept_under_any_procfs_load(inside, attack_folder, load, options):
    """mmap_lock held, page walks of seconds, a thousand threads, execs under way: the clock ends all of it at its time, with a
    ledger and a watch of processor time, too.
    """
    response = inside(
        ["/attack/stall", *LOADS[load]], options=OPTIONS[options], **_fields(attack_folder, on_output_limit="truncate")
    )
    assert code_of(response) in ("E3006", "E4001"), response
    assert _last_tick(response["stdout"]) < CLOCK_MS + LATE_MS


@pytest.mark.parametrize("load", LOADS)
def test_launcher_kill_is_not_delayed_under_load(as_user, attack_folder, load):
    """SIGTERM to the command ends the run at once under every such load."""
    words = [*COMMAND, "--no-workspace", "--memory", "256M", "--max-pids", "1100", "--bind", f"{attack_folder}:/attack"]
    identity = {"user": as_user.uid, "extra_groups": []} if os.geteuid() != as_user.uid else {}
    run = subprocess.Popen(
        [*words, "--", "/attack/stall", *LOADS[load]], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd="/", env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"}, **identity,
    )  # fmt: skip
    tick = 0
    while tick < 1000:
        tick = int(run.stdout.readline())
    began = time.monotonic()
    run.send_signal(signal.SIGTERM)
    rest, _err = run.communicate(timeout=60)
    assert _last_tick(rest or str(tick)) < tick + LATE_MS, time.monotonic() - began


@pytest.mark.parametrize("load", LOADS)
def test_launcher_output_limit_holds_under_load(inside, attack_folder, load):
    """A stream that passes its cap ends the run then, and not when some reader is done."""
    code = f"/attack/stall {' '.join(LOADS[load])} > /dev/null 2>&1 & sleep 1; head -c 2000000 /dev/zero; sleep 60"
    fields = _fields(attack_folder, timeout_ms=20_000)
    response = inside(["sh", "-c", code], **fields)
    assert code_of(response) in ("E4003", "E4001"), response
    assert response["metrics"]["wall_ms"] < 15_000


@pytest.mark.parametrize(
    "load", [LOADS["one memory of many mappings in many processes"], ["moved", "8", "512"]], ids=["mapped", "moved"]
)
def test_launcher_memory_limit_holds_under_load(as_user, attack_folder, load):
    """While exact samples wait, a process beside that takes all it can get is ended before it has twice the limit."""
    response = Inside(as_user)(
        ["/attack/stall", *load, "1000"], **_fields(attack_folder, timeout_ms=30_000, on_output_limit="truncate")
    )
    assert "E4001" == code_of(response), response
    assert response["stderr"].count(".") < 512


def test_memory_shared_after_fork_counts_once(as_user):
    """Twenty children that share 40 MiB, and a program that forks all the time, are not ended by a limit of 64 MiB."""
    code = """
import os, time
held = bytearray(b"x") * (40 << 20)
for _ in range(20):
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)
until = time.monotonic() + 2
while time.monotonic() < until:
    if os.fork() == 0:
        os._exit(0)
    os.wait()
"""
    response = Inside(as_user).python(code, resources={"memory_bytes": 64 * MIB})
    assert "success" == response["status"], response
    assert response["metrics"]["max_memory_bytes"] <= 64 * MIB
