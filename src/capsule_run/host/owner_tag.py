"""Names that carry their owner's pid namespace, pid and start time, so that leftovers of dead owners are recognised."""

from __future__ import annotations

import posix

from capsule_run.host.system import read_whole

PREFIX = "capsule-"


def _start_time(pid: str) -> str:
    return next(iter(read_whole(f"/proc/{pid}/stat").rpartition(")")[2].split()[19:20]), "")


def _namespace() -> str:
    return "".join(c for c in posix.readlink("/proc/self/ns/pid") if c.isdigit())


_owner: dict[int, str] = {}


def own_name() -> str:
    """Return a new name with this process's pid namespace, pid and start time, and a random part."""
    pid = posix.getpid()
    if pid not in _owner:
        _owner.clear()
        _owner[pid] = f"{PREFIX}{_namespace()}-{pid}-{_start_time(str(pid))}"
    return f"{_owner[pid]}-{posix.urandom(4).hex()}"


def has_dead_owner(name: str) -> bool:
    """Return whether a name is from `own_name` of a process that is gone. False for other pid namespaces: unknown."""
    parts = name.removeprefix(PREFIX).split("-") if name.startswith(PREFIX) else []
    return len(parts) == 4 and parts[0] == _namespace() and parts[1].isdigit() and _start_time(parts[1]) != parts[2]
