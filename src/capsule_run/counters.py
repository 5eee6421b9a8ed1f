"""The kernel's counters of a run's control groups, read from the record: one name for each, whatever the version's file.

Rank 1: pure. A counter that this host does not have is None, and nothing is put in its place.
A line of the record is `cgroup FILE TEXT`; version 1 and version 2 name other files for the same thing.
"""

from __future__ import annotations

from ._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PRESSURE = ("cpu", "memory", "io")


class Counters(Value):
    """What the groups counted. Everything includes our process 1, which is a member."""

    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    refused_forks: int | None = None
    most_tasks: int | None = None
    cpu_us: int | None = None
    throttled_us: int | None = None
    throttled_periods: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    read_operations: int | None = None
    write_operations: int | None = None
    pressure: Mapping[str, Mapping[str, float]] | None = None


NONE = Counters()


def _plain(word: str) -> str:
    """A text of the record, where it is a file of counters: nothing else than blanks and ends of lines is escaped in it."""
    return word.replace("%20", " ").replace("%0a", "\n")


def _table(text: str | None) -> dict[str, int]:
    """Lines of a name and a number."""
    rows = [line.split() for line in (text or "").splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None


def _io(files: Mapping[str, str]) -> dict[str, int | None]:
    """Sums over all devices: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`, or in version 1 `8:0 Read 1` in two files."""
    if "io.stat" in files:
        words = [word.partition("=") for line in files["io.stat"].splitlines() for word in line.split()[1:]]
        names = {"read_bytes": "rbytes", "write_bytes": "wbytes", "read_operations": "rios", "write_operations": "wios"}
        return {ours: sum(int(n) for name, _eq, n in words if name == theirs) for ours, theirs in names.items()}
    sums: dict[str, int | None] = {}
    for file, unit in (("blkio.throttle.io_service_bytes", "bytes"), ("blkio.throttle.io_serviced", "operations")):
        rows = [line.split() for line in files.get(file, "").splitlines()] if file in files else None
        for kind in ("Read", "Write"):
            total = None if rows is None else sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == kind)
            sums[f"{kind.lower()}_{unit}"] = total
    return sums


def _pressure(files: Mapping[str, str]) -> dict[str, dict[str, float]] | None:
    """Milliseconds in which some, or all, of the members waited for a resource."""
    found = {}
    for name in PRESSURE:
        rows = [line.split() for line in files.get(f"{name}.pressure", "").splitlines()]
        totals = {
            f"{row[0]}_ms": int(row[-1].removeprefix("total=")) / 1000 for row in rows if row[-1].startswith("total=")
        }
        if totals:
            found[name] = totals
    return found or None


def counters(record: list[list[str]]) -> Counters:
    """What the run's groups counted; `NONE` for a run that stood in no group."""
    files = {words[1]: _plain(words[2]) for words in record if words[0] == "cgroup" and len(words) == 3}
    if not files:
        return NONE
    cpu = _table(files.get("cpu.stat"))
    spent_ns = _number(files.get("cpuacct.usage"))
    throttled_ns = cpu.get("throttled_time")
    peak = files.get("memory.peak", files.get("memory.max_usage_in_bytes"))
    return Counters(
        memory_peak_bytes=_number(peak),
        oom_kills=_table(files.get("memory.events", files.get("memory.oom_control"))).get("oom_kill"),
        refused_forks=_table(files.get("pids.events")).get("max"),
        most_tasks=_number(files.get("pids.peak")),
        cpu_us=cpu.get("usage_usec", spent_ns // 1000 if spent_ns is not None else None),
        throttled_us=cpu.get("throttled_usec", throttled_ns // 1000 if throttled_ns is not None else None),
        throttled_periods=cpu.get("nr_throttled"),
        pressure=_pressure(files),
        **_io(files),
    )
