"""Call what may block for long in a thread, for a coroutine that must see its end."""

from __future__ import annotations

import asyncio
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


def _nothing() -> None:
    """What takes little time needs no cancelling."""


async def in_thread(work: Callable[[], T], *, cancel: Callable[[], None] = _nothing) -> T:
    """Call `work` in a thread of its own and return what it returns, or raise what it raises.

    The loop's executor is not used: its threads may all wait for runs. If the task is cancelled, call `cancel`, wait for the
    end of `work` all the same, then raise CancelledError.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def call() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001  # raised again in the task that awaits it
            failure.append(error)
        try:
            loop.call_soon_threadsafe(set_once, ended)
        except RuntimeError:  # the loop is closed: nobody waits any more
            cancel()

    thread = threading.Thread(target=call, name="capsule-run")
    try:
        thread.start()
    except RuntimeError:  # no thread is left; a loop that waits is better than a run that is lost
        return work()
    try:
        await until_done(ended, cancel=cancel)
    except GeneratorExit:  # closed, and not cancelled: it cannot wait for the loop
        cancel()
        raise
    finally:
        thread.join()  # it only has to return
    if failure:
        raise failure[0]
    return outcome[0]


async def until_done(future: asyncio.Future[T], *, cancel: Callable[[], None] = _nothing) -> None:
    """Wait until a future is done, whatever it came to. If the task is cancelled, call `cancel`, and raise at the end."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
            cancel()
    if cancelled is not None:
        raise cancelled


def set_once(ended: asyncio.Future[None]) -> None:
    """Settle a future that a cancelled task may have settled already."""
    if not ended.done():
        ended.set_result(None)
