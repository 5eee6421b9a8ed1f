"""A context: run cells of code in an interpreter that keeps its state, and start a new one when it is gone.

Blocking; `aio_context` is the same for asyncio. The decisions are in `conversation`.
"""

from __future__ import annotations

import os
import select
import threading
import time
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
from capsule_run.host.finalizer import finalizer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from capsule_run.contexts.conversation import CellRequest
    from capsule_run.contexts.interpreter import Process
    from capsule_run.model.cell import CellResult, RichResult


class Context:
    """An interpreter in a sandbox that keeps its variables from cell to cell.

    :param start: starts the process of `contexts.command(language)`; called for the first cell, and again after a loss.
    :param language: "python" or "javascript".
    :param grace_ms: how long an interrupted cell may go on before its interpreter is killed.
    :param in_use: makes a context manager for the time of each cell.
    """

    def __init__(
        self,
        start: Callable[[], Process],
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
        self._owned = _Owned()
        self._finalizer = finalizer(self, self._owned.end)
        self._was_lost = False
        self._is_closed = False
        self._one_cell = threading.Lock()
        self._interrupt = False

    def run_code(
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
        """Run a cell, wait for its end, and return its result. Cells of several threads run one after the other.

        :param timeout_ms: wall-clock limit (default 30 000); then the cell is interrupted, and if that does not end it,
            its interpreter is killed.
        :param memory: what a cell of Python may allocate in addition, as bytes or a size such as "256M"; the limit of the sandbox
            holds besides.
        :param max_output: bytes kept of each stream, or a size (default 1 MiB); the rest is counted.
        :param on_stdout: called with text as it comes; so is `on_stderr`, and `on_result` with each value.
        :raises CapsuleError: E1003 to E1009 for wrong arguments; E1009 if the context is closed.
        """
        request = cell_request(
            code,
            language=self.language,
            timeout_ms=timeout_ms,
            grace_ms=self.grace_ms,
            memory=memory,
            max_output=max_output,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            on_result=on_result,
        )
        with self._one_cell, self._in_use():
            interpreter = self._begin(request)
            try:
                self._drive(interpreter)
            except BaseException:
                interpreter.abandon_cell()
                self._drive(interpreter)
                raise
            assert interpreter.conversation.result is not None
            return interpreter.conversation.result

    def interrupt(self) -> None:
        """Interrupt the cell that runs, from another thread: KeyboardInterrupt in Python. Variables are kept."""
        self._interrupt = True
        if not self._is_closed:
            os.eventfd_write(self._owned.wake, 1)

    def restart(self) -> None:
        """End the interpreter and everything that it started. The next cell starts a new one, without variables."""
        self.interrupt()
        with self._one_cell:
            self._owned.end_interpreter()
            self._was_lost = False

    def close(self) -> None:
        """End the interpreter. Between cells it may end by itself, and so flush its files and run what `atexit` has."""
        self.interrupt()
        with self._one_cell:
            if self._is_closed:
                return
            self._is_closed = True
            self._let_end()
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _begin(self, request: CellRequest) -> Interpreter:
        if self._is_closed:
            raise CapsuleError("E1009", "the context is closed", hint="create another one")
        self._interrupt = False
        if self._owned.interpreter is None:
            process = self._start_process()
            self._owned.interpreter = Interpreter(process, self.language, follows_a_loss=self._was_lost)
        self._owned.interpreter.conversation.begin(request, time.monotonic())
        return self._owned.interpreter

    def _drive(self, interpreter: Interpreter) -> None:
        """Read and write until the cell has ended."""
        conversation = interpreter.conversation
        while conversation.is_running:
            is_at_end = self._wait(interpreter) and not interpreter.read()
            if self._interrupt:
                self._interrupt = False
                conversation.interrupt(time.monotonic())
            if interpreter.advance() or is_at_end:
                interpreter.lost(self._owned.end_interpreter(is_ending=is_at_end))
                self._was_lost = True

    def _wait(self, interpreter: Interpreter) -> bool:
        """Wait until there is something to do. Return whether something can be read."""
        poll = select.poll()
        poll.register(interpreter.outlet, select.POLLIN)
        poll.register(self._owned.wake, select.POLLIN)
        if interpreter.conversation.outgoing:
            poll.register(interpreter.inlet, select.POLLOUT)
        left = interpreter.seconds_left()
        ready = {descriptor for descriptor, _ in poll.poll(None if left is None else left * 1000 + 1)}
        if self._owned.wake in ready:
            os.eventfd_read(self._owned.wake)
        return interpreter.outlet in ready

    def _let_end(self) -> None:
        """Close the interpreter's input, at which it ends by itself, and wait for that as long as for an interrupt."""
        interpreter = self._owned.interpreter
        if interpreter is None:
            return
        interpreter.process.stdin.close()
        poll = select.poll()
        poll.register(interpreter.outlet, select.POLLIN)
        end = time.monotonic() + self.grace_ms / 1000
        while not interpreter.conversation.must_kill and (left := end - time.monotonic()) > 0:
            if poll.poll(left * 1000) and not interpreter.read():
                return


class _Owned:
    """What a context gives back at its end, also if nobody closes it."""

    def __init__(self) -> None:
        self.interpreter: Interpreter | None = None
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def end_interpreter(self, *, is_ending: bool = False) -> object:
        """End the process and everything that it started; return what it ended with.

        :param is_ending: it ends by itself, and its result may say why: a kill would hide that.
        """
        interpreter, self.interpreter = self.interpreter, None
        if interpreter is None:
            return None
        if is_ending:
            try:
                interpreter.process.wait(SECONDS_OF_AN_END)
            except TimeoutError:
                pass
        interpreter.process.kill()
        ending = interpreter.process.wait()
        interpreter.close()
        return ending

    def end(self) -> None:
        """End the interpreter, and close what belongs to the context."""
        self.end_interpreter()
        os.close(self.wake)
