"""Read the words that options take into values of the request mapping: one reader for each form.

Pure. A reader takes the word and the option's name, which its errors begin with. Called by `option_table`.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run.model.request import COPY_ON_WRITE, READ_ONLY, UNLIMITED
from capsule_run.request import file_fields
from capsule_run.request.durations import parse_duration
from capsule_run.request.parse import FIELDS, check_bind_mode, check_workspace_mode
from capsule_run.request.sizes import parse_size
from capsule_run.request.validators import check_directory, check_source, check_variable, invalid, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # (word, option name) → value for the request mapping. Every checker of strings is a reader.
    Reader = Callable[[str, str], object]

MAX_GRACE_MS = 86_400_000


def whole_number(field: str) -> Reader:
    """Return the reader of a whole number for a request field."""

    def read(word: str, label: str) -> object:
        if not _is_number(word):
            raise invalid("E1005", label, f"must be a whole number, got {shown(word)}")
        return FIELDS[field](int(word), label)

    return read


def decimal_number(field: str) -> Reader:
    """Return the reader of a number, which may have a fraction, for a request field."""

    def read(word: str, label: str) -> object:
        if not _is_number(word.replace(".", "", 1)):
            raise invalid("E1005", label, f"must be a number, got {shown(word)}")
        return FIELDS[field](float(word), label)

    return read


def _is_number(word: str) -> bool:
    digits = word.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= 20


def cpu_shares(field: str) -> Reader:
    """Return the reader of a CPU weight. What looks like a number of processors gets a hint."""
    read_weight = whole_number(field)

    def read(word: str, label: str) -> object:
        try:
            return read_weight(word, label)
        except CapsuleError as error:
            if _is_number(word.replace(".", "", 1)):
                error.hint = (
                    "a weight relative to other runs, 1024 by default; `--cpus` limits the number of processors"
                )
            raise

    return read


def duration(field: str) -> Reader:
    """Return the reader of a duration (`5s`, or milliseconds) for a request field."""
    return lambda word, label: FIELDS[field](parse_duration(word, label=label), label)


def grace(word: str, label: str) -> int:
    """Read the time that a command has to end itself after a signal."""
    milliseconds = parse_duration(word, label=label)
    if not 0 <= milliseconds <= MAX_GRACE_MS:
        raise invalid("E1005", label, f"must be between 0 and {MAX_GRACE_MS} ms, got {shown(word)}")
    return milliseconds


def size(field: str) -> Reader:
    """Return the reader of a size (`256M`, or bytes) for a request field."""
    return lambda word, label: FIELDS[field](parse_size(word, label=label), label)


def size_or_unlimited(field: str) -> Reader:
    """Return the reader of a size or the word `unlimited` for a request field."""
    read_size = size(field)
    return lambda word, label: UNLIMITED if word == UNLIMITED else read_size(word, label)


def variable(word: str, label: str) -> object:
    """Read KEY=VALUE, or KEY, whose value None means that of the caller's variable (`engine.caller_environment`)."""
    name, equals, text = word.partition("=")
    checked = check_variable(name, text, label)
    return checked if equals else (name, None)


def file(word: str, label: str) -> object:
    """Read PATH=SRC: a file in the workspace and the host file that it is copied from."""
    path, equals, source = word.partition("=")
    if not equals:
        raise invalid("E1005", label, f"must be PATH=SRC, got {shown(word)}")
    return path, {"source": check_source(source, label)}


def text(word: str, _label: str) -> object:
    """Read any text."""
    return word


def bind(word: str, label: str) -> object:
    """Read SRC:DEST or SRC:DEST:MODE."""
    parts = word.split(":")
    if len(parts) not in (2, 3):
        why = f"must be SRC:DEST or SRC:DEST:MODE, got {shown(word)}"
        hint = "a JSON request can name a path with a colon (`isolation.binds`)"
        if len(parts) == 1:
            hint = f"`--readonly {word}` or `--writable {word}` shows it at the same place"
        raise invalid("E1005", label, why, hint=hint)
    mode, comma, force = (parts[2] if len(parts) == 3 else READ_ONLY).partition(",")
    if comma and force != "force":
        raise invalid("E1005", f"{label} mode", f"must be `ro`, `rw`, `ro,force` or `rw,force`, got {shown(parts[2])}")
    fields = {
        "source": check_source(parts[0], f"{label} source"),
        "destination": check_directory(parts[1], f"{label} destination"),
        "mode": check_bind_mode(mode, f"{label} mode"),
    }
    return {**fields, "force": True} if comma else fields


def workspace(word: str, label: str) -> object:
    """Read DIR or DIR:MODE."""
    source, colon, rest = word.rpartition(":")
    mode, comma, hide = (rest if colon else COPY_ON_WRITE).partition(",")
    if comma and hide != "hide-path":
        raise invalid("E1005", f"{label} mode", f"must be a mode, or a mode and `,hide-path`, got {shown(rest)}")
    fields = {
        "source": check_source(source if colon else word, label),
        "mode": check_workspace_mode(mode, f"{label} mode"),
    }
    return {**fields, "hide_path": True} if comma else fields


def upper(word: str, label: str) -> object:
    """Read DIR or DIR:SIZE."""
    return file_fields.read_workspace_upper(word, label)
