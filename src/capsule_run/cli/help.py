"""Build the help texts from the table of options and the list of subcommands. `main` is `capsule-run help [COMMAND]`.

Loaded only if help is asked for.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run.cli import subcommands
from capsule_run.cli.output import write_all
from capsule_run.model.request import (
    DEFAULT_CPU_SHARES,
    DEFAULT_MAX_OUTPUT_BYTES,
    DEFAULT_MAX_PIDS,
    DEFAULT_MEMORY_BYTES,
    DEFAULT_TIMEOUT_MS,
)
from capsule_run.request import option_table
from capsule_run.request.durations import format_duration
from capsule_run.request.fast_path import SHORT_HELP
from capsule_run.request.option_table import BY_NAME, GROUPS, Option
from capsule_run.request.sizes import format_size
from capsule_run.request.validators import did_you_mean, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 100  # columns of every help text
SHORT_ROWS = 30  # of the short form: one screen
_COLUMN = 29  # the seed's
_USAGE = """\
capsule-run [OPTIONS] [COMMAND]...
capsule-run SUBCOMMAND [ARGUMENTS]...
"""
_EXAMPLES = """\
Examples:
  capsule-run -- echo "Hello, World!"
  capsule-run --memory 256M --timeout 5000 -- python script.py
  echo '{"command":["python","-c","print(42)"]}' | capsule-run --json
"""
_SHORT_OPTIONS = (
    *("--timeout", "--memory", "--max-pids", "--network", "--env", "--workspace", "--bind", "--tool"),
    "--tty",
    *("--apply-changes", "--json", "--verbose", "--dry-run", "--version"),
)
_NAMES_RULE = "After `--` every word is a program: `capsule-run -- help` runs a program of that name.\n"
OPTIONS: tuple[Option, ...] = ()  # of `capsule-run help`


def text_of(action: str) -> str:
    """Return the help text of an action of `request.fast_path`: the short or the long form."""
    return short_help() if action == SHORT_HELP else long_help()


def long_help() -> str:
    """Return the text of `--help`, with a newline at its end."""
    groups = "\n".join(
        [
            f"{name.capitalize()}:\n{option_lines(option for option in option_table.OPTIONS if option.group == name)}"
            for name in GROUPS
        ]
    )
    return f"""\
{_USAGE}
Run a command in a sandbox of its own, and say exactly what happened.

Subcommands:
{_subcommand_lines()}{_NAMES_RULE}
{groups}
Defaults: {format_duration(DEFAULT_TIMEOUT_MS)}, {format_size(DEFAULT_MEMORY_BYTES)} of memory, \
{DEFAULT_CPU_SHARES} CPU shares, {format_size(DEFAULT_MAX_OUTPUT_BYTES)} of output, \
{DEFAULT_MAX_PIDS} processes, no network;
/workspace starts as a private copy-on-write view of the current directory.
With --json the options are defaults for fields that the request omits, and /workspace starts empty.
MS is a number of milliseconds, or with ms, s, m, h: 500ms, 5s, 2m.
SIZE is a number of bytes, or with K, M, G, T (powers of 1024).
--env NAME passes your own variable on; nothing else of your environment is inherited.
Of an option given twice the last one counts; these collect all their values:
{_repeating()}.

Exit code: the command's own; 128+N ended by signal N; 137 killed by a limit or rule;
127 command not found; 126 command not executable; 125 the sandbox or the host failed; 124 timeout;
2 invalid request or usage.

{_EXAMPLES}"""


def short_help() -> str:
    """Return the text of `-h`, which fits on one screen."""
    return f"""\
{_USAGE}
Subcommands: {", ".join(subcommands.SUBCOMMANDS)}
{_NAMES_RULE}
Options:
{option_lines([BY_NAME[name] for name in _SHORT_OPTIONS])}
{_EXAMPLES}
All options: capsule-run --help. A subcommand: capsule-run help SUBCOMMAND.
"""


def help_text() -> str:
    """Return the text of `capsule-run help help`: the long form."""
    return long_help()


def main(words: Sequence[str]) -> int:
    """Print the help of the subcommand that the words name, or the whole help. Raises CapsuleError E1007."""
    names = [word for word in words if word not in ("-h", "--help")]
    if not names:
        write_all(1, long_help())
        return 0
    name = names[0]
    if len(names) > 1 or name not in subcommands.SUBCOMMANDS:
        message = f"{shown(name)} is no subcommand{did_you_mean(name, subcommands.SUBCOMMANDS)}"
        if len(names) > 1:
            message = "`help` takes one subcommand"
        raise CapsuleError("E1007", message, hint="subcommands: " + ", ".join(subcommands.SUBCOMMANDS))
    write_all(1, subcommands.module(name).help_text())
    return 0


def option_lines(options: Iterable[Option]) -> str:
    """Return one line of help for each option."""
    return "".join([line(_left(option), option.about) for option in options])


def line(left: str, about: str) -> str:
    """Return one line of help: a name in the first column, what it is in the second."""
    return f"  {left:<{_COLUMN - 2}}{about}\n" if len(left) < _COLUMN - 2 else f"  {left}  {about}\n"


def _left(option: Option) -> str:
    names = f"{option.short}, {option.long}" if option.short else option.long
    return f"{names} {option.metavar}" if option.metavar else names


def _subcommand_lines() -> str:
    return "".join([line(name, about) for name, about in subcommands.SUBCOMMANDS.items()])


def _repeating() -> str:
    return ", ".join([option.long for option in option_table.OPTIONS if option.repeats])
