"""The command line: options in, one run, an exit code out.

Rank 4, a door. Streaming mode relays the command's streams and says on stderr what was not a clean end; `--json` prints
exactly one JSON response on stdout and nothing else ever. Data goes to stdout, everything of ours to stderr.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only `signal`, which costs 4 ms (enum)
import posix
import sys

from .. import core, paths
from .._value import replace
from ..errors import CapsuleError, exit_status
from ..model import Isolation, Request, Result, Workspace
from ..outcome import failed_result, new_execution_id, timestamp
from ..runner import Run, Streams, dry_run, perform
from ..view import SYSTEM_DIRECTORIES, within
from .choices import HELP, VERSION, Options, plain_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE_EXIT = 2
# What the first word may be instead of an option or `--`: the module of `cli` whose `main` takes the words behind it. A
# command of that name is run with `--` before it.
SUBCOMMANDS = {"doctor": "doctor", "exec": "exec", "mcp": "mcp", "policy": "policy"}
# These end the sandbox and are reported; the others of the pair below are the command's to handle.
ENDING_SIGNALS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
FORWARDED_SIGNALS = (_signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGQUIT)
# Never shown unless asked for by name: what lies there is the host's or the account's, not a project.
UNSHARED_TREES = ("/proc", "/sys", "/dev", "/etc", "/boot", "/run")
UNSHARED_DIRECTORIES = ("/home", "/root", "/var", "/srv", "/mnt", "/media", "/opt")


# What a name in terminfo is made of: nothing else of the caller's environment gets in by this way.
TERMINAL_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-._")


def visible(text: str) -> str:
    """Text for a terminal: names from inside may hold what moves a cursor or hides a word, and are shown as escapes."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def write_all(fd: int, text: str) -> None:
    """Write text to a descriptor. A reader that has gone away is not an error of ours: the exit code still tells."""
    view = memoryview((visible(text) if fd == 2 else text).encode("utf-8", "surrogateescape"))
    try:
        while view:
            view = view[posix.write(fd, view) :]
    except (BrokenPipeError, BlockingIOError):
        return
    except OSError as error:  # a full disk, an I/O error: the answer is lost, and that must be seen
        if fd != 2:
            write_all(2, f"capsule-run: cannot write the result: {posix.strerror(error.errno or 0).lower()}\n")
            raise SystemExit(125) from None


def _own_standard_descriptors() -> None:
    """Whoever closed 0, 1 or 2 gets /dev/null there, before anything of ours could land on those numbers."""
    for fd in (0, 1, 2):
        try:
            posix.fstat(fd)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)  # the lowest free number: this one


