"""`capsule-run exec`: run code in a supported language, from a file or from stdin.

Parses `--lang`, FILE and the arguments; the other options are those of the common table.
"""

from __future__ import annotations

from capsule_run import __version__
from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.cli import complete_options
from capsule_run.cli import help as cli_help
from capsule_run.cli.command import run_command
from capsule_run.cli.output import read_all, write_all
from capsule_run.engine.code import code_request
from capsule_run.host.caller_files import read, reason_of
from capsule_run.request.fast_path import RUN, VERSION
from capsule_run.request.languages import LANGUAGES, language, language_of_file
from capsule_run.request.option_table import Option
from capsule_run.request.options import options_in
from capsule_run.request.parse import MAX_REQUEST_BYTES
from capsule_run.request.validators import invalid, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LANG, CODE = "--lang", "-c"
STDIN = "-"
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
_OWN = {option.long: option for option in OPTIONS}


def _usage(message: str, hint: str) -> CapsuleError:
    return CapsuleError("E1007", message, hint=hint)


class Words(Value):
    """The parts of a command line of `exec`."""

    language: str | None
    code: str | None  # of `-c`
    options: tuple[str, ...]
    file: str | None  # `-` is stdin
    arguments: tuple[str, ...]  # of the program: what follows `--`


def split(words: Sequence[str]) -> Words:
    """Split a command line: options may stand before and after FILE. Raises CapsuleError E1007, E1009."""
    own: dict[str, str] = {}
    options: list[str] = []
    files: list[str] = []
    waiting = list(words)
    while waiting and (word := waiting.pop(0)) != "--":
        name, equals, text = word.partition("=")
        if name in _OWN:
            if not equals and not waiting:
                raise _usage(f"`{name}` needs a value: `{name} {_OWN[name].metavar}`", _languages())
            own[name] = text if equals else waiting.pop(0)
        elif word.startswith("-") and word != STDIN:
            options.append(word)
            if any(option.metavar and inline is None for option, inline in options_in(word)) and waiting:
                options.append(waiting.pop(0))
        else:
            files.append(word)
    if len(files) > 1:
        raise _usage(
            f"only one FILE can be run, and {shown(files[0])} is already given",
            "put the program's arguments after `--`",
        )
    if files and CODE in own:
        raise CapsuleError("E1009", f"the code is given by `{CODE}`, and by the file {shown(files[0])}")
    return Words(
        language=own.get(LANG),
        code=own.get(CODE),
        options=tuple(options),
        file=files[0] if files else None,
        arguments=tuple(waiting),
    )


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
    return f"{_USAGE}{cli_help.option_lines(OPTIONS)}{_MORE}"


def main(words: Sequence[str]) -> int:
    """Run `capsule-run exec WORDS` and return its exit code. Raises CapsuleError E10xx."""
    given = split(words)
    if "--json" in given.options:
        raise _usage("`--json` reads a whole request", "`--pretty` prints a JSON result for code")
    file = given.file or STDIN
    options = complete_options.read([*given.options, "--", file])  # a file is not a command, but stands where one would
    if options.action != RUN:
        write_all(1, f"capsule-run {__version__}\n" if options.action == VERSION else help_text())
        return 0
    options = complete_options.with_files(options)
    row = language(given.language, LANG) if given.language is not None else language_of_file(file)
    if row is None:
        raise _usage("no language is given; use `--lang <LANGUAGE>`", _languages())
    code = _source(file) if given.code is None else given.code
    name = None if file == STDIN else file.rpartition("/")[2]
    request = code_request(code, row.name, options.fields, arguments=given.arguments, file=name)
    return run_command(request, options, passes_stdin=given.code is not None or file != STDIN)
