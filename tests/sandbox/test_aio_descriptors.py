"""Many runs on a loop whose process may have few descriptors: they wait for each other, and none is lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from capsule_run.aio import admission

pytestmark = pytest.mark.sandbox

# A launcher has the same limit, and needs some 80 itself: no limit here is lower where runs are to succeed.
# Options: the limit of open files, runs, descriptors of the program itself, threads with a loop each.
PROGRAM = """
import asyncio, json, os, resource, sys, threading
from capsule_run import aio

limit, runs, taken, threads = map(int, sys.argv[1:5])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
own = [os.open("/", os.O_PATH) for _ in range(taken)]
for fd in own[::2] if "holes" in sys.argv else ():
    os.close(fd)
started, answers = [], []


async def one(number):
    result = await aio.run(["echo", str(number)])
    started.append((result.started_at, number))
    return result.stdout if result.ok else (result.error.code, result.error.hint)


async def main():
    return await asyncio.gather(*(one(number) for number in range(runs)))


def work():
    answers.extend(asyncio.run(main()))


workers = [threading.Thread(target=work) for _ in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
order = [number for _at, number in sorted(started)]
print(json.dumps({"answers": answers, "left": len(os.listdir("/proc/self/fd")), "order": order}))
"""


def with_limit(limit, runs, *, taken=0, threads=1, holes=False):
    argv = [sys.executable, "-c", PROGRAM, *map(str, (limit, runs, taken, threads)), *(["holes"] if holes else [])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ("", 0) == (done.stderr, done.returncode)
    return json.loads(done.stdout)


def expected(runs):
    return [f"{number}\n" for number in range(runs)]


@pytest.mark.slow
def test_aio_thousand_runs_with_256_descriptors_are_all_answered():
    """1,000 concurrent runs on one loop that may have 256 descriptors: each has its own output."""
    assert expected(1000) == with_limit(256, 1000)["answers"]


def test_aio_runs_wait_if_the_program_holds_descriptors():
    """What the program has open itself, with free numbers between, leaves descriptors for a few runs at a time."""
    assert expected(40) == with_limit(256, 40, taken=200)["answers"]
    assert expected(40) == with_limit(128, 40, taken=118, holes=True)["answers"]


def test_aio_runs_start_in_the_order_of_arrival():
    """Runs that wait are started first in, first out."""
    order = with_limit(128, 60, taken=50)["order"]
    assert sorted(order) == [*range(60)]
    assert max(abs(place - number) for place, number in enumerate(order)) < 30


def test_aio_run_without_descriptors_and_without_others_is_the_clear_error():
    """With nothing to wait for, the error names the number of descriptors that a run needs."""
    found = with_limit(64, 3, taken=55)["answers"]
    assert 3 == len(found)
    for code, hint in found:
        assert ("E6003", True) == (code, "ulimit -n" in hint)


def test_aio_runs_of_two_loops_share_the_descriptors():
    """A loop without a run of its own waits for those of another loop."""
    answers = with_limit(128, 30, taken=70, threads=2)["answers"]
    assert sorted(expected(30) * 2) == sorted(answers)


def test_aio_run_whose_start_failed_passes_its_turn_on(monkeypatch):
    """A run that gives up, since no other is active, wakes the next one that waits."""
    monkeypatch.setattr(admission, "_has_descriptors", lambda: False)

    async def main():
        loop = asyncio.get_running_loop()
        first, second = admission.Admission(loop), admission.Admission(loop)
        await first.enter()
        waiting = asyncio.ensure_future(second.enter())
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert not await first.retry()
        await waiting
        second.leave()

    asyncio.run(main())


def test_aio_cancelled_run_passes_its_turn_on(monkeypatch):
    """A run that is cancelled when it has just been woken wakes the next one."""
    monkeypatch.setattr(admission, "_has_descriptors", lambda: False)

    async def main():
        loop = asyncio.get_running_loop()
        runs = [admission.Admission(loop) for _ in range(3)]
        await runs[0].enter()
        second, third = (asyncio.ensure_future(run.enter()) for run in runs[1:])
        await asyncio.sleep(0.01)
        runs[0].leave()
        second.cancel()
        await third
        assert second.cancelled()
        runs[2].leave()

    asyncio.run(main())
