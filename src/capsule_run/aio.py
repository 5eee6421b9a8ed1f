"""Run commands from asyncio: awaiting a run does not block the event loop, and cancelling it ends its sandbox.

Each run waits for the launcher in a thread of its own: the loop's default executor would delay runs when all of its threads
are in use. Only this module imports asyncio.
"""

from __future__ import annotations

import asyncio
import threading

from capsule_run.api import fields_from_arguments
from capsule_run.engine import code as engine_code
from capsule_run.engine.execute import perform
from capsule_run.launcher import PATH as CORE_PATH
from capsule_run.launcher import Cancel
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


async def execute(request: Request, *, core_path: str = CORE_PATH) -> Result:
    """Run one request, as `engine.execute.execute` does. If the task is cancelled, end the sandbox, then raise CancelledError.

    Raises CapsuleError E1xxx for a wrong request.
    """
    return await execute_checked(check_request(request), core_path=core_path)


async def execute_checked(request: Request, *, core_path: str = CORE_PATH) -> Result:
    """Run a request that is checked already (`request.parse`); else like `execute`."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Result] = loop.create_future()
    cancel = Cancel()

    def work() -> None:
        try:
            result = perform(request, on_start=cancel.started, core_path=core_path)
        except BaseException as error:  # noqa: BLE001  # raised again in the task that awaits it
            loop.call_soon_threadsafe(ended.set_exception, error)
        else:
            loop.call_soon_threadsafe(ended.set_result, result)

    thread = threading.Thread(target=work, name="capsule-run")
    thread.start()
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        cancel.cancel()
        await _wait_until_ended(ended)
        raise
    finally:
        thread.join()  # the result is there: the thread only has to return


async def _wait_until_ended(ended: asyncio.Future[Result]) -> None:
    """Wait until the run has ended, also if the task is cancelled again: no sandbox may be left running."""
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            continue
    ended.exception()  # retrieve it, else the loop logs an exception that was never retrieved


async def _run(command: Sequence[str], **options: object) -> Result:
    """Run a command, as `capsule_run.run` does, with the same arguments and result. Cancelling ends the sandbox."""
    return await execute_checked(request_from_mapping(fields_from_arguments(command=command, **options)))


async def run_code(
    code: str, language: str = "python", arguments: Sequence[str] = (), file: str | None = None, **options: object
) -> Result:
    """Run code, as `capsule_run.run_code` does, with the same arguments and result. Cancelling ends the sandbox."""
    fields = fields_from_arguments(**options)
    return await execute_checked(engine_code.code_request(code, language, fields, arguments=arguments, file=file))


# As in `api`: type checkers take the options from `api.run`.
if TYPE_CHECKING:
    run = _awaitable(_blocking_run)
else:
    run = _run
    run.__name__ = run.__qualname__ = "run"
