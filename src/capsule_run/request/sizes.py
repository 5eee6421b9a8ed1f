"""Parse and format sizes: `256M`, "256 MiB". Pure.

Units are powers of 1024, in any case: `K`, `KB` and `KiB` are the same unit. A fraction is rounded down to a whole byte
(`1.5G`).
"""

from __future__ import annotations

from capsule_run._base import strict_json
from capsule_run._base.errors import CapsuleError

MAX_BYTES = (1 << 63) - 1
_SHIFTS = {letter + ending: 10 * power for power, letter in enumerate("kmgt", 1) for ending in ("", "b", "ib")}
_SHIFTS.update({"": 0, "b": 0})
_MAX_LETTERS = 32  # longer than any size that fits; keeps the arithmetic small


def parse_size(text: str, *, label: str = "size") -> int:
    """Return the bytes of a written size. `label` names its place in messages. Raises CapsuleError E1004, E1005."""
    number = text.rstrip("BKMGTibkmgt")
    shift = _SHIFTS.get(text[len(number) :].lower())
    negative = number.startswith("-")
    whole, point, fraction = number.removeprefix("-").partition(".")
    if shift is None or not _is_digits(whole) or (point and not _is_digits(fraction)):
        shown = strict_json.quoted(text if len(text) <= _MAX_LETTERS else text[:_MAX_LETTERS] + "…")
        raise CapsuleError(
            "E1005",
            f"{label}: must be a size such as `256M` or `1G`, got {shown}",
            details={"field": label},
            hint="a number, then nothing for bytes or one of K, M, G, T (powers of 1024)",
        )
    if negative or len(text) > _MAX_LETTERS:
        raise _out_of_range(label)
    scale: int = 10 ** len(fraction)
    size = (int(whole + fraction) << shift) // scale
    if size > MAX_BYTES:
        raise _out_of_range(label)
    return size


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _out_of_range(label: str) -> CapsuleError:
    return CapsuleError("E1004", f"{label}: must be from 0 to 2^63-1 bytes", details={"field": label})


def format_size(size: int) -> str:
    """Return a size for people: "256 MiB", "1.5 GiB", "1000 bytes". Rounds down to a tenth: a limit never looks larger."""
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << shift:
            tenths = (size * 10) >> shift
            return f"{tenths // 10}.{tenths % 10} {unit}" if tenths % 10 else f"{tenths // 10} {unit}"
    return "1 byte" if size == 1 else f"{size} bytes"


def format_use(used: int, limit: int) -> str:
    """Return a use and its limit, with the unit once if both have the same: "3 of 256 MiB"."""
    number, _space, unit = format_size(used).partition(" ")
    whole = format_size(limit)
    return f"{number} of {whole}" if whole.endswith(f" {unit}") else f"{number} {unit} of {whole}"
