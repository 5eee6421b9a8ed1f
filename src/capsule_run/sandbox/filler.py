"""Rooms of one kind that are built ahead by a thread, and runs in them: what is below `pool` and `pools`."""

from __future__ import annotations

import os
import threading
import time
from collections import deque

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.engine import execute
from capsule_run.engine.fallbacks import RetryAttemptError
from capsule_run.engine.spare import SpareRoom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run.engine.attempt import Steps
    from capsule_run.engine.streams import Streams
    from capsule_run.launcher import Run
    from capsule_run.model.request import Request

_PAUSE_AFTER_FAILURE_S = 1.0
_DEAD_IN_A_ROW = 3  # then a run starts cold, which tells what is wrong


class Filler:
    """Keeps rooms ready, in one thread that builds them one after the other, and clears away those that were used."""

    def __init__(self, request: Request, size: int, prepared: tuple[str, ...] | None) -> None:
        self._request, self.size, self._prepared = request, size, prepared
        self._ready: deque[SpareRoom] = deque()
        self._used: deque[SpareRoom] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: CapsuleError | None = None
        self._made_in = os.getpid()
        self._callbacks: list[Callable[[], None]] = []
        self._hurries = 0  # those who wait for a full pool
        self._is_due = True  # a run has ended since the pool was full
        self.replaced = 0
        self._ready.append(self.build())  # a host that cannot meet the request says so now
        self._thread = threading.Thread(target=self._fill, name="capsule-run pool", daemon=True)
        self._thread.start()

    @property
    def prepares(self) -> bool:
        return self._prepared is not None

    @property
    def ready(self) -> int:
        with self._changed:
            return len(self._ready)

    def build(self) -> SpareRoom:
        spare = SpareRoom.build(self._request)
        try:
            if self._prepared is not None:
                spare.prepare(replace(self._request, command=self._prepared))
            else:
                spare.confine(self._request)
        except BaseException:
            spare.close()
            raise
        return spare

    def take(self, *, wait: bool) -> SpareRoom | None:
        """Return a room that lives; None if there is none, as in a child that was forked: the rooms are its parent's."""
        if os.getpid() != self._made_in:
            return None
        with self._changed:
            for _ in range(_DEAD_IN_A_ROW):
                if wait:
                    self._changed.wait_for(lambda: self._ready or self._closed or self._error is not None)
                if not self._ready:
                    break
                spare = self._ready.popleft()
                if self._is_low():
                    self._changed.notify_all()
                if spare.is_alive:
                    return spare
                self.replaced += 1
                self._used.append(spare)
                self._is_due = True
                self._changed.notify_all()
        return None

    def _is_low(self) -> bool:
        return 2 * len(self._ready) < self.size

    def _wants_room(self) -> bool:
        """Whether to build a room now: not while the run that took the last one waits for a processor, if that can be."""
        is_full = len(self._ready) >= self.size
        return not is_full and (self._is_low() or self._is_due or self._hurries > 0)

    def steps(
        self,
        request: Request,
        spare: SpareRoom | None,
        *,
        streams: Streams | None = None,
        work: bytes | None = None,
        on_start: Callable[[Run], None] | None = None,
    ) -> Steps:
        """Run a request in a room that was taken, or in a new one, in steps (`engine.attempt.Steps`).

        :param work: what the prepared command of the room reads; None runs the command of the request.
        """
        if spare is not None and work is None and not spare.takes(request):
            self.discard(spare)
        elif spare is not None:
            try:
                return (yield from spare.steps(request, streams=streams, work=work, on_start=on_start))
            except RetryAttemptError:  # the host has refused what it offered when the room was built
                pass
            finally:
                self.discard(spare)
        if work is None:
            return (yield from execute.steps(request, streams=streams, on_start=on_start))
        with self.build() as built:
            return (yield from built.steps(request, streams=streams, work=work, on_start=on_start))

    def when_changed(self, call: Callable[[], None]) -> None:
        """Call, in another thread, once a room may be ready or none will come. Once."""
        with self._changed:
            if not (self._ready or self._closed or self._error is not None):
                self._callbacks.append(call)
                return
        call()

    @property
    def will_not_fill(self) -> bool:
        """Whether it is of no use to wait for a room: the pool is closed, or the host is short of something."""
        return self._closed or self._error is not None

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
            callbacks, self._callbacks = self._callbacks, []
        for call in callbacks:
            call()

    def discard(self, spare: SpareRoom) -> None:
        """Take back a room that was used: it is cleared away while nobody waits for it."""
        with self._changed:
            self._used.append(spare)
            self._is_due = True
            self._changed.notify_all()
            if not self._closed:
                return
        self._clear_away()

    def _clear_away(self) -> None:
        while True:
            try:
                spare = self._used.popleft()
            except IndexError:
                return
            spare.close()

    def wait_full(self, timeout: float | None) -> bool:
        with self._changed:
            self._hurries += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._ready) >= self.size or self._closed, timeout)
            self._hurries -= 1
            return len(self._ready) >= self.size

    def _fill(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wants_room() or self._used or self._closed)
                if self._closed:
                    return
                wants_room = self._wants_room()
            self._clear_away()
            if not wants_room:
                continue
            try:
                spare, self._error = self.build(), None
            except (CapsuleError, OSError) as error:  # the host is short of something: runs start cold, and say so
                self._error = error if isinstance(error, CapsuleError) else None
                self._wake()
                time.sleep(_PAUSE_AFTER_FAILURE_S)
                continue
            if not self._add(spare):
                spare.close()
            self._wake()

    def _add(self, spare: SpareRoom) -> bool:
        with self._changed:
            if not self._closed:
                self._ready.append(spare)
                self._is_due = len(self._ready) < self.size and self._is_due
                self._changed.notify_all()
            return not self._closed

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._used.extend(self._ready)
            self._ready.clear()
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._clear_away()
