"""Print results of the command line: JSON on stdout, our messages on stderr. Also reads the request on stdin.

Not loaded for a run without anything to report.
"""

from __future__ import annotations

import posix
import time
from errno import EPIPE

from capsule_run._base import strict_json
from capsule_run._base.errors import BROKEN_PIPE_EXIT, exit_status
from capsule_run._base.printable import printable
from capsule_run._base.value import replace
from capsule_run.cli import colours, export_lines, run_in_words, subcommands
from capsule_run.engine.build_result import failed_result, new_execution_id, timestamp
from capsule_run.request import interface_words, parse
from capsule_run.result import denied_syscalls, hint_words, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from capsule_run._base.errors import CapsuleError, Failure
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result
    from capsule_run.request.fast_path import Options


MAX_LINE = 1 << 16  # characters
OUR_NAME = "capsule-run: "
STDERR_PATIENCE_MS = 1000
READER_PATIENCE_MS, READER_STEP_MS = 1000, 20


class _Progress:
    """Whether an answer, or a part of it, was written to stdout: then there must be no second one."""

    begun = False


progress = _Progress()


class _Messages:
    """How much we say on stderr: `quiet` leaves out notices, warnings and hints (`-q`)."""

    quiet = False


messages = _Messages()


def write_lines(fd: int, lines: Iterable[str], start: str = "") -> None:
    """Write lines for people; control characters are escaped, so that each stays one line."""
    write_all(fd, "".join([f"{start}{printable(line, MAX_LINE)}\n" for line in lines]))


def write_all(fd: int, text: str) -> None:
    """Write text to a descriptor. Exit if stdout fails; ignore a failure of stderr.

    Not `caller_files.write_all`, which this module would load on the path of every failed command.
    """
    view = memoryview(text.encode("utf-8", "backslashreplace"))
    progress.begun |= fd == 1
    while view:
        try:
            view = view[posix.write(fd, view) :]
        except BlockingIOError:  # the parent may share a non-blocking descriptor with us
            if not _can_be_written(fd):
                return
        except OSError as error:
            if fd == 2:
                return
            if error.errno == EPIPE:
                raise SystemExit(BROKEN_PIPE_EXIT) from None
            write_all(2, f"capsule-run: E6006: cannot write the answer: {posix.strerror(error.errno or 0).lower()}\n")
            raise SystemExit(125) from None


def _can_be_written(fd: int) -> bool:
    """Wait until a non-blocking descriptor is writable; for stderr, at most STDERR_PATIENCE_MS."""
    import select  # noqa: PLC0415  # only who has to wait

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(STDERR_PATIENCE_MS if fd == 2 else None))


