"""Parse the command line with the table of options. `argparse` costs 8 ms, and its errors are less precise.

Pure. Options become fields of a request mapping, checked by the same checkers as JSON. Called by `cli`.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run.request.fast_path import AUTO, DEFAULT_GRACE_MS, HELP, RUN, SHORT_HELP, Options
from capsule_run.request.option_table import BY_NAME, OPTIONS, TTY, Option
from capsule_run.request.parse import FIELDS, nested, parse_request, request_from_mapping
from capsule_run.request.validators import did_you_mean, quoted, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from capsule_run.model.request import Request


_HINT = "see `capsule-run --help`; put the command's own options after `--`"


def read_options(words: Sequence[str]) -> Options:
    """Parse the command line after the program's name. `-h` and `-V` win over what follows. Raises CapsuleError E10xx."""
    return _checked(parse_words(words))


def parse_words(words: Sequence[str]) -> Options:
    """Parse options like `read_options`, without checking what follows them: for subcommands."""
    stored: dict[str, object] = {}
    position, separated = 0, False
    while position < len(words) and words[position].startswith("-") and words[position] != "-":
        word = words[position]
        position += 1
        if word == "--":
            separated = True
            break
        for option, inline in options_in(word, words[position] if position < len(words) else ""):
            text = inline
            if option.metavar and text is None:
                if position == len(words):
                    raise CapsuleError("E1007", f"`{option.long}` needs a value: `{option.long} {option.metavar}`")
                text = words[position]
                position += 1
            _store(option, text, stored)
            if option.field == "action":
                if option.gives == HELP and word != option.long:
                    stored["action"] = SHORT_HELP
                return _options(stored, (), separated=False)
    return _options(stored, tuple(words[position:]), separated=separated)


def options_in(word: str, following: str) -> Iterator[tuple[Option, str | None]]:
    """Yield the options in one word, each with its value if that is in the same word: `--opt=value`, `-t5`, `-vh`.

    :param following: the word after it, by which `-t` differs from `-t 5s`.
    """
    name, equals, text = word.partition("=")
    if word.startswith("--") or "-" + name in BY_NAME:  # `-memory` is an error, not `-m emory`
        option = BY_NAME.get(name)
        if option is None:
            raise unknown_option(name, _LONG, hint=_HINT)
        if equals and not option.metavar:
            raise CapsuleError("E1007", f"`{name}` takes no value")
        yield option, text if equals else None
        return
    for index, letter in enumerate(word[1:], 1):
        option = BY_NAME.get("-" + letter)
        if option is None:
            raise unknown_option("-" + letter, _LONG, hint=_HINT)
        if letter == "t" and not _is_time(word[index + 1 :] or following):
            yield BY_NAME[TTY], None
            continue
        if option.metavar:
            yield option, word[index + 1 :] or None
            return
        yield option, None


def _is_time(text: str) -> bool:
    return text.lstrip("=-")[:1].isdigit()


_LONG = tuple(option.long for option in OPTIONS)


def unknown_option(name: str, known: Iterable[str], *, hint: str) -> CapsuleError:
    """Return the error for an option that is not `known`, with the nearest one."""
    guess = did_you_mean(name, known) if len(name) > 2 else ""
    shown_name = f"`{name}`" if name.isascii() and name.isprintable() else quoted(name)
    return CapsuleError("E1007", f"unknown option {shown_name}{guess}", hint=hint)


def _store(option: Option, text: str | None, stored: dict[str, object]) -> None:
    """Store the value of one option. It replaces an earlier one, unless the option collects its values."""
    gives = option.gives if option.read is None or text is None else option.read(text, option.long)
    if option.field == "timeout_ms" and text is not None:
        stored["timeout_has_unit"] = not text.isdigit()
    if option.repeats:
        earlier = stored.get(option.field, ())
        assert isinstance(earlier, tuple)
        stored[option.field] = (*earlier, gives)
    elif gives == 1 and option.field == "verbosity":
        stored[option.field] = max(_number(stored.get(option.field, 0)), 0) + 1
    else:
        stored[option.field] = gives


def _number(stored: object) -> int:
    assert isinstance(stored, int)
    return stored


def _texts(stored: object) -> tuple[str, ...]:
    assert isinstance(stored, tuple)
    return stored


def _options(stored: dict[str, object], command: tuple[str, ...], *, separated: bool) -> Options:
    fields = {path: field for path, field in stored.items() if path in FIELDS}
    for field in ("environment", "files"):
        if field in fields:
            pairs = fields[field]
            assert isinstance(pairs, tuple)
            fields[field] = dict(pairs)  # of the values for one name, the last
    return Options(
        action=str(stored.get("action", RUN)),
        json="json" in stored,
        pretty="pretty" in stored,
        verbosity=_number(stored.get("verbosity", 0)),
        color=str(stored.get("color", AUTO)),
        env_files=_texts(stored.get("env_files", ())),
        dry_run="dry_run" in stored,
        fields=nested(fields),
        command=command,
        separated=separated,
        metrics_file=str(stored.get("metrics_file", "")),
        audit_log=str(stored.get("audit_log", "")),
        audit_required="audit_required" in stored,
        no_config="no_config" in stored,
        timeout_has_unit=bool(stored.get("timeout_has_unit")),
        tty="tty" in stored,
        interactive="interactive" in stored,
        grace_ms=_number(stored.get("grace_ms", DEFAULT_GRACE_MS)),
    )


def _checked(options: Options) -> Options:
    if options.action != RUN:
        return options
    if options.json and options.command:
        raise CapsuleError(
            "E1009",
            f"`--json` reads the command from stdin, but the command line gives one: {shown(options.command[0])}",
            hint="remove `--json` or the command; `--pretty` prints a JSON result for a command",
        )
    if options.json and options.tty:
        raise CapsuleError(
            "E1009",
            "`--tty` gives the command a terminal, but `--json` captures its output",
            hint="remove `--tty` or `--json`",
        )
    if not options.json and not options.command:
        raise CapsuleError(
            "E1007", "no command is given", hint="use `capsule-run [OPTIONS] -- COMMAND`; see `capsule-run --help`"
        )
    return options


def build_request(options: Options) -> Request:
    """Return the request for a command line with a command. Raises CapsuleError E10xx."""
    return request_from_mapping({**options.fields, "command": options.command})


def build_json_request(
    options: Options, text: bytes, complete: Callable[[Mapping[str, object]], Mapping[str, object]] | None = None
) -> Request:
    """Return the request in a JSON text, with the options as defaults (`request.parse.with_defaults`).

    :param complete: as in `parse_request`.
    """
    return parse_request(text, defaults=options.fields, complete=complete)
