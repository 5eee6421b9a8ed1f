"""Give a command a terminal of its own: relay between that and the caller's, which is raw meanwhile and restored after it.

The launcher has the other side of the command's terminal, and moves its bytes through two pipes; it keeps the clock, the caps
and the kill, so that nothing here can hold them up. docs/decisions/terminal.md has the reasons.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only `signal`, which costs 4 ms (enum)
import posix
import select
import termios
import time
from errno import EAGAIN

from capsule_run._base.value import replace
from capsule_run.cli.terminal_filter import TerminalFilter
from capsule_run.engine import configuration
from capsule_run.engine.streams import Streams
from capsule_run.host.path_resolution import SYSTEM_FILE, environment, is_absent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run.engine.output_pipe import OutputPipe
    from capsule_run.launcher import Run
    from capsule_run.model.request import Request

SESSION_MS = 86_400_000  # a session of a day, where no timeout is given
_NO_OUTPUT_LIMIT = 1 << 40
_READ_BYTES = 1 << 14
# A query that was written shortly before the end may be answered after it: how recent, and how long the answer may take.
_RECENT_S, _ANSWER_S = 5.0, 0.3
_ASK, _ANSWER = b"\x1b[5n", b"\x1b[0n"  # every terminal answers in order


def session_request(request: Request) -> Request:
    """Return the request of a session at a terminal, without the default limits of time and output, which are for programs."""
    resources, timeout_ms = request.resources, request.timeout_ms
    if resources.max_output_bytes is None:
        resources = replace(resources, max_output_bytes=_within_ceiling("max-output", _NO_OUTPUT_LIMIT))
    if timeout_ms is None:
        timeout_ms = _within_ceiling("timeout", SESSION_MS)
    colours = environment("COLORTERM")
    if colours in ("truecolor", "24bit") and "COLORTERM" not in dict(request.environment):
        request = replace(request, environment=(*request.environment, ("COLORTERM", colours)))
    return replace(request, resources=resources, timeout_ms=timeout_ms)


def _within_ceiling(key: str, limit: int) -> int:
    """Return a limit that nobody has given, lowered to the operator's ceiling."""
    rule = None if is_absent(SYSTEM_FILE) else configuration.rules().get(key)
    return limit if rule is None or not isinstance(rule.value, int) else min(limit, rule.value)


def _is_utf8() -> bool:
    """Return whether the caller's terminal is one of UTF-8, as its locale says; without a word it is."""
    locale = environment("LC_ALL") or environment("LC_CTYPE") or environment("LANG")
    return not locale or "utf" in locale.lower() or locale in ("C", "POSIX")


