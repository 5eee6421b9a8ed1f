"""`capsule-run mcp` on the wire: handshake, calls, files, limits, and a client that does everything wrong."""

from __future__ import annotations

import base64
import json
import signal
import sys
import time
from pathlib import Path

import pytest
from mcp_client import MAIN, SECONDS, Server

from capsule_run.cli import mcp
from capsule_run.mcp import tools
from capsule_run.mcp.calls import Call, Calls

pytestmark = pytest.mark.sandbox

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
ENVELOPE = {VERSION_KEY: "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def server():
    with Server() as started:
        yield started


def initialize(server, version="2025-11-25"):
    return server.ask("initialize", protocolVersion=version, capabilities={}, clientInfo={"name": "t", "version": "1"})


# --- the protocol -----------------------------------------------------------------------------------------------------

VERSIONS = [
    ("2024-11-05",) * 2,
    ("2025-03-26",) * 2,
    ("2025-06-18",) * 2,
    ("2025-11-25",) * 2,
    ("2099-01-01", "2025-11-25"),
]


@pytest.mark.parametrize(("asked", "given"), VERSIONS)
def test_mcp_revision_of_the_client_is_used(server, asked, given):
    """A known revision is answered with itself, an unknown one with the newest that has a handshake."""
    assert given == initialize(server, asked)["protocolVersion"]


def test_mcp_revision_in_a_request_is_used(server):
    """The revision without a handshake: each request carries its version, each result its kind and who answered."""
    found = server.ask("server/discover", _meta=ENVELOPE)
    assert "2026-07-28" in found["supportedVersions"]
    tools = server.ask("tools/list", _meta=ENVELOPE)
    assert ("complete", "private", "capsule-run") == (
        tools["resultType"],
        tools["cacheScope"],
        tools["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
    )
    error = server.ask("tools/list", _meta={**ENVELOPE, VERSION_KEY: "2099-01-01"})
    assert (-32022, ["2026-07-28"]) == (error["code"], error["data"]["supported"])


def test_mcp_revision_early_gets_no_later_fields(server):
    """Strict clients of the handshake revisions refuse fields that they do not know."""
    initialize(server)
    assert ({}, ["tools"]) == (server.ask("ping"), list(server.ask("tools/list")))


BAD_MESSAGES = [
    (b"{", -32700),
    (b"\xff\xfe{}", -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","id":2}', -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":NaN}', -32700),
    (b"[" * 5000, -32700),
    (b'"ping"', -32600),
    (b"[]", -32600),
    (b'{"jsonrpc":"2.0","id":1}', -32600),
    (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
    (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
    (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":1}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"no/such"}', -32601),
    (b'{"jsonrpc":"2.0","id":1,"method":"prompts/list"}', -32601),
    (b'{"jsonrpc":"2.0","id":1,"method":"initialize"}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm"}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///etc/passwd"}}', -32002),
    (b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"loud"}}', -32602),
]


@pytest.mark.parametrize(("raw", "code"), BAD_MESSAGES, ids=[repr(raw)[:60] for raw, _ in BAD_MESSAGES])
def test_mcp_message_malformed_is_answered_and_survived(server, raw, code):
    """A message that is none gets the error of JSON-RPC, and the next one is served."""
    server.write(raw + b"\n")
    assert code == server.receive()["error"]["code"]
    assert {} == server.ask("ping")


SILENT = [
    b"",
    b"  \r",
    b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
    b'{"jsonrpc":"2.0","method":"notifications/no-such","params":[1]}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":{}}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"never was"}}',
    b'{"jsonrpc":"2.0","id":7,"result":{}}',
    b'[{"jsonrpc":"2.0","method":"notifications/initialized"}]',
]


@pytest.mark.parametrize("raw", SILENT)
def test_mcp_notification_gets_no_answer(server, raw):
    """Notifications, responses and blank lines are taken in silence."""
    server.write(raw + b"\n")
    assert {} == server.ask("ping")


def test_mcp_line_too_long_is_discarded(server):
    """40 MiB in one line are refused without being kept, and the next line is served."""
    for _ in range(40):
        server.write(b"x" * (1 << 20))
    server.write(b"\n")
    assert -32600 == server.receive()["error"]["code"]
    assert {} == server.ask("ping")


def test_mcp_batch_is_answered_as_one(server):
    """An array of messages gets one array of the answers that are due, also when one of them is a call."""
    call = {"name": "execute_command", "arguments": {"command": "echo hi"}}
    server.send([
        {"jsonrpc": "2.0", "id": "a", "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        5,
        {"jsonrpc": "2.0", "id": "b", "method": "tools/call", "params": call},
    ])  # fmt: skip
    answers = server.receive()
    assert {"a", "b", None} == {answer["id"] for answer in answers}
    assert ["hi\n"] == [a["result"]["structuredContent"]["stdout"] for a in answers if a["id"] == "b"]


# --- calls ------------------------------------------------------------------------------------------------------------


def test_mcp_tools_run_code_and_commands(server):
    """Both tools run what they say, and answer with text for the model and the same as data."""
    code = server.python("print(6 * 7)")
    assert (False, "42\n", 0) == (
        code["isError"],
        *(code["structuredContent"][name] for name in ("stdout", "exit_code")),
    )
    assert "status: success" in code["content"][0]["text"]
    assert code["structuredContent"]["metrics"]["wall_ms"] > 0
    described = tools.OUTPUT_SCHEMA["properties"]["metrics"]["additionalProperties"]["type"]
    kinds = {bool: "boolean", int: "number", float: "number"}
    assert {kinds[type(metric)] for metric in code["structuredContent"]["metrics"].values()} <= set(described)
    command = server.call("execute_command", command="tr a-z A-Z | rev", stdin="abc")
    assert "CBA" == command["structuredContent"]["stdout"].strip()


def test_mcp_failure_says_what_to_change(server):
    """A traceback, its line and the cause reach the model as an error result."""
    answer = server.python("x = 1\nnumber + x\n")
    assert answer["isError"]
    assert "NameError: name 'number' is not defined" in answer["content"][0]["text"]
    assert ("E3003", "exit_code") == tuple(answer["structuredContent"]["error"][name] for name in ("code", "cause"))


BAD_ARGUMENTS = [
    ({"name": "execute_code"}, "E1006", "`language`"),
    ({"name": "execute_code", "arguments": []}, "E1003", "arguments"),
    ({"name": "execute_code", "arguments": {"language": "cobol", "code": "x"}}, "E1005", "python"),
    ({"name": "execute_code", "arguments": {"language": "c", "code": "x"}}, "E1005", "must be one of `python`"),
    ({"name": "execute_code", "arguments": {"language": "python", "code": ["x"]}}, "E1003", "arguments.code"),
    ({"name": "execute_code", "arguments": {"language": "python", "code": "1", "timeout_seconds": 1.5}}, "E1003", "whole number"),
    ({"name": "execute_code", "arguments": {"language": "python", "code": ""}}, "E1005", "arguments.code"),
    ({"name": "execute_command", "arguments": {"comand": "ls"}}, "E1002", "did you mean `command`"),
    ({"name": "execute_command", "arguments": {"command": "ls", "timeout_seconds": "5"}}, "E1003", "timeout_seconds"),
    ({"name": "execute_command", "arguments": {"command": "ls", "files": {"a": 1}}}, "E1003", "files"),
    ({"name": "execute_command", "arguments": {"command": "ls", "files": {"a": {"source": "/etc/passwd"}}}}, "E1003", "files"),
    ({"name": "execute_command", "arguments": {"command": "ls", "files": {"../a": "x"}}}, "E1005", ".."),
    ({"name": "execute_command", "arguments": {"command": "ls", "memory": "8G"}}, "E1002", "memory"),
    ({"name": "execute_command", "arguments": {"command": "ls", "isolation": {"network": True}}}, "E1002", "isolation"),
]  # fmt: skip


@pytest.mark.parametrize(("params", "code", "words"), BAD_ARGUMENTS)
def test_mcp_arguments_invalid_are_a_result(server, params, code, words):
    """Nothing runs, and the model reads which argument is wrong: also one by which it would have raised a limit."""
    answer = server.ask("tools/call", **params)
    assert (True, "not run", code) == (
        answer["isError"],
        answer["structuredContent"]["status"],
        answer["structuredContent"]["error"]["code"],
    )
    assert words in answer["content"][0]["text"]


def test_mcp_calls_are_concurrent(server):
    """Two calls that wait for each other's end would never end one after the other; here the short one is first."""
    slow = server.start("tools/call", name="execute_command", arguments={"command": "sleep 60"})
    assert "quick\n" == server.call("execute_command", command="echo quick")["structuredContent"]["stdout"]
    server.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": slow}})
    assert {} == server.ask("ping")


def test_mcp_calls_over_the_limit_wait_and_answer(server):
    """More calls than may run together wait for their turn, and each gets its own answer."""
    wanted = {
        server.start("tools/call", name="execute_command", arguments={"command": f"echo {n}"}): f"{n}\n"
        for n in range(20)
    }
    answers = [server.receive() for _ in wanted]
    assert wanted == {answer["id"]: answer["result"]["structuredContent"]["stdout"] for answer in answers}


def test_mcp_progress_is_sent_only_on_request(server):
    """With a token a long call is heard of while it runs; the answer comes last. Without one, there is the answer only."""
    arguments = {"command": "sleep 1.5"}
    call = server.start("tools/call", name="execute_command", arguments=arguments, _meta={"progressToken": "tok"})
    first, last = server.receive(), server.receive()
    assert ("notifications/progress", "tok") == (first["method"], first["params"]["progressToken"])
    assert 0 < first["params"]["progress"] <= first["params"]["total"]
    assert call == last["id"]
    call = server.start("tools/call", name="execute_command", arguments=arguments)
    assert call == server.receive()["id"]


def descendants(pid):
    """Every process below one, also below its threads."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in task.joinpath("children").read_text().split():
            found += [child, *descendants(child)]
    return found


def is_alive(pid):
    """Whether it runs; one that has ended and is still to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids):
    """Whether none of these is left, waiting until it is so."""
    until = time.monotonic() + SECONDS
    while any(map(is_alive, pids)):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def start_long_run(server):
    """A call that has certainly begun: it is heard of. Returns its id and the processes below the server."""
    arguments = {"command": "sleep 300 & sleep 301"}
    call = server.start("tools/call", name="execute_command", arguments=arguments, _meta={"progressToken": 1})
    assert 1 == server.receive()["params"]["progressToken"]
    below = descendants(server.process.pid)
    assert len(below) >= 3, below
    return call, below


def test_mcp_cancelled_call_leaves_no_process(server):
    """A cancelled call leaves no process, and gets no answer: the next one that comes is to the next request."""
    call, below = start_long_run(server)
    server.send(
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": call, "reason": "enough"}}
    )
    assert gone(below)
    assert {} == server.ask("ping")


ENDS = {
    "end of input": lambda process: process.stdin.close(),
    "SIGTERM": lambda process: process.send_signal(signal.SIGTERM),
    "SIGINT": lambda process: process.send_signal(signal.SIGINT),
    "SIGKILL": lambda process: process.kill(),
}


@pytest.mark.parametrize("end", ENDS)
def test_mcp_server_end_ends_its_runs(end):
    """However it ends, nothing of its calls goes on; by its client's or a signal's wish it ends with 0."""
    server = Server()
    _call, below = start_long_run(server)
    ENDS[end](server.process)
    assert (-9 if end == "SIGKILL" else 0) == server.process.wait(SECONDS)
    assert gone(below)
    assert b"" == server.process.stderr.read()
    server.process.stdin.close()
    server.process.stdout.close()
    server.process.stderr.close()


def test_mcp_client_that_does_not_read_blocks_nothing(server):
    """Answers wait in our memory: a hundred that nobody reads, more than a pipe holds, and the server still takes calls."""
    for _ in range(100):
        server.start("tools/list")
    server.start("ping")
    kinds = [set(server.receive()["result"]) for _ in range(101)]
    assert [{"tools"}] * 100 + [set()] == kinds


def test_mcp_stdout_has_only_the_protocol():
    """Every line of stdout is a JSON-RPC message, whatever the programs print, and stderr stays empty."""
    noise = {"command": 'echo \'{"jsonrpc":"2.0","id":1,"result":{}}\'; echo err >&2; exit 3'}
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "execute_command", "arguments": noise}},
    ]
    with Server() as server:
        for line in lines:
            server.send(line)
        answers = [server.receive() for _ in lines]
        out, err = server.process.communicate(timeout=SECONDS)
    assert ([1, 2], b"", b"") == ([answer["id"] for answer in answers], out, err)


# --- files ------------------------------------------------------------------------------------------------------------

MAKE_FILES = f"""
import os
open('plot.png', 'wb').write({PNG!r})
open('fake.png', 'w').write('not an image')
open('notes.txt', 'w').write('hello')
open('big.txt', 'w').write('x' * 50_000)
open('raw.bin', 'wb').write(bytes(range(256)))
os.symlink('/etc/passwd', 'link')
open(b'bad\\xff\\nname', 'w').write('odd')
"""


def test_mcp_files_produced_are_returned(server):
    """An image is an image by its bytes, a short text is in the answer, the rest can be read; a link is not followed."""
    answer = server.python(MAKE_FILES)
    kinds = [(block["type"], block.get("name") or block.get("mimeType") or block["resource"]["uri"].rpartition("/")[2])
             for block in answer["content"][1:]]  # fmt: skip
    assert [
        ("image", "image/png"), ("resource", "bad%FF%0Aname"), ("resource", "fake.png"), ("resource", "notes.txt"),
        ("resource_link", "big.txt"), ("resource_link", "raw.bin"),
    ] == sorted(kinds)  # fmt: skip
    files = {row["path"]: row for row in answer["structuredContent"]["files"]}
    assert "symlink" == files["link"]["reason"]
    assert "bad\ufffd\nname" in files
    raw = server.ask("resources/read", uri=files["raw.bin"]["uri"])["contents"][0]
    assert bytes(range(256)) == base64.b64decode(raw["blob"])
    assert "x" * 50_000 == server.ask("resources/read", uri=files["big.txt"]["uri"])["contents"][0]["text"]
    assert {"plot.png", "notes.txt"} < {row["name"] for row in server.ask("resources/list")["resources"]}


def test_mcp_files_sent_are_not_echoed(server):
    """What a call brings is there, and comes back only when it was changed."""
    answer = server.python(
        "print(open('d/in.txt').read()); open('n', 'a').write('!')", files={"d/in.txt": "abc", "n": "1"}
    )
    assert "abc\n" == answer["structuredContent"]["stdout"]
    assert ["n"] == [row["path"] for row in answer["structuredContent"]["files"]]


def test_mcp_files_by_the_thousand_are_counted(server):
    """The answer names twenty files and counts the others."""
    answer = server.python("for n in range(1000): open(f'f{n}', 'w')")
    assert (20, 980) == (len(answer["structuredContent"]["files"]), answer["structuredContent"]["files_omitted"])


# --- the operator -----------------------------------------------------------------------------------------------------


def test_mcp_operator_limits_hold():
    """Memory, time and output are the operator's; what a model asks for is brought below the ceiling."""
    with Server("--memory", "64M", "--timeout", "1000") as server:
        tools = server.ask("tools/list")["tools"]
        assert {1.0} == {tool["inputSchema"]["properties"]["timeout_seconds"]["maximum"] for tool in tools}
        big = server.python("x = bytearray(10**9)", timeout_seconds=300)
        assert ("killed", "memory") == (big["structuredContent"]["status"], big["structuredContent"]["error"]["cause"])
        long = server.python("print('so far', flush=True)\nwhile True: pass", timeout_seconds=300)
        assert ("timeout", "so far\n") == tuple(long["structuredContent"][name] for name in ("status", "stdout"))


def test_mcp_options_of_the_command_line_win(tmp_path):
    """CAPSULE_RUN_ variables are options; what both give, the command line says."""
    tmp_path.joinpath("given").write_text("from the host")
    tmp_path.chmod(0o755)
    env = {
        "CAPSULE_RUN_TIMEOUT": "9000",
        "CAPSULE_RUN_WORKSPACE": f"{tmp_path.resolve()}:ro",
        "CAPSULE_RUN_ENV": "A=1\nB=2",
    }
    with Server("--timeout", "7000", env=env) as server:
        tool = server.ask("tools/list")["tools"][0]
        assert 7.0 == tool["inputSchema"]["properties"]["timeout_seconds"]["maximum"]
        answer = server.call("execute_command", command="cat given; echo $A$B; touch new 2>/dev/null || echo ro")
    assert "from the host12\nro\n" == answer["structuredContent"]["stdout"]


ANNOTATIONS = [
    ((), (True, False, False)),
    (("--network",), (False, True, True)),
    (("--writable", "/tmp"), (False, True, False)),
    (("--workspace", "/tmp:rw"), (False, True, False)),
    (("--workspace", "/tmp:ro"), (True, False, False)),
    (("--bind", "/tmp:/data:rw"), (False, True, False)),
]


@pytest.mark.parametrize(("options", "hints"), ANNOTATIONS)
def test_mcp_annotations_follow_what_is_shared(options, hints):
    """Read-only is said only where no call can change anything that outlives it, or reach anybody."""
    with Server(*options) as server:
        annotations = server.ask("tools/list")["tools"][0]["annotations"]
    assert hints == tuple(annotations[name] for name in ("readOnlyHint", "destructiveHint", "openWorldHint"))


REFUSED = [
    (("--memroy", "1G"), {}, "did you mean `--memory`"),
    (("--pretty",), {}, "`--pretty` has no meaning"),
    (("--", "ls"), {}, "takes no command"),
    (("--execution-id", "x"), {}, "`execution_id` is each call's own"),
    ((), {"CAPSULE_RUN_MEMROY": "1G"}, "did you mean `CAPSULE_RUN_MEMORY`"),
    ((), {"CAPSULE_RUN_NETWORK": "yes"}, "must be 0 or 1"),
    ((), {"CAPSULE_RUN_MEMORY": "much"}, "--memory"),
]


@pytest.mark.parametrize(("options", "env", "words"), REFUSED)
def test_mcp_limit_invalid_stops_the_server(options, env, words):
    """A limit that cannot be read is not one that is left out: the server does not start, and says why on stderr."""
    with Server(*options, env=env) as server:
        out, err = server.process.communicate(timeout=SECONDS)
    assert (2, b"") == (server.process.returncode, out)
    assert words in err.decode()


def test_mcp_help_names_every_limit(capfd):
    """The help has each option that the server takes, and none that it refuses."""
    assert 0 == mcp.main(["--help"])
    said = capfd.readouterr().out
    assert [] == [option.long for option in mcp.OPTIONS if f" {option.long} " not in said]
    assert [] == [name for name in ("--json", "--dry-run", "--execution-id") if f" {name} " in said]


def test_mcp_setup_error_hides_host_paths(tmp_path):
    """Where a sandbox cannot be made, the model reads that it is not its fault, and the operator's log says which path."""
    place = tmp_path.resolve() / "secret-name"
    place.mkdir()
    with Server("--readonly", place) as server:
        place.rmdir()
        level = server.ask("logging/setLevel", level="error")
        server.start("tools/call", name="execute_command", arguments={"command": "true"})
        log, answer = server.receive(), server.receive()
        _out, err = server.process.communicate(timeout=SECONDS)
    assert {} == level
    assert "secret-name" not in json.dumps(answer)
    assert ("notifications/message", True) == (log["method"], "secret-name" in log["params"]["data"])
    assert "secret-name" in err.decode()
    assert "E2004" == answer["result"]["structuredContent"]["error"]["code"]


def test_mcp_limits_that_fit_no_call_are_in_the_log(tmp_path):
    """Into a workspace of the host's no file can be put: the model reads that it is not set up, the log says why."""
    place = tmp_path.resolve()
    with Server("--workspace", f"{place}:ro", "--require", "overlay") as server:
        server.start("tools/call", name="execute_command", arguments={"command": "true", "files": {"a": "b"}})
        log, answer = server.receive(), server.receive()["result"]
        _out, err = server.process.communicate(timeout=SECONDS)
    assert ("not run", False) == (answer["structuredContent"]["status"], str(place) in json.dumps(answer))
    assert "not set up" in answer["content"][0]["text"]
    assert (True, True) == ("E1009" in log["params"]["data"], b"E1009" in err)


def test_mcp_cancelled_call_is_not_due(monkeypatch):
    """A cancelled call that has not ended yet is not due: waiting for it must not become a loop without a wait."""
    calls, call = Calls(), Call(None, None, lambda _seconds, _request: None)
    monkeypatch.setitem(calls._calls, 1, call)
    assert calls.wait_seconds() is not None
    calls.cancel(1)
    assert calls.wait_seconds() is None


def test_mcp_server_started_by_hand_serves(capsule_cli):
    """The installed command serves like the module."""
    with Server(argv=[capsule_cli]) as server:
        assert "42\n" == server.python("print(42)")["structuredContent"]["stdout"]


def test_mcp_server_of_an_ordinary_user_serves(as_user):
    """The same for an account without rights, started through the shell as a client would."""
    line = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "execute_command", "arguments": {"command": "id -u; sleep 0.1"}}}  # fmt: skip
    message = json.dumps(line).encode() + b"\n"
    script = (
        "import json, subprocess, sys\n"
        "server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        f"server.stdin.write({message!r}); server.stdin.flush()\n"
        "print(json.loads(server.stdout.readline())['result']['structuredContent']['stdout'])\n"
        "server.stdin.close(); sys.exit(server.wait())\n"
    )
    done = as_user([sys.executable, "-c", script, sys.executable, "-I", "-S", MAIN, "mcp"])
    assert (0, b"1000\n\n") == (done.returncode, done.stdout), done


def test_mcp_calls_beyond_the_queue_are_refused(server):
    """Of 300 calls at once 108 are taken, the others get an error at once, and the server still answers."""
    for _ in range(300):
        server.start("tools/call", name="execute_command", arguments={"command": "sleep 60"})
    refused = [server.receive()["error"]["code"] for _ in range(192)]
    assert ([-32000] * 192, {}) == (refused, server.ask("ping"))


def test_mcp_call_without_thread_is_refused(monkeypatch):
    """Where no thread can be started, a call is refused and its id is free again."""

    def no_thread(_self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", no_thread)
    calls = Calls()
    assert (False, False) == (calls.start(1, Call(lambda: None, lambda *_: None, None)), 1 in calls)
