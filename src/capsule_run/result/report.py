"""Parse the launcher's report and record, strictly: anything that is not as docs/plan-format.md has it is E6001.

Not needed before the command runs.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value, replace
from capsule_run.model import report_details
from capsule_run.model.report import (
    CallerFacts,
    DiskUse,
    PayloadFacts,
    Record,
    RecordSize,
    Report,
    RoomIdMaps,
    SampledCpu,
    SetupTime,
    StreamCount,
    TaskPeak,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    Row = Value | int | bool | str | dict[str, str]  # what a line of the record becomes

TIMES = ("received", "cloned", "mapped", "room_sent", "ready", "started", "ended", "reported")
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


def _only(numbers: dict[str, tuple[int, ...]], name: str) -> int | None:
    """The one number of a line, or None if the line is not there."""
    if name not in numbers:
        return None
    (number,) = numbers[name]
    return number


def _stream_count(numbers: tuple[int, ...]) -> StreamCount:
    kept, total, over = numbers
    return StreamCount(kept=kept, total=total, over=bool(over))


def parse_report(message: bytes) -> Report:
    """Parse a report. Raises CapsuleError E6001 for anything that is not one."""
    try:
        lines = message.decode("ascii").split("\n")
        rows = {name: rest for name, _space, rest in (line.partition(" ") for line in lines if line)}
        numbers = {
            name: tuple(map(int, rest.split())) for name, rest in rows.items() if name not in ("killed", "rejected")
        }
        if len(rows) != len(lines) - 1 or lines[-2:] != ["end", ""]:
            raise _broken(message)
        rejected = failed = None
        for half in ("room", "payload"):
            if f"rejected-{half}" in numbers:
                (step,) = numbers[f"rejected-{half}"]
                rejected = report_details.RejectedPlan(half=half, step=step, reason=rows["rejected"])
            if f"failed-{half}" in numbers:
                step, errno = numbers[f"failed-{half}"]
                failed = report_details.FailedStep(half=half, step=step, errno=errno)
        written, lost = numbers.get("record", (0, 0))
        return Report(
            times=dict(zip(TIMES, numbers["times"], strict=True)),
            usage=dict(zip(_USAGE, numbers["usage"], strict=True)) if "usage" in numbers else {},
            killed=rows.get("killed", ""),
            rejected=rejected,
            failed=failed,
            lifted=_only(numbers, "lifted"),
            started="started" in numbers,
            landlock_abi=_only(numbers, "started") or 0,
            exited=_only(numbers, "exited"),
            signalled=_only(numbers, "signalled"),
            stdout=_stream_count(numbers["stdout"]),
            stderr=_stream_count(numbers["stderr"]),
            memory_peak_kib=_only(numbers, "memory") or 0,
            record=RecordSize(bytes=written, lost_lines=lost),
            stream_errors=tuple(
                [
                    report_details.StreamError(stream=stream, errno=numbers[row][0])
                    for row, stream in _STREAM_ERRORS.items()
                    if row in numbers
                ]
            ),
            copied="copied" in numbers,
        )
    except (KeyError, ValueError, IndexError):
        raise _broken(message) from None


# The lines of a record, which core/ writes and docs/plan-format.md explains: the field of `Record`, what the line becomes, and
# whether it may come more than once. A value has the line's columns as its fields. `bool` is a line that has nothing but its
# name, `int` one number, `str` one text, and `dict` two texts: a name and what it stands for. A class by its name is one of
# `report_details`, which is imported only if such a line is there.
RECORD_LINES: dict[str, tuple[str, type[Row] | str, bool]] = {
    "attest": ("attest", PayloadFacts, False),
    "attest-caller": ("attest_caller", CallerFacts, False),
    "attest-room": ("attest_room", RoomIdMaps, False),
    "setup": ("setup", SetupTime, False),
    "tasks": ("tasks", TaskPeak, False),
    "disk": ("disk", DiskUse, False),
    "plain-sum": ("plain_sum_kib", int, False),
    "stderr-tail": ("stderr_tail", str, True),
    "net-counters": ("net_counters", str, False),
    "cpu-seen": ("sampled_cpu", SampledCpu, False),
    "spent": ("spent_us", int, True),
    "cgroup": ("cgroup_files", dict, True),
    "listening": ("listening", bool, False),
    "denied": ("denied", "DeniedCall", True),
    "denied-count": ("denied_counts", "DeniedCount", True),
    "denied-others": ("denied_others", int, False),
    "process": ("process_events", "ProcessSeen", True),
    "process-ended": ("process_events", "ProcessEnded", True),
    "thread": ("threads", "ThreadSeen", True),
    "threads-end": ("threads_complete", bool, False),
}
_EMPTY = Record()
_columns: dict[type[Row], tuple[tuple[str, ...], int]] = {}  # cache of `columns`


def row_type(row: type[Row] | str) -> type[Row]:
    """The type of a line of `RECORD_LINES`."""
    named: type[Row] = getattr(report_details, row) if isinstance(row, str) else row
    return named


def columns(row: type[Row]) -> tuple[tuple[str, ...], int]:
    """The names of a line's columns, numbers before texts, and how many of them are numbers."""
    if not issubclass(row, Value):
        return {bool: ((), 0), int: (("number",), 1), str: (("text",), 0), dict: (("name", "content"), 0)}[row]
    kinds = row.__annotations__
    return tuple(kinds), list(kinds.values()).count("int")


