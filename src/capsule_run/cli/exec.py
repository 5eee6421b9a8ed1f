"""`capsule-run exec`: run code in a supported language, from a file or from stdin.

Parses `--lang`, FILE and the arguments; the other options are those of the common table.
"""

from __future__ import annotations

from capsule_run import __version__
from capsule_run._base.errors import CapsuleError
from capsule_run.cli.command import run_command, with_environment, with_files
from capsule_run.cli.output import read_all, write_all
from capsule_run.engine.code import code_request
from capsule_run.host.caller_files import read, reason_of
from capsule_run.request.fast_path import RUN, VERSION
from capsule_run.request.languages import LANGUAGES, language, language_of_file
from capsule_run.request.option_table import Option
from capsule_run.request.options import options_in, read_options
from capsule_run.request.parse import MAX_REQUEST_BYTES
from capsule_run.request.validators import invalid, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LANG = "--lang"
STDIN = "-"
_USAGE = f"""\
capsule-run exec --lang <LANGUAGE> [OPTIONS] [FILE|-] [-- ARGS]

Run code in a sandbox. FILE is copied into /workspace; the program gets stdin.
With `-`, or without FILE, the code itself is read from stdin.
--lang may be omitted if the file name extension determines the language.
OPTIONS are those of `capsule-run --help`, except --json.

Languages: {", ".join(LANGUAGES)}

Examples:
  echo 'print(6 * 7)' | capsule-run exec --lang python
  capsule-run exec --lang c --timeout 5000 sum.c -- 1 2 3
"""


OPTIONS = (
    Option(
        long=LANG,
        metavar="<LANGUAGE>",
        about="The language of the code, if the name of FILE does not say it",
        choices=tuple(LANGUAGES),
    ),
)


def _usage(message: str, hint: str) -> CapsuleError:
    return CapsuleError("E1007", message, hint=hint)


def split(words: Sequence[str]) -> tuple[str | None, list[str], str, list[str]]:
    """Split a command line into the language, the options, the file (`-` for stdin) and the program's arguments."""
    given, options, position = None, [], 0
    while position < len(words) and words[position].startswith("-") and words[position] not in (STDIN, "--"):
        word = words[position]
        position += 1
        name, equals, text = word.partition("=")
        if name == LANG:
            if not equals:
                if position == len(words):
                    raise _usage("`--lang` needs a value: `--lang <LANGUAGE>`", _languages())
                text = words[position]
                position += 1
            if given is not None:
                raise _usage("`--lang` is given twice", "keep one of the two")
            given = text
            continue
        options.append(word)
        if any(option.metavar and inline is None for option, inline in options_in(word)) and position < len(words):
            options.append(words[position])
            position += 1
    rest = list(words[position:])
    file = rest.pop(0) if rest and rest[0] != "--" else STDIN
    if rest and rest.pop(0) != "--":
        raise _usage(
            f"only one FILE can be run, and {shown(file)} is already given", "put the program's arguments after `--`"
        )
    return given, options, file, rest


def _languages() -> str:
    return "languages: " + ", ".join(LANGUAGES)


def _source(file: str) -> str:
    """Read the code from stdin or from a file. Raises CapsuleError E1005."""
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
    return _USAGE


def main(words: Sequence[str]) -> int:
    """Run `capsule-run exec WORDS` and return its exit code. Raises CapsuleError E10xx."""
    given, option_words, file, arguments = split(words)
    if "--json" in option_words:
        raise _usage("`--json` reads a whole request", "`--pretty` prints a JSON result for code")
    options = with_environment(
        read_options([*option_words, "--", file])
    )  # a file is not a command, but stands where one would
    if options.action != RUN:
        write_all(1, f"capsule-run {__version__}\n" if options.action == VERSION else help_text())
        return 0
    options = with_files(options)
    row = language(given, LANG) if given is not None else language_of_file(file)
    if row is None:
        raise _usage("no language is given; use `--lang <LANGUAGE>`", _languages())
    name = None if file == STDIN else file.rpartition("/")[2]
    request = code_request(_source(file), row.name, options.fields, arguments=arguments, file=name)
    return run_command(request, options, passes_stdin=file != STDIN)
