"""The OpenAI Agents SDK: `pip install 'capsule-sandbox[openai-agents]'`; docs/openai.md.

    Agent(..., tools=[execute_code_tool()])       # or `shell_tool()`, or `local_shell_tool()`
    Agent(..., tools=[conversation_tool()])       # variables and files are kept from call to call

Each command of a shell call runs in its own sandbox: nothing is kept from one to the next except what the operator's
limits share (`isolation.writable_paths`). The outputs of a shell call are the command's streams; if a limit or the sandbox
ended the command, one more output of ours follows.
"""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003  # the SDK may read annotations
from functools import partial
from typing import Any

from agents import (
    FunctionTool,
    LocalShellCommandRequest,
    LocalShellTool,
    ShellCallOutcome,
    ShellCommandOutput,
    ShellCommandRequest,
    ShellResult,
    ShellTool,
)
from agents.tool_context import ToolContext  # noqa: TC002  # as above

from capsule_run._base.statuses import TIMEOUT
from capsule_run.agents.conversations import Conversations, about_state, cell_languages
from capsule_run.agents.operator import Operator, operator
from capsule_run.agents.text import problem_text, readable
from capsule_run.agents.tool import (
    EXECUTE_CODE,
    EXECUTE_CODE_ABOUT,
    Answer,
    about_limits,
    answer_async,
    command_request,
    execute_code_async,
    execute_code_schema,
)

DEFAULT = operator()  # the default limits


def execute_code_tool(limits: Operator = DEFAULT) -> FunctionTool:
    """Build the function tool `execute_code`."""

    async def invoke(_context: object, arguments: str) -> str:
        return (await execute_code_async(arguments, limits)).text

    return FunctionTool(
        name=EXECUTE_CODE,
        description=f"{EXECUTE_CODE_ABOUT}. {about_limits(limits)}",
        params_json_schema=execute_code_schema(limits),
        on_invoke_tool=invoke,
        strict_json_schema=False,  # strict mode has no optional arguments
    )


def conversation_tool(
    limits: Operator = DEFAULT,
    *,
    conversation: Callable[[ToolContext[Any]], str] | None = None,
    conversations: Conversations | None = None,
) -> FunctionTool:
    """Build the function tool `execute_code` that runs code like cells of a notebook, and keeps variables and files.

    :param conversation: says to which conversation a call belongs, such as `lambda call: call.context.thread_id` for what
        you pass to `Runner.run(context=...)`. None is the `group_id` of the run's configuration; all runs without one are one
        conversation.
    :param conversations: the sandboxes, for a caller that ends them, or that sets how many there may be.
    """
    kept = Conversations(limits) if conversations is None else conversations
    schema = execute_code_schema(limits)
    properties = schema["properties"]
    assert isinstance(properties, dict)
    properties["language"]["enum"] = cell_languages(limits)
    name_of = conversation or _group

    async def invoke(context: ToolContext[Any], arguments: str) -> str:
        return (await kept.answer_async(name_of(context), arguments)).text

    return FunctionTool(
        name=EXECUTE_CODE,
        description=f"{EXECUTE_CODE_ABOUT}. {about_state(limits)}",
        params_json_schema={**schema, "required": ["code"]},
        on_invoke_tool=invoke,
        strict_json_schema=False,  # as above
    )


def _group(context: ToolContext[Any]) -> str:
    return getattr(context.run_config, "group_id", None) or ""


def _timeout_ms(asked_ms: int | None, limits: Operator) -> int:
    return limits.clamp(asked_ms / 1000 if asked_ms else None)


def _outputs(command: str, answer: Answer) -> list[ShellCommandOutput]:
    result = answer.result
    if result is None:
        return [_own_output(answer.text, None)]
    timed_out = result.status == TIMEOUT
    outcome = ShellCallOutcome(
        type="timeout" if timed_out else "exit", exit_code=None if timed_out else result.exit_code
    )
    streams = ShellCommandOutput(
        stdout=readable(result.stdout_data),
        stderr=readable(result.stderr_data),
        outcome=outcome,
        command=command,
        provider_data=result.to_dict(),  # for the operator: the SDK does not send it to the model
    )
    if result.error is None or result.error.code == "E3003":
        return [streams]
    return [streams, _own_output(problem_text(result.error), result.exit_code)]


def _own_output(text: str, exit_code: int | None) -> ShellCommandOutput:
    return ShellCommandOutput(stderr=text, outcome=ShellCallOutcome(type="exit", exit_code=exit_code or 1))


class ShellExecutor:
    """Runs the commands of a `ShellTool` in order, each with `bash -c` in its own sandbox."""

    def __init__(self, limits: Operator = DEFAULT) -> None:
        self.limits = limits

    async def __call__(self, request: ShellCommandRequest) -> ShellResult:
        action = request.data.action
        timeout_ms = _timeout_ms(action.timeout_ms, self.limits)
        outputs: list[ShellCommandOutput] = []
        for command in action.commands:
            make = partial(command_request, ["bash", "-c", command], self.limits, timeout_ms=timeout_ms)
            outputs += _outputs(command, await answer_async(make, self.limits))
        return ShellResult(output=outputs, max_output_length=action.max_output_length)


class LocalShellExecutor:
    """Runs the command of a `LocalShellTool`, with its environment and directory, in its own sandbox."""

    def __init__(self, limits: Operator = DEFAULT) -> None:
        self.limits = limits

    async def __call__(self, request: LocalShellCommandRequest) -> str:
        action = request.data.action
        make = partial(
            command_request,
            action.command,
            self.limits,
            timeout_ms=_timeout_ms(action.timeout_ms, self.limits),
            environment=action.env,
            working_directory=action.working_directory,
        )
        return (await answer_async(make, self.limits)).text


def shell_tool(limits: Operator = DEFAULT) -> ShellTool:
    """Build the SDK's shell tool, which runs its commands in sandboxes."""
    return ShellTool(executor=ShellExecutor(limits))


def local_shell_tool(limits: Operator = DEFAULT) -> LocalShellTool:
    """Build the SDK's older shell tool, which runs its commands in sandboxes."""
    return LocalShellTool(executor=LocalShellExecutor(limits))
