"""One line on the terminal while a command runs longer than a second: time, CPU, memory, processes, output.

Loaded only if stderr is a terminal. The command's output for that terminal then comes through this process, since the line has
to be erased before each piece. A timer signal draws it, in the main thread like everything here, so nothing is shown that a
second thread would have to guard. Figures come from the control group and from /proc; what cannot be read is left out.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only `signal`, which costs 4 ms (enum)
import posix
import time
from errno import EAGAIN

from capsule_run.cli.colours import DIM, ERASE, RESET, columns_of, obeys_controls
from capsule_run.engine.streams import Streams
from capsule_run.host import process_usage
from capsule_run.policy import limits as policy_limits
from capsule_run.request.durations import format_duration
from capsule_run.request.sizes import format_size, format_use
from capsule_run.workspace import stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run.host.process_usage import Usage
    from capsule_run.launcher import Run
    from capsule_run.model.request import Request

FIRST_S, PERIOD_S = 1.0, 0.5


class LiveLine:
    """The line of one run. Pass `streams` and `started` to the run, and call `stop` when it has ended."""

    def __init__(self, request: Request, *, stdin: int | None, terminal: int, captures: bool) -> None:
        """Start the timer.

        :param terminal: stderr, a terminal opened so that writing to it never waits.
        :param captures: the command's output is for a JSON response, and goes to no terminal.
        """
        self._limits = policy_limits.limits(request.resources)
        self._timeout_ms = policy_limits.timeout_ms(request)
        self._terminal = terminal
        self._waits_for_typing = stdin is not None and posix.isatty(stdin)
        self._begun = time.monotonic()
        self._run: Run | None = None
        self._waiting = bytearray()  # what a stopped terminal did not take
        self._output_bytes: int | None = 0
        self._shown = self._busy = False
        self._at_line_start = True
        self._cpu_before = -1
        self._stage = stage.now
        self.streams = self._streams(stdin, captures=captures)
        _signal.signal(_signal.SIGALRM, self._tick)
        _signal.setitimer(_signal.ITIMER_REAL, FIRST_S, PERIOD_S)

    def _streams(self, stdin: int | None, *, captures: bool) -> Streams:
        if captures:
            return Streams(stdin=stdin, on_stdout=self._count, on_stderr=self._count)
        if posix.isatty(1):
            return Streams(stdin=stdin, on_stdout=self._pass_on, on_stderr=self._pass_on)
        self._output_bytes = None  # what goes to another place than the terminal is not counted
        return Streams(stdin=stdin, stdout=1, on_stderr=self._pass_on)

    def started(self, run: Run) -> None:
        """Remember the run, whose processes are counted."""
        self._run = run

    def stop(self) -> None:
        """Stop the timer, erase the line, and write what the terminal did not take before."""
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
        self._erase()
        posix.set_blocking(self._terminal, True)
        self._write(b"")

    def _count(self, piece: bytes) -> None:
        if self._output_bytes is not None:
            self._output_bytes += len(piece)

    def _pass_on(self, piece: bytes) -> None:
        self._busy = True
        self._count(piece)
        self._erase()
        self._write(piece)
        self._at_line_start = piece.endswith(b"\n")
        self._busy = False

    def _erase(self) -> None:
        if self._shown:
            self._write(ERASE.encode())
            self._shown = False

    def _write(self, piece: bytes) -> None:
        """Write to the terminal, after what waits for it. If it is stopped (Ctrl-S), keep the rest; if it is gone, nothing."""
        self._waiting += piece
        try:
            while self._waiting:
                del self._waiting[: posix.write(self._terminal, self._waiting)]
        except OSError as error:
            if error.errno != EAGAIN:
                self._waiting.clear()

    def _tick(self, _number: int, _frame: object) -> None:
        if self._busy or self._run is None or self._run.pid <= 0:
            return
        self._write(b"")
        if self._waiting or not self._at_line_start or not _is_in_foreground(self._terminal):
            return
        used = process_usage.of_tree(self._run.pid)
        idle = used is not None and used.cpu_ms == self._cpu_before
        self._cpu_before = -1 if used is None else used.cpu_ms
        if self._waits_for_typing and idle and not self._stage.name and self._shown:
            return  # it may wait for what is being typed, which drawing would erase
        text = self._text(used, columns_of(self._terminal) - 1)
        self._write(f"{ERASE}{DIM}{text}{RESET}".encode())
        self._shown = True

    def _text(self, used: Usage | None, columns: int) -> str:
        """Return the figures that fit into so many columns."""
        if self._stage.name:
            return f"{time.monotonic() - self._begun:.0f} s, {self._stage.name}: {self._stage.done:,}"[:columns]
        parts = [f"{time.monotonic() - self._begun:.0f} s of {format_duration(self._timeout_ms)}"]
        if used is not None:
            parts.append(f"CPU {used.cpu_ms / 1000:.1f} s")
            if used.memory_bytes is not None:
                about = "" if used.memory_is_exact else "about "
                parts.append(f"memory {about}{format_use(used.memory_bytes, self._limits.memory_bytes)}")
            parts.append(f"{used.processes} of {self._limits.max_pids} processes")
        if self._output_bytes is not None:
            parts.append(f"output {format_size(self._output_bytes)}")
        while len(parts) > 1 and len(", ".join(parts)) > columns:
            parts.pop()
        return ", ".join(parts)[:columns]


def for_run(
    request: Request, *, stdin: int | None, captures: bool, reopened: Callable[[int, int], int]
) -> LiveLine | None:
    """Return the line of a run; None if the terminal cannot show it, or cannot be written to without waiting.

    :param reopened: opens a terminal again so that writing does not wait, and returns the descriptor itself if it cannot.
    """
    if not obeys_controls(2):
        return None
    terminal = reopened(2, posix.O_RDWR)
    if terminal == 2 or (not captures and posix.isatty(1) and posix.ttyname(1) != posix.ttyname(2)):
        return None
    return LiveLine(request, stdin=stdin, terminal=terminal, captures=captures)


def _is_in_foreground(terminal: int) -> bool:
    try:
        return posix.tcgetpgrp(terminal) == posix.getpgrp()
    except OSError:  # not our controlling terminal
        return True
