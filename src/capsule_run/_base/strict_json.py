r"""Strict JSON without importing `json`, which costs 7 ms of start (most of it `re`).

Pure. Uses the C accelerator `_json` directly. That API is private: if it is missing or has changed, and to describe
malformed input, `json` itself is imported.

Stricter than `json`: duplicate keys, NaN, infinities, numbers that overflow to infinity, and text after the value are
invalid. Like `json`, it accepts a lone surrogate escape (`"\ud800"`), which `request.validators` checks; `dumps` writes only
ASCII, so that it never makes invalid UTF-8.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]
    Scan = Callable[[str, int], tuple[JSON, int]]

_WHITESPACE = " \t\n\r"
_INFINITY = float("inf")


class _InvalidError(ValueError):
    """Raised for valid JSON that is invalid here. Never leaves this module."""


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _InvalidError
    return found


def _constant(_word: str) -> JSON:
    raise _InvalidError


def _float(digits: str) -> float:
    number = float(digits)
    if number in (_INFINITY, -_INFINITY):
        raise _InvalidError
    return number


class _Settings:
    """Settings that the scanner reads as attributes."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_object)
    parse_float = staticmethod(_float)
    parse_int = int
    parse_constant = staticmethod(_constant)


def _slow_scan(text: str, start: int) -> tuple[JSON, int]:
    import json

    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
    found: tuple[JSON, int] = decoder.raw_decode(text, start)
    return found


def _slow_dumps(value: object) -> str:
    import json

    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _slow_quote(text: str) -> str:
    import json

    return json.dumps(text)


def _not_json(value: object) -> object:
    raise TypeError(f"a value of type `{type(value).__name__}` has no form in JSON")


def _fast_dumps(value: object) -> str:
    # The encoder remembers open containers to find circles, so each call makes a new one.
    sort_keys = skip_keys = allow_nan = False
    encode = _make_encoder({}, _not_json, _quote, None, ":", ",", sort_keys, skip_keys, allow_nan)
    parts: Sequence[str] = encode(value, 0)
    return "".join(parts)


_scan: Scan = _slow_scan
_quote: Callable[[str], str] = _slow_quote
_dumps: Callable[[object], str] = _slow_dumps
try:
    from _json import encode_basestring_ascii as _c_quote
    from _json import make_encoder as _make_encoder
    from _json import make_scanner as _make_scanner

    _scan = _make_scanner(_Settings)  # type: ignore[arg-type]  # typeshed wants the decoder's own class
    _quote = _c_quote
    if _fast_dumps({"": [0.5, None]}) == '{"":[0.5,null]}':
        _dumps = _fast_dumps
except (ImportError, AttributeError, TypeError):
    pass  # the slow functions above do the same, and a test runs them


def loads(text: str) -> JSON:
    """Parse a JSON text. Raises CapsuleError E1001, with line and column, if it is not strict JSON."""
    start = len(text) - len(text.lstrip(_WHITESPACE)) if text[:1] in _WHITESPACE else 0
    try:
        found, end = _scan(text, start)
        if end == len(text) or not text[end:].strip(_WHITESPACE):
            return found
    except (ValueError, StopIteration, SystemError, RecursionError):
        # SystemError: the accelerator of 3.11 looks for its exception in `json.decoder`, which is not imported.
        pass
    return _slow_loads(text)


def _slow_loads(text: str) -> JSON:
    """Parse with `json`, which describes the error: only for a text that the accelerator rejected."""
    import json

    try:
        found: JSON = json.loads(text, object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
    except RecursionError:
        raise CapsuleError("E1001", "malformed JSON: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _malformed(text, error.pos, error.msg[:1].lower() + error.msg[1:]) from None
    except ValueError:
        raise _malformed(text, *_first_invalid(text)) from None
    return found


def _malformed(text: str, position: int, why: str) -> CapsuleError:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return CapsuleError(
        "E1001", f"malformed JSON at line {line} column {column}: {why}", details={"line": line, "column": column}
    )


def _first_invalid(text: str) -> tuple[int, str]:
    """Return position and reason of the first value that `json` accepts and we reject."""
    import json
    import re

    open_objects: list[set[str]] = []
    for token in re.finditer(r'("(?:[^"\\]|\\.)*")(\s*:)?|[{}]|-?[A-Za-z0-9][A-Za-z0-9.+-]*', text):
        word, string, colon = token.group(0, 1, 2)
        if word == "{":
            open_objects.append(set())
        elif word == "}":
            open_objects.pop()
        elif colon:
            key: str = json.loads(string)
            if key in open_objects[-1]:
                return token.start(), f"duplicate key {_quote(key)}"
            open_objects[-1].add(key)
        elif word in ("NaN", "Infinity", "-Infinity"):
            return token.start(), f"`{word}` is not JSON"
        elif not string and word not in ("true", "false", "null") and not _fits(word):
            return token.start(), "number too large"
    raise AssertionError("`json` refused a text in which nothing is wrong")


def _fits(number: str) -> bool:
    try:
        int(number) if number.lstrip("-").isdigit() else _float(number)
    except ValueError:
        return False
    return True


def quoted(text: str) -> str:
    """Return a string as a JSON literal, in ASCII."""
    return _quote(text)


def dumps(value: object, *, indent: int | None) -> str:
    """Return JSON in ASCII: on one line without spaces, or with `indent` spaces a level as `json.dumps` writes it.

    Raises ValueError for NaN, an infinity or a circle, TypeError for a type that JSON does not have.
    """
    compact = _dumps(value)
    return compact if indent is None else "".join(_pretty(value, indent=" " * indent, margin="\n"))


def _pretty(value: object, *, indent: str, margin: str) -> Iterator[str]:
    """Yield the parts of the indented text. `_dumps` has accepted the value, so it has no circles and no unknown types."""
    inner = margin + indent
    if isinstance(value, dict) and value:
        yield from _lines("{}", value, inner, margin, indent)
    elif isinstance(value, (list, tuple)) and value:
        yield from _lines("[]", value, inner, margin, indent)
    else:
        yield _dumps(value)


def _lines(
    brackets: str, members: Mapping[object, object] | Sequence[object], inner: str, margin: str, indent: str
) -> Iterator[str]:
    opening = brackets[0] + inner
    for member in members:
        yield opening
        opening = "," + inner
        if isinstance(members, dict):
            yield _dumps(member) if isinstance(member, str) else f'"{_dumps(member)}"'
            yield ": "
            yield from _pretty(members[member], indent=indent, margin=inner)
        else:
            yield from _pretty(member, indent=indent, margin=inner)
    yield margin + brackets[1]
