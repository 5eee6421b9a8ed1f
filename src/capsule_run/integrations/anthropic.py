"""Anthropic's tool use: the tool as data, and the answer to a `tool_use` block. docs/openai.md.

    client.messages.create(..., tools=[TOOL])
    messages.append({"role": "user", "content": [handle_tool_use(block) for block in message.content if ...]})

Works with the SDK's objects and with plain dictionaries, so it does not need Anthropic's package.
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


def tool(limits: Operator) -> dict[str, object]:
    """Build an entry of `tools`, with the same name, description and schema as for OpenAI."""
    return {"name": EXECUTE_CODE, "description": EXECUTE_CODE_ABOUT, "input_schema": execute_code_schema(limits)}


DEFAULT = operator()  # the default limits
TOOL = tool(DEFAULT)  # the tool with them


def _block(call: object, answer: Answer) -> dict[str, object]:
    return {
        "type": "tool_result",
        "tool_use_id": field_of(call, "id"),
        "content": answer.text,
        "is_error": answer.is_fault,
    }


def handle_tool_use(block: object, limits: Operator = DEFAULT) -> dict[str, object]:
    """Run a `tool_use` block of `execute_code` and return its `tool_result`. A call of another tool gets an error as answer.

    `is_error` means that the call or the sandbox failed; a failure of the program is in the text only.
    """
    name = field_of(block, "name")
    answer = execute_code(field_of(block, "input"), limits) if name == EXECUTE_CODE else unknown_tool(name)
    return _block(block, answer)


async def handle_tool_use_async(block: object, limits: Operator = DEFAULT) -> dict[str, object]:
    """Run `handle_tool_use` as a coroutine; cancelling it ends the sandbox."""
    name = field_of(block, "name")
    answer = await execute_code_async(field_of(block, "input"), limits) if name == EXECUTE_CODE else unknown_tool(name)
    return _block(block, answer)
