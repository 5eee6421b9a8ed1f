"""Runs beside an event loop."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time

import pytest

from capsule_run import CapsuleError, Request
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
