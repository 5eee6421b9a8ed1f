"""The tools of `capsule-run mcp --sandboxes` on the wire: state between calls, its limits, and a model that does wrong."""

from __future__ import annotations

import pytest
from mcp_client import Server

from capsule_run.cli import mcp

pytestmark = pytest.mark.sandbox


@pytest.fixture
def server():
    with Server("--sandboxes", "2") as started:
        yield started


def call(server, name, **arguments):
    """Call a tool; return its structured content."""
    return answer(server, name, **arguments)["structuredContent"]


def answer(server, name, **arguments):
    return server.ask("tools/call", name=name, arguments=arguments)


def test_mcp_tools_with_state_are_there_if_the_operator_says_so(server):
    """Without `--sandboxes` there are two tools; with it, eight more, each with schemas."""
    tools = {tool["name"]: tool for tool in server.ask("tools/list")["tools"]}
    assert {
        "execute_code", "execute_command", "create_sandbox", "close_sandbox", "run_code", "start_process", "read_output",
        "stop_process", "write_file", "read_file",
    } == tools.keys()  # fmt: skip
    assert ["python", "javascript"] == tools["run_code"]["inputSchema"]["properties"]["language"]["enum"]
    with Server() as plain:
        assert ["execute_code", "execute_command"] == [tool["name"] for tool in plain.ask("tools/list")["tools"]]
        assert -32602 == plain.ask("tools/call", name="run_code", arguments={"code": "1"})["code"]


def test_mcp_code_keeps_its_variables(server):
    """Cells of several calls share variables; the value, the output and an exception come back."""
    call(server, "run_code", code="x = 20")
    given = answer(server, "run_code", code="print('out')\nx + 1")
    assert ("success", "21", "out\n", "sandbox-1") == tuple(
        given["structuredContent"][name] for name in ("status", "value", "stdout", "sandbox")
    )
    assert "value: 2 bytes\n```\n21\n```" in given["content"][0]["text"]
    failed = answer(server, "run_code", code="1/0")
    assert failed["isError"]
    assert "ZeroDivisionError: division by zero" in failed["content"][0]["text"]
    assert {"code": "ZeroDivisionError", "cause": "exception", "message": "the code raised an exception"} == failed[
        "structuredContent"
    ]["error"]


def test_mcp_image_of_a_cell_is_image_content(server):
    """What a cell displays as PNG is an image of the answer."""
    code = "import base64\ndisplay({'image/png': base64.b64decode('iVBORw0KGgo=')}, raw=True)"
    assert [{"type": "image", "data": "iVBORw0KGgo=", "mimeType": "image/png"}] == answer(
        server, "run_code", code=code
    )["content"][1:]


def test_mcp_files_and_processes_live_between_calls(server):
    """A file that is written is read, by code and by a process that goes on while other calls run."""
    call(server, "write_file", path="data/in.txt", text="40")
    assert "42" == call(server, "run_code", code="int(open('data/in.txt').read()) + 2")["value"]
    assert {"text": "40", "bytes": 2} == {
        name: call(server, "read_file", path="data/in.txt")[name] for name in ("text", "bytes")
    }
    call(server, "run_code", code="import os; os.mkfifo('go')")
    stopped = call(server, "start_process", command="sleep 1000")["process"]
    assert call(server, "read_output", process=stopped)["running"]
    assert "success" == call(server, "stop_process", process=stopped)["status"]
    assert "E1005" == call(server, "read_output", process=stopped)["error"]["code"]
    started = call(server, "start_process", command="echo begun; cat go; exit 3")["process"]
    call(server, "run_code", code="open('go', 'w').write('went on');")
    ended = call(server, "read_output", process=started, wait_seconds=30)
    assert (False, 3, "begun\nwent on") == (ended["running"], ended["exit_code"], ended["stdout"])
    assert "" == call(server, "read_output", process=started)["stdout"]


