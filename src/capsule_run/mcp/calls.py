"""Calls under way: each has a thread that waits for its sandbox, can be cancelled, and says how long it has run.

All but `_work` runs in the thread that reads the client's messages. Used by `server.mcp`.
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

    class Finish(Protocol):
        """Called once at the end: what ran, or None where the arguments were wrong; and what came of it, or None for a bug."""

        def __call__(
            self, request: Request | None, outcome: Result | CapsuleError | None, *, cancelled: bool
        ) -> None: ...


# At the same time; what comes beyond waits for its turn. An agent that starts a hundred calls must not fill the host.
MAX_RUNNING = 8
MAX_CALLS = 108  # with those that wait: each has a thread, and its arguments in memory
PROGRESS_SECONDS = 1.0
_END_SECONDS = 5.0  # a killed sandbox is gone in milliseconds; on a host that stands still nobody waits for ever


class Call:
    """One call: what to run, what to do with its result, and the token under which the client wants to hear of it."""

    def __init__(
        self, make: Callable[[], Request], finish: Finish, progress: Callable[[float, Request | None], None] | None
    ) -> None:
        self.make = make  # may run something itself, to see which programs there are: so it is the thread that calls it
        self.request: Request | None = None
        self.finish = finish
        self.progress = progress  # called now and then with the seconds since the start and what runs; None for nobody
        self.stop = Cancel()
        self.began = time.monotonic()
        self.next_progress = self.began + PROGRESS_SECONDS
        self.thread: threading.Thread | None = None


class Calls:
    """The calls of one client, by the id of its request."""

    def __init__(self) -> None:
        self._calls: dict[object, Call] = {}
        self._turns = threading.Semaphore(MAX_RUNNING)

    def __contains__(self, key: object) -> bool:
        return key in self._calls

    def start(self, key: object, call: Call) -> bool:
        """Begin a call; False, and nothing of it is kept, where too many are under way or the host has no thread for it."""
        if len(self._calls) >= MAX_CALLS:
            return False
        self._calls[key] = call
        call.thread = threading.Thread(target=self._work, args=(key, call), name="mcp-call", daemon=True)
        try:
            call.thread.start()
        except RuntimeError:  # what it says where the limit of processes is reached
            del self._calls[key]
            return False
        return True

    def cancel(self, key: object) -> None:
        """End a call and its sandbox; one that has just ended, or never was, is none of our business."""
        call = self._calls.get(key)
        if call is not None:
            call.stop.cancel()

    def end(self) -> None:
        """End all, and wait until their sandboxes are gone."""
        calls = list(self._calls.values())
        for call in calls:
            call.stop.cancel()
        latest = time.monotonic() + _END_SECONDS
        for call in calls:
            if call.thread is not None:
                call.thread.join(max(latest - time.monotonic(), 0))

    def wait_seconds(self) -> float | None:
        """How long until somebody wants to hear of a call; None for never."""
        calls = list(self._calls.values())
        due = [call.next_progress for call in calls if call.progress is not None and not call.stop.wanted]
        return max(min(due) - time.monotonic(), 0) if due else None

    def on_time(self) -> None:
        """Tell of the calls that are due."""
        now = time.monotonic()
        for call in list(self._calls.values()):
            if call.progress is not None and call.next_progress <= now and not call.stop.wanted:
                call.progress(now - call.began, call.request)
                call.next_progress = now + PROGRESS_SECONDS

    def _work(self, key: object, call: Call) -> None:
        outcome: Result | CapsuleError | None = None
        with self._turns:
            if not call.stop.wanted:
                try:
                    call.request = call.make()
                    outcome = perform(call.request, on_start=call.stop.started)
                except CapsuleError as error:
                    outcome = error
                except Exception:  # noqa: BLE001  # a bug of ours must not look to the client like a call without an end
                    sys.excepthook(*sys.exc_info())
        # the next call may take this id as soon as the answer is out
        del self._calls[key]
        try:
            call.finish(call.request, outcome, cancelled=call.stop.wanted)
        except Exception:  # noqa: BLE001  # likewise
            sys.excepthook(*sys.exc_info())
            call.finish(None, None, cancelled=call.stop.wanted)
