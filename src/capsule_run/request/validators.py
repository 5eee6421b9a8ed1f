"""Validate single values of a request: one checker for each kind, used by JSON, the command line and the SDK.

A checker takes a value and the label of its place (`resources.memory_bytes`, `--memory`), and returns the checked value or
raises CapsuleError. Pure; called by `parse` and `options`.

A string may contain U+DC80–U+DCFF, which stand for the bytes 80–FF that are not UTF-8, as in `os.fsdecode`: every argument
and path of Linux can be written. Any other lone surrogate is invalid.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64

from capsule_run._base import strict_json
from capsule_run._base.errors import CapsuleError
from capsule_run.request import durations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Checker = Callable[[object, str], object]

MAX_PATH_BYTES = 4095
MAX_COMPONENT_BYTES = 255
_MAX_SHOWN = 60
_ID_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-")
_HEX_DIGITS = frozenset("0123456789abcdef-")
_LABEL_LETTERS = _ID_LETTERS - frozenset("._:")


def invalid(code: str, label: str, why: str, *, hint: str | None = None, **details: object) -> CapsuleError:
    """Return the error for the field or option `label`, which is also in its details."""
    return CapsuleError(code, f"{label}: {why}", details={"field": label, **details}, hint=hint)


def quoted(text: str) -> str:
    """Return a text as a JSON string, for messages."""
    return strict_json.quoted(text)


def shown(value: object) -> str:
    """Return a value as JSON, shortened to fit in a message; only the type of containers and bytes."""
    if value is None or isinstance(value, (bool, int, float, str)):
        if isinstance(value, int) and value.bit_length() > 64:
            return f"a number of {value.bit_length()} bits"

        text = repr(value) if isinstance(value, float) else strict_json.dumps(value, indent=None)
        return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return f"a value of type `{type(value).__name__}`"


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a number with a fraction"),
    (str, "a string"),
    ((list, tuple), "a list"),
    (dict, "an object"),
)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return next((name for types, name in _KINDS if isinstance(value, types)), shown(value))


def wrong_type(label: str, wanted: str, value: object, *, hint: str | None = None) -> CapsuleError:
    """Return the error for a value of another type than `wanted`. It names the type and does not show the value."""
    return invalid("E1003", label, f"must be {wanted}, got {_kind(value)}", hint=hint)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most similar to `word`, if one is similar enough for a "did you mean"."""
    if len(word) > _MAX_SHOWN:
        return None
    best, best_distance = None, max(1, len(word) // 3) + 1
    for candidate in known:
        extends = min(len(word), len(candidate)) >= 3 and (candidate.startswith(word) or word.startswith(candidate))
        distance = 1 if extends else _edit_distance(word, candidate)
        if distance < best_distance:
            best, best_distance = candidate, distance
    return best


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: a question with the nearest known one, or nothing."""
    guess = nearest(word, known)
    return f"; did you mean `{guess}`?" if guess else ""


def _edit_distance(left: str, right: str) -> int:
    """Return the edit distance: letters to insert, delete, replace or swap with their neighbour."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, previous, row = row, before, [i]
        for j, b in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if previous and j > 1 and a == right[j - 2] and b == left[i - 2]:
                cost = min(cost, previous[j - 2] + 1)
            row.append(cost)
    return row[-1]


def integer(low: int, high: int, unit: str = "") -> Checker:
    """Return a checker of integers from `low` to `high`; neither `true` nor `5000.0` is one."""

    def check(value: object, label: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(label, "an integer", value)
        if not low <= value <= high:
            raise invalid(
                "E1004", label, f"must be from {low} to {high}{unit}, got {shown(value)}", minimum=low, maximum=high
            )
        return value

    return check


def integer_or(word: str, low: int, high: int, unit: str = "") -> Checker:
    """Return a checker of one word, and of integers from `low` to `high`."""
    check_integer = integer(low, high, unit)

    def check(value: object, label: str) -> object:
        if isinstance(value, str) and value != word:
            raise invalid("E1005", label, f"must be a number of bytes or `{word}`, got {shown(value)}", accepted=[word])
        return value if value == word else check_integer(value, label)

    return check


def integer_or_duration(low: int, high: int) -> Checker:
    """Return a checker of milliseconds from `low` to `high`, as an integer or a duration with its unit ("5s")."""
    check_integer = integer(low, high, " ms")

    def check(value: object, label: str) -> object:
        if isinstance(value, str):
            return check_integer(durations.parse_duration(value, label=label, bare=False), label)
        return check_integer(value, label)

    return check


def number(low: float, high: float, unit: str = "") -> Checker:
    """Return a checker of numbers from `low` to `high`."""

    def check(value: object, label: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong_type(label, "a number", value)
        if not low <= value <= high:  # NaN fails, too
            raise invalid(
                "E1004", label, f"must be from {low} to {high}{unit}, got {shown(value)}", minimum=low, maximum=high
            )
        return float(value)

    return check


def choice(*words: str) -> Checker:
    """Return a checker that accepts one of `words`."""

    def check(value: object, label: str) -> str:
        if not isinstance(value, str):
            raise wrong_type(label, "a string", value)
        if value not in words:
            accepted = ", ".join(f"`{word}`" for word in words)
            guess = did_you_mean(value, sorted(words, key=len)) if len(value) > 2 else ""
            why = f"must be one of {accepted}, got {shown(value)}{guess}"
            raise invalid("E1005", label, why, accepted=list(words))
        return value

    return check


def list_of(check_item: Checker) -> Checker:
    """Return a checker of lists that checks each item with `check_item`."""

    def check(value: object, label: str) -> tuple[object, ...]:
        if not isinstance(value, (list, tuple)):
            raise wrong_type(label, "a list", value)
        return tuple([check_item(item, f"{label}[{index}]") for index, item in enumerate(value)])

    return check


def check_boolean(value: object, label: str) -> bool:
    """Check true or false; 0, 1 and "yes" are invalid."""
    if not isinstance(value, bool):
        raise wrong_type(label, "true or false", value)
    return value


def encode(text: str, label: str) -> bytes:
    """Return the bytes that a string stands for."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        code_point = ord(text[error.start])
        raise invalid(
            "E1005", label, f"contains the lone surrogate U+{code_point:04X}, which encodes no byte"
        ) from None


def check_string(value: object, label: str) -> str:
    """Check a text without NUL, which the kernel can take. It may be a secret: no message shows it."""
    if not isinstance(value, str):
        raise wrong_type(label, "a string", value)
    if "\0" in value:
        raise invalid("E1005", label, "must not contain a NUL byte")
    if not value.isascii():
        encode(value, label)
    return value


def text_of_path(value: object) -> object:
    """Return the text of an `os.PathLike`, as `os.fsdecode` does; any other value unchanged."""
    to_path = getattr(type(value), "__fspath__", None)
    if to_path is None:
        return value
    path: object = to_path(value)
    return path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path


def check_source(value: object, label: str) -> str:
    """Check a host path, absolute or relative to the caller's directory: a string or an `os.PathLike`."""
    path = check_string(text_of_path(value), label)
    if not path:
        raise invalid("E1005", label, "must not be empty")
    encoded = encode(path, label)
    if len(encoded) > MAX_PATH_BYTES:
        raise invalid("E1008", label, f"must be at most {MAX_PATH_BYTES} bytes, got {len(encoded)}")
    longest = max(map(len, encoded.split(b"/")))
    if longest > MAX_COMPONENT_BYTES:
        raise invalid("E1008", label, f"each name in a path is at most {MAX_COMPONENT_BYTES} bytes, got {longest}")
    return path


def check_directory(value: object, label: str) -> str:
    """Check an absolute path inside; return it normalized: no `.`, no double or trailing slash."""
    path = check_source(value, label)
    if not path.startswith("/"):
        raise invalid("E1005", label, f"must be an absolute path, got {shown(path)}")
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise invalid("E1005", label, f"must not contain `..`, got {shown(path)}")
    return "/" + "/".join(names)


def check_place(value: object, label: str) -> str:
    """Check a path shown at the same place: absolute, or relative to the caller's directory."""
    path = check_source(value, label)
    return check_directory(path, label) if path.startswith("/") else path


def check_command(value: object, label: str) -> tuple[str, ...]:
    """Check the words of a command: at least one, and the first not empty."""
    if isinstance(value, str):
        raise wrong_type(label, "a list of strings", value, hint='pass a shell command as ["sh", "-c", "COMMAND"]')
    if not isinstance(value, (list, tuple)):
        raise wrong_type(label, "a list of strings", value)
    if not value:
        raise invalid("E1005", label, "must not be empty")
    words = tuple([check_string(text_of_path(word), f"{label}[{index}]") for index, word in enumerate(value)])
    if not words[0]:
        raise invalid("E1005", f"{label}[0]", "must not be empty")
    return words


def check_variable(name: object, value: object, label: str) -> tuple[str, str]:
    """Check one environment variable; `label` names the whole environment."""
    if not isinstance(name, str):
        raise wrong_type(f"{label} name", "a string", name)
    if not name or "=" in name or "\0" in name:
        raise invalid("E1005", label, f"a name must not be empty nor contain `=` or a NUL byte, got {shown(name)}")
    encode(name, label)
    return name, check_string(
        text_of_path(value), f"{label}.{name if name.isascii() and name.isprintable() else quoted(name)}"
    )


def check_environment(value: object, label: str) -> tuple[tuple[str, str], ...]:
    """Check an object of environment variables. A value may be a secret: no message shows it."""
    if not isinstance(value, dict):
        raise wrong_type(label, "an object", value)
    return tuple([check_variable(name, text, label) for name, text in value.items()])


def check_stdin(value: object, label: str) -> bytes:
    """Check the command's input: text, or bytes from Python."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise wrong_type(label, "a string", value)
    return encode(value, label)


def check_base64(value: object, label: str) -> bytes:
    """Check strict base64 (standard alphabet, padded, no line breaks); return its bytes."""
    if not isinstance(value, str):
        raise wrong_type(label, "a string", value)
    try:
        return a2b_base64(value.encode("ascii"), strict_mode=True)
    except (Base64Error, UnicodeEncodeError):
        raise invalid("E1005", label, "must be base64 (standard alphabet, padded, no line breaks)") from None


def check_execution_id(value: object, label: str) -> str:
    """Check a UUID, or a short name that is safe in a log line and a file name."""
    if not isinstance(value, str):
        raise wrong_type(label, "a string", value)
    if not 1 <= len(value) <= 128 or not _ID_LETTERS.issuperset(value):
        raise invalid("E1005", label, f"must be 1 to 128 of the characters `A-Z a-z 0-9 . _ : -`, got {shown(value)}")
    return value


_MAX_ID = 65_533
_check_id = integer(0, _MAX_ID)


def check_user(value: object, label: str) -> int | str:
    """Check a number for user and group, or "UID:GID"."""
    if not isinstance(value, str):
        return _check_id(value, label)  # type: ignore[return-value]  # it returns an integer
    parts = value.split(":")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in parts):
        raise invalid("E1005", label, f"must be a number, or UID:GID, from 0 to {_MAX_ID}, got {shown(value)}")
    for part in parts:
        _check_id(int(part), label)
    return value if len(parts) == 2 else int(value)


def check_profile(value: object, label: str) -> str:
    """Check the form of a syscall profile: a name, NAME+GROUP, or the path of a TOML file. It is looked up later."""
    return check_source(value, label)


def check_traceparent(value: object, label: str) -> str:
    """Check the identity of a span as W3C Trace Context writes it: version, trace, span and flags in hexadecimal."""
    if not isinstance(value, str):
        raise wrong_type(label, "a string", value)
    parts = value.split("-")
    sizes = [len(part) for part in parts]
    if (
        sizes != [2, 32, 16, 2]
        or not _HEX_DIGITS.issuperset(value)
        or parts[0] == "ff"
        or any(not part.strip("0") for part in parts[1:3])
    ):
        why = f"must be VERSION-TRACE-SPAN-FLAGS of W3C Trace Context, such as `00-{'1' * 32}-{'2' * 16}-01`"
        raise invalid("E1005", label, f"{why}, got {shown(value)}")
    return value


def check_hostname(value: object, label: str) -> str:
    """Check a host name: one label of RFC 1123."""
    if not isinstance(value, str):
        raise wrong_type(label, "a string", value)
    if not 1 <= len(value) <= 63 or not _LABEL_LETTERS.issuperset(value) or value[0] == "-" or value[-1] == "-":
        raise invalid(
            "E1005", label, f"must be 1 to 63 letters, digits and hyphens, no hyphen at either end, got {shown(value)}"
        )
    return value
