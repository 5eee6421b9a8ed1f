"""OpenAI's function calling: the tool as data for both APIs, and the answer to a call. docs/openai.md.

    client.chat.completions.create(..., tools=[CHAT_TOOL])            # or `responses.create(..., tools=[RESPONSES_TOOL])`
    messages.append(handle_tool_call(call))                           # the next message, or the next input item

Works with the SDK's objects and with plain dictionaries, so it does not need OpenAI's package. Nothing that a model sends
raises: invalid arguments become an answer that the model can correct.
"""

from __future__ import annotations

from capsule_run.agents.operator import Operator, operator
from capsule_run.agents.tool import (
    EXECUTE_CODE,
    EXECUTE_CODE_ABOUT,
    Answer,
    execute_code,
    execute_code_async,
    execute_code_schema,
    field_of,
    unknown_tool,
)


def function(limits: Operator) -> dict[str, object]:
    """Build the function object: name, description, parameters. With the default limits it is exactly the seed's."""
    return {"name": EXECUTE_CODE, "description": EXECUTE_CODE_ABOUT, "parameters": execute_code_schema(limits)}


def chat_tool(limits: Operator) -> dict[str, object]:
    """Build an entry of `tools` for Chat Completions."""
    return {"type": "function", "function": function(limits)}


def responses_tool(limits: Operator) -> dict[str, object]:
    """Build an entry of `tools` for Responses; not strict, because strict mode has no optional arguments."""
    return {"type": "function", **function(limits), "strict": False}


DEFAULT = operator()  # the default limits
FUNCTION = function(DEFAULT)  # the function object with them
CHAT_TOOL = chat_tool(DEFAULT)  # the tool for Chat Completions with them
RESPONSES_TOOL = responses_tool(DEFAULT)  # the tool for Responses with them


def _function_call(call: object) -> tuple[object, object, bool]:
    """Return the function name and arguments of a call, and whether it has the form of the Responses API."""
    if field_of(call, "type") == "function_call":
        return field_of(call, "name"), field_of(call, "arguments"), True
    called = field_of(call, "function")
    return field_of(called, "name"), field_of(called, "arguments"), False


def _message(call: object, answer: Answer, *, responses: bool) -> dict[str, object]:
    if responses:
        return {"type": "function_call_output", "call_id": field_of(call, "call_id"), "output": answer.text}
    return {"role": "tool", "tool_call_id": field_of(call, "id"), "content": answer.text}


def handle_tool_call(call: object, limits: Operator = DEFAULT) -> dict[str, object]:
    """Run a call of `execute_code` and return its message: a `tool` message for Chat Completions, a `function_call_output`
    item for Responses. A call of another tool gets an error as answer.
    """
    name, arguments, responses = _function_call(call)
    answer = execute_code(arguments, limits) if name == EXECUTE_CODE else unknown_tool(name)
    return _message(call, answer, responses=responses)


async def handle_tool_call_async(call: object, limits: Operator = DEFAULT) -> dict[str, object]:
    """Run `handle_tool_call` as a coroutine; cancelling it ends the sandbox."""
    name, arguments, responses = _function_call(call)
    answer = await execute_code_async(arguments, limits) if name == EXECUTE_CODE else unknown_tool(name)
    return _message(call, answer, responses=responses)
