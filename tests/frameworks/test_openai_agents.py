"""The OpenAI Agents SDK: its runner with our tools, over a server that speaks Responses."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from agents import Agent, RunConfig, Runner
from agents.models.openai_provider import OpenAIProvider
from openai import AsyncOpenAI

from capsule_run.agents.operator import operator
from capsule_run.integrations.openai_agents import conversation_tool, execute_code_tool, local_shell_tool, shell_tool

pytestmark = pytest.mark.sandbox

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(tool):
    """What an agent with this tool ends with."""

    async def main():
        async with AsyncOpenAI() as client:
            settings = RunConfig(tracing_disabled=True, model_provider=OpenAIProvider(openai_client=client))
            agent = Agent(name="a", model="m", tools=[tool])
            return str((await Runner.run(agent, "?", run_config=settings)).final_output)

    return asyncio.run(main())


def outputs(model):
    """What the model was sent for its calls."""
    return [item["output"] for item in model.requests[-1]["input"] if str(item.get("type")).endswith("_call_output")]


def test_openai_agents_function_tool_works(stand_in):
    """An agent calls `execute_code`, reads its mistake, and gets the answer."""
    model = stand_in()
    assert "42" in run(execute_code_tool())
    assert "SyntaxError" in outputs(model)[0]


def test_openai_agents_function_tool_bad_arguments_are_a_result(stand_in):
    """Arguments that are no JSON come back as a result, and the run goes on."""
    model = stand_in(["{", {"code": "print(1)", "language": "python"}])
    run(execute_code_tool())
    assert outputs(model)[0].startswith("status: not run\nerror E1001")


def test_openai_agents_conversation_tool_keeps_state(stand_in):
    """Variables stay from call to call and from run to run; another conversation has none of them."""
    tool = conversation_tool()
    model = stand_in([{"code": "x = 20"}, {"code": "x + 1"}])
    run(tool)
    assert "value: 2 bytes\n```\n21\n```" in outputs(model)[1]
    model = stand_in([{"code": "x + 2"}])
    run(tool)
    assert "value: 2 bytes\n```\n22\n```" in outputs(model)[0]
    model = stand_in([{"code": "x"}])
    run(conversation_tool())
    assert "NameError" in outputs(model)[0]


def test_openai_agents_shell_tool_works(stand_in):
    """Each command's streams and exit code reach the model, and nothing of ours is among them."""
    model = stand_in()
    run(shell_tool())
    first = {"stdout": "one\n", "stderr": "two\n", "outcome": {"type": "exit", "exit_code": 0}}
    assert [first, {"stdout": "", "stderr": "", "outcome": {"type": "exit", "exit_code": 3}}] == outputs(model)[0]


def test_openai_agents_shell_tool_says_what_ended_a_command(stand_in):
    """A timeout is one; what a limit ended has our words behind it, in an output that no command can write."""
    model = stand_in([["echo so far; sleep 60"], ["python3 -c 'bytearray(10**9)'"], ["\0"]])
    run(shell_tool(operator({"resources": {"memory_bytes": 64 << 20}}, max_timeout_ms=1500)))
    timeout, memory, refused = outputs(model)
    assert ("so far\n", {"type": "timeout"}) == (timeout[0]["stdout"], timeout[0]["outcome"])
    assert 137 == memory[0]["outcome"]["exit_code"]
    assert "error E4001" in memory[1]["stderr"]
    assert "status: not run" in refused[0]["stderr"]


def test_openai_agents_local_shell_tool_works(stand_in):
    """The older shell tool gets one text, with its command's output fenced."""
    model = stand_in([["echo $A; pwd"]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        run(local_shell_tool())
    assert "stdout: 13 bytes\n```\nb\n/workspace\n```" in outputs(model)[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["code", "shell"])
def test_openai_agents_example_works(stand_in, kind):
    """examples/openai_agents_sdk.py ends with the answer."""
    stand_in()
    argv = [sys.executable, EXAMPLES / "openai_agents_sdk.py", kind]
    assert "42" in subprocess.run(argv, capture_output=True, text=True, check=True, timeout=250).stdout


def test_openai_agents_outputs_are_json(stand_in):
    """What goes back is JSON."""
    model = stand_in()
    run(shell_tool())
    assert json.dumps(outputs(model))
