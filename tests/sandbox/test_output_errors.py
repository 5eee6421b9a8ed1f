"""A stream of the caller's that fails is reported, with exit code 125; a reader that has left gives 141 and silence."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading

import pytest
from inside import COMMAND

from capsule_run import run
from capsule_run.engine.execute import execute
from capsule_run.engine.streams import Streams
from capsule_run.model.request import Request


@pytest.fixture
def shell(place):
    """`_shell` in a directory that is shared without a word."""
    return lambda line: _shell(line, place)


def _shell(line, cwd):
    """Run a line of bash in which `"$@"` is the command; the status of its first part, and both outputs."""
    text = f"{line}\nstatus=${{PIPESTATUS[0]}}; exit $status"
    return subprocess.run(
        ["/bin/bash", "-c", text, "bash", *COMMAND], capture_output=True, timeout=50, cwd=cwd, check=False
    )


# What is run, and which words its one line on stderr has.
FULL = {
    "a command that succeeds": ('"$@" -- echo x >/dev/full', "stdout: no space left"),
    "a command that fails": ('"$@" -- sh -c "echo x; exit 3" >/dev/full', "stdout: no space left"),
    "much output": ('"$@" -- seq 1000000 >/dev/full', "stdout: no space left"),
    "past the output limit": ('"$@" --max-output 10 -- seq 1000000 >/dev/full', "stdout: no space left"),
    "appended": ('"$@" -- echo x >>/dev/full', "stdout: no space left"),
    "a descriptor for reading": ('"$@" -- echo x 1</dev/null', "stdout: not open for it"),
    "stderr": ('"$@" -- sh -c "echo x >&2" 2>/dev/full', ""),
    "a JSON request": (
        """echo '{"command":["true"]}' | "$@" --json >/dev/full; (exit ${PIPESTATUS[1]})""",
        "no space left",
    ),
    "a JSON answer": ('"$@" --pretty -- true >/dev/full', "no space left"),
    "help": ('"$@" --help >/dev/full', "no space left"),
    "version": ('"$@" --version >/dev/full', "no space left"),
    "doctor": ('"$@" doctor >/dev/full', "no space left"),
    "policy show": ('"$@" policy show >/dev/full', "no space left"),
    "exec": ('echo "echo x" | "$@" exec --lang bash >/dev/full; (exit ${PIPESTATUS[1]})', "stdout: no space left"),
    "dry run": ('"$@" --dry-run -- true >/dev/full', "no space left"),
    "a version, for reading": ('"$@" --version 1</dev/null', "bad file descriptor"),
}


@pytest.mark.parametrize("name", FULL)
def test_output_unwritable_is_one_message_and_exit_code_125(shell, name):
    """Whatever writes to the caller's stream, a failure is one message and exit code 125, never a success and no traceback."""
    line, words = FULL[name]
    done = shell(line)
    assert 125 == done.returncode, done
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert not words or done.stderr.startswith(b"capsule-run: E6006: cannot ")


LEFT = {
    "endless output": '"$@" -- yes | head -1',
    "more than the output limit before the reader looks": '"$@" -- yes | (sleep 0.3; head -1)',
    "a low output limit": '"$@" --max-output 100 -- yes | (sleep 0.3; head -1)',
    "output that is cut": '"$@" --on-output-limit truncate -- yes | head -1',
    "a command that goes on": '"$@" -- sh -c "trap \'\' PIPE; yes 2>/dev/null; exit 0" | head -1',
    "stderr": '"$@" -- sh -c "yes >&2" 2>&1 >/dev/null | head -1',
    "help": '"$@" --help | true',
    "a JSON answer": '"$@" --pretty -- seq 100000 | head -1',
    "policy show": '"$@" policy show | true',
    "doctor": '"$@" doctor | true',
}


@pytest.mark.parametrize("name", LEFT)
def test_output_reader_leaves_is_exit_code_141(shell, name):
    """`| head -1` gets its line, nothing is said, and the status is that of a program ended by SIGPIPE."""
    done = shell(LEFT[name])
    assert (141, b"") == (done.returncode, done.stderr), done


def test_output_limit_is_reported_to_a_live_reader(shell):
    """A reader that is still there when the limit is passed gets the error, and what the limit let through."""
    done = shell('"$@" --max-output 100000 -- yes | wc -c')
    assert (137, b"100000\n") == (done.returncode, done.stdout)
    assert b"E4003" in done.stderr


