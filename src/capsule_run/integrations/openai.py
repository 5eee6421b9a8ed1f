"""OpenAI's function calling: the tool as data for both APIs, and the answer to a call. docs/openai.md.

    client.chat.completions.create(..., tools=[CHAT_TOOL])            # or `responses.create(..., tools=[RESPONSES_TOOL])`
    messages.append(handle_tool_call(call))                           # the next message, or the next input item

Works on what the SDK gives and on plain dictionaries alike, and so needs no package of OpenAI's. Nothing that a model
sends raises: bad arguments are an answer that it can correct. Rank 4.
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
    """The function object: name, description, parameters. With limits that narrow nothing it is the seed's to the letter."""
    return {"name": EXECUTE_CODE, "description": EXECUTE_CODE_ABOUT, "parameters": execute_code_schema(limits)}


def chat_tool(limits: Operator) -> dict[str, object]:
    """An entry of `tools` for Chat Completions."""
    return {"type": "function", "function": function(limits)}


def responses_tool(limits: Operator) -> dict[str, object]:
    """An entry of `tools` for Responses; not strict, since strict mode has no optional argument."""
    return {"type": "function", **function(limits), "strict": False}


DEFAULT = operator()
FUNCTION = function(DEFAULT)
CHAT_TOOL = chat_tool(DEFAULT)
RESPONSES_TOOL = responses_tool(DEFAULT)


def _asked(call: object) -> tuple[object, object, bool]:
    """The function's name and its arguments in a call, and whether it is one of Responses'."""
    if field_of(call, "type") == "function_call":
        return field_of(call, "name"), field_of(call, "arguments"), True
    asked = field_of(call, "function")
    return field_of(asked, "name"), field_of(asked, "arguments"), False


def _message(call: object, answer: Answer, *, responses: bool) -> dict[str, object]:
    if responses:
        return {"type": "function_call_output", "call_id": field_of(call, "call_id"), "output": answer.text}
    return {"role": "tool", "tool_call_id": field_of(call, "id"), "content": answer.text}


def handle_tool_call(call: object, limits: Operator = DEFAULT) -> dict[str, object]:
    """Run a call of `execute_code` and return its message: a `tool` message for Chat Completions' tool calls, a
    `function_call_output` item for those of Responses. A call of another tool is answered, not run.
    """
    name, arguments, responses = _asked(call)
    answer = execute_code(arguments, limits) if name == EXECUTE_CODE else unknown_tool(name)
    return _message(call, answer, responses=responses)


async def handle_tool_call_async(call: object, limits: Operator = DEFAULT) -> dict[str, object]:
    """`handle_tool_call` for coroutines; cancelling it ends the sandbox."""
    name, arguments, responses = _asked(call)
    answer = await execute_code_async(arguments, limits) if name == EXECUTE_CODE else unknown_tool(name)
    return _message(call, answer, responses=responses)
