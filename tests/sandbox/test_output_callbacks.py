"""Output that is handed on while the command runs."""

from __future__ import annotations

import pytest

from capsule_run.engine.execute import execute
from capsule_run.engine.streams import Streams
from capsule_run.request.arguments import request_from_arguments


def run(command, on_stdout=None, on_stderr=None, **arguments):
    request = request_from_arguments(command=command, **arguments)
    return execute(request, streams=Streams(on_stdout=on_stdout, on_stderr=on_stderr))


def test_output_comes_before_the_command_ends(place):
    """A command that waits for a file is answered by the callback that its first line calls."""
    seen = []

    def answer(piece):
        seen.append(piece)
        (place / "go").touch()

    waiting = "echo first; until [ -e go ]; do sleep 0.01; done; echo last"
    result = run(["bash", "-c", waiting], answer, workspace={"source": str(place), "mode": "rw"})
    assert ("success", "first\nlast\n", b"first\n") == (result.status, result.stdout, seen[0])


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_of_megabytes_is_handed_on_and_kept(stream):
    """What was handed on is what the result has, byte by byte."""
    pieces = []
    redirect = "" if stream == "stdout" else ">&2"
    command = ["bash", "-c", f"seq 400000 {redirect}"]
    result = run(command, max_output="8M", **{f"on_{stream}": pieces.append})
    expected = "".join(f"{number}\n" for number in range(1, 400001)).encode()
    assert expected == b"".join(pieces) == getattr(result, f"{stream}_data")


def test_output_over_the_limit_is_handed_on_up_to_the_limit():
    """The limit holds as for a captured stream."""
    pieces = []
    result = run(["yes"], pieces.append, max_output=1000)
    assert ("E4003", 1000) == (result.error.code, len(b"".join(pieces)))


def test_output_callback_that_raises_ends_the_sandbox():
    """What a callback raises comes out of the call, and the command does not go on."""

    def fail(_piece):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(["bash", "-c", "echo; sleep 60"], fail)


def test_output_of_a_stream_without_callback_is_captured():
    """A callback for one stream does not touch the other."""
    result = run(["bash", "-c", "echo a; echo b >&2"], lambda _piece: None)
    assert ("a\n", "b\n") == (result.stdout, result.stderr)
