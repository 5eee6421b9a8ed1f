"""`capsule_run.map`, `aio.map` and `aio.Pool`: many runs, several at once; docs/batch.md."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import capsule_run
from capsule_run import CapsuleError, Request, aio
from capsule_run.sandbox import window
from capsule_run.sandbox.workers import Workers

pytestmark = pytest.mark.sandbox


def blocking(calls, **options):
    return list(capsule_run.map(calls, **options))


def on_a_loop(calls, **options):
    async def main():
        return [result async for result in aio.map(calls, **options)]

    return asyncio.run(main())


both = pytest.mark.parametrize("mapped", [blocking, on_a_loop])


@both
def test_map_gives_a_result_for_every_call(mapped):
    """In order; a wrong call has a result that names the argument, and its id, and stops nothing."""
    results = mapped(
        [
            "sleep 0.3; echo $NAME",
            ["sh", "-c", "exit 3"],
            {"command": ["cat"], "stdin": "in", "execution_id": "mine"},
            {"command": "true", "comand": "x"},
            {"command": ["true"], "timeout_ms": -1, "execution_id": "wrong"},
            5,
            Request(command=("echo", "request")),
            {"command": "echo $NAME; sleep 60", "env": {"NAME": "own"}},
        ],
        jobs=3,
        env={"NAME": "common"},
        timeout_ms="1s",
    )
    assert ["common\n", "", "in", "", "", "", "request\n", "own\n"] == [result.stdout for result in results]
    assert [None, "E3003", None, "E1002", "E1004", "E1003", None, "E3006"] == [
        result.error and result.error.code for result in results
    ]
    assert ("mine", "wrong") == (results[2].execution_id, results[4].execution_id)
    assert 'call: unknown argument "comand"; did you mean `command`?' == results[3].error.message
    assert results[4].error.message.startswith("timeout_ms: ")


@both
def test_map_unordered_gives_what_ends_first(mapped):
    """All of them, the slow one not first."""
    results = mapped(
        [f"sleep {0.5 if number == 0 else 0}; echo {number}" for number in range(5)], jobs=2, ordered=False
    )
    assert {f"{number}\n" for number in range(5)} == {result.stdout for result in results}
    assert "0\n" != results[0].stdout


@both
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jobs": 0}, "jobs: must be from 1 to 1024, got 0"),
        ({"jobs": "2"}, "jobs: must be a whole number, got a string"),
        ({"memory": "lots"}, "memory: must be a size"),
        ({"preset": "none"}, "preset: "),
    ],
)
def test_map_wrong_option_is_refused_before_anything_runs(mapped, options, said):
    """It would be wrong for every call."""
    with pytest.raises(CapsuleError, match="E10") as caught:
        mapped(["true"], **options)
    assert said in str(caught.value)


@both
def test_map_whose_calls_fail_gives_their_results_first(mapped):
    """What the caller's iterable raises comes after the results of what it gave."""

    def calls():
        yield "true"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        mapped(calls())


def test_map_that_is_left_ends_what_runs():
    """A loop that breaks off waits for no run; the check behind each test looks for what is left."""
    results = capsule_run.map(("sleep 60" if number else "true" for number in range(10)), jobs=3)
    assert next(results).ok
    results.close()
    assert 1 == threading.active_count()


def test_map_takes_no_more_calls_than_its_reader_needs(monkeypatch):
    """Results that nobody takes hold up the threads."""
    monkeypatch.setattr(window, "MAX_WAITING", 5)
    taken = []

    def source():
        while True:
            taken.append(1)
            yield 1

    workers = Workers(lambda each, _cancel: each, source(), jobs=2, ordered=True, size_of=lambda _each: 1)
    results = workers.results()
    assert 1 == next(results)
    end = time.monotonic() + 30
    while len(taken) < 6:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(taken) <= 1 + 5 + 2
    results.close()


