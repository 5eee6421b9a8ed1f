"""One interpreter while it lives: its process, the ends of its pipes, and the conversation with it.

`context` and `aio_context` wait; this reads and writes what can be read and written at once.
"""

from __future__ import annotations

import os
import time

from capsule_run._base.errors import CapsuleError
from capsule_run.contexts import program as programs
from capsule_run.contexts.conversation import CellRequest, Conversation
from capsule_run.contexts.protocol import LARGEST_REQUEST
from capsule_run.model.cell import CellError
from capsule_run.request.sizes import parse_size
from capsule_run.result.hint_words import in_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from capsule_run._base.statuses import Status
    from capsule_run.model.cell import RichResult

    class HasDescriptor(Protocol):
        """An end of a pipe."""

        def fileno(self) -> int: ...
        def close(self) -> object: ...

    class Process(Protocol):
        """What a context needs of the process of its interpreter. `kill` and `wait` may be coroutines for asyncio."""

        @property
        def stdin(self) -> HasDescriptor: ...
        @property
        def stdout(self) -> HasDescriptor: ...
        def kill(self) -> object:
            """End the process and everything that it started; no error if there is nothing left."""

        def wait(self, timeout: float | None = None, /) -> object:
            """Wait until all of it is gone; a `Result`, whose `error` says why the sandbox ended it.

            Raises TimeoutError after `timeout` seconds.
            """


_BLOCK = 1 << 18
DEFAULT_TIMEOUT_MS, DEFAULT_GRACE_MS, DEFAULT_MAX_OUTPUT_BYTES = 30_000, 1_000, 1 << 20
LARGEST_TIMEOUT_MS, LARGEST_GRACE_MS = 86_400_000, 600_000
SMALLEST_MEMORY_BYTES, LARGEST_SIZE = 1 << 20, 1 << 50
LARGEST_CODE = LARGEST_REQUEST // 6  # characters: JSON writes one with up to six bytes
SECONDS_OF_AN_END = 2.0  # for the sandbox to say why the process ended, once its output has ended
# Causes that say only how the process ended, which the conversation knows better: it was killed, or ended by itself.
_OF_THE_PROCESS = ("cancelled", "exit_code", "signal")


class Interpreter:
    """A process that has started, and the conversation with it."""

    def __init__(self, process: Process, language: str, *, follows_a_loss: bool) -> None:
        self.process = process
        self.inlet, self.outlet = process.stdin.fileno(), process.stdout.fileno()
        for end in (self.inlet, self.outlet):
            os.set_blocking(end, False)
        text = programs.program(language)
        self.conversation = Conversation(text, follows_a_loss=follows_a_loss, now=time.monotonic())

    def seconds_left(self) -> float | None:
        """Return the time until the deadline; None without one."""
        deadline = self.conversation.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def read(self) -> bool:
        """Read what is there. Return False at the end of file."""
        try:
            data = os.read(self.outlet, _BLOCK)
        except BlockingIOError:
            return True
        self.conversation.receive(data, time.monotonic())
        return bool(data)

    def write(self) -> None:
        """Write what fits."""
        waiting = self.conversation.outgoing
        try:
            if waiting:
                del waiting[: os.write(self.inlet, waiting)]
        except BlockingIOError:
            pass
        except OSError:
            waiting.clear()  # the interpreter has ended: what it sent before says how, or the end of file

    def advance(self) -> bool:
        """Write what fits, and act on the deadline. Return whether the process has to be killed."""
        self.write()
        self.conversation.expire(time.monotonic())
        return self.conversation.must_kill

    def abandon_cell(self) -> None:
        """Interrupt the cell, whose caller does not wait any longer: nothing of it may go on."""
        self.conversation.forget_functions()
        self.conversation.interrupt(time.monotonic())

    def lost(self, ending: object) -> None:
        """Take note of the end of the process. `ending` is what `wait` returned."""
        self.conversation.lost(*_reason_of(ending, has_started=self.conversation.is_ready), time.monotonic())

    def close(self) -> None:
        """Close both pipes."""
        self.process.stdin.close()
        self.process.stdout.close()


def _reason_of(ending: object, *, has_started: bool) -> tuple[CellError | None, Status]:
    """Return why the sandbox ended the process, if it did, or why the process did not start."""
    failure = getattr(ending, "error", None)
    if failure is None or failure.cause in (_OF_THE_PROCESS if has_started else ("cancelled",)):
        return None, "error"
    is_limit = failure.code.startswith("E4")
    name = "".join(word.title() for word in failure.cause.split("_")) + ("Limit" if is_limit else "")
    error = CellError(cause=failure.cause, name=name, message=failure.message, hint=in_arguments(failure.hint))
    status: Status = getattr(ending, "status", "killed")
    return error, status


def cell_request(
    code: str,
    *,
    language: str,
    timeout_ms: int | None,
    grace_ms: int,
    memory: int | str | None,
    max_output: int | str | None,
    on_stdout: Callable[[str], object] | None,
    on_stderr: Callable[[str], object] | None,
    on_result: Callable[[RichResult], object] | None,
) -> CellRequest:
    """Check the arguments of `run_code`. Raises CapsuleError E1003, E1004, E1008 or E1009."""
    if not isinstance(code, str):
        raise CapsuleError("E1003", f"code: must be a string, got {type(code).__name__}")
    if len(code) > LARGEST_CODE:
        raise CapsuleError("E1008", f"code: at most {LARGEST_CODE} characters, got {len(code)}")
    limit = DEFAULT_TIMEOUT_MS if timeout_ms is None else timeout_ms
    check_number("timeout_ms", limit, 1, LARGEST_TIMEOUT_MS)
    most_output = DEFAULT_MAX_OUTPUT_BYTES if max_output is None else _size("max_output", max_output, 0)
    most_memory = None if memory is None else _size("memory", memory, SMALLEST_MEMORY_BYTES)
    if most_memory is not None and language != "python":
        hint = "the memory limit of the sandbox holds for it"
        raise CapsuleError("E1009", f"memory: a cell of {language} has no limit of its own", hint=hint)
    for name, function in (("on_stdout", on_stdout), ("on_stderr", on_stderr), ("on_result", on_result)):
        if function is not None and not callable(function):
            raise CapsuleError("E1003", f"{name}: must be callable, got {type(function).__name__}")
    return CellRequest(
        code=code,
        timeout_ms=limit,
        grace_ms=grace_ms,
        max_output_bytes=most_output,
        memory_bytes=most_memory,
        on_stdout=on_stdout,
        on_stderr=on_stderr,
        on_result=on_result,
    )


def _size(name: str, value: int | str, least: int) -> int:
    """Return the bytes of a size. Raises CapsuleError E1003, E1004 or E1005."""
    size = parse_size(value, label=name) if isinstance(value, str) else value
    check_number(name, size, least, LARGEST_SIZE)
    return size


def check_number(name: str, value: object, least: int, most: int) -> None:
    """Check a number among the arguments. Raises CapsuleError E1003 or E1004."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise CapsuleError("E1003", f"{name}: must be a whole number, got {type(value).__name__}")
    if not least <= value <= most:
        raise CapsuleError("E1004", f"{name}: must be from {least} to {most}, got {value}")
