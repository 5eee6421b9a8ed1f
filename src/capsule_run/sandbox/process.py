"""A command that was started in a sandbox, and runs while the caller does something else.

A thread receives what it writes; every method may be called from any thread.
"""

from __future__ import annotations

import os
import select
import threading

from capsule_run.engine.live_output import CallbackError, LiveOutput, with_pieces
from capsule_run.engine.session import result_of
from capsule_run.host.finalizer import finalizer
from capsule_run.launcher import SIGKILL
from capsule_run.sandbox.streams import Grace, InputFile, OutputStream, streams_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from capsule_run.engine.attempt import Steps
    from capsule_run.engine.running import RunningPayload
    from capsule_run.engine.session import Session
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result


class Process:
    """A command that was started. A context manager; leaving it kills the command with all that it started.

    `stdout` and `stderr` are iterated for lines as they come; `stdin` is a file if it was asked for, else None.
    """

    def __init__(
        self,
        session: Session,
        request: Request,
        *,
        stdin: bool,
        keep_bytes: int,
        on_stdout: Callable[[str], object] | None = None,
        on_stderr: Callable[[str], object] | None = None,
    ) -> None:
        self.command = request.command
        changed = threading.Condition()
        live = LiveOutput(on_stdout, on_stderr) if on_stdout is not None or on_stderr is not None else None
        grace = Grace() if live is None else Grace(0)
        outputs = (
            OutputStream(changed, keep_bytes=keep_bytes, grace=grace),
            OutputStream(changed, keep_bytes=keep_bytes, grace=grace),
        )
        self._outputs = outputs
        self.stdin: InputFile | None
        inner, self.stdin = _input() if stdin else (None, None)
        deliver = None if live is None else live.deliver
        streams = streams_of(outputs, live, stdin=inner, keep_bytes=keep_bytes, deliver=deliver)
        try:
            steps = session.steps(request, streams=streams, keep=True)
            self._receiver = _Receiver(steps, outputs, live, changed, grace)
        except BaseException:
            if self.stdin is not None:
                self.stdin.close()
            raise
        finally:
            if inner is not None:
                os.close(inner)
        receiver, written = self._receiver, self.stdin  # not `self`: a process that nobody refers to is killed
        finalizer(self, lambda: _end(receiver, written))

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
        return self._receiver.pid

    @property
    def output_so_far(self) -> str:
        """What came through stdout up to now, as far as it is kept."""
        return self._outputs[0].content.decode("utf-8", "replace")

    def poll(self) -> int | None:
        """Return the exit code if the command has ended, else None."""
        result = self._receiver.result_of_the_command()
        return None if result is None else result.exit_code

    def wait(self, timeout: float | None = None) -> Result:
        """Wait until the command has ended, and return its result.

        If something that it left running lives on, the result has the exit code and the output up to then, and no metrics;
        `result` has them when all has ended.

        :param timeout: seconds; None waits as long as it takes.
        :raises TimeoutError: it has not ended in this time; it goes on.
        """
        return self._receiver.wait(timeout, whole=False)

    def result(self, timeout: float | None = None) -> Result:
        """Wait until the command and all that it started has ended, and return the result. Raises TimeoutError as `wait`."""
        return self._receiver.wait(timeout, whole=True)

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group. Does nothing if the command has ended."""
        self._receiver.signal(number)

    def kill(self) -> None:
        """End the command and every process that it started, whatever they did, and wait until they have ended."""
        self._receiver.kill()
        if self.stdin is not None:
            self.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def __repr__(self) -> str:
        code = self.poll()
        state = "running" if code is None else f"exit code {code}"
        return f"<Process {list(self.command)!r}: {state}>"


def _end(receiver: _Receiver, stdin: InputFile | None) -> None:
    receiver.kill()
    if stdin is not None:
        stdin.close()


def _input() -> tuple[int, InputFile]:
    """Return a pipe: the end that the command reads, and a file that writes to it."""
    inner, outer = os.pipe2(os.O_CLOEXEC)
    return inner, InputFile(outer, "wb")


class _Receiver:
    """Receives what a started command writes and how it ended, in a thread. It outlives nobody: `kill` ends the command."""

    def __init__(
        self,
        steps: Steps,
        streams: tuple[OutputStream, ...],
        live: LiveOutput | None,
        changed: threading.Condition,
        grace: Grace,
    ) -> None:
        self._steps, self._streams, self._live, self._changed, self._grace = steps, streams, live, changed, grace
        self._result: Result | None = None
        self._early: Result | None = None
        self._error: BaseException | None = None
        self._running: RunningPayload | None = None
        self.pid = 0
        try:
            self._running = next(steps)
        except StopIteration as ended:  # it could not be started
            self._finished(ended.value)
        else:
            self.pid = self._running.pid
            threading.Thread(target=self._serve, name="capsule-run process", daemon=True).start()

    def _serve(self) -> None:
        running = self._running
        assert running is not None
        try:
            while not self._receive(running):
                pass
            result = result_of(self._steps)
            if self._live is not None:
                self._live.flush()
                self._live.deliver()
                result = with_pieces(result, self._live)
        except CallbackError as error:  # raised in the thread that waits, as all others
            self._failed(self._live.error if self._live is not None and self._live.error is not None else error)
        except BaseException as error:  # noqa: BLE001
            self._failed(error)
        else:
            self._finished(result)

    def _receive(self, running: RunningPayload) -> bool:
        """Wait for output or a message and take it. Return whether the run has ended."""
        poll = select.poll()
        poll.register(running.fileno(), select.POLLIN)
        has_room = all(stream.has_room for stream in self._streams)
        outputs = {output.fileno(): output for output in running.outputs} if has_room else {}
        for fd in outputs:
            poll.register(fd, select.POLLIN)
        if not has_room:
            self._wait_for_room()
        for fd, _events in poll.poll(None if has_room else 0):
            if fd in outputs:
                outputs[fd].read()
            elif running.receive():
                return True
            elif running.ended_early:
                with self._changed:
                    self._early = running.result_so_far()
                    self._changed.notify_all()
        return False

    def _wait_for_room(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: all(stream.has_room for stream in self._streams), timeout=0.1)

    def _finished(self, result: Result) -> None:
        for stream in self._streams:
            stream.end()
        with self._changed:
            self._result = result
            self._changed.notify_all()

    def _failed(self, error: BaseException) -> None:
        self._steps.close()  # ends what still runs
        with self._changed:
            self._error = error
        for stream in self._streams:
            stream.end()
        with self._changed:
            self._changed.notify_all()

    # --- the threads of the caller ---

    def result_of_the_command(self) -> Result | None:
        with self._changed:
            return self._result or self._early

    def wait(self, timeout: float | None, *, whole: bool) -> Result:
        def has_ended() -> bool:
            return self._error is not None or self._result is not None or (not whole and self._early is not None)

        with self._changed:
            self._grace.end()
            self._changed.notify_all()
            if not self._changed.wait_for(has_ended, timeout):
                raise TimeoutError(f"the command has not ended after {timeout} s")
            if self._error is not None:
                raise self._error
            result = self._result or self._early
        assert result is not None
        return result

    def signal(self, number: int) -> None:
        if self._running is not None and self.result_of_the_command() is None:
            self._running.run.signal(number)

    def kill(self) -> None:
        if self._running is None:
            return
        with self._changed:
            if self._result is None and self._error is None:
                self._running.run.cancel(SIGKILL)
            self._changed.wait_for(lambda: self._result is not None or self._error is not None)
