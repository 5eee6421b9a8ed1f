"""What the core says at the end of a run, read strictly: its report and its record.

Rank 1: pure. What the core says is fact, but its grammar is checked: anything else is E6001. Nothing here is needed before the
command runs.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run.model.report import Report

_TIMES = ("received", "cloned", "mapped", "furnished", "ready", "started", "ended", "reported")
_USAGE = (
    "user_us",
    "system_us",
    "max_rss_kib",
    "minor_faults",
    "major_faults",
    "in_blocks",
    "out_blocks",
    "voluntary_switches",
    "involuntary_switches",
)


_STREAM_ERRORS = {"stdout-error": "stdout", "stderr-error": "stderr", "stdin-error": "stdin"}


def _broken(text: object) -> CapsuleError:
    return CapsuleError("E6001", f"the core's report is not understood: {text!r:.200}")


def parse_report(message: bytes) -> Report:
    """Read a report strictly. Raises CapsuleError E6001 for anything that is not one."""
    try:
        lines = message.decode("ascii").split("\n")
        rows = {name: rest for name, _space, rest in (line.partition(" ") for line in lines if line)}
        numbers = {
            name: tuple(map(int, rest.split())) for name, rest in rows.items() if name not in ("killed", "refused")
        }
        if len(rows) != len(lines) - 1 or lines[-2:] != ["end", ""]:
            raise _broken(message)
        (kept, total, over), (kept2, total2, over2) = numbers["stdout"], numbers["stderr"]
        refused = failed = None
        for half in ("room", "payload"):
            if f"refused-{half}" in numbers:
                refused = (half, numbers[f"refused-{half}"][0], rows["refused"])
            if f"failed-{half}" in numbers:
                step, errno = numbers[f"failed-{half}"]
                failed = (half, step, errno)
        return Report(
            times=dict(zip(_TIMES, numbers["times"], strict=True)),
            usage=dict(zip(_USAGE, numbers["usage"], strict=True)) if "usage" in numbers else {},
            killed=rows.get("killed", ""),
            refused=refused,
            failed=failed,
            lifted=numbers["lifted"][0] if "lifted" in numbers else None,
            started="started" in numbers,
            landlock_abi=numbers["started"][0] if "started" in numbers else 0,
            exited=numbers["exited"][0] if "exited" in numbers else None,
            signalled=numbers["signalled"][0] if "signalled" in numbers else None,
            stdout=(kept, total, bool(over)),
            stderr=(kept2, total2, bool(over2)),
            memory_peak=numbers["memory"][0] if "memory" in numbers else 0,
            record=(numbers["record"][0], numbers["record"][1]) if "record" in numbers else (0, 0),
            stream_errors=tuple([(name, numbers[row][0]) for row, name in _STREAM_ERRORS.items() if row in numbers]),
        )
    except (KeyError, ValueError, UnicodeDecodeError, IndexError):
        raise _broken(message) from None


def parse_record(written: bytes) -> list[list[str]]:
    """The lines of a record, each its words: a name, numbers, texts. Raises CapsuleError E6001 for what is not one."""
    try:
        lines = written.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise _broken(written) from None
    if lines.pop() != "":
        raise _broken(written)
    return [line.split(" ") for line in lines]


def record_text(word: str) -> str:
    """A text of the record as the bytes it stands for; what is not UTF-8 among them is kept as in file names."""
    if "%" not in word:
        return word
    if word == "%":
        return ""
    first, *parts = word.split("%")
    try:
        raw = first.encode("ascii") + b"".join(bytes.fromhex(part[:2]) + part[2:].encode("ascii") for part in parts)
    except ValueError:
        raise _broken(word) from None
    return raw.decode("utf-8", "surrogateescape")