def test_work_that_lacks_what_others_use_is_done_after_them():
    """It waits for another piece to end, and only what is alone fails."""
    free, lock = [2], threading.Lock()

    def do(work, cancel):
        while True:
            with lock:
                has_place = free[0] > 0
                free[0] -= has_place
            if has_place:
                time.sleep(0.02)
                with lock:
                    free[0] += 1
                return work
            if not workers.wait_for_another(cancel):
                return "failed"

    workers = Workers(do, range(12), jobs=6, ordered=True, size_of=lambda _each: 1)
    assert list(range(12)) == list(workers.results())
    free[0] = 0
    workers = Workers(do, range(4), jobs=2, ordered=True, size_of=lambda _each: 1)
    assert ["failed"] * 4 == list(workers.results())


# --- on an event loop ---


def test_aio_map_takes_an_asynchronous_iterable_and_uses_no_thread_for_a_run():
    """Runs wait on the loop; the only other thread builds sandboxes."""

    async def calls():
        for _ in range(12):
            yield "sleep 0.2"

    async def main():
        most = 0
        async for result in aio.map(calls(), jobs=12, ordered=False):
            assert result.ok
            most = max(most, threading.active_count())
        return most

    assert asyncio.run(main()) <= 2


def test_aio_map_that_is_left_ends_what_runs():
    """Also if its task is cancelled."""

    async def main():
        results = aio.map(["true", *["sleep 60"] * 5], jobs=3)
        assert (await anext(results)).ok
        waiting = asyncio.ensure_future(anext(results))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await results.aclose()

    asyncio.run(main())


def test_aio_pool_has_the_runs_of_a_pool():
    """Commands with the arguments of a call, code, callbacks, map and figures."""

    async def main():
        heard = []

        async def on_stdout(text):
            heard.append(text)

        async with aio.Pool(size=2, memory="256M") as pool:
            assert await pool.wait_ready(30)
            result = await pool.run("pwd; cat", cwd="/tmp", stdin="in", on_stdout=on_stdout, execution_id="mine")
            assert ("/tmp\nin", "/tmp\nin", "mine") == (result.stdout, "".join(heard), result.execution_id)
            assert "E3006" == (await pool.run("sleep 60", timeout_ms=200)).error.code
            code = await pool.run_code("echo $((1 + 2))", "bash", execution_id="code")
            assert ("3\n", "code") == (code.stdout, code.execution_id)
            calls = ["echo 1", {"command": "true", "timeout_ms": -1}, ["echo", "3"]]
            assert ["1\n", "", "3\n"] == [result.stdout async for result in pool.map(calls)]
            assert (4, 0) == ((stats := pool.stats()).hits + stats.misses, stats.busy)
        async with aio.Pool(size=1, preload=["json"]) as pool:
            assert "True\n" == (await pool.run_code("import sys; print('json' in sys.modules)")).stdout

    asyncio.run(main())


def test_aio_pool_that_waits_serves_everybody_in_turn():
    """More runs at once than rooms, one of them cancelled while it waits, and no thread for a run."""

    async def main():
        async with aio.Pool(size=1, on_empty="wait") as pool:
            runs = [asyncio.ensure_future(pool.run(f"echo {number}")) for number in range(8)]
            await asyncio.sleep(0)
            runs[5].cancel()
            assert threading.active_count() <= 2
            results = await asyncio.gather(*runs, return_exceptions=True)
            assert isinstance(results.pop(5), asyncio.CancelledError)
            assert {f"{number}\n" for number in range(8) if number != 5} == {result.stdout for result in results}
            assert (7, 0) == ((stats := pool.stats()).hits, stats.misses)

    asyncio.run(main())


def test_aio_pool_wrong_use_is_refused():
    """As the blocking one: wrong options, no room when there must be one; and before it is built."""

    async def main():
        with pytest.raises(CapsuleError, match="`size` must be a number"):
            await aio.Pool.create(0)
        with pytest.raises(CapsuleError, match="the pool is not built yet"):
            await aio.Pool().run("true")
        async with aio.Pool(size=1, on_empty="fail") as pool:
            await pool.drain()
            with pytest.raises(CapsuleError, match="the pool has no room ready"):
                await pool.run("true")

    asyncio.run(main())


def test_aio_pool_cancelled_run_ends_its_sandbox():
    """The check behind each test looks for what is left."""

    async def main():
        async with aio.Pool(size=1) as pool:
            run = asyncio.ensure_future(pool.run("sleep 60"))
            await asyncio.sleep(0.2)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert (await pool.run("true")).ok

    asyncio.run(main())
