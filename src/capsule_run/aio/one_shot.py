"""`run`, `run_code` and `execute` for coroutines: as those of `capsule_run`, with the same arguments and result."""

from __future__ import annotations

import asyncio

from capsule_run._base.errors import CapsuleError
from capsule_run.aio.admission import Admission
from capsule_run.aio.drive import Drive
from capsule_run.api import fields_from_arguments, in_own_words
from capsule_run.engine import code as engine_code
from capsule_run.engine import prefetch
from capsule_run.launcher import PATH as CORE_PATH
from capsule_run.request.parse import check_request, request_from_mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import ParamSpec

    from capsule_run.api import run as _blocking_run
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
    return await execute_checked(check_request(request), core_path=core_path)


async def execute_checked(request: Request, *, core_path: str = CORE_PATH) -> Result:
    """Run a request that is checked already (`request.parse`); else like `execute`."""
    admission = Admission(asyncio.get_running_loop())
    try:
        await admission.enter()
        while True:
            run = Drive(request, core_path=core_path, on_abandoned=admission.leave)
            try:
                result = await run.result()
            except CapsuleError as error:  # not even a result could be made
                if error.code != _SHORTAGE or not run.never_started or not await admission.retry():
                    raise
                continue
            is_short = result.error is not None and result.error.code == _SHORTAGE and run.never_started
            if not is_short or not await admission.retry():
                return result
    finally:
        admission.leave()


async def _run(command: Sequence[str], **options: object) -> Result:
    """Run a command, as `capsule_run.run` does, with the same arguments and result. Cancelling ends the sandbox."""
    return in_own_words(await execute_checked(request_from_mapping(fields_from_arguments(command=command, **options))))


async def run_code(
    code: str, language: str = "python", arguments: Sequence[str] = (), file: str | None = None, **options: object
) -> Result:
    """Run code, as `capsule_run.run_code` does, with the same arguments and result. Cancelling ends the sandbox."""
    fields = fields_from_arguments(**options)
    request = engine_code.code_request(code, language, fields, arguments=arguments, file=file)
    return in_own_words(await execute_checked(request))


# As in `api`: type checkers take the options from `api.run`.
if TYPE_CHECKING:
    run = _awaitable(_blocking_run)
else:
    run = _run
    run.__name__ = run.__qualname__ = "run"
