"""What every thread was doing just before a run was ended for its time, from the lines that the launcher wrote down.

Rank 2, beside `core`, whose record it reads. The launcher looks for 20 ms and at 64 threads at the most; what it could not
see in that is absent, and `complete` says so.
Names and states are the kernel's, `command` is what the thread calls itself.
"""

from __future__ import annotations

from .printable import name
from .report import record_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

TICK_MS = 10  # of processor time in procfs: USER_HZ is 100 on every architecture of ours
_STATES = {
    "R": "running", "S": "sleeping", "D": "disk", "T": "stopped", "t": "traced", "Z": "zombie", "X": "dead", "I": "idle",
}  # fmt: skip
# Those whose first argument is a descriptor: which one says more than the call alone.
_ON_A_DESCRIPTOR = {
    "read", "write", "pread64", "pwrite64", "readv", "writev", "recvfrom", "recvmsg", "sendto", "sendmsg", "accept", "accept4",
    "connect", "flock", "fcntl", "fsync", "fdatasync", "epoll_wait", "epoll_pwait", "ioctl",
}  # fmt: skip


def _call(text: str, architecture: str) -> dict[str, object]:
    """From `0 0x3 0x7f… …` to the call's name; `running` is no call, and `-1` is none that has a number."""
    words = text.split()
    if not words or not words[0].isdigit():
        return {}
    if architecture == "x86_64":
        from .data.syscalls_x86_64 import NUMBERS
    else:
        from .data.syscalls_aarch64 import NUMBERS
    number = int(words[0])
    name = next((name for name, known in NUMBERS.items() if known == number), str(number))
    if name in _ON_A_DESCRIPTOR and len(words) > 1:
        return {"syscall": name, "descriptor": int(words[1], 16) & 0xFFFFFFFF}
    return {"syscall": name}


def stat_fields(stat: str) -> tuple[str, list[str]]:
    """The name in a `/proc/PID/stat`, which may hold anything, and the fields behind it: the first is proc(5)'s third."""
    name, _bracket, rest = stat.partition("(")[2].rpartition(")")
    return name, rest.split()


def _thread(words: list[str], architecture: str) -> dict[str, object]:
    stat, call, channel = map(record_text, words[3:6])
    command, fields = stat_fields(stat)
    seen: dict[str, object] = {"pid": int(words[1]), "tid": int(words[2]), "command": command}
    seen["state"] = _STATES.get(fields[0], fields[0])
    seen.update(_call(call, architecture))
    if channel not in ("", "0"):
        seen["waits_in"] = channel
    seen["cpu_ms"] = float((int(fields[11]) + int(fields[12])) * TICK_MS)
    return seen


def postmortem(record: list[list[str]], architecture: str) -> dict[str, object]:
    """The threads that were seen, those that had computed most first, and whether they are all."""
    threads = [_thread(words, architecture) for words in record if words[0] == "thread"]
    threads.sort(key=lambda thread: -float(str(thread["cpu_ms"])))
    return {"threads": threads, "complete": any(words[0] == "threads-told" for words in record)}


def in_words(found: Mapping[str, object]) -> list[str]:
    """A line for each of the first threads, for people."""
    lines = []
    threads = found["threads"]
    assert isinstance(threads, list)
    for thread in threads[:3]:
        doing = f"{thread['state']} in {thread['syscall']}" if "syscall" in thread else thread["state"]
        at = f" of descriptor {thread['descriptor']}" if "descriptor" in thread else ""
        who = f"{name(str(thread['command']))} (process {thread['pid']})"
        lines.append(f"{who} was {doing}{at}, after {thread['cpu_ms']:.0f} ms of computing")
    return lines
