"""`capsule-run mcp`: serve the Model Context Protocol on stdin and stdout, within the operator's limits.

The limits are options of the common table, on the command line or each in the environment as `CAPSULE_RUN_` and its
name. A variable of ours that means nothing is refused: a limit that is spelt wrong must not be one that is not there.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only `signal`, which costs 4 ms (enum)
import posix

from .. import __version__
from ..checks import nearest
from ..errors import CapsuleError
from ..jsonapi import with_defaults
from ..tooling import operator
from .answers import write_all
from .choices import HELP, VERSION
from .crash import TRACEBACK
from .options import OPTIONS, parse_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..tooling import Operator
    from .choices import Options
    from .options import Option

PREFIX = "CAPSULE_RUN_"
ENDING_SIGNALS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
# How a command line is answered, and what each call has of its own: no limits.
_NOT_HERE = ("--json", "--pretty", "--verbose", "--dry-run", "--execution-id")
LIMITS = tuple(option for option in OPTIONS if option.long not in (*_NOT_HERE, "--help", "--version"))


class _Ended(Exception):  # noqa: N818  # no error: somebody wants us to end
    """A signal has come."""


def variable(option: Option) -> str:
    """The variable of the environment for an option: `CAPSULE_RUN_MAX_PIDS` for `--max-pids`."""
    return PREFIX + option.long.removeprefix("--").replace("-", "_").upper()


def words_of(environment: Mapping[str, str]) -> list[str]:
    """The command line that the variables of ours stand for. Raises CapsuleError E1007 for one that is none.

    An option that takes no value wants `1`, or `0` for not given; one that repeats takes a value a line.
    """
    by_name = {variable(option): option for option in LIMITS}
    words: list[str] = []
    for name, text in environment.items():
        if not name.startswith(PREFIX):
            continue
        if name == TRACEBACK:
            continue
        option = by_name.get(name)
        if option is None:
            guess = nearest(name, by_name)
            raise CapsuleError("E1007", f"unknown variable `{name}`" + (f"; did you mean `{guess}`?" if guess else ""))
        if option.metavar:
            values = text.splitlines() if option.repeats else [text]
            words += [f"{option.long}={line}" for line in values if line]
        elif text not in ("0", "1", ""):
            raise CapsuleError("E1007", f"`{name}` must be 0 or 1")
        elif text == "1":
            words.append(option.long)
    return words


def _read(words: Sequence[str]) -> Options:
    options = parse_words(words)
    given = ("--json", options.json), ("--pretty", options.pretty), ("--verbose", options.verbose)
    for name, is_given in (*given, ("--dry-run", options.dry_run)):
        if is_given:
            raise CapsuleError("E1007", f"`{name}` has no meaning with `mcp`")
    if options.command:
        raise CapsuleError("E1007", "`mcp` takes no command: the client's calls bring them")
    return options


def limits_of(words: Sequence[str], environment: Mapping[str, str]) -> Operator:
    """The operator's limits; what the command line gives wins over the environment. Raises CapsuleError E10xx."""
    fields = with_defaults(_read(words).fields, _read(words_of(environment)).fields)
    assert isinstance(fields, dict)
    return operator(fields)


def help_text() -> str:
    """The text of `capsule-run mcp --help`."""
    lines = "".join([f"  {f'{option.long} {option.metavar}':27}{option.about}\n" for option in LIMITS])
    return f"""\
capsule-run mcp [OPTIONS]

Serves the tools `execute_code` and `execute_command` to an MCP client, on stdin and stdout.

Options, which hold for every call, and which no call can change:
{lines}
--timeout is how long a call may take and the most that it can ask for; without it that is 30000 and 300000.
Each option is also read from the environment, as {PREFIX} and its name: {PREFIX}MAX_PIDS=50, {PREFIX}NETWORK=1.
The command line wins; an option that repeats takes one value a line. /workspace starts empty.
"""


def main(words: Sequence[str]) -> int:
    """Serve until the client closes our stdin, or a signal ends us; then every sandbox is gone. Returns the exit code."""
    action = parse_words(words).action
    if action in (HELP, VERSION):
        write_all(1, help_text() if action == HELP else f"capsule-run {__version__}\n")
        return 0
    text = {key: posix.environ[key] for key in posix.environ if key.startswith(PREFIX.encode())}
    limits = limits_of(words, {name.decode("ascii", "replace"): value.decode() for name, value in text.items()})
    from ..server.mcp import serve

    ending = False

    def end(_number: int, _frame: object) -> None:
        nonlocal ending
        if not ending:
            ending = True
            raise _Ended

    for number in ENDING_SIGNALS:
        _signal.signal(number, end)
    try:
        serve(limits, stdin=0, stdout=1)
    except _Ended:
        pass
    return 0
