"""The request of one command in a sandbox that lives: the sandbox's request with what the call gives."""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.api import in_own_words
from capsule_run.engine import execute, live_output
from capsule_run.policy.limits import limits
from capsule_run.request.arguments import request_from_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from capsule_run.engine.live_output import OnText
    from capsule_run.engine.streams import Streams
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

SHELL = ("/bin/sh", "-c")
# Longer than any lease: a command that is started ends with the sandbox, if not by itself.
NO_TIMEOUT_MS = 1 << 50
# The stream of a command that is started has no limit; how much of it is kept has one.
NO_OUTPUT_LIMIT = 1 << 60


def command_of(command: str | Sequence[str]) -> Sequence[str]:
    """Return the words of a command; a string is for the shell."""
    return (*SHELL, command) if isinstance(command, str) else command


def request_of_call(sandbox: Request, command: str | Sequence[str], **arguments: object) -> Request:
    """Return the request of a command in a sandbox.

    :param sandbox: the request of the sandbox, whose limits and variables are the defaults.
    :param arguments: those of `Sandbox.run`; None is not given.
    :raises CapsuleError: E10xx, which names the argument.
    """
    call = request_from_arguments(command=command_of(command), **arguments)
    given = {name: amount for name, amount in vars(call.resources).items() if amount is not None}
    memory, most = call.resources.memory_bytes, limits(sandbox.resources).memory_bytes
    if memory is not None and memory > most:
        raise CapsuleError("E1004", f"`memory`: {memory} bytes are more than the {most} of the sandbox")
    directory = call.isolation.working_directory or sandbox.isolation.working_directory
    return replace(
        sandbox,
        command=call.command,
        environment=(*sandbox.environment, *call.environment),
        stdin=call.stdin,
        timeout_ms=sandbox.timeout_ms if call.timeout_ms is None else call.timeout_ms,
        resources=replace(sandbox.resources, **given),
        isolation=replace(sandbox.isolation, working_directory=directory),
        on_output_limit=call.on_output_limit or sandbox.on_output_limit,
        execution_id=call.execution_id,
        files=(),
        collect=(),
        changes=False,
    )


def without_limits(request: Request, timeout_ms: int | None = None) -> Request:
    """Return the request of a command that is started: it runs as long as the sandbox, and may write as much as it likes."""
    resources = replace(request.resources, max_output_bytes=NO_OUTPUT_LIMIT)
    time_limit = execute.bounded_timeout(NO_TIMEOUT_MS) if timeout_ms is None else request.timeout_ms
    return replace(request, resources=resources, on_output_limit="truncate", timeout_ms=time_limit)


def run_with_callbacks(
    run: Callable[[Streams | None], Result], on_stdout: OnText | None, on_stderr: OnText | None
) -> Result:
    """Run a command that hands its output on, if there is somebody who takes it. An error names arguments of `run`."""
    if on_stdout is None and on_stderr is None:
        return in_own_words(run(None))
    return in_own_words(live_output.run_live(run, on_stdout, on_stderr))
