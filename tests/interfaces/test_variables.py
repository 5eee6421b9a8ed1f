"""`CAPSULE_RUN_` variables: each interface that makes a request honours them, or refuses them aloud."""

from __future__ import annotations

import asyncio
import json
import subprocess

import pytest
from mcp_client import Server

import capsule_run
from capsule_run import aio
from capsule_run.agents.operator import operator
from capsule_run.agents.tool import execute_code
from capsule_run.model.request import Request, Resources
from capsule_run.monitor.audit_log import Monitor

LIMIT = ("CAPSULE_RUN_MEMORY", "48M")
HOG = "held = bytearray(100 << 20)\nfor at in range(0, len(held), 4096): held[at] = 1\nprint('all of it')"
PYTHON = ["python3", "-c", HOG]


def command_line(capsule_cli, words, env, stdin=b""):
    clean = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", **env}
    return subprocess.run([str(capsule_cli), *words], input=stdin, env=clean, cwd="/", capture_output=True, timeout=60)


def test_variable_command_mode_is_a_default(capsule_cli):
    """`CAPSULE_RUN_MEMORY` limits a plain `-- COMMAND`, and an option of the command line wins over it."""
    env = dict([LIMIT])
    assert 137 == command_line(capsule_cli, ["--", *PYTHON], env).returncode
    assert b"all of it\n" == command_line(capsule_cli, ["--memory", "256M", "--", *PYTHON], env).stdout


def test_variable_exec_is_a_default(capsule_cli):
    """`capsule-run exec` honours it too."""
    answer = command_line(capsule_cli, ["exec", "--lang", "python"], dict([LIMIT]), HOG.encode())
    assert 137 == answer.returncode


def test_variable_json_request_wins_over_it(capsule_cli):
    """With `--json` a variable is a default for what the request does not give."""
    request = {"command": PYTHON}
    answer = command_line(capsule_cli, ["--json"], dict([LIMIT]), json.dumps(request).encode())
    assert "E4001" == json.loads(answer.stdout)["error"]["code"]
    request["resources"] = {"memory_bytes": 256 << 20}
    answer = command_line(capsule_cli, ["--json"], dict([LIMIT]), json.dumps(request).encode())
    assert "success" == json.loads(answer.stdout)["status"]


def test_variable_batch_is_a_default_of_each_line(capsule_cli):
    """A line that gives the limit wins."""
    lines = [{"command": PYTHON}, {"command": PYTHON, "resources": {"memory_bytes": 256 << 20}}]
    text = "".join([json.dumps(line) + "\n" for line in lines]).encode()
    answers = map(json.loads, command_line(capsule_cli, ["batch"], dict([LIMIT]), text).stdout.splitlines())
    assert ["killed", "success"] == [answer["status"] for answer in answers]


def test_variable_python_arguments_win_over_it(monkeypatch):
    """`run`, `run_code` and their coroutines honour it, and an argument wins."""
    monkeypatch.setenv(*LIMIT)
    for result in (
        capsule_run.run(PYTHON),
        capsule_run.run_code(HOG),
        asyncio.run(aio.run(PYTHON)),
        asyncio.run(aio.run_code(HOG)),
        capsule_run.execute(Request(command=tuple(PYTHON))),
        asyncio.run(aio.execute(Request(command=tuple(PYTHON)))),
        Monitor().execute(Request(command=tuple(PYTHON))),
        *capsule_run.map([PYTHON, Request(command=tuple(PYTHON))]),
    ):
        assert "E4001" == result.error.code
    assert capsule_run.run(PYTHON, memory="256M").ok
    assert capsule_run.execute(Request(command=tuple(PYTHON), resources=Resources(memory_bytes=256 << 20))).ok


def test_variable_tools_of_agents_honour_it(monkeypatch):
    """What an operator gives to the tools wins over the variable, and what it leaves open is the variable's."""
    monkeypatch.setenv(*LIMIT)
    call = {"code": HOG, "language": "python"}
    assert "E4001" == execute_code(call, operator()).result.error.code
    assert execute_code(call, operator({"resources": {"memory_bytes": 256 << 20}})).result.ok


