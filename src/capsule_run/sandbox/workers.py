"""Do many pieces of work in a few threads, and hand their outcomes on: the blocking machine of `map` and `capsule-run batch`.

Each thread takes a piece when it has done one, so that a source may be endless, or wait. Outcomes wait for their reader within
the bounds of `window`, which then holds up the threads.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from capsule_run.launcher import Cancel
from capsule_run.sandbox.window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

Work = TypeVar("Work")
Outcome = TypeVar("Outcome")


class _Raised:
    """What a piece of work raised: it is raised again where its outcome is due."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Workers(Generic[Work, Outcome]):
    """Threads that do the work of a source. Iterate `results` once."""

    def __init__(
        self,
        do: Callable[[Work, Cancel], Outcome | None],
        source: Iterable[Work],
        *,
        jobs: int,
        ordered: bool,
        size_of: Callable[[Outcome], int],
    ) -> None:
        """Nothing starts before `results`.

        :param do: does a piece of work; None if it was cancelled. Called in several threads at once.
        :param source: is taken from by one thread at a time.
        :param size_of: returns about how many bytes an outcome takes.
        """
        self._do, self._source, self._jobs, self._size_of = do, iter(source), jobs, size_of
        self._window: Window[Outcome | _Raised] = Window(ordered=ordered)
        self._changed = threading.Condition()  # reentrant: a signal handler may call `stop` and `end`
        self._taking = threading.Lock()
        self._is_reading = False
        self._is_stopped = False
        self._is_ending = False
        self._failure: BaseException | None = None  # of the source
        self._running: set[Cancel] = set()
        self._waiting = 0  # for another to end
        self._tried_alone: set[Cancel] = set()
        self._ended = 0

    def results(self) -> Generator[Outcome, None, None]:
        """Start, and yield the outcomes. What is left running when the iterator is closed is ended."""
        threads = [threading.Thread(target=self._work, name="capsule-run job", daemon=True) for _ in range(self._jobs)]
        started: list[threading.Thread] = []
        try:
            for thread in threads:
                try:
                    thread.start()
                except RuntimeError:  # no thread is left: those that there are do the work
                    if not started:
                        raise
                    break
                started.append(thread)
            while (found := self._next()) is not None:
                for outcome in found:
                    if isinstance(outcome, _Raised):
                        raise outcome.error
                    yield outcome
            if self._failure is not None:
                raise self._failure
        finally:
            self.end()
            self._wait_for(started)

    def stop(self) -> None:
        """Take no more work; what runs goes on. May be called from a signal handler."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def end(self) -> None:
        """End what runs, and take no more work. May be called from a signal handler."""
        with self._changed:
            self._is_stopped = self._is_ending = True
            self._changed.notify_all()
            for cancel in list(self._running):
                cancel.cancel()

    @property
    def running(self) -> int:
        """How many pieces are being done."""
        return len(self._running)

    def wait_for_another(self, cancel: Cancel) -> bool:
        """Wait until another piece has ended, for one that lacks what the others use.

        Return whether to try again: also once with all others waiting, too.
        """
        with self._changed:
            ended = self._ended
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._ended != ended or self._waiting >= len(self._running) or self._is_ending
            )
            self._waiting -= 1
            if self._is_ending:
                return False
            if self._ended != ended:
                self._tried_alone.discard(cancel)
                return True
            was_alone = cancel in self._tried_alone
            self._tried_alone.add(cancel)
            return not was_alone

    def _next(self) -> tuple[Outcome | _Raised] | tuple[()] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._window.has_next or self._has_ended())
            if not self._window.has_next:
                return None
            found = self._window.next()
            self._changed.notify_all()
            return found or ()

    def _has_ended(self) -> bool:
        return self._is_stopped and self._window.is_empty

    def _wait_for(self, threads: list[threading.Thread]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._running)
            if self._is_reading:  # a source that waits for more: its thread ends when it does
                return
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            number, work, cancel = taken
            try:
                outcome: Outcome | _Raised | None = self._do(work, cancel)
            except BaseException as error:  # noqa: BLE001  # raised where the outcome is taken
                outcome = _Raised(error)
            with self._changed:
                self._running.discard(cancel)
                self._tried_alone.discard(cancel)
                self._ended += 1
                if outcome is None:
                    self._window.give_up(number)
                else:
                    size = 0 if isinstance(outcome, _Raised) else self._size_of(outcome)
                    self._window.finish(number, outcome, size)
                self._changed.notify_all()

    def _take(self) -> tuple[int, Work, Cancel] | None:
        """Take a piece of work; None if there is no more."""
        with self._taking:
            with self._changed:
                self._changed.wait_for(lambda: self._window.may_take or self._is_stopped)
                if self._is_stopped:
                    return None
                self._is_reading = True
            try:
                work = next(self._source)
            except BaseException as error:  # noqa: BLE001  # raised where the results are taken
                with self._changed:
                    self._failure = None if isinstance(error, StopIteration) else error
                    self._is_reading = False
                self.stop()
                return None
            cancel = Cancel()
            with self._changed:
                self._is_reading = False
                if self._takes_no_more():  # stopped meanwhile
                    self._changed.notify_all()
                    return None
                self._running.add(cancel)
                return self._window.take(), work, cancel

    def _takes_no_more(self) -> bool:
        return self._is_stopped
