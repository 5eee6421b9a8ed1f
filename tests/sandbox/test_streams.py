"""Standard input and output: exact, whole, in every size, and absent when absent."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from inside import COMMAND

BINARY = bytes(range(256)) * 5


def test_stdin_absent_is_end_of_file(inside):
    """Without `stdin` the command reads end-of-file at once."""
    assert "0" == inside.says(["wc", "-c"])


def test_stdin_empty_is_a_pipe_at_its_end(inside):
    """Empty is not absent: it is an empty pipe."""
    assert "0 True" == inside.python_says(
        "import os, stat, sys; print(len(sys.stdin.read()), stat.S_ISFIFO(os.fstat(0).st_mode))", stdin=""
    )


def test_streams_binary_are_exact(inside):
    """All 256 byte values pass both ways, and the result holds them exactly."""
    response = inside(["cat"], stdin_base64=base64.b64encode(BINARY).decode())
    assert BINARY == base64.b64decode(response["stdout_base64"])


def test_stdin_of_50_mib_arrives(inside_as_caller):
    """50 MiB of standard input arrive whole."""
    assert str(50 << 20) == inside_as_caller.says(["wc", "-c"], stdin="x" * (50 << 20))


def test_stdin_unread_is_harmless(inside):
    """A command that ends without reading its 8 MiB of input is a success."""
    assert "done" == inside.says(["echo", "done"], stdin="x" * (8 << 20))


def test_streams_in_command_mode_are_relayed(inside, place):
    """In command mode the caller's own stdin, stdout and stderr are the command's."""
    done = inside.cli("--", "sh", "-c", "cat; echo err >&2; exit 4", input=BINARY, cwd=place)
    assert (BINARY, b"err\n", 4) == (done.stdout, done.stderr, done.returncode)


def test_stdout_of_16_mib_is_relayed(inside_as_caller):
    """16 MiB pass through a pipe in command mode."""
    done = inside_as_caller.cli("--max-output", "32M", "--", "head", "-c", "16M", "/dev/zero")
    assert 16 << 20 == len(done.stdout)


@pytest.mark.parametrize("flags", ["wb", "ab"])
def test_stdout_to_a_file_is_whole(inside_as_caller, place, flags):
    """With a file as standard output, appended to or not, every byte is in it."""
    with open(place / "out", flags) as file:
        inside_as_caller.cli(
            "--", "head", "-c", "300000", "/dev/zero", stdout=file, stderr=subprocess.DEVNULL, capture_output=False
        )
    assert 300000 == place.joinpath("out").stat().st_size


def test_stdout_reader_leaves_early_is_no_crash():
    """`capsule-run -- yes | head -1` ends, prints one line, and no traceback."""
    shell = '"$@" -- yes | head -1'
    done = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", *COMMAND, "--timeout", "5000"], capture_output=True, timeout=20, cwd="/"
    )
    assert b"y\n" == done.stdout
    assert b"Traceback" not in done.stderr


def test_stdout_closed_is_no_crash():
    """With standard output closed the exit code still tells."""
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" >&-; echo $? >&2', "sh", *COMMAND, "--", "sh", "-c", "echo x; exit 6"],
        stderr=subprocess.PIPE,
        timeout=20,
        cwd="/",
    )
    assert done.stderr.endswith(b"6\n")
    assert b"Traceback" not in done.stderr


def test_json_mode_prints_one_object_only(inside_as_caller):
    """`--json` puts exactly one JSON object and a newline on stdout, and nothing on stderr."""
    done = inside_as_caller.cli("--json", input=b'{"command":["sh","-c","echo out; echo err >&2"]}')
    response = json.loads(done.stdout)
    assert ("out\n", "err\n", b"", 1) == (response["stdout"], response["stderr"], done.stderr, done.stdout.count(b"\n"))


@pytest.fixture
def stalled():
    """A function: a run of `words` whose standard output nobody reads, and what it says on stderr at its end."""
    reader, writer = os.pipe()
    runs = []

    def start(*words):
        run = subprocess.Popen([*COMMAND, *words], stdout=writer, stderr=subprocess.PIPE, cwd="/")
        runs.append(run)
        return run

    yield start
    os.close(reader)
    os.close(writer)
    for run in runs:
        run.kill()
        run.communicate()


def processor_ticks(pid):
    """Processor time of a process, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def only_child(pid):
    """The one child of a process, as soon as it is there."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.01)
    raise AssertionError("no child")


def wait_until_command_is_gone(launcher):
    """Until the launcher has waited for init: the command and all that it started is dead."""
    end = time.monotonic() + 10
    while time.monotonic() < end and Path(f"/proc/{launcher}/task/{launcher}/children").read_text().strip():
        time.sleep(0.01)


@pytest.mark.parametrize("size", ["1100K", "3M"])
def test_stdout_unread_run_ends_on_sigterm(stalled, size):
    """SIGTERM ends a run also where output waits for a reader that reads nothing, whether the command lives or has ended."""
    run = stalled("--max-output", "10M", "--", "head", "-c", size, "/dev/zero")
    launcher = only_child(run.pid)
    only_child(launcher)
    if size == "1100K":
        wait_until_command_is_gone(launcher)
    else:
        time.sleep(0.5)
    run.send_signal(signal.SIGTERM)
    assert 143 == run.wait(10)


@pytest.mark.slow
def test_stdout_unread_costs_no_cpu_time(stalled):
    """When the command has ended and its output waits for a reader, past every clock, the launcher sleeps."""
    run = stalled("--max-output", "10M", "--", "head", "-c", "1100K", "/dev/zero")
    launcher = only_child(run.pid)
    only_child(launcher)
    wait_until_command_is_gone(launcher)
    time.sleep(0.5)  # the drain's clock runs out
    before = processor_ticks(launcher)
    time.sleep(1)
    assert processor_ticks(launcher) - before <= 2
    run.send_signal(signal.SIGTERM)
    assert 143 == run.wait(10)
