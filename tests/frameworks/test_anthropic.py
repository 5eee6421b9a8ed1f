"""Anthropic: the real client against a server that speaks the wire format, and calls that are wrong."""

from __future__ import annotations

import asyncio

import pytest

from capsule_run.integrations import anthropic as sandbox
from capsule_run.integrations import openai as other

pytestmark = pytest.mark.sandbox


def use(name="execute_code", **arguments):
    return {"type": "tool_use", "id": "toolu_7", "name": name, "input": arguments}


def test_anthropic_tool_equals_openais():
    """Name, words and schema are those of OpenAI's form."""
    function = other.FUNCTION
    assert [function["name"], function["description"], function["parameters"]] == [
        sandbox.TOOL[name] for name in ("name", "description", "input_schema")
    ]


def test_anthropic_messages_conversation_works(stand_in):
    """A conversation: a mistake, its correction, the answer; every block is what the client and the API take."""
    import anthropic_agent

    model = stand_in()
    assert "42" in anthropic_agent.main()
    results = [message["content"][0] for message in model.requests[-1]["messages"][2::2]]
    assert {"tool_result"} == {result["type"] for result in results}
    assert [("toolu_0", False), ("toolu_1", False)] == [(r["tool_use_id"], r["is_error"]) for r in results]
    assert "SyntaxError" in results[0]["content"]


def test_anthropic_bad_call_is_a_correctable_error():
    """What the call or the sandbox did wrong is marked; what a program did wrong is in the text."""
    wrong = sandbox.handle_tool_use(use(code="1", language="cobol"))
    assert (True, "toolu_7") == (wrong["is_error"], wrong["tool_use_id"])
    assert "unknown language" in wrong["content"]
    assert not sandbox.handle_tool_use(use(code="1/0", language="python"))["is_error"]
    assert "there is no tool" in sandbox.handle_tool_use(use("rm"))["content"]


def test_anthropic_async_works():
    """The same for coroutines."""
    answer = asyncio.run(sandbox.handle_tool_use_async(use(code="echo hi", language="bash")))
    assert "\nhi\n" in answer["content"]
