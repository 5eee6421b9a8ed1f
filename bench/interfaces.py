"""From a tool call to its answer, for `print(42)`: what each interface adds to the run itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from measure import Row, absent, interleaved, judged, median, milliseconds, percentile
from start import cli_path

if TYPE_CHECKING:
    from collections.abc import Callable

CODE = "print(42)"
MCP_START_MS = 100.0
# A interface that starts no process may add a message to another one and back, or a framework's own validation.
SHARE_OF_SDK = 1.25
OURS = ("OpenAI handle_tool_call", "Anthropic handle_tool_use", "MCP tools/call")
HANDSHAKE = "MCP, from nothing to the handshake"
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}


class Client:
    """`capsule-run mcp` and its pipes."""

    def __init__(self, cli: str) -> None:
        self._server = subprocess.Popen([cli, "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ask("initialize", **INITIALIZE)

    def ask(self, method: str, **params: object) -> dict:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        while "id" not in (answer := json.loads(self._server.stdout.readline())):
            pass  # a notification
        return answer["result"]

    def close(self) -> None:
        self._server.communicate()


def handshake(cli: str) -> float:
    start = time.perf_counter_ns()
    client = Client(cli)
    taken = time.perf_counter_ns() - start
    client.close()
    return taken / 1e6


def expect(text: str) -> None:
    if "42" not in text:
        raise RuntimeError(f"no answer: {text[:300]}")


def commands(cli: str) -> dict[str, Callable[[], object]]:
    """The interfaces that start a process for each call."""
    request = json.dumps({"command": ["python", "-c", CODE]})

    def started(words: list[str], stdin: str) -> Callable[[], object]:
        return lambda: expect(subprocess.run([cli, *words], input=stdin, capture_output=True, text=True).stdout)

    return {
        "capsule-run --json": started(["--json"], request),
        "capsule-run exec": started(["exec", "--lang", "python", "--no-workspace", "-"], CODE),
    }


def in_process() -> tuple[dict[str, Callable[[], object]], list[Row]]:
    """The interfaces within this process, as far as their packages are installed."""
    import capsule_run
    from capsule_run.integrations.anthropic import handle_tool_use
    from capsule_run.integrations.openai import handle_tool_call

    arguments = {"code": CODE, "language": "python"}
    chat = {"id": "1", "type": "function", "function": {"name": "execute_code", "arguments": json.dumps(arguments)}}
    block = {"type": "tool_use", "id": "1", "name": "execute_code", "input": arguments}
    interfaces: dict[str, Callable[[], object]] = {
        "capsule_run.run": lambda: expect(capsule_run.run(["python", "-c", CODE]).stdout),
        "capsule_run.run_code": lambda: expect(capsule_run.run_code(CODE, "python").stdout),
        "OpenAI handle_tool_call": lambda: expect(str(handle_tool_call(chat))),
        "Anthropic handle_tool_use": lambda: expect(str(handle_tool_use(block))),
    }
    missing = []
    try:
        from capsule_run.integrations.langchain import SecureCodeExecutor

        tool = SecureCodeExecutor()
        interfaces["LangChain tool"] = lambda: expect(str(tool.invoke(arguments)))
    except ImportError:
        missing.append(absent("LangChain tool", "needs langchain-core"))
    try:
        from capsule_run.integrations.openai_agents import execute_code_tool

        function = execute_code_tool()
        interfaces["OpenAI Agents tool"] = lambda: expect(
            str(asyncio.run(function.on_invoke_tool(None, json.dumps(arguments))))
        )
    except ImportError:
        missing.append(absent("OpenAI Agents tool", "needs openai-agents"))
    return interfaces, missing


def rows(rounds: int) -> list[Row]:
    """Ratios to the SDK's call, which is the run itself; and what the MCP server takes to be there."""
    cli = cli_path()
    if cli is None:
        return [absent("interfaces", f"capsule-run is not installed beside {sys.executable}")]
    interfaces, missing = in_process()
    interfaces |= commands(cli)
    client = Client(cli)
    call = {"name": "execute_code", "arguments": {"code": CODE, "language": "python"}}
    interfaces["MCP tools/call"] = lambda: expect(client.ask("tools/call", **call)["content"][0]["text"])
    try:
        cases = {name: milliseconds(interface) for name, interface in interfaces.items()}
        cases[HANDSHAKE] = lambda: handshake(cli)
        samples = interleaved(cases, rounds)
    finally:
        client.close()
    middle = {name: median(figures) for name, figures in samples.items()}
    base = middle["capsule_run.run"]
    table = [
        Row(name, value, "ms", percentile(samples[name], 0.25), f"{value / base:.2f} × the SDK")
        for name, value in middle.items()
    ]
    low = {name: percentile(figures, 0.25) for name, figures in samples.items()}
    share = max(low[name] for name in OURS) / low["capsule_run.run"]
    return [
        *table,
        *missing,
        judged("the slowest of ours that starts no process, share of the SDK", share, "×", SHARE_OF_SDK),
        judged(f"{HANDSHAKE}, lower quartile", low[HANDSHAKE], "ms", MCP_START_MS),
    ]
