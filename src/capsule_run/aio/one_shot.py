"""`run`, `run_code` and `execute` for coroutines: as those of `capsule_run`, with the same arguments and result."""

from __future__ import annotations

import asyncio

from capsule_run._base.errors import CapsuleError
from capsule_run.aio.admission import Admission
from capsule_run.aio.drive import Drive, InThreads, handles_files
from capsule_run.aio.thread import in_thread
from capsule_run.api import fields_from_arguments, in_own_words
from capsule_run.engine import code as engine_code
from capsule_run.engine import execute as engine_execute
from capsule_run.engine import prefetch
from capsule_run.engine.execute import complete
from capsule_run.engine.live_output import LiveOutput, with_pieces
from capsule_run.launcher import PATH as CORE_PATH
from capsule_run.request import interface_words
from capsule_run.request.parse import request_from_mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import ParamSpec

    from capsule_run.aio.drive import MakeSteps
    from capsule_run.api import run as _blocking_run
    from capsule_run.api import run_code as _blocking_run_code
    from capsule_run.engine.attempt import Steps
    from capsule_run.engine.live_output import OnText
    from capsule_run.launcher import Run
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

    Options = ParamSpec("Options")

    def _awaitable(_run: Callable[Options, Result]) -> Callable[Options, Awaitable[Result]]: ...


_SHORTAGE = "E6003"
# Imported before the first run: when descriptors are used up, no module can be imported, and runs are to wait and not to fail.
prefetch.load(
    (
        *prefetch.FOR_A_FAILED_RESULT,
        *prefetch.WHILE_THE_ROOM_IS_BUILT,
        *prefetch.WHILE_THE_COMMAND_RUNS,
        *prefetch.FOR_A_FULL_RESULT,
        "_base.shortage",
        "engine.not_found",
    )
)


async def execute(request: Request, *, core_path: str = CORE_PATH) -> Result:
    """Run one request, as `capsule_run.execute` does. If the task is cancelled, end the sandbox, then raise CancelledError.

    Raises CapsuleError E1xxx for a wrong request.
    """
    return await execute_checked(complete(request), core_path=core_path)


async def execute_checked(request: Request, *, live: LiveOutput | None = None, core_path: str = CORE_PATH) -> Result:
    """Run a request that is checked already (`request.parse`); else like `execute`.

    :param live: takes the output while the command runs.
    """

    def steps(on_start: Callable[[Run], None]) -> Steps:
        streams = None if live is None else live.streams()
        return engine_execute.steps(request, streams=streams, on_start=on_start, core_path=core_path)

    return await run_steps(steps, live=live, in_threads=InThreads.ALL if handles_files(request) else InThreads.NONE)


async def run_steps(make_steps: MakeSteps, *, live: LiveOutput | None, in_threads: InThreads) -> Result:
    """Run in the order of arrival, and again if the start failed for a shortage (`admission`).

    :param make_steps: makes the steps of each attempt.
    """
    admission = Admission(asyncio.get_running_loop())
    try:
        await admission.enter()
        while True:
            run = Drive(make_steps, live=live, in_threads=in_threads, on_abandoned=admission.leave)
            try:
                result = await run.result()
            except CapsuleError as error:  # not even a result could be made
                if error.code != _SHORTAGE or not run.never_started or not await admission.retry():
                    raise
                continue
            is_short = result.error is not None and result.error.code == _SHORTAGE and run.never_started
            if not is_short or not await admission.retry():
                return result if live is None else with_pieces(result, live)
    finally:
        admission.leave()


async def _execute_in_words(request: Request, on_stdout: OnText | None, on_stderr: OnText | None) -> Result:
    """Run a request that was made of arguments; an error names the argument and not the field of the request."""
    live = None if on_stdout is None and on_stderr is None else LiveOutput(on_stdout, on_stderr)
    try:
        result = await execute_checked(request, live=live)
    except CapsuleError as error:
        if live is not None and error is live.error:  # a callback has raised it
            raise
        raise interface_words.renamed(error, interface_words.ARGUMENT_NAMES) from None
    return in_own_words(result)


async def _run(
    command: Sequence[str], *, on_stdout: OnText | None = None, on_stderr: OnText | None = None, **options: object
) -> Result:
    """Run a command, as `capsule_run.run` does, with the same arguments and result. Cancelling ends the sandbox.

    `on_stdout` and `on_stderr` may be coroutine functions: each call is awaited before more output is read.
    """
    request = request_from_mapping(fields_from_arguments(command=command, **options))
    return await _execute_in_words(request, on_stdout, on_stderr)


async def _run_code(
    code: str,
    language: str = "python",
    arguments: Sequence[str] = (),
    file: str | None = None,
    *,
    on_stdout: OnText | None = None,
    on_stderr: OnText | None = None,
    **options: object,
) -> Result:
    """Run code, as `capsule_run.run_code` does, with the same arguments and result. Cancelling ends the sandbox.

    `on_stdout` and `on_stderr` may be coroutine functions: each call is awaited before more output is read.
    """
    fields = fields_from_arguments(**options)

    def make() -> Request:
        return engine_code.code_request(code, language, fields, arguments=arguments, file=file)

    request = await in_thread(make) if engine_code.may_probe(language) else make()
    return await _execute_in_words(request, on_stdout, on_stderr)


# As in `api`: type checkers take the options from `api.run` and `api.run_code`.
if TYPE_CHECKING:
    run = _awaitable(_blocking_run)
    run_code = _awaitable(_blocking_run_code)
else:
    run, run_code = _run, _run_code
    run.__name__ = run.__qualname__ = "run"
    run_code.__name__ = run_code.__qualname__ = "run_code"
