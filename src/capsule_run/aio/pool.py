"""`aio.Pool`: rooms that are built ahead, for coroutines. Runs wait on the event loop, without a thread each.

Decisions are those of `sandbox.pool`; the pool's one thread builds its rooms here, too.
"""

from __future__ import annotations

import asyncio
from collections import deque

from capsule_run._base.errors import CapsuleError
from capsule_run.aio import mapping
from capsule_run.aio.drive import InThreads, handles_files
from capsule_run.aio.one_shot import run_steps
from capsule_run.aio.thread import in_thread, set_once
from capsule_run.api import in_own_words
from capsule_run.engine import code as engine_code
from capsule_run.engine.live_output import LiveOutput
from capsule_run.sandbox.mapping import checked_jobs, given_id, refused_call
from capsule_run.sandbox.pool import WAIT
from capsule_run.sandbox.pool import Pool as BlockingPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
    from os import PathLike
    from typing import Self

    from capsule_run.engine.attempt import Steps
    from capsule_run.engine.live_output import OnText
    from capsule_run.engine.spare import SpareRoom
    from capsule_run.launcher import Run
    from capsule_run.model.request import Language, OnOutputLimit, Request
    from capsule_run.model.result import Result
    from capsule_run.sandbox.mapping import PoolCall
    from capsule_run.sandbox.pool import PoolStats


class _Core(BlockingPool):
    """The blocking pool, with what runs need that wait on a loop."""

    @property
    def waits(self) -> bool:
        return self._on_empty == WAIT

    @property
    def size(self) -> int:
        return self._filler.size

    @property
    def is_ready(self) -> bool:
        return self._filler.ready > 0

    def may_wait(self) -> bool:
        return not self._filler.will_not_fill

    def when_changed(self, call: Callable[[], None]) -> None:
        self._filler.when_changed(call)

    def put_back(self, spare: SpareRoom) -> None:
        self._filler.discard(spare)


class Pool:
    """Rooms that are built ahead: `capsule_run.Pool` for coroutines, with the same options.

    async with aio.Pool(size=4, memory="256M") as pool:
        result = await pool.run("make")

    It is built by `async with`, or by `await Pool.create(...)`. For one event loop. Cancelling a run ends its sandbox.
    """

    def __init__(self, size: int = 4, **options: object) -> None:
        self._size, self._options = size, options
        self._built: _Core | None = None
        self._queue: deque[asyncio.Future[None]] = deque()  # runs that wait for a room, the first one's turn first

    @classmethod
    async def create(cls, size: int = 4, **options: object) -> Self:
        """Build a pool. Raises CapsuleError for a wrong option, or a host that cannot meet it."""
        return await cls(size, **options).__aenter__()

    @property
    def _core(self) -> _Core:
        if self._built is None:
            raise CapsuleError(
                "E1009", "the pool is not built yet", hint="use `async with`, or `await aio.Pool.create(...)`"
            )
        return self._built

    # --- runs ---

    async def run(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | PathLike[str] | None = None,
        stdin: bytes | str | None = None,
        timeout_ms: int | None = None,
        max_output: int | str | None = None,
        on_output_limit: OnOutputLimit | None = None,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        execution_id: str | None = None,
    ) -> Result:
        """Run a command in a room of its own, and return its result.

        The arguments are those of `capsule_run.Pool.run`; `on_stdout` and `on_stderr` may be coroutine functions.
        """
        request = self._core.call_of(
            command,
            env=env,
            workdir=cwd,
            stdin=stdin,
            timeout_ms=timeout_ms,
            max_output=max_output,
            on_output_limit=on_output_limit,
            execution_id=execution_id,
        )
        return await self._run(request, on_stdout, on_stderr)

    async def run_code(
        self,
        code: str,
        language: Language | str = "python",
        *,
        env: Mapping[str, str] | None = None,
        timeout_ms: int | None = None,
        execution_id: str | None = None,
    ) -> Result:
        """Run code in a room of its own, and return its result: as `capsule_run.Pool.run_code`."""
        core = self._core

        def make() -> tuple[Request, bytes | None]:
            return core.call_of_code(code, language, env=env, timeout_ms=timeout_ms, execution_id=execution_id)

        request, work = await in_thread(make) if engine_code.may_probe(language) else make()
        return await self._run(request, work=work, cold=work is None)

    def map(
        self,
        calls: Iterable[PoolCall] | AsyncIterable[PoolCall],
        *,
        ordered: bool = True,
        workers: int | None = None,
    ) -> AsyncIterator[Result]:
        """Run many commands, several at once, and yield their results: as `aio.map`, in the rooms of this pool.

        The arguments are those of `capsule_run.Pool.map`.
        """
        most = self._core.size if workers is None else checked_jobs(workers, "workers")
        return mapping.results(self._run_call, calls, jobs=most, ordered=ordered)

    async def _run_call(self, call: PoolCall) -> Result:
        try:
            return await self._run(*self._core.mapped_call(call))
        except CapsuleError as error:
            return refused_call(error, given_id(call))

    async def _run(
        self,
        request: Request,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        *,
        work: bytes | None = None,
        cold: bool = False,
    ) -> Result:
        core = self._core
        live = None if on_stdout is None and on_stderr is None else LiveOutput(on_stdout, on_stderr)
        taken = [] if cold else [await self._take(work)]

        def steps(on_start: Callable[[Run], None]) -> Steps:
            streams = None if live is None else live.streams()
            spare = taken.pop() if taken else None
            return core.steps(request, spare, streams=streams, work=work, on_start=on_start)

        try:
            in_threads = InThreads.ALL if handles_files(request) else InThreads.NONE
            return in_own_words(await run_steps(steps, live=live, in_threads=in_threads))
        finally:
            for spare in taken:  # it has not come to run
                if spare is not None:
                    core.put_back(spare)

    async def _take(self, work: bytes | None) -> SpareRoom | None:
        """Return a room that is ready, after those who came before; None if the run starts cold."""
        core = self._core
        if not core.waits or (core.prepares and work is None):
            return core.take(work=work, wait=False)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._queue.append(turn)
        try:
            if self._queue[0] is not turn:
                await turn
            while core.may_wait() and not core.is_ready:
                await _changed(core, loop)
            return core.take(work=work, wait=False)
        finally:
            self._queue.remove(turn)
            if self._queue:
                set_once(self._queue[0])

    # --- the pool ---

    def stats(self) -> PoolStats:
        """Return what the pool has done."""
        return self._core.stats()

    async def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until every room is built; return whether they are, within `timeout` seconds."""
        return await in_thread(lambda: self._core.wait_ready(timeout))

    async def drain(self) -> None:
        """Build no more rooms, and end those that wait. Runs that are under way go on; later ones start cold."""
        await in_thread(self._core.drain)

    async def close(self) -> None:
        """End the rooms that wait."""
        if self._built is not None:
            await in_thread(self._built.close)

    async def __aenter__(self) -> Self:
        if self._built is None:
            made: list[_Core] = []
            try:
                await in_thread(lambda: made.append(_Core(self._size, **self._options)))  # type: ignore[arg-type]  # it checks them
            except asyncio.CancelledError:
                for core in made:
                    await in_thread(core.close)
                raise
            self._built = made[0]
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


async def _changed(core: _Core, loop: asyncio.AbstractEventLoop) -> None:
    """Wait until a room may be ready."""
    changed: asyncio.Future[None] = loop.create_future()

    def call() -> None:
        try:
            loop.call_soon_threadsafe(set_once, changed)
        except RuntimeError:  # the loop is closed
            pass

    core.when_changed(call)
    await changed
