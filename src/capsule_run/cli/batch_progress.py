"""The line of figures of `capsule-run batch` on a terminal: how far, how fast, what failed, and the time left."""

from __future__ import annotations

import posix
import time
from collections import Counter

from capsule_run.cli.colours import DIM, ERASE, RESET, columns_of, obeys_controls

PERIOD_S = 0.2
_FEW = 3  # causes that the line names


class Progress:
    """Counts responses, and draws the line if stderr is a terminal that can."""

    def __init__(self, *, is_wanted: bool, prints: bool, bytes_in_all: int | None) -> None:
        """Nothing is drawn before the first response.

        :param prints: responses go to stdout, which may be the same terminal.
        :param bytes_in_all: the size of the input; None if nobody knows.
        """
        self._draws = is_wanted and obeys_controls(2)
        self._shares_terminal = self._draws and prints and posix.isatty(1)
        self._bytes_before, self._bytes_in_all = 0, bytes_in_all
        self._began = self._drawn = time.monotonic()
        self._is_shown = False
        self._bytes = 0
        self.lines = self.skipped = 0
        self._causes: Counter[str] = Counter()

    @property
    def draws(self) -> bool:
        return self._draws

    def skip(self, end: int) -> None:
        """Count a line that has a response already."""
        self.skipped += 1
        self._bytes_before = max(self._bytes_before, end)

    def count(self, cause: str, end: int) -> None:
        """Count a response; `cause` is empty if the run succeeded."""
        self.lines += 1
        if cause:
            self._causes[cause] += 1
        self._bytes = max(self._bytes, end)
        if self._draws and time.monotonic() - self._drawn >= PERIOD_S:
            self.draw()

    def make_way(self) -> None:
        """Erase the line if a response is to be written to the same terminal."""
        if self._shares_terminal:
            self.erase()

    def erase(self) -> None:
        if self._is_shown:
            self._write(ERASE)
            self._is_shown = False

    def draw(self) -> None:
        if not self._draws:
            return
        self._drawn = time.monotonic()
        self._write(f"{ERASE}{DIM}{self.text()[: columns_of(2) - 1]}{RESET}")
        self._is_shown = True

    def text(self, *, at_end: bool = False) -> str:
        """Return the figures."""
        elapsed = max(time.monotonic() - self._began, 1e-3)
        parts = [f"{self.lines:,} line{'' if self.lines == 1 else 's'}", f"{_rate(self.lines / elapsed)} a second"]
        if self.skipped:
            parts.append(f"{self.skipped:,} done before")
        if self._causes:
            parts.append(self.failures())
        left = None if at_end else self._left(elapsed)
        if left is not None:
            parts.append(f"{_words(left)} left")
        return ", ".join(parts)

    def failures(self) -> str:
        """Return how many failed, and of what."""
        causes = [f"{cause} {number:,}" for cause, number in self._causes.most_common(_FEW)]
        others = self._causes.total() - sum([number for _cause, number in self._causes.most_common(_FEW)])
        causes += [f"others {others:,}"] if others else []
        return f"{self._causes.total():,} failed ({', '.join(causes)})"

    def _left(self, elapsed: float) -> float | None:
        done = self._bytes - self._bytes_before
        if self._bytes_in_all is None or done <= 0:
            return None
        return elapsed * (self._bytes_in_all - self._bytes) / done

    def _write(self, text: str) -> None:
        try:
            posix.write(2, text.encode())
        except OSError:  # the terminal is gone, or stopped
            pass


def _rate(a_second: float) -> str:
    return f"{a_second:.1f}" if a_second < 10 else f"{a_second:,.0f}"


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
