"""`capsule-run batch`: run a JSON request a line, several at once, and print a JSON response a line (docs/batch.md).

What a line means is what `--json` means; how the runs go on is `sandbox.workers` and `sandbox.pools`, as for `map`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only `signal`, which costs 4 ms (enum)
import posix
from contextlib import closing

from capsule_run import __version__
from capsule_run._base import strict_json
from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.cli import complete_options, output
from capsule_run.cli import help as cli_help
from capsule_run.cli.batch_lines import Line, Lines, Responses, size_left
from capsule_run.cli.batch_progress import Progress
from capsule_run.cli.command import catch_ending_signals, monitor_of, release_ending_signals
from capsule_run.cli.own_options import STDIN, split
from capsule_run.engine import configuration
from capsule_run.host.caller_files import reason_of, write_all
from capsule_run.request import options as request_options
from capsule_run.request.fast_path import DEFAULT_GRACE_MS, RUN, VERSION
from capsule_run.request.option_table import FILE, Option
from capsule_run.request.parse import MAX_REQUEST_BYTES
from capsule_run.request.validators import invalid, shown
from capsule_run.result import hint_words
from capsule_run.sandbox.mapping import MAX_JOBS, checked_jobs, waited
from capsule_run.sandbox.pools import Pools, refused
from capsule_run.sandbox.workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from capsule_run.engine.attempt import Steps
    from capsule_run.launcher import Cancel, Run
    from capsule_run.request.fast_path import Options

JOBS, UNORDERED, RESUME = "--jobs", "--unordered", "--resume"
OPTIONS = (
    Option(long=JOBS, short="-j", metavar="<NUM>", about="Run NUM lines at once [default: the number of processors]"),
    Option(long=UNORDERED, about="Print responses as runs end, and not in the order of the lines"),
    Option(
        long=RESUME,
        metavar="<FILE>",
        about="Append responses to FILE, and run only the lines that have none in it",
        takes=FILE,
    ),
)
# Options about the output of one run, or that differ for each.
MEANINGLESS = ("--json", "--pretty", "--verbose", "--dry-run", "--execution-id", "--tty", "--interactive", "--grace")
GRACE_S = 2  # for what runs, after the first signal
_TICK_S = 1.0
_USAGE = """\
capsule-run batch [OPTIONS] [FILE|-]

Run a JSON request a line, from FILE or stdin, and print a JSON response a line on stdout.
A response has the number of its line; a line that is no request has a response, too.

Options:
"""
_MORE = """\
and those of `capsule-run --help` about the sandbox: defaults for what a line does not give.

Ctrl-C takes no more lines, ends what still runs after 2 s, and exits with 130; again, at once.
Exit code: 0 if every line has a response, whatever it is.

Examples:
  capsule-run batch --timeout 5s requests.jsonl > responses.jsonl
  capsule-run batch --resume responses.jsonl requests.jsonl
  generate | capsule-run batch --jobs 8 --unordered | consume
