"""LangChain: its own suites for tools, and what a model, an agent and an operator get."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from capsule_run.agents.operator import operator
from capsule_run.integrations.langchain import ConversationCodeExecutor, SecureCodeExecutor

pytestmark = pytest.mark.sandbox

ARGUMENTS = {"code": "print(42)", "language": "python", "timeout_seconds": 20}


class TestUnit(ToolsUnitTests):
    """LangChain's unit tests of a tool."""

    tool_constructor = SecureCodeExecutor
    tool_invoke_params_example = ARGUMENTS


class TestIntegration(ToolsIntegrationTests):
    """LangChain's integration tests of a tool."""

    tool_constructor = SecureCodeExecutor
    tool_invoke_params_example = ARGUMENTS


def called(tool=None, **arguments):
    """The message that an agent gets for a call."""
    tool = tool or SecureCodeExecutor()
    return tool.invoke(ToolCall(type="tool_call", name=tool.name, args=arguments, id="7"))


def test_langchain_content_and_artifact_are_returned():
    """The content is for the model, the artifact is the whole result, and can be stored as JSON."""
    message = called(code="print(42)")
    assert "status: success" == message.content.partition(" (")[0]
    assert "stdout: 3 bytes\n```\n42\n```" in message.content
    assert ("42\n", 0, "success") == tuple(message.artifact[name] for name in ("stdout", "exit_code", "status"))
    assert message.artifact == json.loads(json.dumps(message.artifact))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "code: Field required"),
        ({"code": 5}, "code: Input should be a valid string"),
        ({"code": "x", "language": "cobol"}, "language: Input should be 'python', 'javascript' or 'bash'"),
        ({"code": "x", "timeout_seconds": "soon"}, "timeout_seconds: Input should be a valid integer"),
        ({"code": "x", "memory_bytes": 1 << 40}, "memory_bytes: Extra inputs are not permitted"),
        ({"code": "\0"}, "must not contain a NUL byte"),
    ],
)
def test_langchain_bad_arguments_are_a_result(arguments, expected):
    """A wrong argument of a model is answered, and never raised into the agent."""
    message = called(**arguments)
    assert "error" == message.status
    assert message.content.startswith("status: not run\nerror E10")
    assert expected in message.content


def test_langchain_failed_program_is_no_tool_failure():
    """The model reads the traceback; the call itself went well."""
    message = called(code="print('so far')\n1/0")
    assert "success" == message.status
    for words in ("status: error (exit code 1", "so far", 'File "/workspace/main.py", line 2', "ZeroDivisionError"):
        assert words in message.content


def test_langchain_limits_are_the_operators():
    """Whatever the code or the call asks for, the operator's limits hold, and the schema does not offer them."""
    limits = operator({"resources": {"memory_bytes": 64 << 20}}, max_timeout_ms=700, languages=["python"])
    tool = SecureCodeExecutor(limits=limits)
    assert {"code", "language", "timeout_seconds"} == set(tool.tool_call_schema.model_json_schema()["properties"])
    assert "E4001" in called(tool, code="x = bytearray(10**9)").content
    assert "timeout" == called(tool, code="while True: pass", timeout_seconds=300).artifact["status"]
    assert "'python'" in called(tool, code="x", language="bash").content


def test_langchain_calls_share_nothing():
    """What one call leaves is not there for the next."""
    tool = SecureCodeExecutor()
    called(tool, code="open('/tmp/x', 'w').write('1'); open('y', 'w').write('2')")
    assert "[]" in called(tool, code="import glob; print(glob.glob('/tmp/x') + glob.glob('y'))").content


def test_langchain_tool_accepts_plain_text():
    """The simplest call of all, as in LangChain's documents."""
    assert "42" in SecureCodeExecutor().run("print(42)")


def test_langchain_async_calls_are_concurrent_and_cancellable():
    """Awaited calls do not wait for each other, and a cancelled one leaves no sandbox."""

    async def main():
        tool = SecureCodeExecutor()
        slow = asyncio.ensure_future(tool.ainvoke({"code": "sleep 59.37", "language": "bash"}))
        quick = await tool.ainvoke({"code": "print(1)"})
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        return quick

    begun = time.monotonic()
    assert "status: success" in asyncio.run(main())
    assert time.monotonic() - begun < 50
    assert "59.37" not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout


class FakeModel(GenericFakeChatModel):
    """LangChain's fake chat model, which takes tools."""

    def bind_tools(self, _tools, **_options):
        return self


def test_langchain_agent_calls_the_tool():
    """LangChain's own agent: the model's mistake comes back to it, then the answer, and the conversation ends."""
    tool = SecureCodeExecutor()
    codes = ["print(6 *)", "print(6 * 7)"]
    calls = [AIMessage("", tool_calls=[ToolCall(name=tool.name, args={"code": c}, id=c)]) for c in codes]
    model = FakeModel(messages=iter([*calls, AIMessage("It is 42.")]))
    said = create_agent(model, [tool]).invoke({"messages": [("user", "What is six times seven?")]})["messages"]
    wrong, right = [message for message in said if isinstance(message, ToolMessage)]
    assert "SyntaxError" in wrong.content
    assert ("42\n", "It is 42.") == (right.artifact["stdout"], said[-1].content)


def test_langchain_example_works(capsys):
    """examples/langchain_agent.py does what its page says."""
    import langchain_agent

    langchain_agent.main()
    said = capsys.readouterr().out
    assert "SyntaxError" in said
    assert said.endswith("Six times seven is 42.\n")


@pytest.mark.parametrize("with_a_loop", [False, True])
def test_langchain_conversation_keeps_state_for_its_thread(with_a_loop):
    """Variables of one `thread_id` stay, and no other thread sees them; the artifact is the whole result of the cell."""
    tool = ConversationCodeExecutor()

    def said(thread, code):
        call = ToolCall(type="tool_call", name=tool.name, args={"code": code}, id="7")
        config = {"configurable": {"thread_id": thread}}
        return asyncio.run(tool.ainvoke(call, config)) if with_a_loop else tool.invoke(call, config)

    said("a", "x = 20")
    message = said("a", "x + 1")
    assert ("21", True) == (message.artifact["text"], "value: 2 bytes" in message.content)
    assert message.artifact == json.loads(json.dumps(message.artifact))
    assert "NameError" in said("b", "x").content
    tool.end("a")
    assert "NameError" in said("a", "x").content
    tool.close()


def test_langchain_conversation_describes_that_it_keeps_state():
    """To the model, with the languages that can."""
    tool = ConversationCodeExecutor(limits=operator(languages=["bash", "python"]))
    assert "variables and files are kept" in tool.description
    assert ["python"] == [tool.args["language"].get("const") or tool.args["language"]["enum"][0]]
