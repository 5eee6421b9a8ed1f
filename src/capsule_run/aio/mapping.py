"""`aio.map`: `capsule_run.map` for coroutines. The calls, the order and the bounds are those of `sandbox.mapping`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Generic, TypeVar

from capsule_run._base.errors import CapsuleError
from capsule_run.aio.drive import InThreads, handles_files
from capsule_run.aio.one_shot import run_steps
from capsule_run.aio.thread import in_thread
from capsule_run.api import in_own_words
from capsule_run.sandbox.mapping import Calls, checked_jobs, given_id, refused_call, size_of
from capsule_run.sandbox.pools import Pools
from capsule_run.sandbox.window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from capsule_run.model.result import Result
    from capsule_run.sandbox.mapping import Call

Work = TypeVar("Work")


def map(  # noqa: A001  # its public name
    calls: Iterable[Call] | AsyncIterable[Call],
    *,
    jobs: int | None = None,
    ordered: bool = True,
    config: bool = False,
    **options: object,
) -> AsyncIterator[Result]:
    """Run many commands, each in a sandbox of its own and several at once, and yield their results.

    As `capsule_run.map`, with the same arguments. `calls` may also be an asynchronous iterable; any other is taken from on the
    event loop. Closing the iterator, or cancelling its task, ends what runs.
    """
    most = checked_jobs(jobs)
    requests = Calls(options, config=config)
    return _mapped(requests, calls, most, ordered=ordered)


async def _mapped(
    requests: Calls, calls: Iterable[Call] | AsyncIterable[Call], jobs: int, *, ordered: bool
) -> AsyncIterator[Result]:
    pools = Pools(jobs)

    async def do(call: Call) -> Result:
        try:
            request = requests.request_of(call)
            in_threads = InThreads.ALL if handles_files(request) else InThreads.NONE
            result = await run_steps(
                lambda on_start: pools.steps(request, on_start=on_start), live=None, in_threads=in_threads
            )
            return in_own_words(result)
        except CapsuleError as error:
            return refused_call(error, given_id(call))

    try:
        async for result in results(do, calls, jobs=jobs, ordered=ordered):
            yield result
    finally:
        await in_thread(pools.close)


def results(
    do: Callable[[Work], Awaitable[Result]],
    source: Iterable[Work] | AsyncIterable[Work],
    *,
    jobs: int,
    ordered: bool,
) -> AsyncIterator[Result]:
    """Do the work of a source in so many tasks, and yield the results (`sandbox.workers` for an event loop)."""
    return _Tasks(do, source, ordered=ordered).results(jobs)


class _Tasks(Generic[Work]):
    """Tasks that do the work of a source."""

    def __init__(
        self,
        do: Callable[[Work], Awaitable[Result]],
        source: Iterable[Work] | AsyncIterable[Work],
        *,
        ordered: bool,
    ) -> None:
        self._do = do
        self._source = aiter(source) if isinstance(source, AsyncIterable) else _each(source)
        self._window: Window[Result | Exception] = Window(ordered=ordered)
        self._changed = asyncio.Condition()
        self._taking = asyncio.Lock()
        self._end: Exception | None = None  # of the source

    async def results(self, jobs: int) -> AsyncIterator[Result]:
        tasks = [asyncio.create_task(self._work()) for _ in range(jobs)]
        try:
            while (found := await self._next()) is not None:
                for outcome in found:
                    if isinstance(outcome, Exception):
                        raise outcome
                    yield outcome
            if self._end is not None and not isinstance(self._end, StopAsyncIteration):
                raise self._end
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _next(self) -> tuple[Result | Exception] | tuple[()] | None:
        window = self._window
        async with self._changed:
            await self._changed.wait_for(lambda: window.has_next or (self._end is not None and window.is_empty))
            if not window.has_next:
                return None
            self._changed.notify_all()
            return window.next() or ()

    async def _work(self) -> None:
        while (taken := await self._take()) is not None:
            number, work = taken
            outcome: Result | Exception
            try:
                outcome = await self._do(work)
            except Exception as error:  # noqa: BLE001  # raised where its result is due
                outcome = error
            async with self._changed:
                self._window.finish(number, outcome, 0 if isinstance(outcome, Exception) else size_of(outcome))
                self._changed.notify_all()

    async def _take(self) -> tuple[int, Work] | None:
        """Take a piece of work; None if there is no more."""
        async with self._taking:
            async with self._changed:
                await self._changed.wait_for(lambda: self._window.may_take)
            if self._end is not None:
                return None
            try:
                work = await anext(self._source)
            except Exception as error:  # noqa: BLE001  # raised where the results are taken
                async with self._changed:
                    self._end = error
                    self._changed.notify_all()
                return None
            return self._window.take(), work


async def _each(source: Iterable[Work]) -> AsyncIterator[Work]:
    for work in source:
        yield work
