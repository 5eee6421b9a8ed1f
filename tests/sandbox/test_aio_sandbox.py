"""`aio.Sandbox`: commands, processes, cells and files of one sandbox on an event loop."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import time

import pytest

import capsule_run
from capsule_run import CapsuleError, aio
from capsule_run.aio import process as aio_process
from capsule_run.sandbox.streams import Grace

pytestmark = pytest.mark.sandbox


def in_a_sandbox(**options):
    """Run a coroutine function with a sandbox of its own."""

    def decorate(function):
        @functools.wraps(function)
        def test():
            async def main():
                async with aio.Sandbox(**options) as box:
                    await function(box)

            asyncio.run(main())

        del test.__wrapped__  # pytest would ask for a fixture `box`
        return test

    return decorate


@in_a_sandbox()
async def test_aio_sandbox_keeps_files_between_commands(box):
    """As the blocking one: files stay, a string is for the shell, a result is a judge's."""
    assert (await box.run("echo a > file")).ok
    assert "a\n" == (await box.run(["cat", "file"])).stdout
    assert "a\n" == await box.files.read("file")
    assert ("E3003", "E3006") == (
        (await box.run("exit 3")).error.code,
        (await box.run("sleep 60", timeout_ms=200)).error.code,
    )
    assert ["file"] == [change.path for change in await box.changes()]


@in_a_sandbox()
async def test_aio_sandbox_commands_run_at_once_without_threads(box):
    """Sixteen commands that wait for each other are there at the same time, and no thread waits for them."""
    barrier = "touch /tmp/here-$0; until [ $(ls /tmp | grep -c ^here-) = 16 ]; do sleep 0.05; done"
    runs = [asyncio.ensure_future(box.run(["sh", "-c", barrier, str(number)])) for number in range(16)]
    await asyncio.sleep(0.1)
    assert 1 == threading.active_count()
    assert [0] * 16 == [result.exit_code for result in await asyncio.gather(*runs)]


@in_a_sandbox()
async def test_aio_sandbox_cancelled_command_ends_alone(box):
    """Cancelling ends a command with what it started, and nothing else in the sandbox."""
    async with await box.start("sleep 60") as beside:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await box.run("setsid sh -c 'while :; do touch /tmp/alive; sleep 0.02; done' & sleep 60")
        await box.run("rm -f /tmp/alive")
        await asyncio.sleep(0.1)
        assert not await box.files.exists("/tmp/alive")
        assert beside.poll() is None


@in_a_sandbox()
async def test_aio_sandbox_output_comes_while_the_command_runs(box):
    """A coroutine function answers the command, which waits for it."""

    async def answer(_text):
        await box.files.write("/tmp/go", "")

    result = await box.run("echo first; until [ -e /tmp/go ]; do sleep 0.01; done; echo last", on_stdout=answer)
    assert ("first\nlast\n", "stdout") == (result.stdout, result.output[0][1])


@in_a_sandbox()
async def test_aio_process_talks_over_its_streams(box):
    """Lines go in and come out one by one, and a closed input is end-of-file."""
    process = await box.start("while read line; do echo got $line; done; echo end >&2", stdin=True)
    lines = aiter(process.stdout)
    for word in ("one", "two"):
        await process.stdin.write(f"{word}\n")
        assert f"got {word}\n" == await anext(lines)
    assert process.poll() is None
    process.stdin.close()
    result = await process.wait()
    assert (0, "got one\ngot two\n", "end\n") == (result.exit_code, result.stdout, result.stderr)
    assert ("end\n", 0) == (await process.stderr.read(), process.poll())


@in_a_sandbox()
async def test_aio_process_iteration_loses_nothing_of_a_flood(box):
    """What is more than is kept waits in the sandbox for the one who iterates."""
    process = await box.start("seq 1000000", max_output="64K")
    total = 0
    async for line in process.stdout:
        total += 1
        assert f"{total}\n" == line
    assert 1_000_000 == total
    assert (await process.wait()).ok


@in_a_sandbox()
async def test_aio_output_before_somebody_iterates_is_not_lost(box):
    """More than is kept waits for the one who begins later, and who takes one stream lets the other go on."""
    process = await box.start("seq 700000; seq 700000 >&2", max_output="64K")
    await box.run("sleep 0.5")
    total = sum([len(piece) async for piece in process.stdout.iter_bytes()])
    assert (len("".join(f"{number}\n" for number in range(1, 700001))), 0) == (total, process.stdout.missing_bytes)
    assert process.stderr.missing_bytes > 1_000_000


