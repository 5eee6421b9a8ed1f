"""Which of many runs may start, and in which order their outcomes are handed on. Knows no threads and no event loop.

Shared by `workers` and `aio.mapping`, so that `map`, `aio.map` and `capsule-run batch` cannot differ.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

# Outcomes that wait for an earlier one or for their reader. More than these, and no further run is started.
MAX_WAITING, MAX_WAITING_BYTES = 1000, 32 << 20


class Window(Generic[T]):
    """The runs that were taken and not handed on yet."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._taken = self._due = 0
        self._unfinished = 0
        self._finished: dict[int, tuple[T, int] | None] = {}  # by number, in order of their end
        self._bytes = 0

    @property
    def may_take(self) -> bool:
        """Whether another run may start: memory is bounded, whatever its reader does."""
        return len(self._finished) < MAX_WAITING and self._bytes < MAX_WAITING_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether every run that was taken has been handed on."""
        return not self._unfinished and not self._finished

    @property
    def unfinished(self) -> int:
        """Runs that were taken and have no outcome yet."""
        return self._unfinished

    def take(self) -> int:
        """Take the next run, and return its number."""
        self._taken += 1
        self._unfinished += 1
        return self._taken - 1

    def finish(self, number: int, outcome: T, size: int) -> None:
        """Keep the outcome of a run until it is handed on.

        :param size: about how many bytes it takes.
        """
        self._unfinished -= 1
        self._finished[number] = (outcome, size)
        self._bytes += size

    def give_up(self, number: int) -> None:
        """End a run that has no outcome: those after it do not wait for it."""
        self._unfinished -= 1
        self._finished[number] = None

    @property
    def has_next(self) -> bool:
        """Whether there is something to hand on."""
        return self._due in self._finished if self._ordered else bool(self._finished)

    def next(self) -> tuple[T] | None:
        """Take the outcome that is due; None for a run that was given up."""
        number = self._due if self._ordered else next(iter(self._finished))
        self._due += 1
        found = self._finished.pop(number)
        if found is None:
            return None
        self._bytes -= found[1]
        return (found[0],)
