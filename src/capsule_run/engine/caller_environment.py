"""Read the caller's environment for `--env NAME`, and files of variables for `--env-file`.

A variable whose value is None in the request mapping of the options is to be taken from the caller. Imported only if there is
one, or a file. No message shows a value.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.host.caller_files import read, reason_of
from capsule_run.host.path_resolution import variables
from capsule_run.request.validators import check_variable, invalid, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from capsule_run.request.fast_path import Options

_MAX_FILE_BYTES = 1 << 20  # as many as command and environment can have together
_QUOTES = ("'", '"')
_NAME_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def completed(options: Options) -> Options:
    """Return the options with the values of all variables. `--env` wins over `--env-file`. Raises CapsuleError E10xx."""
    given = options.fields.get("environment", {})
    assert isinstance(given, dict)
    if not options.env_files and None not in given.values():
        return options
    caller = variables("")
    environment: dict[str, object] = {}
    for path in options.env_files:
        environment.update(_from_file(path, caller))
    for name, value in given.items():
        environment[name] = _of_caller(name, caller, "--env") if value is None else value
    return replace(options, fields={**options.fields, "environment": environment}, env_files=())


def _of_caller(name: str, caller: Mapping[str, str], label: str) -> str:
    if name in caller:
        return caller[name]
    # What was given instead of a name may be a secret.
    which = f"`{name}`" if _NAME_LETTERS.issuperset(name) else "the variable"
    hint = f"set it before, or give a value: `--env {name if which[0] == '`' else 'KEY'}=VALUE`"
    raise invalid("E1005", label, f"{which} is not set in your environment", hint=hint)


def _from_file(path: str, caller: Mapping[str, str]) -> dict[str, str]:
    """Read KEY=VALUE or KEY from each line. Empty lines and comments are skipped."""
    found = {}
    for number, line in enumerate(_lines(path), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        label = f"--env-file {path} line {number}"
        name, equals, value = text.removeprefix("export ").partition("=")
        name = name.strip()
        if not name or any(letter.isspace() for letter in name):
            raise invalid("E1005", label, "must be KEY=VALUE, or KEY for the variable of your environment")
        found[name] = (
            check_variable(name, _unquoted(value.strip()), label)[1] if equals else _of_caller(name, caller, label)
        )
    return found


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] in _QUOTES and value[0] == value[-1] else value


def _lines(path: str) -> Iterable[str]:
    try:
        content = read(path, _MAX_FILE_BYTES)
    except OSError as error:
        why, hint = reason_of(error)
        raise invalid("E1005", "--env-file", f"cannot read {shown(path)}: {why}", hint=hint) from None
    if len(content) > _MAX_FILE_BYTES:
        raise CapsuleError("E1008", f"--env-file: {shown(path)} has more than {_MAX_FILE_BYTES} bytes")
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise invalid("E1005", "--env-file", f"{shown(path)} is not valid UTF-8 at byte {error.start}") from None
