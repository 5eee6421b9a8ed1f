"""A LangChain tool: `pip install 'capsule-sandbox[langchain]'`; docs/langchain.md.

    tool = SecureCodeExecutor()                     # `limits=operator(...)` of `capsule_run.tooling` sets the limits
    model.bind_tools([tool])

The content of its messages is the text for the model (`tooling.tool_text`); the artifact is the whole result in the form of
the JSON response (docs/json-api.md), so that it can be stored with the messages.
"""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003  # pydantic needs it at run time
from typing import Any, Literal

from langchain_core.tools import BaseTool, ToolException
from langchain_core.tools.base import ArgsSchema  # noqa: TC002  # pydantic needs it at run time
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from capsule_run._base.errors import CapsuleError
from capsule_run.agents.arguments import ARGUMENTS
from capsule_run.agents.operator import MIN_TIMEOUT_SECONDS, Operator, operator
from capsule_run.agents.text import refusal_text
from capsule_run.agents.tool import Answer, about_limits, execute_code, execute_code_async


def arguments_schema(limits: Operator) -> type[BaseModel]:
    """Build the model of a call's arguments. `timeout_seconds` has no bounds here: `Operator.clamp` brings it within them."""
    language: object = Literal.__getitem__(limits.languages)
    timeout = f"{ARGUMENTS['timeout_seconds'].description}, {MIN_TIMEOUT_SECONDS} to {limits.max_timeout_seconds}"
    fields: dict[str, Any] = {  # the type that pydantic declares
        "code": (str, Field(description=ARGUMENTS["code"].description)),
        "language": (language, Field(default=limits.languages[0], description=ARGUMENTS["language"].description)),
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
            self.args_schema = arguments_schema(self.limits)
        if not self.description:
            self.description = f"Execute code safely with resource limits. {about_limits(self.limits)}"

    def _message(self, answer: Answer) -> tuple[str, dict[str, object]]:
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


def _arguments(code: str, language: str, timeout_seconds: int | None) -> dict[str, object]:
    return {"code": code, "language": language, "timeout_seconds": timeout_seconds}
