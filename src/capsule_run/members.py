"""Who is in our own control group besides us. Rank 2: looks; `cgroup` asks before it moves us to a leaf."""

from __future__ import annotations

import posix
import time

from .machine import read


def _is_our_core(pid: str) -> bool:
    """Whether a process is a core that this one has started. Just spawned, it has no command line for an instant."""
    if read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1:2] != [str(posix.getpid())]:
        return False
    for _ in range(20):
        if line := read(f"/proc/{pid}/cmdline"):
            return line == "capsule-core\0"
        time.sleep(0.005)
    return False


def ours_alone(path: str) -> list[str]:
    """The members of the group at `path`, if they are this process and its cores; empty if there is anybody else."""
    members = read(f"{path}/cgroup.procs").split()
    mine = str(posix.getpid())
    return members if all(member == mine or _is_our_core(member) for member in members) else []