class _Signals:
    """From now on signals end or reach the run, also one that comes before it has started."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._early = 0
        for number in ENDING_SIGNALS:
            if _signal.getsignal(number) != _signal.SIG_IGN:  # nohup, and jobs of a shell without job control
                _signal.signal(number, self._end)
        for number in FORWARDED_SIGNALS:
            _signal.signal(number, self._forward)

    def _end(self, number: int, _frame: object) -> None:
        self._early = self._early or number
        if self._run is not None:
            self._run.cancel(number)

    def _forward(self, number: int, _frame: object) -> None:
        if self._run is not None:
            self._run.signal(number)

    def started(self, run: Run) -> None:
        self._run = run
        if self._early:
            run.cancel(self._early)


def _terminal_or_same(fd: int, flags: int) -> int:
    """A terminal opened anew without blocking, so that a stopped one (Ctrl-S) cannot hold the clock; else `fd` itself."""
    if not posix.isatty(fd):
        return fd
    try:
        return posix.open(f"/proc/self/fd/{fd}", flags | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC)
    except OSError:
        return fd  # somebody else's terminal, after su: it works, only Ctrl-S stops the clock


def command_workspace(request: Request, options: Options) -> Request:
    """In command mode the current directory is the workspace, unless that would show more than a project."""
    if options.workspace_given:
        return request
    try:
        directory = posix.getcwd()
    except OSError:
        return _without_workspace(request, "the current directory is gone")
    home = paths.real(paths.environment("HOME") or "/root")
    if directory == home or within(home, directory):
        return _without_workspace(request, f"`{directory}` is or holds the home directory")
    if directory in (*SYSTEM_DIRECTORIES, *UNSHARED_DIRECTORIES) or any(
        within(directory, tree) for tree in UNSHARED_TREES
    ):
        return _without_workspace(request, f"`{directory}` belongs to the system")
    from ..data.secrets import ACCOUNT_DIRECTORIES  # only who shares a directory pays for it

    secret = next((name for name in ACCOUNT_DIRECTORIES if paths.exists(f"{directory}/{name}", follow=False)), None)
    if secret is not None:
        return _without_workspace(request, f"`{directory}` holds `{secret}`")
    isolation = _with_workspace(request.isolation, directory)
    return replace(request, isolation=isolation)


def _with_terminal(request: Request) -> Request:
    """On a terminal the command learns which kind it is: its output goes there, though by way of a pipe."""
    kind = paths.environment("TERM")
    if "TERM" in dict(request.environment) or not TERMINAL_LETTERS.issuperset(kind) or not kind:
        return request
    if not posix.isatty(1) and not posix.isatty(2):
        return request
    return replace(request, environment=(*request.environment, ("TERM", kind)))


def _with_workspace(isolation: Isolation, directory: str) -> Isolation:
    return replace(isolation, workspace=Workspace(source=directory))


def _without_workspace(request: Request, reason: str) -> Request:
    write_all(
        2, f"capsule-run: {reason}: /workspace starts empty\n\nhint: `--workspace .` shares it, as a private copy\n"
    )
    return request


def _explain(result: Result) -> None:
    """On stderr, why it was not a clean end. A command's own exit code speaks for itself."""
    error = result.error
    if error is None or error.code == "E3003":
        return
    hint = f"\n\nhint: {error.hint}" if error.hint else ""
    doing = ""
    if result.postmortem is not None:
        from ..postmortem import in_words

        doing = "".join(f"\n  {line}" for line in in_words(result.postmortem))
    write_all(2, f"capsule-run: {error.code}: {error.message}{doing}{hint}\n")


def _say_what_is_kept(request: Request, result: Result) -> None:
    if result.changes or result.not_applied or result.not_collected:
        from .kept import lines

        write_all(2, "".join(f"capsule-run: {line}\n" for line in lines(request, result)))


def _tell_refusals(result: Result) -> None:
    """On stderr, in one line, which calls were refused and what would allow them."""
    if not result.denied or (result.error is not None and result.error.code == "E5001"):
        return
    from ..refusals import in_words

    words = in_words(result.denied, str(result.isolation["seccomp"]), ended_well=result.ok)
    if words:
        write_all(2, f"capsule-run: {words}\n")


def _verbose(result: Result) -> None:
    from ..fastjson import dumps

    lines = [f"status: {result.status}", f"execution id: {result.execution_id}"]
    lines += [f"{name}: {dumps(fact, indent=None)}" for name, fact in result.isolation.items()]
    metrics = result.metrics
    if metrics is not None:
        lines.append(f"wall {metrics.wall_ms} ms, cpu {metrics.cpu_ms} ms")
        phases = ", ".join(f"{name} {micros} us" for name, micros in (metrics.startup or {}).items())
        lines.append(f"start-up: {phases}")
    write_all(2, "".join(f"capsule-run: {line}\n" for line in lines))


def _dry_run(request: Request, options: Options) -> int:
    from ..fastjson import dumps

    steps = dry_run(request)
    if options.json:
        write_all(1, dumps({"dry_run": True, "steps": steps}, indent=2 if options.pretty else None) + "\n")
    else:
        write_all(1, "".join(f"{number:3d}  {step}\n" for number, step in enumerate(steps, 1)))
    return 0


def _print_json(result: Result, *, pretty: bool) -> None:
    from ..fastjson import dumps
    from ..response import response

    write_all(1, dumps(response(result), indent=2 if pretty else None) + "\n")


def _stream(request: Request, options: Options, signals: _Signals, stdin: int | None) -> Result:
    streams = Streams(
        stdin=stdin,
        stdout=_terminal_or_same(1, posix.O_WRONLY),
        stderr=_terminal_or_same(2, posix.O_WRONLY),
    )
    return _performed(request, options, signals, streams)


