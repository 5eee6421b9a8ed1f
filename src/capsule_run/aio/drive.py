"""Drive one run on an event loop: wait for its descriptors there, and end it when its task is cancelled.

Callbacks for output are called on the loop; what they return is awaited before the next piece is read.

The steps of a run (`engine.execute.steps`) are Python's share: to start it and to make its result, 1 to 2 ms in all. They are
done on the loop, except those that read and write files of the host: a large copy or a network file system may block for
long, so these steps are done in a thread. Waiting takes no thread. Needs nothing of the loop but `add_reader`, and no signal
handler: the launcher is reaped by its process id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from enum import Enum

from capsule_run.aio.thread import in_thread, set_once
from capsule_run.engine.running import RunningPayload
from capsule_run.host.load import PATIENCE_S
from capsule_run.launcher import SIGKILL, SIGTERM, Cancel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from capsule_run.engine.attempt import Steps
    from capsule_run.engine.live_output import LiveOutput
    from capsule_run.launcher import Run
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

    MakeSteps = Callable[[Callable[[Run], None]], Steps]

# A pipe has room for these bytes of input files: to copy them does not block.
_PIPE_BYTES = 1 << 16


def handles_files(request: Request) -> bool:
    """Whether a run reads or writes files of the host that its request names, or copies many bytes."""
    shown = request.isolation
    return bool(
        shown.workspace
        or shown.workspace_upper
        or shown.binds
        or shown.readonly_paths
        or shown.writable_paths
        or shown.tools
        or request.collect
        or request.changes
        or request.save_changes
        or any(file.content is None for file in request.files)
        or sum(len(file.content or b"") for file in request.files) > _PIPE_BYTES
    )


class InThreads(Enum):
    """Which steps of a run are done in a thread."""

    NONE = "none"
    LAST = "all but the first"
    ALL = "all"


class Drive:
    """One run. Await `result`, once."""

    def __init__(
        self,
        make_steps: MakeSteps,
        *,
        live: LiveOutput | None = None,
        in_threads: InThreads = InThreads.NONE,
        on_abandoned: Callable[[], None] | None = None,
        on_early_end: Callable[[RunningPayload], None] | None = None,
        has_room: Callable[[], bool] | None = None,
    ) -> None:
        """Nothing starts before `start` or `result`.

        :param make_steps: makes the steps of the run.
        :param live: hands output on while the command runs.
        :param in_threads: the steps that may block for long.
        :param on_abandoned: called if the loop was closed while the run waited, after the run was ended.
        :param on_early_end: called if the command has ended, and what it has started lives on.
        :param has_room: whether to read output now; `look_again` when it may have changed.
        """
        self._loop = asyncio.get_running_loop()
        self._cancel = Cancel()
        self._live = live
        self._steps = make_steps(self._cancel.started)
        self._in_threads, self._on_abandoned = in_threads, on_abandoned
        self._on_early_end, self._has_room = on_early_end, has_room
        self._ready: asyncio.Future[None] | None = None  # set while waiting
        self._step: RunningPayload | Result | None = None
        self._payload: RunningPayload | None = None
        self._is_waiting = False  # for the payload
        self._failed: OSError | None = None  # while receiving: the steps decide what becomes of it

    @property
    def never_started(self) -> bool:
        """Whether it is certain that the command did not start."""
        return self._payload is None or self._payload.never_started

    @property
    def payload(self) -> RunningPayload | None:
        """The payload that was started last."""
        return self._payload

    async def start(self) -> None:
        """Start the command, and return while it runs."""
        self._step = await self._next_step()

    async def result(self) -> Result:
        """Run the request. However this is left, the sandbox has ended. Raises CancelledError."""
        try:
            step = await self._next_step() if self._step is None else self._step
            while isinstance(step, RunningPayload):
                await self._until_ended(step)
                step = await self._next_step()
            return step
        finally:
            self._steps.close()

    def look_again(self) -> None:
        """Wake the run: there may be room for output."""
        if self._ready is not None:
            set_once(self._ready)

    def kill(self) -> None:
        """Kill the command with all that it started; the run ends soon. May be called from any thread."""
        self._live = self._has_room = None  # what still comes is nobody's
        if not self._is_waiting or self._payload is None:
            return
        self._payload.run.cancel(SIGKILL)
        try:
            self._loop.call_soon_threadsafe(self.look_again)
        except RuntimeError:  # the loop is closed, and the sandbox has ended with it
            pass

    async def _next_step(self) -> RunningPayload | Result:
        if self._in_threads is InThreads.NONE or (self._in_threads is InThreads.LAST and self._payload is None):
            return self._advance()
        try:
            return await in_thread(self._advance, cancel=self._cancel.cancel)
        except asyncio.CancelledError:
            if self._is_waiting and self._payload is not None:
                await self._end(self._payload)
            raise

    def _advance(self) -> RunningPayload | Result:
        """Do the next step. Return the payload to wait for, or the result."""
        failed, self._failed = self._failed, None
        self._is_waiting = False
        try:
            self._payload = next(self._steps) if failed is None else self._steps.throw(failed)
        except StopIteration as ended:
            result: Result = ended.value
            return result
        self._is_waiting = True
        return self._payload

    async def _until_ended(self, payload: RunningPayload) -> None:
        sample = self._loop.call_later(PATIENCE_S, payload.sample_load)
        try:
            while not await self._receive(payload):
                pass
            if (
                self._failed is None
            ):  # the next step reaps the launcher, which the kernel lets end when the room is gone
                await self._readable((payload.fileno(),))
        except (asyncio.CancelledError, Exception):
            await self._end(payload)
            raise
        finally:
            sample.cancel()

    async def _end(self, payload: RunningPayload) -> None:
        """End the sandbox and wait until it has ended, also if the task is cancelled again."""
        self._live = self._has_room = None  # what still comes is nobody's
        payload.run.cancel(SIGTERM)
        cancelled: asyncio.CancelledError | None = None
        while True:
            try:
                if await self._receive(payload):
                    break
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _receive(self, payload: RunningPayload) -> bool:
        """Wait for something to receive, and receive it. Return whether the run has ended."""
        outputs = {output.fileno(): output for output in payload.outputs}
        if self._has_room is not None and not self._has_room():
            outputs = {}
        readable = await self._readable((payload.fileno(), *outputs))
        for fd, output in outputs.items():
            if fd in readable:
                output.read()
                await self._deliver()
        if payload.fileno() not in readable:
            return False
        try:
            if not payload.receive():
                if payload.ended_early and self._on_early_end is not None:
                    self._on_early_end(payload)
                return False
        except OSError as error:
            self._failed = error
            return True
        for output in payload.outputs:
            while output.read():
                await self._deliver()
        if self._live is not None:
            self._live.flush()
            await self._deliver()
        return True

    async def _deliver(self) -> None:
        """Call the callbacks that are due, one after the other."""
        live = self._live
        if live is None:
            return
        for callback, text in live.calls():
            try:
                returned = callback(text)
                if isinstance(returned, Awaitable):
                    await returned
            except Exception as error:
                live.error = error
                raise

    async def _readable(self, descriptors: Sequence[int]) -> list[int]:
        """Wait until a descriptor is readable; return those that are."""
        ready = self._ready = self._loop.create_future()
        found: list[int] = []
        for fd in descriptors:
            self._loop.add_reader(fd, _Wake(ready, self._abandon, found, fd))
        try:
            await ready
        finally:
            if not self._loop.is_closed():
                for fd in descriptors:
                    self._loop.remove_reader(fd)
        return found

    def _abandon(self) -> None:
        self._steps.close()
        if self._on_abandoned is not None:
            self._on_abandoned()


class _Wake:
    """The callback of a reader. Only the loop holds it: if it is dropped before it was called, the loop was closed."""

    def __init__(
        self, ready: asyncio.Future[None], abandon: Callable[[], None], found: list[int], descriptor: int
    ) -> None:
        self._ready, self._abandon, self._found, self._descriptor = ready, abandon, found, descriptor

    def __call__(self) -> None:
        self._found.append(self._descriptor)
        if not self._ready.done():
            self._ready.set_result(None)

    def __del__(self) -> None:
        if not self._ready.done():
            self._abandon()