@in_a_sandbox()
async def test_aio_server_whose_log_nobody_reads_goes_on(box):
    """After the first seconds its output is dropped beyond what is kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aio_process, "Grace", lambda: Grace(0.2))
        patch.setattr(aio_process, "GRACE_S", 0.2)
        process = await box.start("seq 700000; touch /tmp/done; sleep 60", max_output="64K")
    assert (await box.run("until [ -e /tmp/done ]; do sleep 0.05; done")).ok
    assert process.stdout.missing_bytes > 0
    await process.kill()


@in_a_sandbox()
async def test_aio_process_is_killed_while_its_output_waits(box):
    """A flood that nobody takes any more keeps neither the command nor the caller."""
    process = await box.start("yes", max_output="64K")
    async for _piece in process.stdout.iter_bytes():
        await asyncio.sleep(0.3)  # more than fits waits now
        await process.kill()
        break
    assert "SIGKILL" == (await process.result()).signal


@in_a_sandbox()
async def test_aio_process_that_leaves_something_running(box):
    """`wait` returns when the command has ended, `result` when all has."""
    process = await box.start("sleep 0.6 & echo left")
    early = await process.wait()
    assert (0, "left\n", None) == (early.exit_code, early.stdout, early.metrics)
    whole = await process.result()
    assert whole.metrics is not None


@in_a_sandbox()
async def test_aio_process_wait_has_a_time_limit(box):
    """TimeoutError ends the waiting and not the command; a signal reaches it."""
    process = await box.start(["sleep", "60"])
    with pytest.raises(TimeoutError, match="has not ended after"):
        await process.wait(timeout=0.05)
    process.signal(15)
    assert "SIGTERM" == (await process.wait(timeout=30)).signal


@in_a_sandbox()
async def test_aio_process_callback_error_ends_it(box):
    """What a callback raises ends the command and comes out of `wait`."""

    async def callback(_text):
        raise OSError(24, "mine")

    process = await box.start("echo x; sleep 60", on_stdout=callback)
    with pytest.raises(OSError, match="mine"):
        await process.wait()


@in_a_sandbox()
async def test_aio_stream_of_a_process_keeps_it_running(box):
    """A process that is referred to by one of its streams alone goes on."""
    assert ["1\n", "2\n"] == [line async for line in (await box.start("echo 1; sleep 0.3; echo 2")).stdout]


@in_a_sandbox()
async def test_aio_process_that_nobody_refers_to_is_killed(box):
    """Garbage collection ends a process that was started and forgotten."""
    await box.start("while :; do touch /tmp/alive; sleep 0.02; done")
    gc.collect()
    await asyncio.sleep(0.2)
    await box.run("rm -f /tmp/alive")
    await asyncio.sleep(0.1)
    assert not await box.files.exists("/tmp/alive")


def test_aio_sandbox_killed_ends_what_runs_in_it():
    """Each command and process has a result that says so, and later calls are refused."""

    async def main():
        box = await aio.Sandbox.create()
        run = asyncio.ensure_future(box.run("sleep 60"))
        process = await box.start("sleep 60")
        await asyncio.sleep(0.1)
        await box.kill()
        assert ("E3010", "E3010") == ((await run).error.code, (await process.wait()).error.code)
        assert "E3010" == (await box.run("true")).error.code
        assert box.info().is_alive is False

    asyncio.run(main())


@in_a_sandbox()
async def test_aio_sandbox_cells_keep_their_state(box):
    """Variables stay from cell to cell, and contexts are apart."""
    await box.run_code("x = 20")
    assert "42" == (await box.run_code("x * 2 + 2")).text
    async with await box.create_context() as other:
        assert "NameError" == (await other.run_code("x")).error.name


@in_a_sandbox()
async def test_aio_sandbox_forks_with_its_files(box):
    """A fork starts with the files of the first, and goes its own way."""
    await box.files.write("f", "one")
    async with await box.fork() as other:
        await other.run("echo two >> f")
        assert ("onetwo\n", "one") == (await other.files.read("f"), await box.files.read("f"))


def test_aio_sandbox_that_is_not_built_says_how():
    """A call before `async with` names what builds it; wrong options are those of the blocking one."""
    with pytest.raises(CapsuleError, match="is not built yet"):
        asyncio.run(aio.Sandbox().run("true"))
    with pytest.raises(CapsuleError, match="`collect` is of one command"):
        asyncio.run(aio.Sandbox.create(collect=["*"]))


def test_aio_sandbox_cancelled_while_it_is_built_leaves_nothing():
    """Cancelling at any time of the start ends the sandbox."""

    async def main():
        for pause in (0, 0.001, 0.003, 0.01):
            building = asyncio.ensure_future(aio.Sandbox.create())
            await asyncio.sleep(pause)
            building.cancel()
            try:
                await (await building).kill()
            except asyncio.CancelledError:
                pass

    asyncio.run(main())
    gc.collect()
    assert [] == aio.Sandbox.list()


def test_commands_that_end_with_the_room_each_have_its_cause():
    """Several threads that find out at the same time that the room has ended do not keep each other waiting."""
    box = capsule_run.Sandbox()
    codes = []
    workers = [threading.Thread(target=lambda: codes.append(box.run("sleep 60").error.code)) for _ in range(12)]
    for worker in workers:
        worker.start()
    time.sleep(0.3)
    box.set_timeout(1)
    for worker in workers:
        worker.join(30)
    box.kill()
    assert ["E3010"] * 12 == codes


@in_a_sandbox()
async def test_aio_metrics_and_processes(box):
    """As of the blocking sandbox."""
    process = await box.start("echo; exec sleep 60")
    async for _line in process.stdout:
        break
    while [("sleep", "60")] != [each.command for each in await box.processes()]:
        await asyncio.sleep(0.02)
    assert (1, 1) == ((now := await box.metrics()).commands, now.processes)
    await process.kill()