def test_output_reader_left_before_a_timeout_is_a_timeout(shell):
    """A command that lost its reader, went on and was ended by the clock timed out."""
    done = shell('"$@" --timeout 1500 --max-output 10G -- sh -c "trap \'\' PIPE; yes 2>/dev/null; sleep 60" | head -1')
    assert 124 == done.returncode
    assert b"E3006" in done.stderr


@pytest.mark.parametrize("own", ["exit 0", "exit 3", "kill -TERM $$"])
def test_output_descriptor_fails_is_e6006(own):
    """For the SDK a descriptor that takes no output is E6006, with the errno and how the command ended otherwise."""
    with open("/dev/full", "wb") as full:
        request = Request(command=("/bin/sh", "-c", f"echo x; sleep 0.1; {own}"))
        result = execute(request, streams=Streams(stdout=full.fileno()))
    assert ("error", 125, "E6006") == (result.status, result.exit_code, result.error.code)
    assert {"stream": "stdout", "errno": 28}.items() <= result.error.details.items()
    assert {"exit 0": ("exit_code", 0), "exit 3": ("exit_code", 3), "kill -TERM $$": ("signal_number", 15)}[
        own
    ] in result.error.details.items()


def test_output_closed_socket_is_a_broken_pipe():
    """A closed socket as stdout is the same as a closed pipe, and raises no signal in the caller."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        result = execute(Request(command=("/bin/echo", "x")), streams=Streams(stdout=ours.fileno()))
    assert ("E6006", 32, 141) == (result.error.code, result.error.details["errno"], result.exit_code)


def test_output_non_blocking_pipe_gets_everything():
    """A parent that made the pipe non-blocking and reads slowly gets all of an answer that does not fit into it."""
    inner, outer = os.pipe()
    os.set_blocking(outer, False)
    read = []

    def take():
        while part := os.read(inner, 50_000):
            read.append(part)

    reader = threading.Thread(target=take)
    process = subprocess.Popen([*COMMAND, "--pretty", "--", "seq", "100000"], stdout=outer, cwd="/")
    os.close(outer)
    reader.start()
    assert 0 == process.wait(50)
    reader.join()
    os.close(inner)
    assert json.loads(b"".join(read))["stdout"].endswith("100000\n")


@pytest.mark.parametrize("words", [("--pretty", "--", "head", "-c", "900000", "/dev/zero"), ("--json",)])
def test_output_unread_response_ends_on_sigterm(words, place):
    """A response that waits for a reader of a full pipe does not outlive SIGTERM."""
    inner, outer = os.pipe()
    request = b'{"command":["head","-c","900000","/dev/zero"]}'
    process = subprocess.Popen([*COMMAND, *words], stdin=subprocess.PIPE, stdout=outer, cwd=place)
    process.stdin.write(request)
    process.stdin.close()
    os.close(outer)
    try:
        assert os.read(inner, 1)  # the answer has begun, and the pipe holds a small part of it
        process.terminate()
        assert -15 == process.wait(20)
    finally:
        process.kill()
        process.wait()
        os.close(inner)


INITIALIZE = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":'
    '{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}'
)


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [(">/dev/full", 125, "cannot write to the client"), ("1</dev/null", 125, "cannot write to"), ("| true", 141, "")],
)
def test_mcp_server_whose_client_cannot_be_written_to_ends(shell, end, code, words):
    """An answer that cannot be written is reported, one whose reader has left ends the server in silence."""
    line = f"""(echo '{INITIALIZE}'; sleep 0.5) | "$@" mcp {end}; (exit ${{PIPESTATUS[1]}})"""
    done = shell(line)
    assert code == done.returncode
    assert words in done.stderr.decode()
    assert words or done.stderr == b""


def test_stdin_unreadable_is_end_of_file(shell):
    """nohup(1) gives a stdin that is open for writing only: the command reads end-of-file, and nothing is wrong."""
    done = shell('"$@" -- cat 0>/dev/null')
    assert (0, b"", b"") == (done.returncode, done.stdout, done.stderr)


def test_output_captured_uses_no_stream_of_the_caller():
    """Without streams of its own a run has none that could fail."""
    assert "x\n" == run(["echo", "x"]).stdout