"""


def help_text() -> str:
    """Return the text of `capsule-run batch --help`."""
    return f"{_USAGE}{cli_help.option_lines(OPTIONS)}{_MORE}"


class _Response(Value):
    """The response of a line, as it is written."""

    text: bytes
    cause: str  # of a failure; else empty
    end: int  # of the line


class _Ending(Exception):  # noqa: N818  # not an error
    """Raised while a response is written to somebody who does not read it, after a signal."""


def main(words: Sequence[str]) -> int:
    """Run `capsule-run batch WORDS` and return its exit code. Raises CapsuleError E10xx."""
    given = split("batch", words, OPTIONS)
    action = request_options.parse_words(given.options).action
    if action != RUN:
        output.write_all(1, f"capsule-run {__version__}\n" if action == VERSION else help_text())
        return 0
    options = _options(given.options)
    jobs = checked_jobs(_number(given.own[JOBS]) if JOBS in given.own else None, JOBS)
    if given.rest or len(given.operands) > 1:
        extra = given.rest[0] if given.rest else given.operands[1]
        raise CapsuleError("E1007", f"`batch` takes one FILE, and no {shown(extra)}: the lines contain the commands")
    fd = _opened(given.operands[0] if given.operands else "")
    responses = Responses(given.own[RESUME]) if RESUME in given.own else None
    try:
        return _Batch(options, fd, responses, jobs, ordered=UNORDERED not in given.own).run()
    finally:
        if responses is not None:
            responses.close()


def _options(words: Sequence[str]) -> Options:
    """Return the defaults of all lines. Raises CapsuleError E10xx."""
    options = request_options.parse_words(words)
    names = (
        *(options.json, options.pretty, options.verbosity > 0, options.dry_run, "execution_id" in options.fields),
        *(options.tty, options.interactive, options.grace_ms != DEFAULT_GRACE_MS),
    )
    for name, is_given in zip(MEANINGLESS, names, strict=True):
        if is_given:
            raise CapsuleError("E1007", f"`{name}` has no meaning with `batch`")
    options = complete_options.for_many(options)
    return configuration.with_monitoring(options) if complete_options.own_files(options) else options


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid("E1005", JOBS, f"must be a whole number from 1 to {MAX_JOBS}, got {shown(text)}")
    return int(text)


def _opened(name: str) -> int:
    if name and name != STDIN:
        try:
            return posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError as error:
            why, hint = reason_of(error)
            raise invalid("E1005", "FILE", f"cannot read {shown(name)}: {why}", hint=hint) from None
    if not name and posix.isatty(0):
        raise CapsuleError("E1007", "no FILE is given, and stdin is a terminal", hint="`-` reads the terminal")
    output.say_what_is_read("requests")
    return 0


class _Batch:
    """One batch: its lines, the threads that run them, and where the responses go."""

    def __init__(self, options: Options, fd: int, responses: Responses | None, jobs: int, *, ordered: bool) -> None:
        self._options, self._responses = options, responses
        self._own_files = complete_options.own_files(options)
        self._lines = Lines(fd)
        self._progress = Progress(
            is_wanted=options.verbosity >= 0, prints=responses is None, bytes_in_all=size_left(fd)
        )
        self._monitor = monitor_of(options)
        self._pools = Pools(jobs)
        self._workers = Workers(
            self._respond, self._without_response(), jobs=jobs, ordered=ordered, size_of=lambda each: len(each.text)
        )
        self._signal = 0
        self._is_writing = False
        self._stuck_at = -1

    def run(self) -> int:
        """Run every line, and return the exit code."""
        catch_ending_signals(self._on_signal)
        _signal.signal(_signal.SIGALRM, self._tick)
        if self._progress.draws:
            _signal.setitimer(_signal.ITIMER_REAL, _TICK_S, _TICK_S)
        try:
            with self._pools, closing(self._workers.results()) as responses:
                try:
                    for response in responses:
                        self._write(response)
                finally:
                    self._lines.stop()
        except _Ending:
            pass
        finally:
            _signal.setitimer(_signal.ITIMER_REAL, 0)
            release_ending_signals(self._on_signal)
            self._progress.erase()
            self._lines.close()
        return self._ended()

    def _without_response(self) -> Iterator[Line]:
        for line in self._lines:
            if self._responses is None or not self._responses.has(line):
                yield line
            else:
                self._progress.skip(line.end)

    # --- one line; in the threads of `Workers` ---

    def _respond(self, line: Line, cancel: Cancel) -> _Response | None:
        result = waited(lambda: self._steps(line, cancel.started), cancel, self._workers.wait_for_another)
        if result is None:
            return None
        cause = "" if result.error is None else result.error.cause
        if result.error is not None:
            result = hint_words.worded(result, hint_words.in_fields)
        text = strict_json.dumps({"line": line.number, **result.to_dict()}, indent=None)
        return _Response(text=f"{text}\n".encode(), cause=cause, end=line.end)

    def _steps(self, line: Line, on_start: Callable[[Run], None]) -> Steps:
        """Run a line in steps. Every outcome is a result, also of a wrong request."""
        name = None
        try:
            if line.text is None:
                raise invalid("E1008", "request", f"must be at most {MAX_REQUEST_BYTES} bytes")
            request = complete_options.json_request(self._options, line.text, own=self._own_files)
            name = request.execution_id
            if self._monitor is None:
                return (yield from self._pools.steps(request, on_start=on_start))
            return (yield from self._monitor.steps(request, lambda named: self._pools.steps(named, on_start=on_start)))
        except CapsuleError as error:
            error.execution_id = error.execution_id or name
            return refused(error)

    # --- the output and the end; in the main thread ---

    def _write(self, response: _Response) -> None:
        self._progress.make_way()
        self._is_writing = True
        if self._responses is None:
            output.write_all(1, response.text.decode())
        else:
            self._append(response.text)
        self._progress.count(response.cause, response.end)
        self._is_writing = False

    def _append(self, text: bytes) -> None:
        assert self._responses is not None
        try:
            write_all(self._responses.fd, text)
        except OSError as error:
            why = posix.strerror(error.errno or 0).lower()
            raise CapsuleError("E6006", f"cannot write to {shown(self._responses.path)}: {why}") from None

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._signal:
            self._end()
            return
        self._signal = number
        self._workers.stop()
        self._lines.stop()
        _signal.setitimer(_signal.ITIMER_REAL, GRACE_S, _TICK_S)

    def _tick(self, _number: int, _frame: object) -> None:
        if self._signal:
            self._end()
        elif not self._is_writing:
            self._progress.draw()

    def _end(self) -> None:
        """End what runs. If the response that was being written the last time still is, nobody reads: give up."""
        self._workers.end()
        if self._is_writing and self._stuck_at == self._progress.lines:
            raise _Ending
        self._stuck_at = self._progress.lines

    def _ended(self) -> int:
        if self._signal:
            name, where = "FILE", ", if FILE has these"
            if self._responses is not None:
                name, where = self._responses.path, ""
            count = self._progress.lines + self._progress.skipped
            words = f"{count:,} {'line has' if count == 1 else 'lines have'} a response"
            output.notice(f"interrupted: {words}", hint=f"`capsule-run batch {RESUME} {name}` runs the others{where}")
            return 128 + self._signal
        if self._progress.draws:
            output.notice(self._progress.text(at_end=True))
        return 0
