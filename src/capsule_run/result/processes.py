"""The processes of a run, and its threads before a timeout, from the record.

A process is seen when it executes a program and when it ends by itself: the filter makes both wait for the launcher, so
nothing is too short to be seen. From its first program on a process is followed to its end, whatever ends it. What cannot
be seen is in docs/decisions/ledger.md: a process that was forked, executed nothing and was killed.
"""

from __future__ import annotations

from capsule_run._base.printable import name
from capsule_run.model.report_details import ProcessSeen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run.model.report import FinishedRun, Record
    from capsule_run.model.report_details import ProcessEnded, ThreadSeen


MAX_WORDS = 64
LONGEST = 768  # bytes of a text in the record; a longer command line is cut
INIT = 1
_EXECUTES, _ENDS = 0, 1  # the moments at which a process waits for the launcher; 2 is some time after a program began
_OF_THE_PROGRAM = ("command", "argv")
_OF_THE_END = ("ended_ms", "exit_code", "signal", "user_ms", "system_ms", "max_memory_bytes")


def _seen(event: ProcessSeen) -> dict[str, object]:
    """What one event says of a process."""
    line = event.command_line
    argv = line.split("\0")[:-1] if line.endswith("\0") else line.split("\0")
    found: dict[str, object] = {
        "outside": event.outside,
        "pid": event.inside,
        "parent_outside": event.parent_outside,
        "command": event.name,
        "argv": argv[:MAX_WORDS],
        "argv_truncated": len(argv) > MAX_WORDS or len(line.encode("utf-8", "surrogateescape")) >= LONGEST,
        "ticks": event.started_ticks,
        "now": event.moment != _EXECUTES,  # not what it was before it executed another program
    }
    if event.moment == _ENDS:
        found.update(_times(event))
        if event.peak_kib:
            found["max_memory_bytes"] = event.peak_kib << 10
    return found


def _times(event: ProcessSeen | ProcessEnded) -> dict[str, object]:
    return {"user_ms": float(event.user_ticks * TICK_MS), "system_ms": float(event.system_ticks * TICK_MS)}


def _end(event: ProcessEnded) -> dict[str, object]:
    """What is known of the end of a process that the launcher did not stop before it."""
    found: dict[str, object] = {"command": event.name, **_times(event)} if event.is_zombie else {}
    if event.is_known:
        signal = event.wait_status & 0x7F
        found.update({"signal": signal} if signal else {"exit_code": event.wait_status >> 8 & 0xFF})
    return found


def ledger(finished: FinishedRun) -> tuple[dict[str, object], ...]:
    """Every process that was seen, in the order of their starts; fields that are not known are absent."""
    seen: dict[tuple[int, int], dict[str, object]] = {}  # by pid inside and start time, since pids are reused
    living: dict[int, dict[str, object]] = {}  # by pid outside
    for event in finished.record.process_events:
        at_ms = round(max(event.at_ns - finished.report.times["started"], 0) / 1e6, 3)
        if isinstance(event, ProcessSeen):
            found, key = _seen(event), (event.inside, event.started_ticks)
            found["first_ms"] = seen.get(key, {}).get("first_ms", at_ms)
            if event.moment == _ENDS:
                found.update(ended_ms=at_ms, exit_code=event.code & 0xFF)
            seen[key] = living[event.outside] = found
        elif event.outside in living:
            living.pop(event.outside).update(ended_ms=at_ms, **_end(event))
    entries = sorted(seen.values(), key=lambda entry: (_number(entry["ticks"]), _number(entry["pid"])))
    return tuple(_entry(entry, entries, finished) for entry in entries)


def _number(field: object) -> float:
    assert isinstance(field, int | float)
    return field