def _performed(request: Request, options: Options, signals: _Signals, streams: Streams | None = None) -> Result:
    """The run, written down where the operator asked for it."""
    if options.audit_required and not options.audit_log:
        raise CapsuleError("E1007", "`--audit-required` needs `--audit-log`")
    if not (options.metrics_file or options.audit_log):
        return perform(request, streams=streams, on_start=signals.started)
    from ..monitor import Monitor

    monitor = Monitor(metrics_file=options.metrics_file, audit_log=options.audit_log, required=options.audit_required)
    return monitor.execute(request, streams=streams, on_start=signals.started)


def run_command(request: Request, options: Options, *, passes_stdin: bool = True) -> int:
    """One run in command mode, in the current directory, and its exit code. Also what `exec` does once it has a request."""
    request = _with_terminal(command_workspace(request, options))
    if options.dry_run:
        return _dry_run(request, options)
    signals = _Signals()
    stdin = _terminal_or_same(0, posix.O_RDONLY) if passes_stdin else None
    if options.pretty:
        result = _performed(request, options, signals, Streams(stdin=stdin))
        _print_json(result, pretty=True)
    else:
        result = _stream(request, options, signals, stdin)
        _explain(result)
        _say_what_is_kept(request, result)
        _tell_refusals(result)
    if options.verbose:
        _verbose(result)
    return exit_status(result.error, result.exit_code)


def read_all(fd: int) -> bytes:
    """All that a descriptor gives, or as much as shows that it is too much for a request."""
    from ..jsonapi import MAX_REQUEST_BYTES

    parts, left = [], MAX_REQUEST_BYTES + 1
    while left > 0 and (part := posix.read(fd, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _json(options: Options) -> int:
    from .options import build_json_request

    request = build_json_request(options, read_all(0))
    if options.dry_run:
        return _dry_run(request, options)
    result = _performed(request, options, _Signals())
    _print_json(result, pretty=options.pretty)
    if options.verbose:
        _verbose(result)
    return exit_status(result.error, result.exit_code)


def _refuse(error: CapsuleError, *, json: bool, pretty: bool) -> int:
    """A request that never ran: the same answer as a result, in the form that was asked for."""
    execution_id = error.execution_id or new_execution_id()
    result = failed_result(error, execution_id=execution_id, started_at=timestamp())
    if json or pretty:
        _print_json(result, pretty=pretty)
    else:
        _explain(result)
    return exit_status(result.error, None)


def _before_command(words: Sequence[str]) -> list[str]:
    return list(words[: words.index("--")]) if "--" in words else list(words)


def _subcommand(name: str, words: Sequence[str]) -> int:
    module = __import__(f"{__name__}.{SUBCOMMANDS[name]}", fromlist=["main"])
    try:
        status: int = module.main(words)
    except CapsuleError as error:
        return _refuse(error, json="--json" in _before_command(words), pretty=False)
    except KeyboardInterrupt:
        return 130
    return status


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (design section 5)."""
    words = sys.argv[1:] if words is None else words
    _own_standard_descriptors()
    core.adopt(sys._xoptions.get("capsule-core"))  # noqa: SLF001  # its documented name
    try:
        return _main(words)
    finally:
        core.let_go()


def _main(words: Sequence[str]) -> int:
    if words and words[0] in SUBCOMMANDS:
        return _subcommand(words[0], words[1:])
    json = pretty = False
    try:
        if (request := plain_request(words)) is not None:
            return run_command(request, Options(command=request.command))
        from .options import build_request, read_options  # with the table of options, and all checkers

        # how to answer is known before it is known whether the rest can be read
        json, pretty = "--json" in _before_command(words), "--pretty" in _before_command(words)
        options = read_options(words)
        json, pretty = options.json, options.pretty
        if options.action == HELP:
            from .help import help_text

            write_all(1, help_text())
            return 0
        if options.action == VERSION:
            from .. import __version__

            write_all(1, f"capsule-run {__version__}\n")
            return 0
        return _json(options) if options.json else run_command(build_request(options), options)
    except CapsuleError as error:
        return _refuse(error, json=json, pretty=pretty)
    except KeyboardInterrupt:
        return 130
