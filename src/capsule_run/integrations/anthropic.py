"""Anthropic's tool use: the tool as data, and the answer to a `tool_use` block. docs/openai.md.

    client.messages.create(..., tools=[TOOL])
    messages.append({"role": "user", "content": [handle_tool_use(block) for block in message.content if ...]})

Works on what the SDK gives and on plain dictionaries alike, and so needs no package of Anthropic's. Rank 4.
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
    """An entry of `tools`: the same name, words and schema as for OpenAI."""
    return {"name": EXECUTE_CODE, "description": EXECUTE_CODE_ABOUT, "input_schema": execute_code_schema(limits)}


DEFAULT = operator()
TOOL = tool(DEFAULT)


def _block(call: object, answer: Answer) -> dict[str, object]:
    return {
        "type": "tool_result",
        "tool_use_id": field_of(call, "id"),
        "content": answer.text,
        "is_error": answer.is_fault,
    }


def handle_tool_use(block: object, limits: Operator = DEFAULT) -> dict[str, object]:
    """Run a `tool_use` block of `execute_code` and return its `tool_result`. A call of another tool is answered, not run.

    `is_error` says that the call or the sandbox was at fault; what a program did wrong is in the text.
    """
    name = field_of(block, "name")
    answer = execute_code(field_of(block, "input"), limits) if name == EXECUTE_CODE else unknown_tool(name)
    return _block(block, answer)


async def handle_tool_use_async(block: object, limits: Operator = DEFAULT) -> dict[str, object]:
    """`handle_tool_use` for coroutines; cancelling it ends the sandbox."""
    name = field_of(block, "name")
    answer = await execute_code_async(field_of(block, "input"), limits) if name == EXECUTE_CODE else unknown_tool(name)
    return _block(block, answer)
