"""A launcher that joins a living room before its command is known, so that the command starts at once.

After a command one thread makes the next one, and waits for launchers whose command has ended: the kernel lets them end when
what they joined with is gone. The thread starts with the first command, and ends with the sandbox.
"""

from __future__ import annotations

import os
import threading

from capsule_run._base.errors import CapsuleError
from capsule_run.engine.fallbacks import RetryAttemptError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run.engine.room import Room
    from capsule_run.launcher import Launcher

    Joined = tuple[Launcher, Room]


class JoinedAhead:
    """At most one joined launcher with a confined payload. Every method may be called from any thread.

    A child of `os.fork` has a copy of it, without its thread: there it has no launcher and makes none, since the one that is
    ready is the parent's.
    """

    def __init__(self, join: Callable[[], Joined]) -> None:
        """`join` makes one; it may raise CapsuleError or OSError, and then there is none until the next command has ended."""
        self._join, self._made_in = join, os.getpid()
        self._ready: Joined | None = None
        self._leaving: list[Launcher] = []
        self._changed = threading.Condition()
        self._is_due = self._closed = False
        self._thread: threading.Thread | None = None

    def _is_copy(self) -> bool:
        return os.getpid() != self._made_in

    def take(self) -> Joined | None:
        """Return the one that is ready, if it lives."""
        if self._is_copy():
            return None
        with self._changed:
            joined, self._ready = self._ready, None
        if joined is None:
            return None
        launcher, _room = joined
        if launcher.has_ended() or launcher.wait_readable(0):  # it has reported that it failed
            launcher.close()
            return None
        return joined

    def leave(self, launcher: Launcher) -> None:
        """Take over a launcher that has reported, and make the next one."""
        if self._is_copy():
            launcher.close()
            return
        with self._changed:
            if not self._closed:
                self._leaving.append(launcher)
                self._is_due = True
                if self._thread is None:
                    self._thread = threading.Thread(target=self._serve, name="capsule-run ahead", daemon=True)
                    self._thread.start()
                self._changed.notify()
                return
        launcher.close()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_due or self._closed)
                leaving, self._leaving = self._leaving, []
                makes_one = self._ready is None and not self._closed
                self._is_due = False
            if makes_one:
                self._make()
            for launcher in leaving:
                launcher.close()
            if self._closed and not self._leaving:
                return

    def _make(self) -> None:
        try:
            joined = self._join()
        except (CapsuleError, RetryAttemptError, OSError):  # the next command says why
            return
        with self._changed:
            if not self._closed:
                self._ready = joined
                return
        joined[0].close()

    def close(self) -> None:
        """End the one that is ready, and wait for all that leave."""
        if self._is_copy():
            return
        with self._changed:
            self._closed = True
            ready, self._ready = self._ready, None
            self._changed.notify()
        if ready is not None:
            ready[0].close()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join()
