"""Every way in which a model's code reaches the sandbox, each as a function from code to what the model then sees."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from typing import NamedTuple

from mcp_client import MAIN, Server

import capsule_run
from capsule_run.agents.operator import operator


class Seen(NamedTuple):
    """An answer: all that reaches the model, the part that is ours, what the program printed, and the exit code."""

    everything: str
    ours: str
    printed: str
    exit_code: int | None


def _of_response(fields, text):
    # `error.message` ends with the last line of stderr, in its string; a program decides by `code` and `cause`
    fields = {**fields, "error": {**fields.get("error", {}), "message": ""}}
    ours = {name: field for name, field in fields.items() if name not in ("stdout", "stderr", "files")}
    return Seen(text, json.dumps(ours), fields.get("stdout", ""), fields.get("exit_code"))


def of_text(text):
    """A text of `tooling.tool_text`, read as Markdown does: what is in no code block is ours."""
    ours, blocks, fence = [], {}, None
    for line in text.split("\n"):
        ticks = re.fullmatch(r"(`{3,})", line)
        if fence is None and ticks:
            fence, block = ticks[1], blocks.setdefault(ours[-1].partition(":")[0], [])
        elif fence is not None and ticks and len(ticks[1]) >= len(fence):
            fence = None
        elif fence is None:
            ours.append(line)
        else:
            block.append(line)
    assert fence is None, f"a code block without an end: {text!r}"
    code = re.search(r"exit code (\d+)", ours[0])
    return Seen(text, "\n".join(ours), "\n".join(blocks.get("stdout", [])), int(code[1]) if code else None)


def sdk(code, limits):
    result = capsule_run.run(
        ["python", "-"],
        stdin=code,
        timeout_ms=limits["timeout_ms"],
        memory=limits["resources"]["memory_bytes"],
        max_pids=limits["resources"]["max_pids"],
    )
    fields = result.to_dict()
    return _of_response(fields, json.dumps(fields))


def _started(*words, stdin):
    return subprocess.run(
        [sys.executable, "-I", "-S", MAIN, *words], input=stdin, capture_output=True, text=True, errors="replace"
    )


def cli_json(code, limits):
    request = {**limits, "command": ["python", "-"], "stdin": code}
    done = _started("--json", stdin=json.dumps(request))
    lines = done.stdout.splitlines()
    assert (1, "") == (len(lines), done.stderr), done
    return _of_response(json.loads(lines[0]), done.stdout)


def cli_exec(code, limits):
    resources = limits["resources"]
    words = [
        "--timeout",
        limits["timeout_ms"],
        "--memory",
        resources["memory_bytes"],
        "--max-pids",
        resources["max_pids"],
    ]
    done = _started("exec", "--lang", "python", "--no-workspace", *map(str, words), "-", stdin=code)
    return Seen(done.stdout + done.stderr, done.stderr, done.stdout, done.returncode)


def langchain(code, limits):
    from capsule_run.integrations.langchain import SecureCodeExecutor

    tool = SecureCodeExecutor(limits=operator(limits))
    call = {"name": tool.name, "args": {"code": code, "language": "python"}, "id": "1", "type": "tool_call"}
    return of_text(tool.invoke(call).content)


def openai_chat(code, limits):
    from capsule_run.integrations.openai import handle_tool_call

    arguments = json.dumps({"code": code, "language": "python"})
    call = {"id": "1", "type": "function", "function": {"name": "execute_code", "arguments": arguments}}
    return of_text(handle_tool_call(call, operator(limits))["content"])


def openai_responses(code, limits):
    from capsule_run.integrations.openai import handle_tool_call

    arguments = json.dumps({"code": code, "language": "python"})
    call = {"call_id": "1", "type": "function_call", "name": "execute_code", "arguments": arguments}
    return of_text(handle_tool_call(call, operator(limits))["output"])


def anthropic(code, limits):
    from capsule_run.integrations.anthropic import handle_tool_use

    block = {"type": "tool_use", "id": "1", "name": "execute_code", "input": {"code": code, "language": "python"}}
    return of_text(handle_tool_use(block, operator(limits))["content"])


def openai_agents(code, limits):
    from capsule_run.integrations.openai_agents import execute_code_tool

    tool = execute_code_tool(operator(limits))
    arguments = json.dumps({"code": code, "language": "python"})
    return of_text(asyncio.run(tool.on_invoke_tool(None, arguments)))


def mcp(code, limits):
    """One server for each call would prove nothing about two calls: the caller gives it as `limits["server"]`."""
    request = {"name": "execute_code", "arguments": {"language": "python", "code": code}}
    answer = limits["server"].ask("tools/call", **request)
    text, data = answer["content"][0]["text"], answer["structuredContent"]
    ours = json.dumps({name: field for name, field in data.items() if name not in ("stdout", "stderr", "files")})
    assert of_text(text).exit_code == data.get("exit_code")
    return Seen(json.dumps(answer), ours + of_text(text).ours, data.get("stdout", ""), data.get("exit_code"))


def mcp_server(limits):
    resources = limits["resources"]
    words = [
        "--timeout",
        limits["timeout_ms"],
        "--memory",
        resources["memory_bytes"],
        "--max-pids",
        resources["max_pids"],
    ]
    return Server(*words)


# The package that a interface is for; None where it needs none.
INTERFACES = {
    "sdk": (sdk, None),
    "cli --json": (cli_json, None),
    "cli exec": (cli_exec, None),
    "langchain": (langchain, "langchain_core"),
    "openai chat": (openai_chat, None),
    "openai responses": (openai_responses, None),
    "anthropic": (anthropic, None),
    "openai-agents": (openai_agents, "agents"),
    "mcp": (mcp, None),
}
