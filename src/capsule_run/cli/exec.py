"""`capsule-run exec`: run code in a supported language, from a file or from stdin.

Parses `--lang`, FILE and the arguments; the other options are those of the common table.
"""

from __future__ import annotations

from capsule_run import __version__
from capsule_run._base.errors import CapsuleError
from capsule_run.cli import complete_options
from capsule_run.cli import help as cli_help
from capsule_run.cli.command import run_command
from capsule_run.cli.output import read_all, say_what_is_read, write_all
from capsule_run.cli.own_options import STDIN, split
from capsule_run.engine.code import code_request
from capsule_run.host.caller_files import read, reason_of
from capsule_run.request.fast_path import RUN, VERSION
from capsule_run.request.languages import LANGUAGES, language, language_of_file
from capsule_run.request.option_table import Option
from capsule_run.request.parse import MAX_REQUEST_BYTES
from capsule_run.request.validators import invalid, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LANG, CODE = "--lang", "-c"
_USAGE = """\
capsule-run exec [OPTIONS] [FILE|-] [-- ARGS]
capsule-run exec --lang <LANGUAGE> -c <CODE> [OPTIONS] [-- ARGS]

Run code in a sandbox. FILE is copied into /workspace; the program gets stdin.
With `-`, or without FILE and -c, the code itself is read from stdin.

Options:
"""
_MORE = f"""\
and those of `capsule-run --help`, except --json, before or after FILE.

Languages: {", ".join(LANGUAGES)}

Examples:
  capsule-run exec --lang python -c 'print(6 * 7)'
  echo 'print(6 * 7)' | capsule-run exec --lang python
  capsule-run exec sum.c --timeout 5s -- 1 2 3
"""


OPTIONS = (
    Option(
        long=LANG,
        metavar="<LANGUAGE>",
        about="The language of the code, if the name of FILE does not say it",
        choices=tuple(LANGUAGES),
    ),
    Option(long=CODE, metavar="<CODE>", about="The code itself, instead of FILE"),
)


def _usage(message: str, hint: str) -> CapsuleError:
    return CapsuleError("E1007", message, hint=hint)


def _languages() -> str:
    return "languages: " + ", ".join(LANGUAGES)


def _source(file: str) -> str:
    """Read the code from stdin or from a file. Raises CapsuleError E1005."""
    if file == STDIN:
        say_what_is_read("the code")
    try:
        raw = read_all(0) if file == STDIN else read(file, MAX_REQUEST_BYTES)
    except OSError as error:
        why, hint = reason_of(error)
        raise invalid("E1005", "FILE", f"cannot read {shown(file)}: {why}", hint=hint) from None
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise invalid("E1005", "FILE", f"{shown(file)} is not valid UTF-8 at byte {error.start}") from None


def help_text() -> str:
    """Return the text of `capsule-run exec --help`."""
    return f"{_USAGE}{cli_help.option_lines(OPTIONS)}{_MORE}"


def main(words: Sequence[str]) -> int:
    """Run `capsule-run exec WORDS` and return its exit code. Raises CapsuleError E10xx."""
    given = split("exec", words, OPTIONS)
    code_given = given.own.get(CODE)
    if len(given.operands) > 1:
        raise _usage(
            f"only one FILE can be run, and {shown(given.operands[0])} is already given",
            "put the program's arguments after `--`",
        )
    if given.operands and code_given is not None:
        raise CapsuleError("E1009", f"the code is given by `{CODE}`, and by the file {shown(given.operands[0])}")
    if "--json" in given.options:
        raise _usage("`--json` reads a whole request", "`--pretty` prints a JSON result for code")
    file = given.operands[0] if given.operands else STDIN
    options = complete_options.read([*given.options, "--", file])  # a file is not a command, but stands where one would
    if options.action != RUN:
        write_all(1, f"capsule-run {__version__}\n" if options.action == VERSION else help_text())
        return 0
    options = complete_options.with_files(options)
    row = language(given.own[LANG], LANG) if LANG in given.own else language_of_file(file)
    if row is None:
        raise _usage("no language is given; use `--lang <LANGUAGE>`", _languages())
    code = _source(file) if code_given is None else code_given
    name = None if file == STDIN else file.rpartition("/")[2]
    request = code_request(code, row.name, options.fields, arguments=given.rest, file=name)
    return run_command(request, options, passes_stdin=code_given is not None or file != STDIN)
