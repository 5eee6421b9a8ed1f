"""The hint of a failed run: what real programs write leads to the option that helps, and every interface says the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from inside import code_of

import capsule_run
from capsule_run.agents.operator import operator
from capsule_run.agents.tool import execute_code
from capsule_run.request.arguments import ARGUMENTS
from capsule_run.request.option_table import OPTIONS
from capsule_run.result import evidence


def _samples(kind):
    """The samples of a kind: name -> the program that it needs, a shell script that fails, the option that the hint names."""
    found = {}
    for part in Path(__file__).with_name("failing_programs.txt").read_text().split("\n@@ ")[1:]:
        head, _newline, script = part.partition("\n")
        of, name, program, option = head.split(" | ")
        if of == kind:
            found[name] = (program, script, "" if option == "none" else option)
    return found


EVERYWHERE, OTHERS = _samples("everywhere"), _samples("others")


def _check(inside, script, option):
    response = inside(["sh", "-c", script], timeout_ms=60_000, resources={"memory_bytes": 1 << 30})
    said = response["error"].get("hint", "")
    assert code_of(response) in ("E3003", "E3005"), response
    assert bool(option) == bool(said), (said, response["stderr"])
    words = ("--no-workspace", "-t", "60000", "-m", "1G", "--", "sh", "-c", script)
    printed = inside.cli(*words).stderr.decode("utf-8", "replace")
    assert option in printed.rpartition("\nhint: ")[2] if said else "\nhint: " not in printed, printed
    assert f"`{option}" not in said or not option.startswith("--")


@pytest.mark.parametrize("name", EVERYWHERE)
def test_advice_for_programs_of_every_host_names_the_option(inside_as_caller, name):
    """JSON and the command line name the same option for what the programs of every host write."""
    _program, script, option = EVERYWHERE[name]
    _check(inside_as_caller, script, option)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_advice_for_real_programs_names_the_option(inside_as_caller, needs, name):
    """JSON and the command line name the same option for what this host's compilers, runtimes and clients write."""
    program, script, option = OTHERS[name]
    needs("corpus", present=shutil.which(program, path="/usr/local/bin:/usr/bin:/bin") is not None)
    _check(inside_as_caller, script, option)


WAITING = """
import socket, time
while True:
    try: socket.create_connection(('example.com', 80))
    except OSError: time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("code", "network", "field"),
    [
        (WAITING, False, "isolation.network"),
        (WAITING, True, "timeout_ms"),
        ("import time; time.sleep(60)", False, "timeout_ms"),
    ],
    ids=["look-ups", "with the network", "without a connection"],
)
def test_advice_for_a_timeout_of_connections_names_the_network(inside_as_caller, code, network, field):
    """A silent program that tries to connect until its time is up is explained by the missing network, and no other is."""
    code = code.replace("example.com", "192.0.2.1") if not network else code.replace("example.com", "127.0.0.1")
    response = inside_as_caller(["python3", "-c", code], timeout_ms=1500, isolation={"network": network})
    assert ("E3006", True) == (code_of(response), field in response["error"]["hint"])


FAILURES = {
    "network": ("import socket; socket.create_connection(('192.0.2.1', 80))", {}),
    "module": ("import numpyx", {}),
    "file": ("open('data.csv')", {}),
    "memory": ("x = bytearray(b'x') * (1 << 30)", {"resources": {"memory_bytes": 64 << 20}}),
    "time": ("while True: pass", {"timeout_ms": 700}),
    "output": ("print('x' * 5000)", {"resources": {"max_output_bytes": 100}}),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_advice_is_the_same_in_every_interface(inside_as_caller, failure):
    """The same remedy everywhere: JSON and agents' tools name the field, the SDK the argument, the command line the option."""
    code, fields = FAILURES[failure]
    json = inside_as_caller(["python3", "-c", code], **fields)["error"]["hint"]
    limits = fields.get("resources", {})
    result = capsule_run.run(
        ["python3", "-c", code], timeout_ms=fields.get("timeout_ms"), memory=limits.get("memory_bytes"),
        max_output=limits.get("max_output_bytes"),
    )  # fmt: skip
    options = [f"--timeout={fields['timeout_ms']}"] if "timeout_ms" in fields else []
    options += [f"--{'memory' if name == 'memory_bytes' else 'max-output'}={limit}" for name, limit in limits.items()]
    line = inside_as_caller.cli("--no-workspace", *options, "--", "python3", "-c", code).stderr.decode()
    tool = execute_code({"code": code, "language": "python"}, operator(fields)).text
    (do,) = [line for line in tool.splitlines() if line.startswith("do: ")]
    field = next(part for part in json.split("`") if part.startswith(("isolation.", "resources.", "timeout_ms")))
    (row,) = [row for row in OPTIONS if row.field == field and row.gives is True]
    (argument,) = [name for name, path in ARGUMENTS.items() if path == field]
    printed = line.rpartition("\nhint: ")[2]
    assert f"`--{row.long.removeprefix('--')}" in printed
    assert f"`{field}`" not in printed
    assert f"`{argument}=" in result.error.hint
    assert f"`{field}`" in do
    for said in (json, do, result.error.hint):
        assert "`--" not in said