def reader_has_left(fd: int) -> bool:
    """Return whether the reader of a pipe leaves without reading what is in it.

    Called after a command passed its output limit: what `| head -1` did not read counts as output, but is not wanted.
    """
    import fcntl  # noqa: PLC0415  # only for a pipe or a terminal
    import select  # noqa: PLC0415  # only who has to wait
    import termios  # noqa: PLC0415  # only for a pipe or a terminal

    poll = select.poll()
    poll.register(fd, 0)  # POLLERR is always reported
    for _ in range(READER_PATIENCE_MS // READER_STEP_MS):
        if any(events & select.POLLERR for _fd, events in poll.poll(READER_STEP_MS)):
            return True
        waiting = bytearray(4)
        try:
            fcntl.ioctl(fd, termios.FIONREAD, waiting)
        except OSError:  # not a pipe
            return False
        if not any(waiting):
            return False
    return False


def is_unread(result: Result) -> bool:
    """Return whether the run failed because the reader of our output has left, which a pipeline expects to be silent."""
    error = result.error
    if error is None or error.code not in ("E4003", "E6006"):
        return False
    if error.code == "E6006":
        return error.details.get("errno") == EPIPE
    return reader_has_left(1 if error.details["stream"] == "stdout" else 2)


def explain(error: Failure, postmortem: Mapping[str, object] | None = None) -> None:
    """Print an error and its hint to stderr. Of a command's own exit code print the hint only: the command has said the rest."""
    if error.code == "E3003":
        if error.hint:
            notice(f"the command exited with code {error.details['exit_code']}", hint=error.hint)
        return
    doing = ""
    if postmortem is not None:
        doing = "".join(f"\n  at the end {line}" for line in processes.in_words(postmortem))
    code = colours.paint(f"{error.code}:", colours.RED, 2)
    write_all(2, f"{OUR_NAME}{code} {error.message}{doing}{_hint(error.hint)}\n")


def _hint(text: str) -> str:
    return (
        f"\n\n{colours.paint('hint:', colours.CYAN, 2)} {hint_words.in_options(text)}"
        if text and not messages.quiet
        else ""
    )


def notice(text: str, *, hint: str = "") -> None:
    """Print to stderr what is no error, unless we are to be quiet."""
    if not messages.quiet:
        write_all(2, f"{OUR_NAME}{printable(text, MAX_LINE)}{_hint(hint)}\n")


def _say_what_is_kept(request: Request, result: Result) -> None:
    if result.changes or result.not_applied or result.not_collected:
        for line in export_lines.lines(request, result):
            notice(line)


def _print_denied(result: Result) -> None:
    """Print to stderr, in one line, the denied calls and what would allow them."""
    if not result.denied or (result.error is not None and result.error.code == "E5001"):
        return

    words = denied_syscalls.in_words(result.denied, str(result.isolation["seccomp"]), ended_well=result.ok)
    if words:
        notice(words)


def in_words(result: Result, options: Options) -> Result:
    """Return the result of a command line: its error names options, and a subcommand that may have been meant."""
    error = result.error
    if error is None:
        return result
    if error.code.startswith("E2"):
        return interface_words.renamed_in_result(result, interface_words.OPTION_NAMES)
    if error.code == "E3006" and options.timeout_has_unit:
        return replace(result, error=replace(error, hint=hint_words.without_question(error.hint)))
    if error.code == "E3001" and not options.separated and (hint := subcommands.hint_for(options.command[0])):
        return replace(result, error=replace(error, hint=hint))
    return result


def print_result(request: Request, result: Result) -> None:
    """Print to stderr what the caller should know about a run besides the command's output."""
    if result.error is not None:
        explain(result.error, result.postmortem)
    _say_what_is_kept(request, result)
    _print_denied(result)


def print_details(request: Request, result: Result, verbosity: int) -> None:
    """Print to stderr about ten lines for `-v`; for `-vv` the isolation in force and all phases, too."""
    write_lines(2, run_in_words.lines(request, result), OUR_NAME)
    if verbosity > 1:
        _print_everything(result)


def _print_everything(result: Result) -> None:
    lines = [f"status: {result.status}", f"execution id: {result.execution_id}"]
    lines += [f"{name}: {strict_json.dumps(fact, indent=None)}" for name, fact in result.isolation.items()]
    metrics = result.metrics
    if metrics is not None:
        lines.append(f"wall {metrics.wall_ms} ms, cpu {metrics.cpu_ms} ms")
        phases = ", ".join(f"{name} {micros} us" for name, micros in (metrics.startup or {}).items())
        lines.append(f"start-up: {phases}")
    write_lines(2, lines, OUR_NAME)


def print_dry_run(summary: list[str], steps: list[str], *, pretty: bool) -> None:
    """Print as JSON what a run would do."""
    fields = {"dry_run": True, "summary": summary, "steps": steps}
    write_all(1, strict_json.dumps(fields, indent=2 if pretty else None) + "\n")


def print_diff(text: str, *, truncated: bool) -> None:
    """Print the diff of a run to stdout: in colours on a terminal, and there without control characters."""
    if truncated:
        notice("the diff leaves out changes: there are too many, or they are too large")
    if not (posix.isatty(1) or colours.wanted(1)):
        write_all(1, text)
        return
    kinds = {"+": colours.GREEN, "-": colours.RED, "@": colours.CYAN, "d": colours.BOLD}
    for line in text.splitlines():
        shown = printable(line, MAX_LINE) if posix.isatty(1) else line
        write_all(1, colours.paint(shown, kinds[line[0]], 1) + "\n" if line[:1] in kinds else f"{shown}\n")


def print_json(result: Result, *, pretty: bool) -> None:
    """Print the JSON response to stdout."""
    if result.error:
        result = hint_words.worded(result, hint_words.in_fields)
    write_all(1, result.to_json(indent=2 if pretty else None) + "\n")


def say_what_is_read(what: str) -> None:
    """Say what we wait for, if it is to be typed: it would look like a command that hangs."""
    if posix.isatty(0):
        notice(f"reading {what} from the terminal; Ctrl-D ends it")


def read_all(fd: int) -> bytes:
    """Read a descriptor to its end, or one byte more than a request may have."""
    parts, left = [], parse.MAX_REQUEST_BYTES + 1
    while left > 0:
        try:
            part = posix.read(fd, min(left, 1 << 20))
        except BlockingIOError:  # as in `write_all`
            import select  # noqa: PLC0415  # only who has to wait

            select.select([fd], [], [])
            continue
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def print_error(error: CapsuleError, *, json: bool, pretty: bool) -> int:
    """Report a request that did not run, in the requested form, and return the exit code."""
    if not json:  # a JSON request has fields, a command line has options
        error = interface_words.renamed(error, interface_words.OPTION_NAMES)
    name = error.execution_id or new_execution_id()
    result = failed_result(error, {"execution_id": name, "started_at": timestamp(time.time_ns())})
    if json or pretty:
        print_json(result, pretty=pretty)
    else:
        explain(error.failure())
    return exit_status(result.error, None)
