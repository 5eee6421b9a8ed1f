"""A started command whose stdin and stdout are plain pipes of the caller, for a driver that speaks a protocol over them."""

from __future__ import annotations

import os
import select
import time

from capsule_run.engine.session import result_of
from capsule_run.engine.streams import Streams
from capsule_run.launcher import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO
    from typing import Self

    from capsule_run.engine.session import Session
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result


class PipedProcess:
    """A command with `stdin` and `stdout` as unbuffered files. Only one thread uses it at a time; leaving it kills the command.

    Without a thread: the end of the command is received by `poll` and `wait`.
    """

    def __init__(self, session: Session, request: Request) -> None:
        inner, outer = os.pipe2(os.O_CLOEXEC)
        self.stdin: FileIO = os.fdopen(outer, "wb", buffering=0)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        self.stdout: FileIO = os.fdopen(read_end, "rb", buffering=0)
        self._result: Result | None = None
        self._steps = session.steps(request, streams=Streams(stdin=inner, stdout=write_end))
        try:
            self._running = next(self._steps)
        except StopIteration as ended:
            self._result = ended.value
        except BaseException:
            self._close()
            raise
        finally:
            os.close(inner)
            os.close(write_end)

    def poll(self) -> int | None:
        """Return the exit code if the command has ended, else None."""
        try:
            return self.wait(0).exit_code
        except TimeoutError:
            return None

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for the end of the command and return its result. Raises TimeoutError after `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while self._result is None:
            poll = select.poll()
            poll.register(self._running.fileno(), select.POLLIN)
            left = None if until is None else max(until - time.monotonic(), 0) * 1000
            if not poll.poll(left):
                raise TimeoutError(f"the command has not ended after {timeout} s")
            if self._running.receive():
                self._result = result_of(self._steps)
        return self._result

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group. Does nothing if the command has ended."""
        if self.poll() is None:
            self._running.run.signal(number)

    def kill(self) -> None:
        """End the command and every process that it started, and close the pipes."""
        if self._result is None:
            self._running.run.cancel(SIGKILL)
            self.wait()
        self._close()

    def _close(self) -> None:
        self.stdin.close()
        self.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()
