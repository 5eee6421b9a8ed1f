"""OpenAI: the seed's schema, real clients against a server that speaks the wire formats, and calls that are wrong."""

from __future__ import annotations

import asyncio
import json

import pytest
from openai import AsyncOpenAI, OpenAI

from capsule_run.agents.operator import operator
from capsule_run.integrations import openai as sandbox

pytestmark = pytest.mark.sandbox

# The README of the tool that this one continues.
SEED = json.loads("""
{
  "name": "execute_code",
  "description": "Execute code in a secure sandbox",
  "parameters": {
    "type": "object",
    "properties": {
      "code": {"type": "string"},
      "language": {"type": "string", "enum": ["python", "javascript", "bash"]},
      "timeout_seconds": {"type": "integer", "minimum": 1, "maximum": 300}
    },
    "required": ["code", "language"]
  }
}
""")


def chat_call(arguments, name="execute_code"):
    arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": "call_7", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_openai_schema_is_that_of_the_readme():
    """The function is the seed's to the letter, and wrapped as each API wants it."""
    assert SEED == sandbox.FUNCTION
    assert {"type": "function", "function": SEED} == sandbox.CHAT_TOOL
    assert {"type": "function", **SEED, "strict": False} == sandbox.RESPONSES_TOOL


def test_openai_schema_follows_the_operator():
    """A model is offered what the operator allows."""
    fields = sandbox.function(operator(max_timeout_ms=20_000, languages=["python", "ts"]))["parameters"]["properties"]
    assert ["python", "typescript"] == fields["language"]["enum"]
    assert 20 == fields["timeout_seconds"]["maximum"]


def test_openai_chat_completions_conversation_works(stand_in):
    """A conversation: a mistake, its correction, the answer; every message is what the client and the API take."""
    import openai_agent

    model = stand_in()
    with OpenAI() as client:
        assert "42" in openai_agent.chat(client)
    last = model.requests[-1]["messages"]
    assert ["user", "assistant", "tool", "assistant", "tool"] == [message["role"] for message in last]
    assert ["call_0", "call_1"] == [message["tool_call_id"] for message in last if message["role"] == "tool"]
    assert "SyntaxError" in last[2]["content"]


def test_openai_responses_conversation_works(stand_in):
    """The same over Responses."""
    import openai_agent

    model = stand_in()
    with OpenAI() as client:
        assert "42" in openai_agent.responses(client)
    kinds = [item.get("type", item.get("role")) for item in model.requests[-1]["input"]]
    assert ["user", *["function_call", "function_call_output"] * 2] == kinds


def test_openai_async_client_is_not_blocked(stand_in):
    """With the async client the tool's calls block no loop."""
    stand_in([{"code": "print(6 * 7)", "language": "python"}])

    async def main():
        async with AsyncOpenAI() as client:
            messages = [{"role": "user", "content": "?"}]
            first = await client.chat.completions.create(model="m", messages=messages, tools=[sandbox.CHAT_TOOL])
            return await sandbox.handle_tool_call_async(first.choices[0].message.tool_calls[0])

    message = asyncio.run(main())
    assert ("tool", "call_0") == (message["role"], message["tool_call_id"])
    assert "\n42\n" in message["content"]


WRONG = [
    ("{", "E1001"),
    ('{"code": "1", "code": "2", "language": "python"}', "E1"),
    ("[]", "E1003: arguments: must be an object"),
    ({}, "E1006: code: the argument is missing"),
    ({"code": "1"}, "E1006: language: the argument is missing"),
    ({"code": 1, "language": "python"}, "E1003: arguments.code: must be a string"),
    ({"code": "1", "language": "cobol"}, 'E1005: language: unknown language "cobol"'),
    ({"code": "1", "language": "ruby"}, "E1005: language: must be one of `python`, `javascript`, `bash`"),
    ({"code": "1", "language": "python", "timeout_seconds": "9"}, "E1003: arguments.timeout_seconds"),
    ({"code": "1", "language": "python", "timeout_seconds": 1.5}, "E1003: arguments.timeout_seconds"),
    ({"code": "1", "language": "python", "memory_bytes": 1}, "E1002: arguments: unknown field"),
    ({"code": "\0", "language": "python"}, "E1005: arguments.code: must not contain a NUL byte"),
    ({"code": "\ud800", "language": "python"}, "E1005: arguments.code"),
    ({"code": " ", "language": "python"}, "E1005: arguments.code: must not be empty"),
]


@pytest.mark.parametrize(("arguments", "expected"), WRONG)
def test_openai_bad_arguments_are_an_answer(arguments, expected):
    """A model reads what was wrong, as the answer to its call; nothing is raised."""
    message = sandbox.handle_tool_call(chat_call(arguments))
    assert "call_7" == message["tool_call_id"]
    assert message["content"].startswith("status: not run\nerror E1")
    assert expected in message["content"]


@pytest.mark.parametrize("call", [chat_call({}, "rm"), {"id": "x", "type": "custom", "custom": {}}, {}, None, 7])
def test_openai_call_of_another_tool_is_not_run(call):
    """A call that is not ours is not run."""
    assert "there is no tool" in sandbox.handle_tool_call(call)["content"]


@pytest.mark.parametrize("seconds", [300, 10**12, 0, -1, 2.0, None])
def test_openai_timeout_is_clamped(seconds):
    """Any number of seconds is taken, and none is beyond the operator's ceiling."""
    call = chat_call({"code": "while True: pass", "language": "python", "timeout_seconds": seconds})
    assert "status: timeout" in sandbox.handle_tool_call(call, operator(max_timeout_ms=400))["content"]


def test_openai_limits_that_fit_no_call_are_hidden(tmp_path):
    """A model gets an error for wrong limits without a word of them."""
    limits = operator({"isolation": {"workspace": {"source": str(tmp_path), "mode": "rw"}}})
    content = sandbox.handle_tool_call(chat_call({"code": "1", "language": "python"}), limits)["content"]
    assert content.startswith("status: not run\nerror E1009: the sandbox is not set up for this call\ndo: nothing in")
    assert str(tmp_path) not in content


def test_openai_cancelled_call_ends_the_sandbox():
    """A cancelled call leaves nothing running (the leftover check looks)."""

    async def main():
        call = chat_call({"code": "sleep 60", "language": "bash"})
        running = asyncio.ensure_future(sandbox.handle_tool_call_async(call))
        await asyncio.sleep(0.3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
