"""Ending a run from another thread, also one that has not started yet. Rank 3; used by `aio` and `server`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .runner import Run

SIGTERM = 15


class Cancel:
    """The wish to end one run. `started` is its `on_start`; `cancel` may come before it, beside it or after its end."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self.wanted = False

    def started(self, run: Run) -> None:
        """Remember the run, and end it at once if that is wanted already."""
        self._run = run
        if self.wanted:
            run.cancel(SIGTERM)

    def cancel(self) -> None:
        """End the run as soon as there is one."""
        # Wanted first: `started` looks only after it has said which run it is. Both may send; one is enough.
        self.wanted = True
        if self._run is not None:
            self._run.cancel(SIGTERM)
