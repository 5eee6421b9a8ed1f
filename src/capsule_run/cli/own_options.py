"""Split the words of a subcommand that has options of its own and takes those of the common table, too."""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.request.option_table import BY_NAME
from capsule_run.request.options import options_in, unknown_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from capsule_run.request.option_table import Option

STDIN = "-"


class Words(Value):
    """The parts of a command line. Options may stand before and after the operands."""

    own: Mapping[str, str]
    """The subcommand's own options by their long name, each with its value, or "" if it takes none."""
    options: tuple[str, ...]
    """The other options with their values."""
    operands: tuple[str, ...]
    """Words that are no options; `-` is one."""
    rest: tuple[str, ...]
    """What follows `--`."""


def split(subcommand: str, words: Sequence[str], table: Sequence[Option]) -> Words:
    """Split a command line. Raises CapsuleError E1007.

    :param subcommand: names it in errors.
    :param table: its own options.
    """
    known = {name: option for option in table for name in (option.short, option.long) if name}
    own: dict[str, str] = {}
    options: list[str] = []
    operands: list[str] = []
    waiting = list(words)
    while waiting and (word := waiting.pop(0)) != "--":
        option, text = _own(word, known)
        if option is not None:
            own[option.long] = _value(option, word, text, waiting)
        elif word.startswith("-") and word != STDIN:
            _check_name(subcommand, word.partition("=")[0], known)
            options.append(word)
            found = options_in(word, waiting[0] if waiting else "")
            if any(each.metavar and inline is None for each, inline in found) and waiting:
                options.append(waiting.pop(0))
        else:
            operands.append(word)
    return Words(own=own, options=tuple(options), operands=tuple(operands), rest=tuple(waiting))


def _check_name(subcommand: str, name: str, own: Mapping[str, Option]) -> None:
    if not name.startswith("--") or name in BY_NAME:
        return
    known = [each for each in (*own, *BY_NAME) if each.startswith("--")]
    raise unknown_option(name, known, hint=f"see `capsule-run {subcommand} --help`")


def _own(word: str, known: Mapping[str, Option]) -> tuple[Option | None, str | None]:
    """Return our option in a word, and the value that is in the same word: `--jobs=4`, `-j4`."""
    name, equals, text = word.partition("=")
    if name in known:
        return known[name], text if equals else None
    letter = known.get(word[:2])
    return (letter, word[2:]) if letter is not None and letter.metavar else (None, None)


def _value(option: Option, word: str, text: str | None, waiting: list[str]) -> str:
    if not option.metavar:
        if text is not None:
            raise CapsuleError("E1007", f"`{option.long}` takes no value")
        return ""
    if text is None:
        if not waiting:
            name = word if word == option.short else option.long
            raise CapsuleError("E1007", f"`{name}` needs a value: `{name} {option.metavar}`")
        text = waiting.pop(0)
    return text
