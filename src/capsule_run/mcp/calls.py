"""The running calls of a client: each has a thread that waits for its sandbox, can be cancelled, and reports progress.

Everything except `_work` runs in the thread that reads the client's messages. Used by `session`.
"""

from __future__ import annotations

import sys
import threading
import time

from capsule_run._base.errors import CapsuleError
from capsule_run.engine.execute import perform
from capsule_run.launcher import Cancel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

    Outcome = Result | dict[str, object] | CapsuleError | None  # None for a bug of ours

    class Finish(Protocol):
        """Called once, at the end: with the request (None for invalid arguments) and the outcome."""

        def __call__(self, request: Request | None, outcome: Outcome, *, cancelled: bool) -> None: ...

    class Stoppable(Protocol):
        """What ends a call from outside."""

        wanted: bool

        def cancel(self) -> None: ...


MAX_RUNNING = 8  # more calls wait, so that an agent that starts a hundred does not overload the host
MAX_CALLS = 108  # running and waiting: each has a thread, and its arguments in memory
PROGRESS_SECONDS = 1.0
_EXIT_SECONDS = 5.0  # a killed sandbox is gone in milliseconds; the bound is for a host that hangs


class Call:
    """One call: how to build its request, what to do with its result, and how to report progress."""

    def __init__(
        self, make: Callable[[], Request], finish: Finish, progress: Callable[[float, Request | None], None] | None
    ) -> None:
        self.make = make  # called in the thread: it may run probes to see which programs exist
        self.request: Request | None = None
        self.finish = finish
        self.progress = progress  # called with the seconds since the start and the request; None if not wanted
        self._cancel = Cancel()
        self.stop: Stoppable = self._cancel
        self.began = time.monotonic()
        self.next_progress = self.began + PROGRESS_SECONDS
        self.thread: threading.Thread | None = None

    def outcome(self) -> Outcome:
        """Run the call, in its thread. Raises CapsuleError."""
        self.request = self.make()
        return perform(self.request, on_start=self._cancel.started)


class StatefulCall(Call):
    """A call of a tool that keeps state: `act` does it and returns the answer."""

    def __init__(self, act: Callable[[], dict[str, object]], stop: Stoppable, finish: Finish) -> None:
        super().__init__(_no_request, finish, None)
        self._act, self.stop = act, stop

    def outcome(self) -> Outcome:
        """Do what the call asks for, in its thread. Raises CapsuleError."""
        return self._act()


def _no_request() -> Request:
    raise AssertionError("a call of a tool that keeps state has no request")


class Calls:
    """The calls of one client, by the id of its request."""

    def __init__(self) -> None:
        self._calls: dict[object, Call] = {}
        self._slots = threading.Semaphore(MAX_RUNNING)

    def __contains__(self, key: object) -> bool:
        return key in self._calls

    def start(self, key: object, call: Call) -> bool:
        """Start a call. Return False, and forget the call, if too many are running or the host has no thread for it."""
        if len(self._calls) >= MAX_CALLS:
            return False
        self._calls[key] = call
        call.thread = threading.Thread(target=self._work, args=(key, call), name="mcp-call", daemon=True)
        try:
            call.thread.start()
        except RuntimeError:  # raised at the limit of processes
            del self._calls[key]
            return False
        return True

    def cancel(self, key: object) -> None:
        """End a call and its sandbox. Ignore an unknown key: the call may have just ended."""
        call = self._calls.get(key)
        if call is not None:
            call.stop.cancel()

    def end(self) -> None:
        """End all calls, and wait until their sandboxes are gone."""
        calls = list(self._calls.values())
        for call in calls:
            call.stop.cancel()
        latest = time.monotonic() + _EXIT_SECONDS
        for call in calls:
            if call.thread is not None:
                call.thread.join(max(latest - time.monotonic(), 0))

    def wait_seconds(self) -> float | None:
        """Return the seconds until the next progress report is due, or None if none is wanted."""
        calls = list(self._calls.values())
        due = [call.next_progress for call in calls if call.progress is not None and not call.stop.wanted]
        return max(min(due) - time.monotonic(), 0) if due else None

    def report_progress(self) -> None:
        """Report the progress of the calls that are due."""
        now = time.monotonic()
        for call in list(self._calls.values()):
            if call.progress is not None and call.next_progress <= now and not call.stop.wanted:
                call.progress(now - call.began, call.request)
                call.next_progress = now + PROGRESS_SECONDS

    def _work(self, key: object, call: Call) -> None:
        outcome: Outcome = None
        with self._slots:
            if not call.stop.wanted:
                try:
                    outcome = call.outcome()
                except CapsuleError as error:
                    outcome = error
                except Exception:  # noqa: BLE001  # the client must get an answer even to our own bug
                    sys.excepthook(*sys.exc_info())
        # first: the client may reuse this id as soon as it has the answer
        del self._calls[key]
        try:
            call.finish(call.request, outcome, cancelled=call.stop.wanted)
        except Exception:  # noqa: BLE001  # the client must get an answer even to our own bug
            sys.excepthook(*sys.exc_info())
            call.finish(None, None, cancelled=call.stop.wanted)
