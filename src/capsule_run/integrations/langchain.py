"""A LangChain tool: `pip install 'capsule-sandbox[langchain]'`; docs/langchain.md.

    tool = SecureCodeExecutor()                     # `limits=operator(...)` of `capsule_run.tooling` sets the limits
    tool = ConversationCodeExecutor()               # the same, with variables and files kept for each `thread_id`
    model.bind_tools([tool])

The content of its messages is the text for the model (`tooling.tool_text`); the artifact is the whole result in the form of
the JSON response (docs/json-api.md), so that it can be stored with the messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence  # noqa: TC003  # pydantic needs it at run time
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig  # noqa: TC002  # LangChain looks for it at run time
from langchain_core.tools import BaseTool, ToolException
from langchain_core.tools.base import ArgsSchema  # noqa: TC002  # pydantic needs it at run time
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, create_model

from capsule_run._base.errors import CapsuleError
from capsule_run.agents.arguments import ARGUMENTS
from capsule_run.agents.conversations import (
    IDLE_MS,
    MOST_CONVERSATIONS,
    CellAnswer,
    Conversations,
    about_state,
    cell_languages,
)
from capsule_run.agents.operator import MIN_TIMEOUT_SECONDS, Operator, operator
from capsule_run.agents.text import refusal_text
from capsule_run.agents.tool import Answer, about_limits, execute_code, execute_code_async


def arguments_schema(limits: Operator, languages: Sequence[str]) -> type[BaseModel]:
    """Build the model of a call's arguments. `timeout_seconds` has no bounds here: `Operator.clamp` brings it within them."""
    language: object = Literal.__getitem__(tuple(languages))
    timeout = f"{ARGUMENTS['timeout_seconds'].description}, {MIN_TIMEOUT_SECONDS} to {limits.max_timeout_seconds}"
    fields: dict[str, Any] = {  # the type that pydantic declares
        "code": (str, Field(description=ARGUMENTS["code"].description)),
        "language": (language, Field(default=languages[0], description=ARGUMENTS["language"].description)),
        "timeout_seconds": (int | None, Field(default=None, description=timeout)),
    }
    return create_model("SecureCodeExecutorArguments", __config__=ConfigDict(extra="forbid"), **fields)


def _wrong_arguments(error: ValidationError | object) -> str:
    """Turn Pydantic's errors into an answer that the model can correct."""
    found = error.errors(include_url=False) if isinstance(error, ValidationError) else []
    reasons = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found) or str(error)
    return refusal_text(CapsuleError("E1003", reasons, hint="call the tool again with arguments of the schema"))


class SecureCodeExecutor(BaseTool):
    """Runs a model's code, each call in its own sandbox within the operator's `limits`."""

    name: str = "secure_code_executor"
    description: str = ""
    limits: Operator = Field(default_factory=operator, exclude=True, repr=False)
    args_schema: ArgsSchema | None = None
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[ToolException], str] | None = True
    handle_validation_error: bool | str | Callable[[ValidationError | object], str] | None = _wrong_arguments

    def model_post_init(self, _context: object, /) -> None:
        """Fill in the schema and the description from the limits, unless they were given."""
        if self.args_schema is None:
            self.args_schema = arguments_schema(self.limits, self.limits.languages)
        if not self.description:
            self.description = f"Execute code safely with resource limits. {about_limits(self.limits)}"

    def _message(self, answer: Answer | CellAnswer) -> tuple[str, dict[str, object]]:
        if answer.result is None:
            raise ToolException(answer.text)
        return answer.text, answer.result.to_dict()

    def _run(
        self, code: str, language: str = "python", timeout_seconds: int | None = None
    ) -> tuple[str, dict[str, object]]:
        return self._message(execute_code(_arguments(code, language, timeout_seconds), self.limits))

    async def _arun(
        self, code: str, language: str = "python", timeout_seconds: int | None = None
    ) -> tuple[str, dict[str, object]]:
        return self._message(await execute_code_async(_arguments(code, language, timeout_seconds), self.limits))


class ConversationCodeExecutor(SecureCodeExecutor):
    """Runs a model's code like cells of a notebook: each conversation has a sandbox that keeps variables and files.

    A conversation is a `thread_id` of the configuration (`config={"configurable": {"thread_id": ...}}`), as a checkpointer
    has it; calls without one are one conversation. `close` ends all sandboxes, and so does the end of the tool.
    """

    name: str = "conversation_code_executor"
    most_conversations: int = MOST_CONVERSATIONS
    idle_timeout_ms: int | None = IDLE_MS
    _conversations: Conversations = PrivateAttr()

    def model_post_init(self, context: object, /) -> None:
        """Fill in the schema and the description from the limits, unless they were given."""
        if self.args_schema is None:
            self.args_schema = arguments_schema(self.limits, cell_languages(self.limits))
        if not self.description:
            self.description = f"Execute code safely with resource limits. {about_state(self.limits)}"
        super().model_post_init(context)
        self._conversations = Conversations(
            self.limits, most=self.most_conversations, idle_timeout_ms=self.idle_timeout_ms
        )

    def _run(  # type: ignore[override]  # LangChain passes `config` to a method that has it
        self, code: str, language: str = "python", timeout_seconds: int | None = None, *, config: RunnableConfig
    ) -> tuple[str, dict[str, object]]:
        arguments = _arguments(code, language, timeout_seconds)
        return self._message(self._conversations.answer(_thread(config), arguments))

    async def _arun(  # type: ignore[override]  # as above
        self, code: str, language: str = "python", timeout_seconds: int | None = None, *, config: RunnableConfig
    ) -> tuple[str, dict[str, object]]:
        arguments = _arguments(code, language, timeout_seconds)
        return self._message(await self._conversations.answer_async(_thread(config), arguments))

    def end(self, thread_id: str) -> None:
        """End the sandbox of one conversation, if it has one."""
        self._conversations.end(thread_id)

    def close(self) -> None:
        """End the sandboxes of all conversations."""
        self._conversations.close()


def _thread(config: RunnableConfig) -> str:
    return str(config.get("configurable", {}).get("thread_id", ""))


def _arguments(code: str, language: str, timeout_seconds: int | None) -> dict[str, object]:
    return {"code": code, "language": language, "timeout_seconds": timeout_seconds}