def test_mcp_sandboxes_are_counted_and_apart(server):
    """A client has as many as the operator allows, each with state of its own; one that is closed makes room."""
    one, two = (call(server, "create_sandbox")["sandbox"] for _ in range(2))
    call(server, "run_code", sandbox=one, code="x = 1")
    assert "NameError" == call(server, "run_code", sandbox=two, code="x")["error"]["code"]
    refused = call(server, "create_sandbox")
    assert ("not run", "E1004") == (refused["status"], refused["error"]["code"])
    assert "close_sandbox" in refused["error"]["do"]
    call(server, "close_sandbox", sandbox=one)
    assert "success" == call(server, "create_sandbox")["status"]


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("run_code", {}, "E1006"),
        ("run_code", {"code": ""}, "E1005"),
        ("run_code", {"code": "1", "language": "ruby"}, "E1005"),
        ("run_code", {"code": "1", "sandbox": "sandbox-9"}, "E1005"),
        ("run_code", {"code": "1", "memory": "1T"}, "E1002"),
        ("read_output", {"process": "process-9"}, "E1005"),
        ("read_output", {"process": "process-9", "wait_seconds": "long"}, "E1003"),
        ("write_file", {"path": "x"}, "E1006"),
        ("write_file", {"path": "/etc/passwd", "text": "x"}, None),
        ("read_file", {"path": "no-such"}, None),
        ("read_file", {"path": "../../../../etc/shadow"}, None),
    ],
)
def test_mcp_wrong_call_with_state_is_an_answer(server, name, arguments, code):
    """What a model does wrong is said to it, and the next call works."""
    found = answer(server, name, **arguments)
    assert found["isError"], found
    assert found["structuredContent"]["error"]["code"] == code or code is None
    assert "2" == call(server, "run_code", code="1 + 1")["value"]


def test_mcp_cell_that_is_cancelled_is_interrupted(server):
    """A cancelled cell gets no answer, and the variables of its interpreter stay."""
    call(server, "run_code", code="kept = 1")
    request = {"name": "run_code", "arguments": {"code": "open('on', 'w').close()\nwhile True: pass"}}
    server.send({"jsonrpc": "2.0", "id": "slow", "method": "tools/call", "params": request})
    waits = call(server, "start_process", command="until [ -e on ]; do sleep 0.05; done")["process"]
    assert 0 == call(server, "read_output", process=waits, wait_seconds=30)["exit_code"]
    server.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "slow"}})
    assert "1" == call(server, "run_code", code="kept")["value"]


def test_mcp_timeout_of_a_cell_is_the_operators():
    """A cell that asks for more time than there is gets what there is."""
    with Server("--sandboxes", "1", "--timeout", "1500") as server:
        found = call(server, "run_code", code="while True: pass", timeout_seconds=300)
    assert ("timeout", "timeout", False) == (found["status"], found["error"]["cause"], found["state_lost"])


def test_mcp_idle_sandbox_ends():
    """A sandbox without calls ends after the operator's time, and the next call says so."""
    with Server("--sandboxes", "1", "--idle-timeout", "0.3s") as server:
        name = call(server, "run_code", code="1")["sandbox"]
        call(server, "execute_command", command="sleep 2")  # of another sandbox
        assert "E1005" == call(server, "run_code", sandbox=name, code="1")["error"]["code"]
        assert "success" == call(server, "create_sandbox")["status"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sandboxes", "0"], '--sandboxes: must be a whole number from 1 to 64, got "0"'),
        (["--sandboxes"], "`--sandboxes` needs a value"),
        (["--idle-timeout", "5"], "`--idle-timeout` needs `--sandboxes <NUM>`"),
        (["--sandboxes", "1", "--idle-timeout", "soon"], "--idle-timeout: must be a whole number of milliseconds or"),
        (["--sandboxes", "1", "--idle-timeout", "48h"], "--idle-timeout: must be from 1 to 86400000 ms, got 172800000"),
        (["--sandboxes", "1", "true"], "`mcp` takes no command"),
    ],
)
def test_mcp_option_for_sandboxes_that_is_wrong_is_refused(words, message):
    """An option that is wrong stops the server."""
    with pytest.raises(Exception, match=r"E100[457]") as raised:
        mcp.main(words)
    assert message in str(raised.value)