def parse_record(written: bytes) -> Record:
    """Parse a record. Raises CapsuleError E6001 for a line that is not as `RECORD_LINES` has it."""
    *lines, rest = written.decode("ascii", "replace").split("\n")
    if rest:
        raise _broken(written)
    once: dict[str, object] = {}
    often: dict[str, list[object]] = {}
    files: dict[str, str] = {}
    for line in lines:
        name, *words = line.split(" ")
        try:
            field, row, may_repeat = RECORD_LINES[name]
            value = _row(row_type(row), words)
        except (KeyError, ValueError):
            raise _broken(line) from None
        if isinstance(value, dict):
            files |= value
        elif may_repeat:
            often.setdefault(field, []).append(value)
        elif field in once:
            raise _broken(line)
        else:
            once[field] = value
    fields: dict[str, object] = {name: tuple(values) for name, values in often.items()}
    return replace(_EMPTY, cgroup_files=files, **once, **fields)


def _row(row: type[Row], words: list[str]) -> Row:
    """What a line becomes. Raises ValueError if its columns are not those of `row`."""
    if row not in _columns:
        _columns[row] = columns(row)
    names, count = _columns[row]
    numbers, texts = words[:count], words[count:]
    if len(words) != len(names) or (numbers and not "".join(numbers).isdigit()):
        raise ValueError(words)
    if issubclass(row, Value):
        return row(**dict(zip(names, [*map(int, numbers), *map(record_text, texts)], strict=True)))
    if row is dict:
        return {record_text(texts[0]): record_text(texts[1])}
    if row is str:
        return record_text(texts[0])
    return int(numbers[0]) if row is int else True


def record_text(word: str) -> str:
    """Decode a text of the record. Bytes that are not UTF-8 become surrogates, as in file names."""
    if "%" not in word:
        return word
    if word == "%":
        return ""
    plain = word.replace("%20", " ").replace("%0a", "\n")  # all that cgroup files need, which every run has
    if "%" not in plain:
        return plain
    first, *parts = plain.split("%")
    if any(len(part) < 2 for part in parts):
        raise _broken(word)
    try:
        raw = first.encode("ascii") + b"".join(bytes.fromhex(part[:2]) + part[2:].encode("ascii") for part in parts)
    except ValueError:
        raise _broken(word) from None
    return raw.decode("utf-8", "surrogateescape")
