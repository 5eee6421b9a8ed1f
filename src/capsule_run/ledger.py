"""The processes of a run, each with what the kernel knew of it, from the lines that the launcher wrote down.

Rank 2, beside `core`, whose record it reads. A process is seen when it executes a program and when it ends by itself: the
filter makes both wait for the launcher, so nothing is too short to be seen. What it cannot see is in
docs/decisions/ledger.md: a process that was forked, executed nothing and was killed.
"""

from __future__ import annotations

from .postmortem import TICK_MS, stat_fields
from .report import record_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .report import Ended

MOST_WORDS = 64
LONGEST = 768  # bytes of a text in the record: of a longer command line the rest is missing
INIT = 1
_AT_THE_END = ("command", "argv", "ended_ms", "exit_code", "user_ms", "system_ms", "max_memory_bytes")


def _row(status: str, name: str) -> list[str]:
    return next((line.split()[1:] for line in status.splitlines() if line.startswith(f"{name}:")), [])


def _ids(status: str) -> tuple[int, int]:
    """The process's number outside and inside: a thread may speak for it."""
    inside = _row(status, "NStgid") or ["0"]
    return int(inside[0]), int(inside[-1])


def _seen(words: list[str]) -> tuple[tuple[int, str], dict[str, object]]:
    """One line: which process (its number inside and when it started, since numbers come again), and what was seen."""
    stat, status, line = map(record_text, words[5:8])
    command, fields = stat_fields(stat)
    outside, inside = _ids(status)
    argv = line.split("\0")[:-1] if line.endswith("\0") else line.split("\0")
    peak = _row(status, "VmHWM")
    found: dict[str, object] = {
        "outside": outside,
        "pid": inside,
        "parent_outside": int(fields[1]),
        "command": command,
        "argv": argv[:MOST_WORDS],
        "argv_truncated": len(argv) > MOST_WORDS or len(line.encode("utf-8", "surrogateescape")) >= LONGEST,
        "ticks": int(fields[19]),
        "user_ms": float(int(fields[11]) * TICK_MS),
        "system_ms": float(int(fields[12]) * TICK_MS),
    }
    if peak:
        found["max_memory_bytes"] = int(peak[0]) << 10
    return (inside, fields[19]), found


def ledger(ended: Ended) -> tuple[dict[str, object], ...]:
    """Every process that was seen, in the order of their starts; what is not known of one is absent."""
    seen: dict[tuple[int, str], dict[str, object]] = {}
    for words in ended.record:
        if words[0] == "process" and len(words) == 8:
            key, found = _seen(words)
            at_ms = round(max(int(words[2]) - ended.report.times["started"], 0) / 1e6, 3)
            found["first_ms"] = seen.get(key, {}).get("first_ms", at_ms)
            if words[1] == "1":
                found.update(ended_ms=at_ms, exit_code=int(words[4]) & 0xFF)
            seen[key] = found
    entries = sorted(seen.values(), key=lambda entry: (_number(entry["ticks"]), _number(entry["pid"])))
    return tuple(_entry(entry, entries, ended) for entry in entries)


def _number(field: object) -> float:
    assert isinstance(field, int | float)
    return field


def _entry(found: dict[str, object], entries: list[dict[str, object]], ended: Ended) -> dict[str, object]:
    parents = [other["pid"] for other in entries if other["outside"] == found["parent_outside"]]
    first = found is entries[0]
    by_ticks = (_number(found["ticks"]) - _number(entries[0]["ticks"])) * TICK_MS
    entry: dict[str, object] = {
        "pid": found["pid"],
        "parent": INIT if first or not parents else parents[0],
        "started_ms": 0.0 if first else min(float(by_ticks), _number(found["first_ms"])),
    }
    if "ended_ms" in found:
        entry.update((name, found[name]) for name in _AT_THE_END if name in found)
        if found["argv_truncated"]:
            entry["argv_truncated"] = True
    elif first:
        entry["argv"] = list(ended.policy.command[:MOST_WORDS])
    else:  # it was seen before it became what it executed
        entry["argv_before"] = found["argv"]
    if first and ended.report.signalled is not None:
        entry["signal"] = ended.report.signalled
    return entry
