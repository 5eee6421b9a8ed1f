"""`capsule-run mcp`: serve the Model Context Protocol on stdin and stdout, within the operator's limits.

The limits are options of the common table, from the command line or the environment (`engine.variables`).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only `signal`, which costs 4 ms (enum)
import posix
from errno import EPIPE

from capsule_run import __version__
from capsule_run._base.errors import BROKEN_PIPE_EXIT, CapsuleError
from capsule_run.agents.operator import operator
from capsule_run.cli import help as cli_help
from capsule_run.cli.command import ENDING_SIGNALS
from capsule_run.cli.output import write_all
from capsule_run.cli.own_options import split
from capsule_run.engine import caller_environment
from capsule_run.engine.variables import MONITORING, NOT_VARIABLES
from capsule_run.mcp import session
from capsule_run.request import option_table
from capsule_run.request.durations import parse_duration
from capsule_run.request.fast_path import AUTO, RUN, VERSION
from capsule_run.request.option_table import Option
from capsule_run.request.options import parse_words
from capsule_run.request.validators import invalid, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from capsule_run.request.fast_path import Options

SANDBOXES, IDLE_TIMEOUT = "--sandboxes", "--idle-timeout"
MOST_SANDBOXES, LONGEST_IDLE_MS = 64, 86_400_000
OWN_OPTIONS = (
    Option(long=SANDBOXES, metavar="<NUM>", about="Add tools that keep state, in at most so many living sandboxes"),
    Option(long=IDLE_TIMEOUT, metavar="<MS>", about="End a living sandbox after so long without a call [default: 10m]"),
)
_DEFAULT_IDLE_MS = 600_000
LIMITS = tuple(option for option in option_table.OPTIONS if option.long not in (*NOT_VARIABLES, *MONITORING))
OPTIONS = (*OWN_OPTIONS, *LIMITS)


class _Ended(Exception):  # noqa: N818  # not an error
    """Raised by the handler of a signal that ends the server."""


def _read(words: Sequence[str]) -> Options:
    options = parse_words(words)
    given = (
        ("--json", options.json),
        ("--pretty", options.pretty),
        ("--verbose", options.verbosity > 0),
        ("--quiet", options.verbosity < 0),
        ("--color", options.color != AUTO),
    )
    monitoring = zip(MONITORING, (options.metrics_file, options.audit_log, options.audit_required), strict=True)
    for name, is_given in (*given, ("--dry-run", options.dry_run), *monitoring):
        if is_given:
            raise CapsuleError("E1007", f"`{name}` has no meaning with `mcp`")
    if options.command:
        raise CapsuleError("E1007", "`mcp` takes no command: the client's calls contain the commands")
    return options


def help_text() -> str:
    """Return the text of `capsule-run mcp --help`."""
    lines, own = cli_help.option_lines(LIMITS), cli_help.option_lines(OWN_OPTIONS)
    return f"""\
capsule-run mcp [OPTIONS]

Serve the tools `execute_code` and `execute_command` to an MCP client over stdin and stdout.

{own}
Options apply to every call; no call can change them:
{lines}
--timeout is both the default and the maximum time of a call; without it they are 30000 and 300000.
Each option can also be set in the environment: CAPSULE_RUN_MAX_PIDS=50, CAPSULE_RUN_NETWORK=1.
The command line takes precedence; a repeatable option takes one value per line.
/workspace starts empty.
"""


def _numbers(own: Mapping[str, str]) -> tuple[int, int]:
    """Return how many sandboxes may live, and for how many milliseconds without a call. Raises CapsuleError E10xx."""
    if IDLE_TIMEOUT in own and SANDBOXES not in own:
        raise CapsuleError("E1007", f"`{IDLE_TIMEOUT}` needs `{SANDBOXES} <NUM>`")
    text = own.get(SANDBOXES, "0")
    if SANDBOXES in own and not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_SANDBOXES):
        raise invalid("E1005", SANDBOXES, f"must be a whole number from 1 to {MOST_SANDBOXES}, got {shown(text)}")
    idle_ms = _DEFAULT_IDLE_MS
    if IDLE_TIMEOUT in own:
        idle_ms = parse_duration(own[IDLE_TIMEOUT], label=IDLE_TIMEOUT)
        if not 1 <= idle_ms <= LONGEST_IDLE_MS:
            raise invalid("E1004", IDLE_TIMEOUT, f"must be from 1 to {LONGEST_IDLE_MS} ms, got {idle_ms}")
    return int(text), idle_ms


def main(words: Sequence[str]) -> int:
    """Serve until the client closes our stdin or a signal comes, end every sandbox, and return the exit code."""
    given = split("mcp", words, OWN_OPTIONS)
    words = [*given.options, *(["--"] if given.operands or given.rest else []), *given.operands, *given.rest]
    action = parse_words(words).action
    if action != RUN:
        write_all(1, f"capsule-run {__version__}\n" if action == VERSION else help_text())
        return 0
    most, idle_ms = _numbers(given.own)
    options = caller_environment.completed(_read(words))
    limits = operator(options.fields, config=not options.no_config)  # it reads the environment, too

    ending = False

    def end(_number: int, _frame: object) -> None:
        nonlocal ending
        if not ending:
            ending = True
            raise _Ended

    for number in ENDING_SIGNALS:
        _signal.signal(number, end)
    try:
        errno = session.serve(
            limits,
            stdin=0,
            stdout=1,
            sandboxes=most,
            idle_timeout_ms=idle_ms,
        )
    except _Ended:
        return 0
    if errno == EPIPE:
        return BROKEN_PIPE_EXIT
    if errno:
        raise CapsuleError("E6006", f"cannot write to the client: {posix.strerror(errno).lower()}")
    return 0