class Terminal:
    """The caller's terminal during a run. Pass `streams` to the run and call `attach` when it starts; `close` it in any case."""

    def __init__(self, reopened: Callable[[int, int], int]) -> None:
        """Open the terminal so that nothing waits for it.

        :param reopened: opens a terminal again without blocking, and returns the descriptor itself if it cannot.
        """
        self.fd = reopened(0, posix.O_RDWR)
        self._screen = reopened(1, posix.O_WRONLY)
        self._keys_from, self._keys_to = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self._filter = TerminalFilter(utf8=_is_utf8())
        self._shows = bytearray()  # what the terminal has not taken
        self._typed = b""  # what the launcher has not taken
        self._hears = True  # the terminal has not hung up
        self._before: list[int | list[bytes | int]] | None = None  # the modes to be restored, while the terminal is raw
        self._last_query = -_RECENT_S
        self._run: Run | None = None
        self.streams = Streams(stdin=self._keys_from, on_stdout=self._show, keep_bytes=0, terminal=self)

    def attach(self, run: Run) -> None:
        """Remember the run, and pass changes of the window's size on to it."""
        self._run = run
        _signal.signal(_signal.SIGWINCH, self._resized)
        _signal.signal(_signal.SIGTSTP, self._suspend)
        _signal.signal(_signal.SIGCONT, self._resumed)

    # --- the state of the terminal ---

    def started(self) -> None:
        """Make the terminal raw: every key goes to the command."""
        try:
            self._before = termios.tcgetattr(self.fd)
        except termios.error:
            return  # it has hung up, and SIGHUP comes
        self._make_raw()
        self._resized()  # it may have changed since the launcher read it

    def _make_raw(self) -> None:
        """Change the modes as cfmakeraw(3) does."""
        try:
            iflag, oflag, cflag, lflag, ispeed, ospeed, characters = termios.tcgetattr(self.fd)
        except termios.error:
            return  # it has hung up
        iflag &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
            | termios.ICRNL | termios.IXON
        )  # fmt: skip
        oflag &= ~termios.OPOST
        cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        self._set([iflag, oflag, cflag, lflag, ispeed, ospeed, characters])

    def _set(self, modes: list[int | list[bytes | int]]) -> None:
        try:
            termios.tcsetattr(self.fd, termios.TCSANOW, modes)
        except termios.error:
            return  # it has hung up

    def _restore(self) -> None:
        if self._before is not None:
            self._set(self._before)

    def ended(self) -> None:
        """Undo what the command has done to the terminal, and restore its modes. Safe to call again."""
        if self._before is None:
            return
        self._show_plain(self._filter.undo())
        if time.monotonic() - self._last_query < _RECENT_S:
            self._discard_answers()
        self._restore()
        self._before = None

    def close(self) -> None:
        """Restore the terminal, write what it has not taken yet, and close our descriptors."""
        for number in (_signal.SIGWINCH, _signal.SIGTSTP, _signal.SIGCONT):
            _signal.signal(number, _signal.SIG_DFL)
        self.ended()
        posix.set_blocking(self._screen, True)
        self._flush()
        for fd in (self._keys_from, self._keys_to, *{self.fd, self._screen} - {0, 1}):
            if fd >= 0:
                posix.close(fd)

    def _discard_answers(self) -> None:
        """Wait for the terminal's answers to what the command asked, and throw them away: they are not for the caller's shell."""
        self._show_plain(_ASK)
        heard, deadline = b"", time.monotonic() + _ANSWER_S
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while _ANSWER not in heard and (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
            piece = self._read_keys()
            if not piece:
                break
            heard += piece
        try:
            termios.tcflush(self.fd, termios.TCIFLUSH)
        except termios.error:
            return

    # --- signals ---

    def _resized(self, _number: int = 0, _frame: object = None) -> None:
        if self._run is not None:
            self._run.resize()

    def _suspend(self, _number: int, _frame: object) -> None:
        """Stop, for a SIGTSTP from outside: Ctrl-Z is the command's. The caller's shell gets its terminal as it was."""
        self._restore()
        posix.kill(posix.getpid(), _signal.SIGSTOP)

    def _resumed(self, _number: int, _frame: object) -> None:
        if self._before is not None:
            self._make_raw()
        self._resized()

    # --- bytes ---

    def wait(self, control: int, outputs: list[OutputPipe]) -> None:
        """Pass bytes on in both directions until `control` is readable."""
        while True:
            waiting = {control: select.POLLIN}
            if self._shows:
                waiting[self._screen] = select.POLLOUT
            else:  # the command waits until the terminal has taken what there is
                waiting.update({output.fileno(): select.POLLIN for output in outputs if output.fileno() >= 0})
            if self._typed:
                waiting[self._keys_to] = select.POLLOUT
            elif self._hears and self._before is not None:
                waiting[self.fd] = waiting.get(self.fd, 0) | select.POLLIN
            poll = select.poll()
            for fd, events in waiting.items():
                poll.register(fd, events)
            ready = {fd for fd, _events in poll.poll()}
            if control in ready:
                return
            if self._shows and self._screen in ready:
                self._flush()
            for output in outputs:
                if output.fileno() in ready:
                    output.read()
            if self._typed or self.fd in ready:
                self._pass_keys()

    def _pass_keys(self) -> None:
        if not self._typed and self._hears:
            self._typed = self._read_keys() or b""
        try:
            self._typed = self._typed[posix.write(self._keys_to, self._typed) :] if self._typed else b""
        except OSError as error:
            if error.errno != EAGAIN:  # the run is over
                self._typed, self._hears = b"", False

    def _read_keys(self) -> bytes | None:
        """Return what was typed; None if nothing was after all, and empty if the terminal has hung up."""
        try:
            piece = posix.read(self.fd, _READ_BYTES)
        except OSError as error:
            if error.errno == EAGAIN:
                return None
            piece = b""
        if not piece and self._hears:
            self._hears = False
            posix.close(self._keys_to)
            self._keys_to = -1
        return piece

    def _show(self, piece: bytes) -> None:
        queries = self._filter.queries
        self._show_plain(self._filter.feed(piece))
        if self._filter.queries != queries:
            self._last_query = time.monotonic()

    def _show_plain(self, piece: bytes) -> None:
        self._shows += piece
        self._flush()

    def _flush(self) -> None:
        """Write to the terminal what it takes; if it is gone, nothing."""
        try:
            while self._shows:
                del self._shows[: posix.write(self._screen, self._shows)]
        except OSError as error:
            if error.errno != EAGAIN:
                self._shows.clear()
