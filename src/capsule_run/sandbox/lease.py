"""How long a sandbox lives."""

from __future__ import annotations

import threading
import time

from capsule_run._base.errors import CapsuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.engine.session import Session


class Lease:
    """How long a sandbox lives: until the end of its lease, and no longer than the idle time after its last call."""

    def __init__(self, lease_ms: int, idle_ms: int | None) -> None:
        self.lease_ms = lease_ms
        self.idle_ms = None if idle_ms is None else positive("idle_timeout_ms", idle_ms)
        self._ends_ns = time.monotonic_ns() + lease_ms * 1_000_000
        self._calls = 0
        self._lock = threading.Lock()

    def left_ms(self) -> int:
        """Return how long the sandbox lives if nothing calls it, in milliseconds."""
        left = max((self._ends_ns - time.monotonic_ns()) // 1_000_000, 1)
        return left if self.idle_ms is None or self._calls else min(left, self.idle_ms)

    def set(self, milliseconds: int, session: Session) -> None:
        with self._lock:
            self._ends_ns = time.monotonic_ns() + milliseconds * 1_000_000
            session.set_lease(self.left_ms())

    def in_use(self, session: Session) -> _InUse:
        """Return a context manager for the time of a call, which does not count as idle."""
        return _InUse(self, session)

    def count(self, step: int, session: Session) -> None:
        """Note that a call begins or ends."""
        if self.idle_ms is None:
            return
        with self._lock:
            self._calls += step
            if not session.has_ended():
                session.set_lease(self.left_ms())


class _InUse:
    def __init__(self, lease: Lease, session: Session) -> None:
        self._lease, self._session = lease, session

    def __enter__(self) -> None:
        self._lease.count(1, self._session)

    def __exit__(self, *_error: object) -> None:
        self._lease.count(-1, self._session)


def positive(name: str, milliseconds: int) -> int:
    """Check a time. Raises CapsuleError E1004."""
    if type(milliseconds) is not int or milliseconds < 1:
        raise CapsuleError("E1004", f"`{name}` must be a number of milliseconds above 0, not {milliseconds!r}")
    return milliseconds
