"""The command line: parse options, run one command, return an exit code.

By default the command's streams are relayed, and a failure is reported on stderr; `--json` prints exactly one JSON response
on stdout and nothing else. Data goes to stdout, our own messages to stderr.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only `signal`, which costs 4 ms (enum)
import posix
import sys

from capsule_run import __version__, launcher
from capsule_run._base import known_paths
from capsule_run._base.errors import BROKEN_PIPE_EXIT, CapsuleError, exit_status
from capsule_run._base.lexical_paths import SYSTEM_DIRECTORIES, within
from capsule_run._base.value import replace
from capsule_run.cli import complete_options, live_line, output, subcommands, terminal, terminal_choice
from capsule_run.cli import help as cli_help
from capsule_run.engine import configuration
from capsule_run.engine.execute import perform
from capsule_run.engine.prepare import dry_run
from capsule_run.engine.streams import Streams
from capsule_run.host import path_resolution
from capsule_run.model.request import Isolation, Request, Workspace
from capsule_run.monitor import audit_log, trace_export
from capsule_run.request import options as request_options
from capsule_run.request.fast_path import DEFAULT_GRACE_MS, RUN, SHORT_HELP, VERSION, Options, plain_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from capsule_run.launcher import Run
    from capsule_run.model.result import Result

USAGE_EXIT = 2
# ENDING_SIGNALS end the sandbox and are reported; FORWARDED_SIGNALS are sent to the command.
ENDING_SIGNALS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
FORWARDED_SIGNALS = (_signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGQUIT)
# Not shared as workspace by default: they contain files of the host or the account, not a project.
UNSHARED_TREES = ("/proc", "/sys", "/dev", "/etc", "/boot", "/run")
UNSHARED_DIRECTORIES = ("/home", "/root", "/var", "/srv", "/mnt", "/media", "/opt")


# Characters of terminfo names: a TERM with others is not passed on.
TERMINAL_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-._")


def _own_standard_descriptors() -> None:
    """Open /dev/null on closed descriptors 0, 1 and 2, before a file of ours gets one of these numbers."""
    for fd in (0, 1, 2):
        try:
            posix.fstat(fd)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)  # the lowest free number: this one


def catch_ending_signals(handler: Callable[[int, object], None]) -> None:
    """Install a handler of ENDING_SIGNALS, but for those that nohup, or a shell without job control, has us ignore."""
    for number in ENDING_SIGNALS:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, handler)


def release_ending_signals(handler: Callable[[int, object], None]) -> None:
    """Let ENDING_SIGNALS that have this handler end us again."""
    for number in ENDING_SIGNALS:
        if _signal.getsignal(number) == handler:
            _signal.signal(number, _signal.SIG_DFL)


class _Signals:
    """Installs signal handlers that send signals to the command, and end the run if it does not end itself in time.

    A signal before the start, and a second one, end the run at once. A first one after the launcher's end ends us as soon as
    the result is complete.
    """

    def __init__(self, grace_ms: int = DEFAULT_GRACE_MS) -> None:
        self._grace_s = grace_ms / 1000
        self._run: Run | None = None
        self._ending = 0  # the first signal that is to end the run
        catch_ending_signals(self._end)
        for number in FORWARDED_SIGNALS:
            _signal.signal(number, self._forward)

    def _end(self, number: int, _frame: object) -> None:
        is_first, self._ending = self._ending == 0, self._ending or number
        if self._run is None or self._run.pid == 0:  # `started` or `ended` acts on it
            return
        if not is_first or not self._grace_s:
            self._run.cancel(self._ending)
            return
        self._run.ask_to_end(number)
        # from the line of figures, which is not drawn any more
        _signal.signal(_signal.SIGALRM, self._grace_is_over)
        _signal.setitimer(_signal.ITIMER_REAL, self._grace_s)

    def _grace_is_over(self, _number: int, _frame: object) -> None:
        if self._run is not None:
            self._run.cancel(self._ending)

    def _forward(self, number: int, _frame: object) -> None:
        if self._run is not None:
            self._run.signal(number)

    def ended(self) -> None:
        """Restore the default handlers after the run, so that a signal ends us even while we block on output."""
        if self._ending:
            _signal.setitimer(_signal.ITIMER_REAL, 0)
        release_ending_signals(self._end)
        if self._ending and self._run is not None and not self._run.cancelled_by:  # there was no launcher to tell
            posix.kill(posix.getpid(), self._ending)

    def started(self, run: Run) -> None:
        self._run = run
        if self._ending:
            run.cancel(self._ending)


def _terminal_or_same(fd: int, flags: int) -> int:
    """Reopen a terminal non-blocking: a stopped one (Ctrl-S) must not delay the timeout; return other descriptors unchanged."""
    if not posix.isatty(fd):
        return fd
    try:
        return posix.open(f"/proc/self/fd/{fd}", flags | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC)
    except OSError:
        return fd  # another user's terminal, after su: it works, except that Ctrl-S delays the timeout


def command_workspace(request: Request, options: Options) -> Request:
    """Share the current directory as workspace in command mode, unless it contains more than a project."""
    if options.workspace_given:
        return request
    try:
        directory = posix.getcwd()
    except OSError:
        return _without_workspace(request, "the current directory is gone")
    home = path_resolution.real(path_resolution.environment("HOME") or "/root")
    if directory == home or within(home, directory):
        return _without_workspace(request, f"`{directory}` is or holds the home directory")
    if directory in (*SYSTEM_DIRECTORIES, *UNSHARED_DIRECTORIES) or any(
        within(directory, tree) for tree in UNSHARED_TREES
    ):
        return _without_workspace(request, f"`{directory}` belongs to the system")

    secret = next(
        (
            name
            for name in known_paths.ACCOUNT_DIRECTORIES
            if path_resolution.exists(f"{directory}/{name}", follow=False)
        ),
        None,
    )
    if secret is not None:
        return _without_workspace(request, f"`{directory}` holds `{secret}`")
    if not path_resolution.is_absent(path_resolution.SYSTEM_FILE) and (
        rule := configuration.ceiling_against_sharing(directory)
    ):
        return _without_workspace(
            request, f"ceiling `{rule.key}` in {rule.place} does not allow `{directory}`", hint=""
        )
    isolation = _with_workspace(request.isolation, directory)
    return replace(request, isolation=isolation)


def _with_terminal(request: Request) -> Request:
    """Pass TERM to the command if our output is a terminal: its output goes there, though through a pipe."""
    kind = path_resolution.environment("TERM")
    if "TERM" in dict(request.environment) or not TERMINAL_LETTERS.issuperset(kind) or not kind:
        return request
    if not posix.isatty(1) and not posix.isatty(2):
        return request
    return replace(request, environment=(*request.environment, ("TERM", kind)))


def _with_workspace(isolation: Isolation, directory: str) -> Isolation:
    return replace(isolation, workspace=Workspace(source=directory))


def _without_workspace(
    request: Request, reason: str, *, hint: str = "`--workspace .` shares it, as a private copy"
) -> Request:
    output.notice(f"{reason}: /workspace starts empty", hint=hint)
    return request


def _with_live_line(
    request: Request, options: Options, signals: _Signals, stdin: int | None, *, captures: bool
) -> Result | None:
    """Run the request with a line of figures on the terminal; return None, without a run, if there is to be none."""
    if options.verbosity < 0 or not posix.isatty(2):
        return None
    line = live_line.for_run(request, stdin=stdin, captures=captures, reopened=_terminal_or_same)
    if line is None:
        return None

    def started(run: Run) -> None:
        line.started(run)
        signals.started(run)

    try:
        return _performed(request, options, started, line.streams)
    finally:
        signals.ended()  # a stopped terminal may take its time
        line.stop()


def _stream(request: Request, options: Options, signals: _Signals, stdin: int | None) -> Result:
    if (result := _with_live_line(request, options, signals, stdin, captures=False)) is not None:
        return result
    streams = Streams(
        stdin=stdin,
        stdout=_terminal_or_same(1, posix.O_WRONLY),
        stderr=_terminal_or_same(2, posix.O_WRONLY),
    )
    return _performed(request, options, signals.started, streams)


def _at_terminal(request: Request, options: Options, signals: _Signals) -> Result:
    """Run the request with a terminal of its own."""
    ours = terminal.Terminal(_terminal_or_same)

    def started(run: Run) -> None:
        ours.attach(run)
        signals.started(run)

    try:
        return _performed(request, options, started, ours.streams)
    finally:
        signals.ended()
        ours.close()


def _capture(request: Request, options: Options, signals: _Signals, stdin: int | None) -> Result:
    """Run the request with its output captured, for a JSON response."""
    if (result := _with_live_line(request, options, signals, stdin, captures=True)) is not None:
        return result
    return _performed(request, options, signals.started, Streams(stdin=stdin))


def monitor_of(options: Options) -> audit_log.Monitor | None:
    """Return what records runs in an audit log and metrics, if the options ask for it. Traces begin here, too.

    Raises CapsuleError E1007.
    """
    if path_resolution.wants_traces():
        trace_export.begin()
    if options.audit_required and not options.audit_log:
        raise CapsuleError("E1007", "`--audit-required` needs `--audit-log`")
    if not (options.metrics_file or options.audit_log):
        return None
    return audit_log.Monitor(
        metrics_file=options.metrics_file, audit_log=options.audit_log, required=options.audit_required
    )


def _performed(request: Request, options: Options, on_start: Callable[[Run], None], streams: Streams) -> Result:
    """Run the request, with the audit log and metrics that the options ask for."""
    if (monitor := monitor_of(options)) is None:
        short = not (options.json or options.pretty or options.verbosity > 0)
        return perform(request, streams=streams, on_start=on_start, short=short)
    return monitor.perform(request, streams=streams, on_start=on_start)


def run_command(request: Request, options: Options, *, passes_stdin: bool = True) -> int:
    """Run a request in command mode, in the current directory, and return the exit code. Used by `exec` too."""
    request = _with_terminal(command_workspace(request, options))
    if options.dry_run:
        return _dry_run(terminal.session_request(request) if options.tty else request, options)
    at_terminal = (options.tty or posix.isatty(0)) and terminal_choice.wants_terminal(
        options, request, passes_stdin=passes_stdin
    )
    signals = _Signals(options.grace_ms)
    stdin = _terminal_or_same(0, posix.O_RDONLY) if passes_stdin and not at_terminal else None
    if options.pretty:
        result = output.in_words(_capture(request, options, signals, stdin), options)
        signals.ended()
        output.print_json(result, pretty=True)
    else:
        if at_terminal:
            request = terminal.session_request(request)
            result = _at_terminal(request, options, signals)
        else:
            result = _stream(request, options, signals, stdin)
        if result.error and output.is_unread(result):
            return BROKEN_PIPE_EXIT
        if result.error:
            result = output.in_words(result, options)
        if result.error or result.denied or result.changes or result.not_applied or result.not_collected:
            signals.ended()
            output.print_result(request, result)
        if result.diff:
            output.print_diff(result.diff, truncated=result.diff_truncated)
    if options.verbosity > 0:
        output.print_details(request, result, options.verbosity)
    return exit_status(result.error, result.exit_code)


def _dry_run(request: Request, options: Options) -> int:
    summary, steps = dry_run(request)
    if options.json:
        output.print_dry_run(summary, steps, pretty=options.pretty)
    else:
        output.write_lines(1, summary)
        if options.verbosity > 0:
            output.write_all(1, "\n")
            output.write_lines(1, [f"{number:3d}  {step}" for number, step in enumerate(steps, 1)])
    return 0


def _json(options: Options) -> int:
    """Run the JSON request on stdin, and return the exit code."""
    output.say_what_is_read("the request")
    try:
        text = output.read_all(0)
    except OSError as error:
        raise CapsuleError("E6006", f"cannot read the request: {posix.strerror(error.errno or 0).lower()}") from None
    request = complete_options.json_request(options, text, own=complete_options.own_files(options))
    if options.dry_run:
        return _dry_run(request, options)
    signals = _Signals(options.grace_ms)
    result = _capture(request, options, signals, None)
    signals.ended()
    output.print_json(result, pretty=options.pretty)
    if options.verbosity > 0:
        output.print_details(request, result, options.verbosity)
    return exit_status(result.error, result.exit_code)


def _about(action: str) -> int:
    output.write_all(1, f"capsule-run {__version__}\n" if action == VERSION else cli_help.text_of(action))
    return 0


def _before_command(words: Sequence[str]) -> list[str]:
    return list(words[: words.index("--")]) if "--" in words else list(words)


def _subcommand(name: str, words: Sequence[str]) -> int:
    try:
        return subcommands.run(name, words)
    except CapsuleError as error:
        return output.print_error(error, json="--json" in _before_command(words), pretty=False)
    except KeyboardInterrupt:
        return 130


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = sys.argv[1:] if words is None else words
    _own_standard_descriptors()
    launcher.adopt(sys._xoptions.get("capsule-core"))  # noqa: SLF001  # its documented name
    try:
        return _main(words)
    finally:
        launcher.discard_early()


def _main(words: Sequence[str]) -> int:
    if not words:
        output.write_all(2, cli_help.text_of(SHORT_HELP))
        return USAGE_EXIT
    if words[0][:1] != "-" and words[0] in subcommands.SUBCOMMANDS:
        return _subcommand(words[0], words[1:])
    json = pretty = False
    try:
        if (
            (request := plain_request(words)) is not None
            and not path_resolution.variables()
            and not path_resolution.has_own_configuration()
        ):
            return run_command(request, Options(command=request.command, separated=True))

        # the form of the answer must be known even if parsing the rest fails
        json, pretty = "--json" in _before_command(words), "--pretty" in _before_command(words)
        options = complete_options.read(words)
        json, pretty = options.json, options.pretty
        if options.action != RUN:
            return _about(options.action)
        if options.json:
            return _json(configuration.with_monitoring(options) if complete_options.own_files(options) else options)
        options = complete_options.with_files(options)
        return run_command(request_options.build_request(options), options)
    except CapsuleError as error:
        return output.print_error(error, json=json, pretty=pretty)
    except KeyboardInterrupt:
        return 130
