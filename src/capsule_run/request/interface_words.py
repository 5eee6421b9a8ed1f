"""Say in an error what the caller wrote: the option of the command line, or the argument in Python, for the request field.

Pure. Errors that are found after parsing name the field of the request, which is right for JSON. The interfaces rename it.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.request.arguments import ARGUMENTS
from capsule_run.request.option_table import OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run._base.errors import Failure
    from capsule_run.model.result import Result

# field → option; of the options that set one field, the first
OPTION_NAMES = {option.field: option.long for option in reversed(OPTIONS) if option.field}
ARGUMENT_NAMES = {field: argument for argument, field in ARGUMENTS.items()}


def renamed(error: CapsuleError, names: Mapping[str, str]) -> CapsuleError:
    """Return the error in the words of an interface: `names` has the interface's name of each field."""
    message, hint = _in_words(error.message, error.hint, names)
    if message == error.message:
        return error
    new = CapsuleError(error.code, message, cause=error.cause, details=error.details, hint=hint)
    new.execution_id = error.execution_id
    return new


def renamed_in_result(result: Result, names: Mapping[str, str]) -> Result:
    """Return a result whose error is in the words of an interface."""
    error: Failure | None = result.error
    if error is None:
        return result
    message, hint = _in_words(error.message, error.hint, names)
    return result if message == error.message else replace(result, error=replace(error, message=message, hint=hint))


def _in_words(message: str, hint: str, names: Mapping[str, str]) -> tuple[str, str]:
    """Rename the field that a message begins with, and fields that its hint has outside of parentheses."""
    label, colon, rest = message.partition(": ")
    path, bracket, index = label.partition("[")
    field, space, part = path.partition(" ")
    if not colon or field not in names:
        return message, hint
    name = names[field]
    place = "" if name.startswith("--") else f"{bracket}{index}"  # an option has one value, and the message shows it
    for other, its_name in names.items():
        both = f"(`{other}`)"  # stands behind the option: `--network` (`isolation.network`)
        hint = hint.replace(both, "\0").replace(f"`{other}`", f"`{its_name}`").replace("\0", both)
    return f"{name}{place}{space}{part}: {rest}", hint
