"""Parse and format durations: `500ms`, `5s`, `1.5m`. Pure. Everything inside counts in milliseconds."""

from __future__ import annotations

from capsule_run._base import strict_json
from capsule_run._base.errors import CapsuleError

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000}
_MAX_LETTERS = 20  # longer than any duration that is accepted; keeps the arithmetic small


def parse_duration(text: str, *, label: str, bare: bool = True) -> int:
    """Return the milliseconds of a written duration, rounded up. Raises CapsuleError E1005.

    :param label: names its place in messages.
    :param bare: accept a whole number without a unit, which is milliseconds.
    """
    number = text.removeprefix("-").rstrip("smhin")
    unit = text.removeprefix("-")[len(number) :]
    whole, point, fraction = number.partition(".")
    scale = UNITS.get(unit)
    if not unit and bare and not point:
        scale = 1
    if scale is None or len(text) > _MAX_LETTERS or not _is_digits(whole) or (point and not _is_digits(fraction)):
        raise _malformed(text, label, bare=bare)
    parts: int = 10 ** len(fraction)
    milliseconds = -(-int(whole + fraction) * scale // parts)
    return -milliseconds if text.startswith("-") else milliseconds


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _malformed(text: str, label: str, *, bare: bool) -> CapsuleError:
    shown = strict_json.quoted(text if len(text) <= _MAX_LETTERS else text[:_MAX_LETTERS] + "…")
    number = "a whole number of milliseconds or " if bare else ""
    return CapsuleError(
        "E1005",
        f"{label}: must be {number}a duration such as `500ms`, `5s` or `2m`, got {shown}",
        details={"field": label},
        hint="a number without a unit is milliseconds" if bare else "a number that is not a string is milliseconds",
    )


def format_duration(milliseconds: int) -> str:
    """Return a duration for people, exactly: "500 ms", "5 s", "1.5 s", "2 min"."""
    if milliseconds >= 60_000 and milliseconds % 60_000 == 0:
        return f"{milliseconds // 60_000} min"
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + " s"