WRONG = [
    ({"CAPSULE_RUN_MEMROY": "1G"}, "did you mean `CAPSULE_RUN_MEMORY`"),
    ({"CAPSULE_RUN_FOO": "1"}, "unknown variable `CAPSULE_RUN_FOO`"),
    ({"CAPSULE_RUN_NETWORK": "yes"}, "must be 0 or 1"),
    ({"CAPSULE_RUN_MEMORY": "much"}, "`CAPSULE_RUN_MEMORY`: --memory"),
    ({"CAPSULE_RUN_PRETTY": "1"}, "unknown variable `CAPSULE_RUN_PRETTY`"),
]


@pytest.mark.parametrize(("env", "words"), WRONG)
@pytest.mark.parametrize("mode", [["--", "true"], ["exec", "--lang", "bash"], ["--json"], ["--pretty", "--", "true"]])
def test_variable_that_means_nothing_is_refused(capsule_cli, env, words, mode):
    """A variable of ours that is misspelt, or cannot be read, stops every mode of the command line."""
    answer = command_line(capsule_cli, mode, env, b'{"command": ["true"]}' if mode == ["--json"] else b"true")
    assert 2 == answer.returncode
    said = json.loads(answer.stdout)["error"]["message"] if b'"error"' in answer.stdout else answer.stderr.decode()
    assert words in said


@pytest.mark.parametrize(("env", "words"), WRONG)
def test_variable_that_means_nothing_is_refused_from_python(monkeypatch, env, words):
    """The same from Python, for a run and for the limits of tools."""
    for name, text in env.items():
        monkeypatch.setenv(name, text)
    request = Request(command=("true",))
    for made in (
        lambda: capsule_run.run(["true"]),
        lambda: capsule_run.run_code("", "bash"),
        lambda: capsule_run.execute(request),
        lambda: asyncio.run(aio.execute(request)),
        lambda: Monitor().execute(request),
        operator,
    ):
        with pytest.raises(capsule_run.CapsuleError) as caught:
            made()
        assert words in caught.value.message


def test_variable_of_the_audit_log_is_honoured_or_refused(capsule_cli, monkeypatch, tmp_path):
    """The command line writes the run down; Python and the MCP server say that they would not."""
    log = tmp_path / "audit"
    command_line(capsule_cli, ["--", "true"], {"CAPSULE_RUN_AUDIT_LOG": str(log)})
    assert "true" in log.read_text()
    with Server(env={"CAPSULE_RUN_AUDIT_LOG": str(log)}) as server:
        _out, err = server.process.communicate(timeout=60)
    assert (2, True) == (server.process.returncode, b"has no effect here" in err)
    monkeypatch.setenv("CAPSULE_RUN_AUDIT_LOG", str(log))
    with pytest.raises(capsule_run.CapsuleError, match="has no effect here"):
        capsule_run.run(["true"])


def test_variable_policy_learn_is_a_default_or_refused(capsule_cli, tmp_path):
    """`policy learn` runs the command within the limits of the variables, and refuses those of monitoring."""
    (tmp_path / "shared").mkdir()
    words = ["policy", "learn", "--", "sh", "-c", f"echo 1 > {tmp_path}/shared/f"]
    command_line(capsule_cli, words, {"CAPSULE_RUN_WRITABLE": str(tmp_path / "shared")})
    assert (tmp_path / "shared" / "f").exists()
    answer = command_line(
        capsule_cli, ["policy", "learn", "--", "true"], {"CAPSULE_RUN_AUDIT_LOG": str(tmp_path / "a")}
    )
    assert (2, True) == (answer.returncode, b"`learn` records no run" in answer.stderr)
    answer = command_line(capsule_cli, ["policy", "learn", "--", "true"], {"CAPSULE_RUN_MEMROY": "1G"})
    assert (2, True) == (answer.returncode, b"did you mean `CAPSULE_RUN_MEMORY`" in answer.stderr)


@pytest.mark.parametrize("option", [["--audit-log", "/tmp/x"], ["--metrics-file", "/tmp/x"], ["--audit-required"]])
def test_mcp_option_without_effect_is_refused(option):
    """The MCP server writes no run down, so it refuses the options that say so, instead of ignoring them."""
    with Server(*option) as server:
        _out, err = server.process.communicate(timeout=60)
    assert (2, True) == (server.process.returncode, f"`{option[0]}` has no meaning with `mcp`".encode() in err)
