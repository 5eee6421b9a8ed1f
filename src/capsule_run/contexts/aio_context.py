"""A context for asyncio: cells without a thread. The same as `context`, whose decisions are in `conversation`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import nullcontext

from capsule_run._base.errors import CapsuleError
from capsule_run.contexts import program as programs
from capsule_run.contexts.interpreter import (
    DEFAULT_GRACE_MS,
    LARGEST_GRACE_MS,
    SECONDS_OF_AN_END,
    Interpreter,
    cell_request,
    check_number,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self, TypeVar

    from capsule_run.contexts.conversation import CellRequest
    from capsule_run.contexts.interpreter import Process
    from capsule_run.model.cell import CellResult, RichResult

    T = TypeVar("T")
    Called = list[Callable[[], object]]


class AsyncContext:
    """An interpreter in a sandbox that keeps its variables from cell to cell, for one event loop.

    :param start: starts the process of `contexts.command(language)`, and may be a coroutine function; called for the first
        cell, and again after a loss.
    :param language: "python" or "javascript".
    :param grace_ms: how long an interrupted cell may go on before its interpreter is killed.
    :param in_use: makes a context manager for the time of each cell.
    """

    def __init__(
        self,
        start: Callable[[], Process | Awaitable[Process]],
        *,
        language: str = "python",
        grace_ms: int = DEFAULT_GRACE_MS,
        in_use: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.language = programs.language_of(language)
        check_number("grace_ms", grace_ms, 0, LARGEST_GRACE_MS)
        self.grace_ms = grace_ms
        self._start_process = start
        self._in_use = in_use
        self._interpreter: Interpreter | None = None
        self._was_lost = False
        self._is_closed = False
        self._one_cell = asyncio.Lock()
        self._interrupt = False
        self._wake = asyncio.Event()

    async def run_code(
        self,
        code: str,
        *,
        timeout_ms: int | None = None,
        memory: int | str | None = None,
        max_output: int | str | None = None,
        on_stdout: Callable[[str], object] | None = None,
        on_stderr: Callable[[str], object] | None = None,
        on_result: Callable[[RichResult], object] | None = None,
    ) -> CellResult:
        """Run a cell as `Context.run_code` does; the functions may be coroutine functions.

        Cancelling interrupts the cell, and kills its interpreter if that does not end it, before CancelledError goes on.
        """
        called: Called = []
        request = cell_request(
            code,
            language=self.language,
            timeout_ms=timeout_ms,
            grace_ms=self.grace_ms,
            memory=memory,
            max_output=max_output,
            on_stdout=_later(on_stdout, called),
            on_stderr=_later(on_stderr, called),
            on_result=_later(on_result, called),
        )
        async with self._one_cell:
            with self._in_use():
                interpreter = await self._begin(request)
                try:
                    await self._drive(interpreter, called)
                except BaseException:
                    await self._abandon(interpreter)
                    raise
                assert interpreter.conversation.result is not None
                return interpreter.conversation.result

    def interrupt(self) -> None:
        """Interrupt the cell that runs: KeyboardInterrupt in Python. Variables are kept."""
        self._interrupt = True
        self._wake.set()

    async def restart(self) -> None:
        """End the interpreter and everything that it started. The next cell starts a new one, without variables."""
        self.interrupt()
        async with self._one_cell:
            await self._end()
            self._was_lost = False

    async def close(self) -> None:
        """End the interpreter. Between cells it may end by itself, and so flush its files and run what `atexit` has."""
        self.interrupt()
        async with self._one_cell:
            self._is_closed = True
            await self._let_end()
            await self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def _begin(self, request: CellRequest) -> Interpreter:
        if self._is_closed:
            raise CapsuleError("E1009", "the context is closed", hint="create another one")
        self._interrupt = False
        if self._interpreter is None:
            started = self._start_process()
            self._interpreter = Interpreter(await _settled(started), self.language, follows_a_loss=self._was_lost)
        self._interpreter.conversation.begin(request, time.monotonic())
        return self._interpreter

    async def _drive(self, interpreter: Interpreter, called: Called) -> None:
        """Read and write until the cell has ended."""
        conversation = interpreter.conversation
        while conversation.is_running:
            await self._wait(interpreter)
            is_at_end = not interpreter.read()
            for call in called:
                await _settled(call())
            called.clear()
            if self._interrupt:
                self._interrupt = False
                conversation.interrupt(time.monotonic())
            if interpreter.advance() or is_at_end:
                interpreter.lost(await self._end(is_ending=is_at_end))
                self._was_lost = True

    async def _wait(self, interpreter: Interpreter) -> None:
        """Wait until there is something to do."""
        loop = asyncio.get_running_loop()
        left = interpreter.seconds_left()
        timer = None if left is None else loop.call_later(left, self._wake.set)
        loop.add_reader(interpreter.outlet, self._wake.set)
        if interpreter.conversation.outgoing:
            loop.add_writer(interpreter.inlet, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            self._wake.clear()
            loop.remove_reader(interpreter.outlet)
            loop.remove_writer(interpreter.inlet)
            if timer is not None:
                timer.cancel()

    async def _abandon(self, interpreter: Interpreter) -> None:
        """Abandon the cell, and wait for its end, also if the task is cancelled again."""
        interpreter.abandon_cell()
        ending = asyncio.ensure_future(self._drive(interpreter, []))
        while not ending.done():
            try:
                await asyncio.wait([ending])
            except asyncio.CancelledError:
                continue
        ending.result()

    async def _end(self, *, is_ending: bool = False) -> object:
        """End the process and everything that it started; return what it ended with. As in `Context`."""
        interpreter, self._interpreter = self._interpreter, None
        if interpreter is None:
            return None
        if is_ending:
            try:
                await _settled(interpreter.process.wait(SECONDS_OF_AN_END))
            except TimeoutError:
                pass
        await _settled(interpreter.process.kill())
        ending = await _settled(interpreter.process.wait())
        interpreter.close()
        return ending

    async def _let_end(self) -> None:
        """Close the interpreter's input, at which it ends by itself, and wait for that as long as for an interrupt."""
        interpreter = self._interpreter
        if interpreter is None:
            return
        interpreter.process.stdin.close()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self.grace_ms / 1000, self._wake.set)
        end = time.monotonic() + self.grace_ms / 1000
        loop.add_reader(interpreter.outlet, self._wake.set)
        try:
            while not interpreter.conversation.must_kill and time.monotonic() < end and interpreter.read():
                self._wake.clear()
                await self._wake.wait()
        finally:
            loop.remove_reader(interpreter.outlet)
            timer.cancel()


def _later(function: Callable[[T], object] | None, called: Called) -> Callable[[T], None] | None:
    """Return a function that keeps a call of `function`, which the task makes."""
    if function is None:
        return None
    return lambda value: called.append(lambda: function(value))


async def _settled(value: T | Awaitable[T]) -> T:
    """Return a value, or what an awaitable comes to."""
    if isinstance(value, Awaitable):
        settled: T = await value
        return settled
    return value
