"""Decide when a run may start, so that any number of runs can be awaited with few descriptors.

Runs start in the order of their arrival, one in each turn of their event loop: a burst of them does not hold up what else the
loop has to do. While other runs are active, a run waits until descriptors are free for it; and if its start fails for want of
descriptors, processes or memory (E6003), until one of them has ended. Used by `one_shot`.
"""

from __future__ import annotations

import posix
import threading
from collections import deque
from weakref import WeakKeyDictionary, ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio

_OPEN_MAX = 4  # _SC_OPEN_MAX of sysconf(3): the soft limit
# A run holds 4 to 13 descriptors and a few more for moments; the rest is left to the caller's program.
_FOR_A_RUN = 32
_HOLD_SECONDS = 3600.0


class _Waiter:
    """A run that waits. The loop holds it, and the gate only weakly: an abandoned loop is collected with its runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.woken: asyncio.Future[None] = loop.create_future()
        self.has_turn = False
        self._hold(loop)

    def _hold(self, loop: asyncio.AbstractEventLoop) -> None:
        self._held = loop.call_later(_HOLD_SECONDS, self._hold, loop)

    def wake(self) -> bool:
        """Give the run its turn, from any thread. Return False if its loop is closed."""
        self.has_turn = True
        try:
            self.woken.get_loop().call_soon_threadsafe(self._set)
        except RuntimeError:
            return False
        return True

    def _set(self) -> None:
        self._held.cancel()
        if not self.woken.done():
            self.woken.set_result(None)


class _Gate:
    """The runs of one loop that wait, and whether one has the loop's turn. Holds no reference to the loop."""

    def __init__(self) -> None:
        self.waiting: deque[ref[_Waiter]] = deque()
        self.turn_is_taken = False

    def next(self) -> None:
        """Wake the first run that waits, if it may start now. The caller holds `_lock`."""
        if not self.waiting or not self.may_start():
            return
        while self.waiting:
            waiter = self.waiting.popleft()()
            if waiter is not None and not waiter.woken.done() and waiter.wake():
                self.turn_is_taken = True
                return

    def may_start(self) -> bool:
        """Whether a run of this loop may start now. With no other run active it always may: its error then stands."""
        return not self.turn_is_taken and (not _counts.active or _has_descriptors())

    def pass_turn(self) -> None:
        """End the turn of a run: the next one may start."""
        with _lock:
            self.turn_is_taken = False
            self.next()


class _Counts:
    """Runs of all loops of this process."""

    active = 0
    ended = 0


_counts = _Counts()
_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, _Gate] = WeakKeyDictionary()
# Reentrant: the garbage collector may close a run in the middle of anything.
_lock = threading.RLock()


def _has_descriptors() -> bool:
    """Whether this process has descriptors for a run, judged by the lowest one that is free.

    False is certain, since all lower ones are in use; if True is wrong, the start fails and waits.
    """
    limit = posix.sysconf(_OPEN_MAX)
    try:
        lowest = posix.eventfd(0, posix.EFD_CLOEXEC)
    except OSError:
        return False
    posix.close(lowest)
    return limit < 0 or lowest + _FOR_A_RUN <= limit


class Admission:
    """One run's place among the others. Call `enter`, start the run, call `retry` if the start failed; then `leave`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._is_active, self._ended_before = loop, False, 0
        with _lock:
            self._gate = _gates.setdefault(loop, _Gate())

    async def enter(self) -> None:
        """Wait until the run may start."""
        with _lock:
            if not self._gate.waiting and self._gate.may_start():
                self._take_turn()
                return
            waiter = _Waiter(self._loop)
            self._gate.waiting.append(ref(waiter))
        await self._turn_of(waiter)

    async def retry(self) -> bool:
        """Wait until another run has ended. Return False if there was none to wait for since `enter` or the last `retry`."""
        with _lock:
            self._deactivate()
            if not _counts.active and _counts.ended == self._ended_before:
                self._wake_others()
                return False
            waiter = _Waiter(self._loop)
            self._gate.waiting.appendleft(ref(waiter))
            if _counts.ended != self._ended_before:
                self._gate.next()
        await self._turn_of(waiter)
        return True

    def leave(self) -> None:
        """The run has ended, or is given up. May be called twice, and from any thread."""
        with _lock:
            if not self._is_active:
                return
            self._deactivate()
            _counts.ended += 1
            self._wake_others()

    async def _turn_of(self, waiter: _Waiter) -> None:
        try:
            await waiter.woken
        except BaseException:
            if waiter.has_turn:
                self._gate.pass_turn()
            raise
        with _lock:
            self._take_turn()

    def _take_turn(self) -> None:
        self._gate.turn_is_taken = True
        self._is_active, self._ended_before = True, _counts.ended
        _counts.active += 1
        self._loop.call_soon(self._gate.pass_turn)

    def _wake_others(self) -> None:
        self._gate.next()
        for gate in list(_gates.values()):
            gate.next()

    def _deactivate(self) -> None:
        if self._is_active:
            self._is_active = False
            _counts.active -= 1
