"""A command that was started in a sandbox, and runs on the event loop while the caller does something else."""

from __future__ import annotations

import asyncio
import os

from capsule_run.aio.drive import Drive, InThreads
from capsule_run.aio.streams import InputStream, OutputStream
from capsule_run.aio.thread import until_done
from capsule_run.engine.live_output import LiveOutput, with_pieces
from capsule_run.host.finalizer import finalizer
from capsule_run.sandbox.streams import GRACE_S, Grace, streams_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from capsule_run.engine.attempt import Steps
    from capsule_run.engine.live_output import OnText
    from capsule_run.engine.running import RunningPayload
    from capsule_run.engine.session import Session
    from capsule_run.launcher import Run
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result


class Process:
    """A command that was started: `capsule_run.Process` for coroutines. Leaving it (`async with`) kills the command.

    `stdout` and `stderr` are iterated for lines as they come (`async for`); `stdin` is there if it was asked for, else None.
    """

    def __init__(
        self,
        request: Request,
        *,
        stdin: InputStream | None,
        outputs: tuple[OutputStream, OutputStream],
        drive: Drive,
        grace: Grace,
        early: asyncio.Future[Result],
        whole: asyncio.Task[Result],
    ) -> None:
        self.command = request.command
        self.stdin = stdin
        self._outputs = outputs
        self._drive, self._grace, self._early, self._whole = drive, grace, early, whole
        finalizer(self, drive.kill)

    @classmethod
    async def start(
        cls,
        session: Session,
        request: Request,
        *,
        stdin: bool,
        keep_bytes: int,
        on_stdout: OnText | None,
        on_stderr: OnText | None,
    ) -> Self:
        """Start the command, and return while it runs. Callers use `Sandbox.start`."""
        live = LiveOutput(on_stdout, on_stderr) if on_stdout is not None or on_stderr is not None else None
        grace = Grace() if live is None else Grace(0)
        outputs = OutputStream(keep_bytes=keep_bytes, grace=grace), OutputStream(keep_bytes=keep_bytes, grace=grace)
        inner, written = _input() if stdin else (None, None)

        def steps(on_start: Callable[[Run], None]) -> Steps:
            streams = streams_of(outputs, live, stdin=inner, keep_bytes=keep_bytes)
            return session.steps(request, streams=streams, on_start=on_start, keep=True)

        early: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        drive = Drive(
            steps,
            live=live,
            in_threads=InThreads.LAST,
            on_early_end=_settling(early),
            has_room=lambda: all(output.has_room for output in outputs),
        )
        for output in outputs:
            output.on_room = drive.look_again
        try:
            await drive.start()
        finally:
            if inner is not None:
                os.close(inner)
        whole = asyncio.ensure_future(_to_the_end(drive, outputs, live))
        at_its_end = asyncio.get_running_loop().call_later(GRACE_S, drive.look_again)
        whole.add_done_callback(lambda _whole: at_its_end.cancel())
        return cls(request, stdin=written, outputs=outputs, drive=drive, grace=grace, early=early, whole=whole)

    @property
    def stdout(self) -> OutputStream:
        """Standard output. While somebody has it, the process is referred to."""
        return self._outputs[0].owned_by(self)

    @property
    def stderr(self) -> OutputStream:
        """Standard error, like `stdout`."""
        return self._outputs[1].owned_by(self)

    @property
    def pid(self) -> int:
        """The process id of the command's launcher on the host; 0 if the command could not be started."""
        payload = self._drive.payload
        return 0 if payload is None else payload.pid

    @property
    def output_so_far(self) -> str:
        """What came through stdout up to now, as far as it is kept."""
        return self._outputs[0].content.decode("utf-8", "replace")

    def poll(self) -> int | None:
        """Return the exit code if the command has ended, else None."""
        if self._early.done():
            return self._early.result().exit_code
        return self._whole.result().exit_code if self._whole.done() else None

    async def wait(self, timeout: float | None = None) -> Result:
        """Wait until the command has ended, and return its result.

        If something that it left running lives on, the result has the exit code and the output up to then, and no metrics;
        `result` has them when all has ended.

        :param timeout: seconds; None waits as long as it takes.
        :raises TimeoutError: it has not ended in this time; it goes on.
        """
        return await self._first_of({self._whole, self._early}, timeout)

    async def result(self, timeout: float | None = None) -> Result:
        """Wait until the command and all that it started has ended, and return the result. Raises TimeoutError as `wait`."""
        return await self._first_of({self._whole}, timeout)

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group. Does nothing if the command has ended."""
        payload = self._drive.payload
        if payload is not None and self.poll() is None:
            payload.run.signal(number)

    async def kill(self) -> None:
        """End the command and every process that it started, whatever they did, and wait until they have ended."""
        self._drive.kill()
        await until_done(self._whole)
        if self.stdin is not None:
            self.stdin.close()

    async def _first_of(self, futures: set[asyncio.Future[Result]], seconds: float | None) -> Result:
        self._grace.end()
        self._drive.look_again()
        done, _pending = await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TimeoutError(f"the command has not ended after {seconds} s")
        return done.pop().result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.kill()

    def __repr__(self) -> str:
        code = self.poll()
        state = "running" if code is None else f"exit code {code}"
        return f"<Process {list(self.command)!r}: {state}>"


async def _to_the_end(drive: Drive, outputs: tuple[OutputStream, OutputStream], live: LiveOutput | None) -> Result:
    """Wait for the end. Refers to no Process: one that nobody refers to is killed."""
    try:
        result = await drive.result()
        return result if live is None else with_pieces(result, live)
    finally:
        for output in outputs:
            output.end()


def _settling(early: asyncio.Future[Result]) -> Callable[[RunningPayload], None]:
    def settle(payload: RunningPayload) -> None:
        if not early.done():
            early.set_result(payload.result_so_far())

    return settle


def _input() -> tuple[int, InputStream]:
    """Return a pipe: the end that the command reads, and a stream that writes to it."""
    inner, outer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(outer, False)
    return inner, InputStream(outer)