def _entry(found: dict[str, object], entries: list[dict[str, object]], finished: FinishedRun) -> dict[str, object]:
    parents = [other["pid"] for other in entries if other["outside"] == found["parent_outside"]]
    first = found is entries[0]
    by_ticks = (_number(found["ticks"]) - _number(entries[0]["ticks"])) * TICK_MS
    entry: dict[str, object] = {
        "pid": found["pid"],
        "parent": INIT if first or not parents else parents[0],
        "started_ms": 0.0 if first else min(float(by_ticks), _number(found["first_ms"])),
    }
    if found["now"]:
        entry.update((name, found[name]) for name in _OF_THE_PROGRAM)
        if found["argv_truncated"]:
            entry["argv_truncated"] = True
    elif first:
        entry["argv"] = list(finished.policy.command[:MAX_WORDS])
    else:  # it was last seen before it executed a program
        entry["argv_before"] = found["argv"]
    entry.update((name, found[name]) for name in _OF_THE_END if name in found)
    if first and finished.report.signalled is not None:
        entry["signal"] = finished.report.signalled
    return entry


TICK_MS = 10  # of processor time in procfs: USER_HZ is 100 on every architecture of ours
_STATES = {
    "R": "running", "S": "sleeping", "D": "disk", "T": "stopped", "t": "traced", "Z": "zombie", "X": "dead", "I": "idle",
}  # fmt: skip
# Calls whose first argument is a descriptor, which is then reported too.
_ON_A_DESCRIPTOR = {
    "read", "write", "pread64", "pwrite64", "readv", "writev", "recvfrom", "recvmsg", "sendto", "sendmsg", "accept", "accept4",
    "connect", "flock", "fcntl", "fsync", "fdatasync", "epoll_wait", "epoll_pwait", "ioctl",
}  # fmt: skip


def _call(text: str, architecture: str) -> dict[str, object]:
    """The name of the call in `0 0x3 0x7f… …`. There is none in `running`, and none with a number in `-1`."""
    words = text.split()
    if not words or not words[0].isdigit():
        return {}
    if architecture == "x86_64":
        from capsule_run.seccomp.tables.syscalls_x86_64 import NUMBERS  # noqa: PLC0415  # one of two
    else:
        from capsule_run.seccomp.tables.syscalls_aarch64 import NUMBERS  # noqa: PLC0415  # one of two
    number = int(words[0])
    name = next((name for name, known in NUMBERS.items() if known == number), str(number))
    if name in _ON_A_DESCRIPTOR and len(words) > 1:
        return {"syscall": name, "descriptor": int(words[1], 16) & 0xFFFFFFFF}
    return {"syscall": name}


def stat_fields(stat: str) -> tuple[str, list[str]]:
    """Split `/proc/PID/stat` into the name, which may hold anything, and the fields after it, from proc(5)'s third on."""
    name, _bracket, rest = stat.partition("(")[2].rpartition(")")
    return name, rest.split()


def _thread(thread: ThreadSeen, architecture: str) -> dict[str, object]:
    command, fields = stat_fields(thread.stat)
    seen: dict[str, object] = {"pid": thread.pid, "tid": thread.tid, "command": command}
    seen["state"] = _STATES.get(fields[0], fields[0])
    seen.update(_call(thread.syscall, architecture))
    if thread.wchan not in ("", "0"):
        seen["waits_in"] = thread.wchan
    seen["cpu_ms"] = float((int(fields[11]) + int(fields[12])) * TICK_MS)
    return seen


def postmortem(record: Record, architecture: str) -> dict[str, object]:
    """The threads that were seen, most CPU time first, and whether they are all."""
    threads = [_thread(thread, architecture) for thread in record.threads]
    threads.sort(key=lambda thread: -float(str(thread["cpu_ms"])))
    return {"threads": threads, "complete": record.threads_complete}


def in_words(found: Mapping[str, object]) -> list[str]:
    """Describe the first three threads, a line each."""
    lines = []
    threads = found["threads"]
    assert isinstance(threads, list)
    for thread in threads[:3]:
        doing = f"{thread['state']} in {thread['syscall']}" if "syscall" in thread else thread["state"]
        at = f" of descriptor {thread['descriptor']}" if "descriptor" in thread else ""
        process = f"{name(str(thread['command']))} (process {thread['pid']})"
        lines.append(f"{process} was {doing}{at}, after {thread['cpu_ms']:.0f} ms of CPU time")
    return lines
