"""What every door for models shares: what the operator allows, and a call from its arguments to its answer.

Used by `integrations` and the MCP server. No argument of a model's can reach a limit:

    limits = operator({"resources": {"memory_bytes": 256 << 20}, "timeout_ms": 20_000}, max_timeout_ms=60_000)
    answer = execute_code(arguments, limits)        # the whole of a tool call; never raises for what a model sent
    answer.text, answer.result, answer.is_fault

    request = tool_request(arguments, limits)       # or in parts; for commands `command_request(["ls"], limits)`
    text = tool_text(perform(request), limits)
    text = refusal_text(error)      # the CapsuleError (E1xxx) of a bad argument: a result, which the model can correct

What a model reads, and why no program can forge it: `telling`. Rank 4: shared by doors.
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
from capsule_run.request.validators import refuse, shown

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
    """The request for a command of a model's within the operator's limits. Raises CapsuleError E10xx.

    A variable that the operator gives is not the model's to change.
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


# The seed's tool: its name and its words, as models have seen them.
EXECUTE_CODE, EXECUTE_CODE_ABOUT = "execute_code", "Execute code in a secure sandbox"


def execute_code_schema(limits: Operator) -> dict[str, object]:
    """Build the JSON schema of `execute_code`'s arguments: exactly the seed's, unless the operator narrows it."""
    return arguments_schema(CODE_ARGUMENTS, ("timeout_seconds",), limits, described=False)


def about_limits(limits: Operator) -> str:
    """What a model should know before its first call, in a few sentences: an operator's words would go stale."""
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


# --- a tool call, whole -----------------------------------------------------------------------------------------------


class Answer(Value):
    """What came of a tool call. `result` is None where nothing ran, since the arguments or the limits were wrong."""

    text: str
    result: Result | None
    is_fault: bool  # the call's or the sandbox's, not the program's: what an API may mark as an error


def _answer(result: Result, limits: Operator) -> Answer:
    fault = result.error is not None and result.error.code.startswith(("E1", "E2", "E6"))
    return Answer(text=tool_text(result, limits), result=result, is_fault=fault)


def _refused(error: CapsuleError) -> Answer:
    return Answer(text=refusal_text(error), result=None, is_fault=True)


def _not_set_up(error: CapsuleError) -> Answer:
    return Answer(text=not_set_up_text(error), result=None, is_fault=True)


def answer(request: Callable[[], Request], limits: Operator) -> Answer:
    """Make a request and run it. What raises while it is made is wrong with the arguments, and an answer like any other."""
    try:
        made = request()
    except CapsuleError as error:
        return _refused(error)
    try:
        return _answer(execute.perform(made), limits)
    except CapsuleError as error:
        return _not_set_up(error)


async def answer_async(request: Callable[[], Request], limits: Operator) -> Answer:
    """`answer` for coroutines; cancelling it ends the sandbox."""
    from capsule_run.aio import execute_checked  # noqa: PLC0415  # it loads much

    try:
        made = request()
    except CapsuleError as error:
        return _refused(error)
    try:
        return _answer(await execute_checked(made), limits)
    except CapsuleError as error:
        return _not_set_up(error)


def field_of(call: object, name: str) -> object:
    """A field of what an API sent, which is an object of its SDK or a plain dictionary; None where it has none."""
    return call.get(name) if isinstance(call, dict) else getattr(call, name, None)


def unknown_tool(name: object) -> Answer:
    """The answer to a call of a tool that is not ours."""
    return _refused(refuse("E1005", "name", f"there is no tool {shown(name)}", hint=f"the tool is `{EXECUTE_CODE}`"))


def execute_code(arguments: object, limits: Operator) -> Answer:
    """One call of the tool `execute_code`, from the model's arguments to what it reads."""
    return answer(lambda: tool_request(arguments, limits), limits)


async def execute_code_async(arguments: object, limits: Operator) -> Answer:
    """`execute_code` for coroutines; cancelling it ends the sandbox."""
    return await answer_async(lambda: tool_request(arguments, limits), limits)
