"""Output that was printed before a run was ended, and the words about output that may have been lost."""

from __future__ import annotations

import json
import subprocess

import pytest

import capsule_run
from capsule_run.agents.operator import operator
from capsule_run.agents.tool import execute_code

PRINTS = "import time; print('partial'); time.sleep(60)"
PYTHON = ["python3", "-c", PRINTS]
LOST = "nothing was written to stdout"


def _command_line(cli, *words, stdin=None, env=None):
    settings = {"input": stdin, "capture_output": True, "timeout": 60, "check": False, "cwd": "/", "env": env}
    return subprocess.run([str(cli), *words], **settings)


def test_command_line_python_is_timed_out_keeps_what_it_printed(capsule_cli):
    """The command line relays what Python printed before the time limit."""
    answer = _command_line(capsule_cli, "-t", "1500", "--", *PYTHON)
    assert (124, b"partial\n") == (answer.returncode, answer.stdout)
    assert LOST.encode() not in answer.stderr


def test_json_python_is_timed_out_keeps_what_it_printed(capsule_cli):
    """A JSON response has what Python printed before the time limit."""
    request = json.dumps({"command": PYTHON, "timeout_ms": 1500}).encode()
    assert json.loads(_command_line(capsule_cli, "--json", stdin=request).stdout)["stdout"] == "partial\n"


def test_sdk_python_is_timed_out_keeps_what_it_printed():
    """A result of the SDK has what Python printed before the time limit."""
    assert capsule_run.run(PYTHON, timeout_ms=1500).stdout == "partial\n"


def test_tool_python_is_timed_out_keeps_what_it_printed():
    """The answer of an agent's tool has what Python printed before the time limit."""
    answer = execute_code({"code": PRINTS, "language": "python"}, operator({"timeout_ms": 1500}))
    assert "\npartial\n" in answer.text
    assert LOST not in answer.text


ASKS = "import sys; print(type(sys.stdout.buffer).__name__)"


def test_environment_empty_value_makes_python_buffer_again():
    """`PYTHONUNBUFFERED=` turns the default off, for a command, for code and for the tools of agents."""
    off = {"PYTHONUNBUFFERED": ""}
    assert capsule_run.run(["python3", "-c", ASKS]).stdout == "FileIO\n"
    assert capsule_run.run(["python3", "-c", ASKS], env=off).stdout == "BufferedWriter\n"
    assert capsule_run.run_code(ASKS).stdout == "FileIO\n"
    assert capsule_run.run_code(ASKS, env=off).stdout == "BufferedWriter\n"
    answer = execute_code({"code": ASKS, "language": "python"}, operator({"environment": off}))
    assert "\nBufferedWriter\n" in answer.text


BUFFERS = "import time; print('partial'); time.sleep(60)"
GROWS = "held = []\nwhile True: held.append(b'x' * (1 << 20))"


@pytest.mark.parametrize(
    ("code", "options", "expected"),
    [
        (BUFFERS, {"timeout_ms": 1500}, "E3006"),
        (GROWS, {"memory": "64M"}, "E4001"),
        ("while True: pass", {"cpu_time_ms": 200}, "E4004"),
    ],
)
def test_message_nothing_was_written_says_that_output_may_be_lost(code, options, expected):
    """A run that was ended before it wrote to stdout says that a program's buffer is lost with it."""
    result = capsule_run.run(["python3", "-c", code], env={"PYTHONUNBUFFERED": ""}, **options)
    assert expected == result.error.code
    assert LOST in result.error.message


def test_message_something_was_written_does_not_speak_of_lost_output():
    """One byte on stdout, and the message of the time limit is the plain one."""
    result = capsule_run.run(["sh", "-c", "echo; sleep 60"], timeout_ms=500)
    assert result.error.code == "E3006"
    assert LOST not in result.error.message


def test_message_command_ended_by_itself_does_not_speak_of_lost_output():
    """A command that fails by itself has written what it wanted to write."""
    assert LOST not in capsule_run.run(["false"]).error.message
