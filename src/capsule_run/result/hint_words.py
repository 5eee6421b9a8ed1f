"""Say a hint in the words of one interface: options, fields of the JSON request, or arguments of the SDK.

A hint is made with both, the option and in brackets the field: `--memory SIZE` (`resources.memory_bytes`). The command line
prints options alone, JSON and agents' tools have fields alone, and `run` and its like name arguments. An option without a
field, and any other text, stays as it is.

Pure.
"""

from __future__ import annotations

from capsule_run._base.value import replace
from capsule_run.request.arguments import ARGUMENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run.model.result import Result

_ARGUMENT_OF = {field: argument for argument, field in ARGUMENTS.items()}
_LISTS = ("collect", "readonly", "tools", "unmask", "writable")
_TRUE = ("apply_changes", "changes", "ledger", "network", "postmortem")


def in_options(hint: str) -> str:
    """Name the options of a hint without their fields: `--network` (`isolation.network`) becomes `--network`."""
    return _reworded(hint, lambda option, _field: f"`--{option}`")


def in_fields(hint: str) -> str:
    """Name the fields of a hint without their options: `--network` (`isolation.network`) becomes `isolation.network`.

    A value of the option stays, and a placeholder such as PATH goes.
    """

    def field_of(option: str, field: str) -> str:
        value = _value(option)
        return f"`{field}` `{value}`" if value else f"`{field}`"

    return _reworded(hint, field_of)


def in_arguments(hint: str) -> str:
    """Name the arguments of `run`: `--memory` (`resources.memory_bytes`) becomes `memory=`. A field without one stays."""

    def argument_of(option: str, field: str) -> str:
        value = _value(option)
        quoted = f'"{value}"' if value else ""
        argument = _ARGUMENT_OF.get(field)
        if argument in _LISTS:
            return f"`{argument}=[{quoted}]`" if value else f"`{argument}=`"
        if argument is not None:
            return f"`{argument}={'True' if argument in _TRUE and not value else quoted}`"
        above, _dot, inner = field.rpartition(".")
        if above in _ARGUMENT_OF:
            return f'`{_ARGUMENT_OF[above]}={{"{inner}": {quoted or "…"}}}`'
        return f"`{field}` of a `Request`"

    return _reworded(hint, argument_of)


def without_question(hint: str) -> str:
    """Return the hint of a timeout without the question whether seconds were meant, for a time that was written with a unit."""
    question, separator, rest = hint.partition("; else ")
    return rest if separator and question.endswith("s`") and " seconds were meant" in question else hint


def worded(result: Result, words: Callable[[str], str]) -> Result:
    """Return the result with the hint of its error in these words."""
    if result.error is None or not result.error.hint:
        return result
    return replace(result, error=replace(result.error, hint=words(result.error.hint)))


def _reworded(hint: str, words: Callable[[str, str], str]) -> str:
    text, *parts = hint.split("`--")
    for part in parts:
        option, bracket, rest = part.partition("` (`")
        field, end, rest = rest.partition("`)")
        if not (bracket and end) or "`" in option or not field.replace(".", "").replace("_", "").isalpha():
            text += f"`--{part}"
        else:
            text += words(option, field) + rest
    return text


def _value(option: str) -> str:
    """What is given after the option's name: nothing for a placeholder, such as PATH or DIR; `copy` of DIR:copy."""
    given = option.partition(" ")[2]
    place, colon, mode = given.partition(":")
    if colon and place.isupper():
        return mode
    return "" if given.replace("=", "").isupper() else given
