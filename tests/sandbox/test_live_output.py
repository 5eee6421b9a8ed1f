"""Callbacks that get the output while the command runs, blocking and on an event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from capsule_run import CapsuleError, RunError, aio, run, run_code
from capsule_run.engine import live_output
from capsule_run.model.result import Result

pytestmark = pytest.mark.sandbox


def run_on_a_loop(command, **options):
    return asyncio.run(aio.run(command, **options))


both = pytest.mark.parametrize("runs", [run, run_on_a_loop], ids=["blocking", "aio"])


def shell(*commands):
    return ["sh", "-c", "; ".join(commands)]


@both
def test_callback_is_called_while_the_command_runs(runs, tmp_path):
    """The command waits for what the callback of its output does."""
    workspace = {"source": str(tmp_path), "mode": "rw"}
    result = runs(
        shell("echo ready", "while ! [ -e seen ]; do sleep 0.01; done", "echo seen"),
        workspace=workspace, on_stdout=lambda _text: tmp_path.joinpath("seen").touch(),
    )  # fmt: skip
    assert "ready\nseen\n" == result.check().stdout


@both
def test_callback_characters_are_whole(runs):
    """A character whose bytes arrive apart comes in one piece, and an incomplete one at the end becomes U+FFFD."""
    pieces = []
    euro = r"printf 'a\342'; sleep 0.1; printf '\202'; sleep 0.1; printf '\254b\303'"
    result = runs(shell(euro), on_stdout=pieces.append)
    assert "a€b\N{REPLACEMENT CHARACTER}" == "".join(pieces) == result.stdout
    assert all(pieces)
    assert "\N{REPLACEMENT CHARACTER}" == pieces[-1]


@both
def test_output_of_both_streams_is_in_order_of_arrival(runs):
    """`Result.output` has both streams, with times that grow, also if only one has a callback."""
    pieces = []
    script = shell("echo 1", "sleep 0.1", "echo 2 >&2", "sleep 0.1", "echo 3")
    result = runs(script, on_stderr=pieces.append)
    assert ["2\n"] == pieces
    assert [("stdout", "1\n"), ("stderr", "2\n"), ("stdout", "3\n")] == [piece[1:] for piece in result.output]
    times = [piece[0] for piece in result.output]
    assert sorted(times) == times
    assert times[2] - times[0] > 0.1
    assert result.to_dict() == Result.from_dict(result.to_dict()).to_dict()


def test_output_is_absent_without_callback():
    """A run without callbacks, and one whose command never started, have no `output`."""
    assert "output" not in run(["true"]).to_dict()
    assert None is run(["/missing"], on_stdout=print).output
    assert () == run(["true"], on_stdout=print).output


@both
def test_callback_loses_nothing_of_a_flood(runs):
    """Every byte arrives, in order, in the callbacks, in `output` and in `stdout`, however slow the callback is."""
    pieces = []

    def slow(text):
        pieces.append(text)
        time.sleep(0.002)

    result = runs(["seq", "300000"], on_stdout=slow, max_output="8M")
    expected = "".join(f"{number}\n" for number in range(1, 300001))
    assert expected == result.check().stdout == "".join(pieces) == "".join(piece[2] for piece in result.output)


class OwnError(Exception):
    """Raised by a callback."""


@both
@pytest.mark.parametrize("error", [OwnError("x"), OSError(24, "Too many open files"), CapsuleError("E6003", "mine")])
def test_callback_exception_ends_the_sandbox_and_is_raised(runs, error):
    """What a callback raises is not taken for an error of the run."""

    def callback(_text):
        raise error

    with pytest.raises(type(error)) as caught:
        runs(shell("echo x", "sleep 60"), on_stdout=callback)
    assert error is caught.value


@both
def test_callback_keyboard_interrupt_ends_the_sandbox(runs):
    """KeyboardInterrupt in a callback passes through."""

    def callback(_text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs(shell("echo x", "sleep 60"), on_stdout=callback)


@both
def test_callback_exception_of_a_result_is_raised_as_it_is(runs):
    """A RunError of another run keeps its class and its words."""
    failed = run(["/missing"])
    with pytest.raises(RunError) as caught:
        runs(shell("echo x", "sleep 60"), on_stdout=lambda _text: failed.check())
    assert failed is caught.value.result


@both
def test_callback_that_is_no_function_is_refused(runs):
    """The error names the argument."""
    with pytest.raises(CapsuleError, match="E1005: on_stderr: must be a function that takes a string, got 5"):
        runs(["true"], on_stderr=5)


def test_callback_coroutine_function_without_a_loop_is_refused():
    """`run` cannot await, and says what does."""

    async def callback(_text):
        pass

    with pytest.raises(CapsuleError, match=r"coroutine functions need `capsule_run\.aio`"):
        run(shell("echo x", "sleep 60"), on_stdout=callback)


def test_callback_runs_in_the_calling_thread():
    """Blocking: the thread of the call. On a loop: the loop's, where futures can be set."""
    seen = []
    run(shell("echo x"), on_stdout=lambda _text: seen.append(threading.current_thread()))
    run_code("print(1)", on_stdout=lambda _text: seen.append(threading.current_thread()))

    async def main():
        first = asyncio.get_running_loop().create_future()
        await asyncio.gather(first, aio.run_code("print(end='1')", on_stdout=first.set_result))
        return first.result()

    assert "1" == asyncio.run(main())
    assert {threading.main_thread()} == set(seen)


def test_callback_coroutine_is_awaited_before_more_is_read():
    """One call at a time, of both streams, in order; what is not read yet waits in the sandbox."""
    active, most, seen = 0, 0, []

    def callback(name):
        async def called(text):
            nonlocal active, most
            active += 1
            most = max(most, active)
            await asyncio.sleep(0.01)
            seen.append((name, text))
            active -= 1

        return called

    script = shell("seq 100000 & seq 100000 >&2", "wait")
    result = run_on_a_loop(script, on_stdout=callback("stdout"), on_stderr=callback("stderr"), max_output="8M")
    assert (1, seen) == (most, [piece[1:] for piece in result.output])
    for name, text in (("stdout", result.stdout), ("stderr", result.stderr)):
        assert text == "".join(piece[2] for piece in result.output if piece[1] == name)


def test_callback_coroutine_that_waits_is_cancelled_with_the_run():
    """Cancelling while a callback waits ends both, and a flood beside it does not keep the sandbox."""
    seen = []

    async def callback(_text):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main():
        async with asyncio.timeout(0.5):
            await aio.run(["yes"], on_stdout=callback, max_output="1G")

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert ["cancelled"] == seen


def test_callback_of_a_run_with_files_of_the_host(tmp_path):
    """Steps in threads and callbacks on the loop go together."""
    tmp_path.joinpath("f").write_text("text")
    pieces = []
    result = run_on_a_loop(["tee", "/workspace/g"], stdin="in", workspace=tmp_path, on_stdout=pieces.append)
    assert (["in"], ["g"]) == (pieces, [change.path for change in result.check().changes])


def test_output_pieces_beyond_the_limit_join_the_last(monkeypatch):
    """A program that writes single bytes makes no endless list, and no text is lost."""
    monkeypatch.setattr(live_output, "MAX_PIECES", 2)
    script = shell(*["printf x", "sleep 0.02", "printf y >&2", "sleep 0.02"] * 3)
    assert [("stdout", "xxx"), ("stderr", "yyy")] == [piece[1:] for piece in run(script, on_stdout=len).output]
