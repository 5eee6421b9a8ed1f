"""What passes between the caller and the workspace of one run: files in before it, files out behind it.

Rank 2. `runner` makes one for a run that has any of that, so that others do not pay. It owns the pipe and the
descriptors that the core hands out: they keep the workspace's files when the room is gone, and give them up when closed.
"""

from __future__ import annotations

import posix

from ._value import value
from .collecting import Limits, collect
from .delivery import Stream
from .view import PRIVATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .core import Core
    from .model import CollectedFile, NotCollected
    from .policy import Policy


@value
class Taken:
    """What came out of the workspace of a run."""

    collected: tuple[CollectedFile, ...] = ()
    not_collected: tuple[NotCollected, ...] = ()


class Exchange:
    """The order of calls is `room_fds`, `fill`, `ready`, and `take` when the run has ended."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._stream = Stream() if policy.transfer.deliveries else None
        self._offered: list[int] = []

    def close(self) -> None:
        """Give the workspace up."""
        if self._stream is not None:
            self._stream.close()
        while self._offered:
            posix.close(self._offered.pop())

    @property
    def room_fds(self) -> tuple[int, ...]:
        """What goes along with the room's half."""
        return () if self._stream is None else (self._stream.inner,)

    def fill(self, core: Core) -> None:
        """Bring the files in, while the room is being built."""
        if self._stream is not None:
            self._stream.send(self._policy.transfer.deliveries, core)

    def ready(self, core: Core) -> bytes:
        """Wait for what the room offers. Returns the report if it came instead, else nothing."""
        if not self._policy.transfer.collect:
            return b""
        message, self._offered = core.receive_ready()
        return b"" if message == b"ready" else message

    def take(self) -> Taken:
        """What the request wants of the workspace as the command has left it."""
        if not self._offered:
            return Taken()
        policy = self._policy
        limits = Limits(
            total_bytes=policy.transfer.collect_bytes,
            file_bytes=policy.transfer.collect_file_bytes,
            settled=policy.workspace_kind == PRIVATE,
        )
        collected, refused = collect(
            self._offered[0], policy.transfer.collect, limits, mount_points=policy.transfer.mount_points
        )
        return Taken(collected=collected, not_collected=refused)
