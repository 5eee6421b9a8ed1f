"""A context on an event loop: the same results, without a thread; what a cancelled task leaves."""

from __future__ import annotations

import asyncio
import threading

import pytest
from places import PlainProcess

from capsule_run import CapsuleError
from capsule_run.contexts import AsyncContext


def run(tmp_path, work, **options):
    """Run `work(context)` on a loop of its own."""

    async def start():
        return PlainProcess(options.get("language", "python"), cwd=tmp_path)

    async def main():
        async with AsyncContext(start, **{"grace_ms": 20_000, **options}) as context:
            return await asyncio.wait_for(work(context), 50)

    return asyncio.run(main())


def test_async_context_keeps_variables_and_streams(tmp_path):
    """Cells, callbacks that are functions or coroutine functions, and results are those of a blocking context."""
    seen = []

    async def on_result(result):
        await asyncio.sleep(0)
        seen.append(result.text)

    async def work(context):
        await context.run_code("x = 20")
        return await context.run_code("print('out')\nx + 1", on_stdout=seen.append, on_result=on_result)

    result = run(tmp_path, work)
    assert ("21", "out\n", 2) == (result.text, result.stdout, result.execution_count)
    assert ["out\n", "21"] == seen


def test_async_contexts_run_beside_each_other(tmp_path):
    """Many cells run at once on one loop, and no thread is started."""

    async def main():
        contexts = [AsyncContext(lambda: PlainProcess(cwd=tmp_path)) for _ in range(6)]
        code = "import os, time\nopen(f'{n}', 'w').close()\nwhile len(os.listdir()) < 6: time.sleep(0.01)\nn"
        results = await asyncio.gather(*(c.run_code(f"n = {n}\n{code}") for n, c in enumerate(contexts)))
        threads = threading.active_count()
        await asyncio.gather(*(context.close() for context in contexts))
        return [result.text for result in results], threads

    assert ([*"012345"], 1) == asyncio.run(main())


def test_cells_of_several_tasks_run_one_after_the_other(tmp_path):
    """A context has one cell at a time."""

    async def work(context):
        results = await asyncio.gather(*(context.run_code(f"display({n})\n{n}") for n in range(5)))
        return [result.text for result in results]

    assert [*"01234"] == run(tmp_path, work)


def test_cancelled_cell_is_interrupted_and_its_variables_stay(tmp_path):
    """Cancelling a task ends its cell before CancelledError goes on; the next cell has the variables."""

    async def work(context):
        started = asyncio.Event()
        code = "kept = 1\nprint('on')\nwhile True: pass"
        task = asyncio.create_task(context.run_code(code, on_stdout=lambda _: started.set()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await context.run_code("kept")

    assert "1" == run(tmp_path, work).text


def test_cancelled_cell_that_ignores_its_interrupt_is_killed(tmp_path):
    """Also when it is cancelled again meanwhile, nothing goes on."""

    async def work(context):
        started = asyncio.Event()
        code = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('on')\ntime.sleep(1000)"
        task = asyncio.create_task(context.run_code(code, on_stdout=lambda _: started.set()))
        await started.wait()
        task.cancel()
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await context.run_code("1 + 1")

    result = run(tmp_path, work, grace_ms=200)
    assert ("2", 1) == (result.text, result.execution_count)


def test_async_cell_times_out(tmp_path):
    """The time limit is the loop's timer."""

    async def work(context):
        return await context.run_code("while True: pass", timeout_ms=100)

    assert "timeout" == run(tmp_path, work).status


def test_async_interrupt_and_restart(tmp_path):
    """Both act on the running cell, and `restart` forgets the variables."""

    async def work(context):
        interrupted = await context.run_code(
            "x = 1\nprint()\nwhile True: pass", on_stdout=lambda _: context.interrupt()
        )
        kept = await context.run_code("x")
        await context.restart()
        return interrupted.status, kept.text, (await context.run_code("x")).error.name

    assert ("killed", "1", "NameError") == run(tmp_path, work)


def test_async_context_says_how_its_interpreter_ended(tmp_path):
    """A crash is a result, and the next cell has a new interpreter."""

    async def work(context):
        lost = await context.run_code("import os; os._exit(3)")
        return lost, await context.run_code("1 + 1")

    lost, after = run(tmp_path, work)
    assert ("exit", True, "2") == (lost.error.cause, lost.state_lost, after.text)


def test_exception_of_an_async_callback_reaches_the_task(tmp_path):
    """What a coroutine function raises is the caller's."""

    async def on_stdout(_):
        raise ZeroDivisionError

    async def work(context):
        with pytest.raises(ZeroDivisionError):
            await context.run_code("x = 1\nprint('on')\nwhile True: pass", on_stdout=on_stdout)
        return (await context.run_code("x")).text

    assert "1" == run(tmp_path, work)


def test_closed_async_context_is_refused(tmp_path):
    """A cell of a closed context is E1009."""

    async def work(context):
        await context.close()
        with pytest.raises(CapsuleError, match="E1009"):
            await context.run_code("1")

    run(tmp_path, work)


@pytest.mark.needs("node")
def test_async_context_of_javascript(tmp_path):
    """Another language is another driver, and nothing else."""

    async def work(context):
        await context.run_code("const x = 20")
        return await context.run_code("x + 1")

    assert "21" == run(tmp_path, work, language="javascript").text