def test_advice_message_quotes_no_warning_of_a_test_suite(inside_as_caller):
    """A failed suite is reported by its summary, and not by the warning that happens to be the last line of stderr."""
    script = "echo 'flasgger is not installed' >&2; echo 'F.'; echo '=== 1 failed, 1 passed in 0.01s ==='; exit 1"
    error = inside_as_caller(["sh", "-c", script])["error"]
    assert "the command exited with code 1: 1 failed, 1 passed in 0.01s" == error["message"]


DENIED = "import ctypes, sys; c = ctypes.CDLL(None, use_errno=True); c.syscall(%d, 0, 0); %s"


def test_advice_denied_call_that_stderr_reports_is_printed_after_a_clean_end(inside_as_caller):
    """A denied probe is worth no line after a clean end, unless stderr reports it; `-v` and the result count it."""
    say = "print('x: Function not implemented', file=sys.stderr)"
    unknown = DENIED % (999, "0")
    reported = DENIED % (999, say)
    assert b"denied `999`" not in inside_as_caller.cli("--no-workspace", "--", "python3", "-c", unknown).stderr
    assert b"denied `999`" in inside_as_caller.cli("--no-workspace", "--", "python3", "-c", reported).stderr
    verbose = inside_as_caller.cli("-v", "--no-workspace", "--", "python3", "-c", unknown).stderr
    assert b"capsule-run: denied     1 system calls (`999`)" in verbose
    response = inside_as_caller(["python3", "-c", f"for _ in range(3): {reported}"])
    assert (3, [True]) == (response["denied_count"], [call["reported"] for call in response["denied"]])


def test_advice_for_denied_calls_names_one_profile(inside_as_caller):
    """If stderr reports a denied call, the hint names one profile that allows all that was denied."""
    code = "import os, sys, socket\ntry: os.fork()\nexcept OSError as e: sys.exit(f'fork: {e}')"
    response = inside_as_caller(["python3", "-c", code], profile="strict")
    assert response["error"]["hint"].startswith("`profile` `default` allows what was denied: ")
    assert "success" == inside_as_caller(["python3", "-c", code], profile="default")["status"]


def test_advice_code_is_not_loaded_for_a_run_that_succeeds():
    """A run that succeeds loads none of the advice, and one that fails does."""
    loaded = (
        "import sys, capsule_run; capsule_run.run(%r); print(*[name for name in sys.modules if '.result.' in name])"
    )
    for command, expected in ((["true"], False), (["false"], True)):
        said = subprocess.run(
            [sys.executable, "-c", loaded % command], capture_output=True, text=True, check=True
        ).stdout
        assert expected == any(name in said for name in ("hints", "failure_words", "explaining_line"))


def test_advice_denied_call_of_a_process_that_failed_is_reported_after_a_clean_end(inside_as_caller):
    """With a ledger, a denied call counts as reported if a process of that name ended badly, though all is silent."""
    code = "import ctypes, sys; ctypes.CDLL(None).syscall(999); sys.exit(3)"
    response = inside_as_caller(["sh", "-c", f'python3 -c "{code}" & wait; true'], ledger=True)
    assert ("success", [True]) == (response["status"], [call["reported"] for call in response["denied"]])


@pytest.mark.parametrize(
    ("program", "words"), [("java", "-Xmx"), ("/usr/bin/node", "--max-old-space-size"), ("python3", "")]
)
def test_advice_for_memory_names_the_heap_of_a_runtime(program, words):
    """A runtime that takes as much memory as it may gets a hint with its heap option, besides the larger limit."""
    said = evidence._heap_hint((program, "x"))
    assert (bool(words), True) == (bool(said), words in said)
