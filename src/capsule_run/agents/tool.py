"""A tool call, from the model's arguments to the answer that it reads. No argument can change a limit.

    limits = operator({"resources": {"memory_bytes": 256 << 20}, "timeout_ms": 20_000}, max_timeout_ms=60_000)
    answer = execute_code(arguments, limits)        # a whole call; never raises for what a model sent
    answer.text, answer.result, answer.is_fault

    request = tool_request(arguments, limits)       # or step by step; for commands `command_request(["ls"], limits)`
    text = tool_text(perform(request), limits)
    text = refusal_text(error)      # for the CapsuleError (E1xxx) of an invalid argument, which the model can correct

Used by `integrations` and the MCP server. `text` explains why no program can forge what a model reads.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.strict_json import loads
from capsule_run._base.value import Value
from capsule_run.agents.arguments import (
    CODE_ARGUMENTS,
    arguments_schema,
    call_fields,
    check_arguments,
    code_call_request,
    requested_timeout_ms,
)
from capsule_run.agents.operator import MAX_TIMEOUT_SECONDS
from capsule_run.agents.text import not_set_up_text, refusal_text, tool_text
from capsule_run.engine import execute
from capsule_run.policy import limits as policy_limits
from capsule_run.request.parse import request_from_mapping
from capsule_run.request.sizes import format_size
from capsule_run.request.validators import invalid, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from capsule_run.agents.operator import Operator
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result


def command_request(
    command: Sequence[str],
    limits: Operator,
    *,
    timeout_ms: int | None = None,
    stdin: str | bytes | None = None,
    environment: Mapping[str, str] | None = None,
    working_directory: str | None = None,
) -> Request:
    """Build the request for a model's command within the operator's limits. Raises CapsuleError E10xx.

    The operator's variables override those in `environment`.
    """
    fields: dict[str, object] = {"command": list(command), "timeout_ms": timeout_ms or limits.timeout_ms}
    if stdin is not None:
        fields["stdin"] = stdin
    if working_directory is not None:
        fields["isolation"] = {"working_directory": working_directory}
    completed = call_fields(fields, limits)
    own = limits.limits.get("environment")
    completed["environment"] = {**(environment or {}), **(own if isinstance(own, dict) else {})}
    return request_from_mapping(completed)


# Name and description of the seed's tool, unchanged: models know them.
EXECUTE_CODE, EXECUTE_CODE_ABOUT = "execute_code", "Execute code in a secure sandbox"


def execute_code_schema(limits: Operator) -> dict[str, object]:
    """Build the JSON schema of `execute_code`'s arguments: exactly the seed's, unless the operator narrows it."""
    return arguments_schema(CODE_ARGUMENTS, ("timeout_seconds",), limits, with_descriptions=False)


def about_limits(limits: Operator) -> str:
    """Describe the limits to a model in a few sentences, generated so that they are never out of date."""
    request = request_from_mapping({"command": ["true"], **limits.limits})
    memory = format_size(policy_limits.limits(request.resources).memory_bytes)
    network = "with the host's network" if request.isolation.network else "without network"
    most = limits.max_timeout_ms / 1000
    return (
        f"Languages: {', '.join(limits.languages)}. Each call starts in a fresh sandbox {network}: no files, variables or "
        f"processes are kept. It ends after {limits.timeout_ms / 1000:g} s, or after `timeout_seconds` (at most "
        f"{min(most, MAX_TIMEOUT_SECONDS):g}), and may use {memory} of memory. Print what you want to see."
    )


def tool_request(arguments: object, limits: Operator) -> Request:
    """Build the request of an `execute_code` call within the operator's limits. Raises CapsuleError E10xx.

    :param arguments: what the model sent: a mapping, or JSON text of one.
    """
    given = loads(arguments) if isinstance(arguments, str) else arguments
    checked = check_arguments(given, CODE_ARGUMENTS, ("timeout_seconds",))
    return code_call_request(checked, {"timeout_ms": requested_timeout_ms(checked, limits)}, limits)


class Answer(Value):
    """The answer to a tool call."""

    text: str  # what the model reads
    result: Result | None  # None if nothing ran because the arguments or the limits were invalid
    is_fault: bool  # the call or the sandbox failed, not the program: what an API may mark as an error


def _result_answer(result: Result, limits: Operator) -> Answer:
    fault = result.error is not None and result.error.code.startswith(("E1", "E2", "E6"))
    return Answer(text=tool_text(result, limits), result=result, is_fault=fault)


def _invalid_answer(error: CapsuleError) -> Answer:
    return Answer(text=refusal_text(error), result=None, is_fault=True)


def _not_set_up_answer(error: CapsuleError) -> Answer:
    return Answer(text=not_set_up_text(error), result=None, is_fault=True)


def answer(request: Callable[[], Request], limits: Operator) -> Answer:
    """Build a request and run it. A CapsuleError while building it means invalid arguments, and becomes the answer."""
    try:
        made = request()
    except CapsuleError as error:
        return _invalid_answer(error)
    try:
        return _result_answer(execute.perform(made), limits)
    except CapsuleError as error:
        return _not_set_up_answer(error)


async def answer_async(request: Callable[[], Request], limits: Operator) -> Answer:
    """Run `answer` as a coroutine; cancelling it ends the sandbox."""
    from capsule_run.aio.one_shot import execute_checked  # noqa: PLC0415  # it loads much
    from capsule_run.aio.thread import in_thread  # noqa: PLC0415  # as above

    try:
        made = await in_thread(request)  # it may run probes, to see which programs there are
    except CapsuleError as error:
        return _invalid_answer(error)
    try:
        return _result_answer(await execute_checked(made), limits)
    except CapsuleError as error:
        return _not_set_up_answer(error)


def field_of(call: object, name: str) -> object:
    """Return a field of an API's object or dictionary, or None if it has no such field."""
    return call.get(name) if isinstance(call, dict) else getattr(call, name, None)


def unknown_tool(name: object) -> Answer:
    """Answer a call of an unknown tool."""
    return _invalid_answer(
        invalid("E1005", "name", f"there is no tool {shown(name)}", hint=f"the tool is `{EXECUTE_CODE}`")
    )


def execute_code(arguments: object, limits: Operator) -> Answer:
    """Run one call of the tool `execute_code`. Never raises for what a model sent."""
    return answer(lambda: tool_request(arguments, limits), limits)


async def execute_code_async(arguments: object, limits: Operator) -> Answer:
    """Run `execute_code` as a coroutine; cancelling it ends the sandbox."""
    return await answer_async(lambda: tool_request(arguments, limits), limits)
