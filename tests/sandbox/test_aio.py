"""Runs on an event loop: they wait there, and end with their task or their loop."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from capsule_run import CapsuleError, Request, aio
from capsule_run.aio import execute

pytestmark = pytest.mark.sandbox


def test_aio_run_does_not_block_the_loop():
    """While one coroutine waits for its run, others run."""

    async def main():
        ticks = 0
        run = asyncio.ensure_future(execute(Request(command=("sleep", "0.3"))))
        while not run.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, await run

    ticks, result = asyncio.run(main())
    assert result.ok
    assert ticks > 1


def test_aio_runs_are_concurrent():
    """As many runs as are awaited are under way together, more than an executor has threads."""

    async def main():
        return await asyncio.gather(*(execute(Request(command=("sh", "-c", f"echo {n}"))) for n in range(40)))

    assert [f"{n}\n" for n in range(40)] == [result.stdout for result in asyncio.run(main())]


@pytest.mark.parametrize("pause", [0, 0.5])
def test_aio_cancelled_run_ends_the_sandbox(pause):
    """When CancelledError arrives the run is over: early, before it started, and while it runs."""

    async def main():
        run = asyncio.ensure_future(execute(Request(command=("sleep", "47.11"))))
        await asyncio.sleep(pause)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert 1 == threading.active_count()
    assert (
        "sleep 47.11"
        not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout
    )


def test_aio_timeout_of_the_loop_ends_the_sandbox():
    """`asyncio.timeout` works like any other cancellation."""

    async def main():
        async with asyncio.timeout(0.3):
            await execute(Request(command=("sleep", "60")))

    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert time.monotonic() - begun < 30


def test_aio_invalid_request_raises():
    """A wrong request is an exception here as everywhere in the SDK."""
    with pytest.raises(CapsuleError, match="E1"):
        asyncio.run(execute(Request(command=())))


def test_aio_run_takes_no_thread():
    """Runs that name no files of the host are waited for on the loop itself."""

    async def main():
        runs = [asyncio.ensure_future(execute(Request(command=("cat",), stdin=b"x"))) for _ in range(8)]
        seen = set()
        while not all(run.done() for run in runs):
            seen.add(threading.active_count())
            await asyncio.sleep(0)
        return seen, [run.result().stdout for run in runs]

    assert ({1}, ["x"] * 8) == asyncio.run(main())


def test_aio_run_with_files_of_the_host_does_not_block_the_loop(tmp_path):
    """Steps that read or write files of the host are done in a thread: large input, changes that are applied."""
    (tmp_path / "big").write_bytes(b"x" * (8 << 20))

    async def main():
        workspace = {"source": str(tmp_path), "mode": "cow"}
        run = asyncio.ensure_future(
            aio.run(["cp", "in", "out"], workspace=workspace, files={"in": {"source": str(tmp_path / "big")}},
                    apply_changes=True)
        )  # fmt: skip
        names = set()
        while not run.done():
            names |= {thread.name for thread in threading.enumerate()}
            await asyncio.sleep(0)
        return names, await run

    names, result = asyncio.run(main())
    assert result.ok, result
    assert {"MainThread", "capsule-run"} == names
    assert 8 << 20 == (tmp_path / "out").stat().st_size


STORM = (
    {},
    {"files": {"input": "x" * 200_000}, "changes": True},
    {"collect": ["*"], "stdin": "x"},
)


@pytest.mark.slow
def test_aio_storm_of_cancellations_leaves_nothing():
    """200 runs that are cancelled at random times, some of them twice, each raise CancelledError, after their sandbox."""
    dice = random.Random(17)

    async def cancelled(number):
        run = asyncio.ensure_future(aio.run(["sleep", "47.11"], **STORM[number % len(STORM)]))
        await asyncio.sleep(dice.random() * 2)
        run.cancel()
        if number % 2:
            await asyncio.sleep(dice.random() * 0.02)
            run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    async def main():
        await asyncio.gather(*(cancelled(number) for number in range(200)))
        assert [] == sandboxes()
        return await aio.run(["true"])

    assert asyncio.run(main()).ok


def sandboxes():
    """The launchers that this process has not reaped."""
    own = str(os.getpid())
    seen = subprocess.run(["ps", "-e", "-o", "ppid=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in seen.splitlines() if line.split()[0] == own and "capsule" in line]


def started(loop, **options):
    """A task whose command runs."""
    begun = loop.create_future()
    task = loop.create_task(aio.run(["sleep", "47.11"], **options))

    async def main():
        while not sandboxes():
            await asyncio.sleep(0.01)
        begun.set_result(None)

    loop.run_until_complete(main())
    return task


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_aio_loop_closed_while_a_run_is_pending_ends_the_sandbox():
    """Closing the loop ends its sandboxes, also while somebody still holds the task."""
    loop = asyncio.new_event_loop()
    task = started(loop)
    loop.close()
    assert ([], False) == (sandboxes(), task.done())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_aio_task_and_loop_that_are_forgotten_end_the_sandbox():
    """Garbage collection ends a sandbox whose loop was stopped and dropped."""
    loop = asyncio.new_event_loop()
    task = started(loop)
    assert 1 == len(sandboxes())
    del loop, task
    gc.collect()
    assert [] == sandboxes()


def test_aio_loop_stopped_and_started_again_finishes_its_runs():
    """A run survives a pause of its loop, with its result."""
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(aio.run(["sh", "-c", "sleep 0.2; echo done"]))
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        assert not task.done()
        assert "done\n" == loop.run_until_complete(task).stdout
    finally:
        loop.close()


def test_aio_keyboard_interrupt_ends_the_sandbox():
    """KeyboardInterrupt out of a callback passes through `asyncio.run`, and no sandbox is left."""

    async def main():
        run = asyncio.ensure_future(aio.run(["sleep", "47.11"]))
        while not sandboxes():
            await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        await run

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert [] == sandboxes()


def test_aio_runs_beside_processes_of_the_program():
    """Child watchers and SIGCHLD handlers see the program's own children, and no run takes one away."""
    signals = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, signals.append, 1)
        child = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.1; exit 7")
        results = await asyncio.gather(*(aio.run(["sh", "-c", f"exit {n}"]) for n in range(10)))
        loop.remove_signal_handler(signal.SIGCHLD)
        return [result.exit_code for result in results], await child.wait()

    assert ([*range(10)], 7) == asyncio.run(main())
    assert signals


def test_aio_runs_on_two_loops_in_two_threads():
    """Each thread may have a loop with runs of its own."""

    def work(name):
        async def main():
            return await asyncio.gather(*(aio.run(["echo", f"{name}{n}"]) for n in range(20)))

        return [result.stdout for result in asyncio.run(main())]

    with ThreadPoolExecutor(2) as pool:
        assert [[f"{name}{n}\n" for n in range(20)] for name in "ab"] == list(pool.map(work, "ab"))
