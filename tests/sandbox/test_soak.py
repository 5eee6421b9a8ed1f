"""Many pooled runs, cold runs and living sandboxes with random ends: no result is lost or doubled, and nothing grows.

A short pass by default; `CAPSULE_SOAK=100` makes it a hundred times as long (20,000 pooled and 3,000 cold runs, 500 sandboxes,
3,000 runs of an event loop of which a third is cancelled, 100 owners that are killed).
What is left behind is looked for after the test, as after every other.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import capsule_run
from capsule_run import aio

FACTOR = int(os.environ.get("CAPSULE_SOAK", "1"))
POOLED, COLD, SANDBOXES, ASYNC, OWNERS = 200 * FACTOR, 30 * FACTOR, 5 * FACTOR, 30 * FACTOR, FACTOR
THREADS = 4
# What is run, its time limit, and the code of its error; None is a success that prints the number of the run.
ENDS = [
    ("echo {}", None, None),
    ("echo {}; sleep 60", 60, "E3006"),
    ("exit 7", None, "E3003"),
    ("kill -SEGV $$", None, "E3005"),
    ("yes", None, "E4003"),
    ("(setsid sleep 60 &) ; echo {}", None, None),
    ("i=0; while [ $i -lt 20 ]; do sleep 60 & i=$((i+1)); done; echo {}", None, None),
]


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def in_threads(count, run):
    """Call `run` with each number once, from several threads, and return what it returned by number."""
    numbers, answers, lock = iter(range(count)), {}, threading.Lock()

    def work():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            answer = run(number)
            with lock:
                assert number not in answers
                answers[number] = answer

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def outcome(result):
    return result.error.code if result.error else result.stdout


def check(count, run):
    chooser = random.Random(count)
    plan = [chooser.choice(ENDS) for _ in range(count)]

    def one(number):
        command, timeout_ms, _code = plan[number]
        return outcome(run(command.format(number), timeout_ms))

    answers = in_threads(count, one)
    assert {number: code or f"{number}\n" for number, (_, _, code) in enumerate(plan)} == answers


def resident_kib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 10


@pytest.mark.slow
@pytest.mark.limit(120 * FACTOR)
def test_soak_of_pooled_runs():
    """Every run is answered once with its own result, and this process does not grow."""
    with capsule_run.Pool(size=4, max_output=10_000) as pool:
        check(20, lambda command, timeout_ms: pool.run(command, timeout_ms=timeout_ms))
        before, memory = descriptors(), resident_kib()
        check(POOLED, lambda command, timeout_ms: pool.run(command, timeout_ms=timeout_ms))
        assert pool.wait_ready(60)
        assert abs(descriptors() - before) <= 40  # a pool that is full has as many each time, but for those under way
        assert resident_kib() - memory < 16 << 10


@pytest.mark.slow
@pytest.mark.limit(120 * FACTOR)
def test_soak_of_cold_runs():
    """The same without a pool."""

    def run(command, timeout_ms):
        return capsule_run.run(["sh", "-c", command], timeout_ms=timeout_ms, max_output=10_000)

    before = descriptors()
    check(COLD, run)
    assert before == descriptors()


@pytest.mark.slow
@pytest.mark.limit(120 * FACTOR)
def test_soak_of_living_sandboxes():
    """Sandboxes that end in the middle of their commands: each command has one result, and each sandbox leaves nothing."""
    before, chooser = descriptors(), random.Random(1)
    ways = [chooser.choice(["close", "kill", "lease", "forget"]) for _ in range(SANDBOXES)]

    def live(number):
        box = capsule_run.Sandbox(lease_ms=60_000, max_output=10_000)
        processes = [box.start(f"echo {number}; sleep 60") for _ in range(3)]
        answer = outcome(box.run(f"echo {number}"))
        if ways[number] == "kill":
            processes[0].kill()
        if ways[number] == "lease":
            box.set_timeout(1)
            processes[1].result()
        if ways[number] != "forget":
            box.close()
            return answer, {process.result().error.code for process in processes} <= {"E3007", "E3010"}
        return answer, True

    assert {number: (f"{number}\n", True) for number in range(SANDBOXES)} == in_threads(SANDBOXES, live)
    assert before == descriptors()


@pytest.mark.slow
@pytest.mark.limit(120 * FACTOR)
def test_soak_of_cancelled_tasks():
    """Of many runs on one event loop some are cancelled at any time: these are, and each of the others has its own result."""
    before, chooser = descriptors(), random.Random(2)
    plan = [chooser.choice([None, None, 0.0, 0.02, 0.1]) for _ in range(ASYNC)]

    async def one(number, most):
        async with most:
            seconds = 0 if plan[number] is None else 60
            task = asyncio.ensure_future(aio.run(["sh", "-c", f"echo {number}; exec sleep {seconds}"]))
            if plan[number] is not None:
                asyncio.get_running_loop().call_later(plan[number], task.cancel)
            try:
                return outcome(await task)
            except asyncio.CancelledError:
                return None

    async def every():
        most = asyncio.Semaphore(8)
        return await asyncio.gather(*(one(number, most) for number in range(ASYNC)))

    expected = [f"{number}\n" if when is None else None for number, when in enumerate(plan)]
    assert expected == asyncio.run(every())
    assert before == descriptors()


OWNER = """
import capsule_run, sys, threading
pool, box = capsule_run.Pool(size=2), capsule_run.Sandbox()
box.start("(setsid sleep 60 &); sleep 60")
threading.Thread(target=pool.run, args=("sleep 60 & sleep 60",), daemon=True).start()
print(1, flush=True)
while True:
    pool.run("true")
"""


@pytest.mark.slow
@pytest.mark.limit(120 * FACTOR)
def test_soak_of_killed_owners():
    """SIGKILL, at any time: nothing is left, but for cgroups without a process, which the next start of a program sweeps."""
    chooser = random.Random(3)
    for _ in range(OWNERS):
        owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE)
        assert b"1\n" == owner.stdout.readline()
        try:
            owner.wait(chooser.uniform(0, 0.3))
        except subprocess.TimeoutExpired:
            owner.send_signal(signal.SIGKILL)
        owner.communicate()
        assert -signal.SIGKILL == owner.returncode
    subprocess.run([sys.executable, "-c", "import capsule_run; capsule_run.run(['true'])"], check=True)
