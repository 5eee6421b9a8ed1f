"""The public name of `agents`: a tool call of a model, from its arguments to its answer."""

from __future__ import annotations

from capsule_run.agents.conversations import CellAnswer, Conversations
from capsule_run.agents.operator import LANGUAGES, MAX_TIMEOUT_SECONDS, MIN_TIMEOUT_SECONDS, Operator, operator
from capsule_run.agents.text import not_set_up_text, refusal_text, tool_text
from capsule_run.agents.tool import (
    EXECUTE_CODE,
    EXECUTE_CODE_ABOUT,
    Answer,
    about_limits,
    answer,
    answer_async,
    command_request,
    execute_code,
    execute_code_async,
    execute_code_schema,
    field_of,
    tool_request,
    unknown_tool,
)

__all__ = [
    "EXECUTE_CODE",
    "EXECUTE_CODE_ABOUT",
    "LANGUAGES",
    "MAX_TIMEOUT_SECONDS",
    "MIN_TIMEOUT_SECONDS",
    "Answer",
    "CellAnswer",
    "Conversations",
    "Operator",
    "about_limits",
    "answer",
    "answer_async",
    "command_request",
    "execute_code",
    "execute_code_async",
    "execute_code_schema",
    "field_of",
    "not_set_up_text",
    "operator",
    "refusal_text",
    "tool_request",
    "tool_text",
    "unknown_tool",
]
