"""Runs beside an event loop: awaiting one blocks nothing, and cancelling it ends its sandbox.

Rank 4. Each run has a thread of its own, in which it waits for the core; the loop's default executor would hold runs
back once it has no thread left. asyncio is imported by who awaits, never by the one-shot run.
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
    """`engine.execute.execute` for coroutines. When the task is cancelled, the sandbox is gone before CancelledError goes on.

    Raises CapsuleError E1xxx for a wrong request.
    """
    return await execute_checked(check_request(request), core_path=core_path)


async def execute_checked(request: Request, *, core_path: str = CORE_PATH) -> Result:
    """`execute`, for a request that `jsonapi` made and so has checked."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Result] = loop.create_future()
    cancel = Cancel()

    def work() -> None:
        try:
            result = perform(request, on_start=cancel.started, core_path=core_path)
        except BaseException as error:  # noqa: BLE001  # it is raised again where it is awaited
            loop.call_soon_threadsafe(ended.set_exception, error)
        else:
            loop.call_soon_threadsafe(ended.set_result, result)

    thread = threading.Thread(target=work, name="capsule-run")
    thread.start()
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        cancel.cancel()
        await _settled(ended)
        raise
    finally:
        thread.join()  # it has answered: what is left of it is its return


async def _settled(ended: asyncio.Future[Result]) -> None:
    """Wait for the end whatever happens: whoever cancels twice wants no sandbox left behind either."""
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            continue
    ended.exception()  # looked at, so that the loop does not complain about it


async def _run(command: Sequence[str], **options: object) -> Result:
    """`capsule_run.run` for coroutines: the same arguments, the same result. Cancelling it ends the sandbox."""
    return await execute_checked(request_from_mapping(fields_from_arguments(command=command, **options)))


async def run_code(
    code: str, language: str = "python", arguments: Sequence[str] = (), file: str | None = None, **options: object
) -> Result:
    """`capsule_run.run_code` for coroutines: the same arguments, the same result. Cancelling it ends the sandbox."""
    fields = fields_from_arguments(**options)
    return await execute_checked(engine_code.code_request(code, language, fields, arguments=arguments, file=file))


# As in `sdk`: a type checker knows the options from there.
if TYPE_CHECKING:
    run = _awaitable(_blocking_run)
else:
    run = _run
    run.__name__ = run.__qualname__ = "run"
