"""Names that carry their owner's pid namespace, pid and start time, so that leftovers of dead owners are recognised."""

from __future__ import annotations

import posix

from capsule_run.host.system import read_ascii

PREFIX = "capsule-"


# ---- making ----


def _start_time(pid: str) -> str:
    return next(iter(read_ascii(f"/proc/{pid}/stat").rpartition(")")[2].split()[19:20]), "")


def _namespace() -> str:
    return "".join(c for c in posix.readlink("/proc/self/ns/pid") if c.isdigit())


_owner: dict[int, str] = {}


def own_name() -> str:
    """A name that says whose it is: pid namespace, pid and start time of this process, and a random part."""
    pid = posix.getpid()
    if pid not in _owner:
        _owner.clear()
        _owner[pid] = f"{PREFIX}{_namespace()}-{pid}-{_start_time(str(pid))}"
    return f"{_owner[pid]}-{posix.urandom(4).hex()}"


def is_of_the_dead(name: str) -> bool:
    """Whether a name is one of `own_name`, and of a process that is gone. One of another pid namespace cannot be told."""
    parts = name.removeprefix(PREFIX).split("-") if name.startswith(PREFIX) else []
    return len(parts) == 4 and parts[0] == _namespace() and parts[1].isdigit() and _start_time(parts[1]) != parts[2]
