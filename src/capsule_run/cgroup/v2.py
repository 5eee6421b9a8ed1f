"""Control groups of version 2: the nearest group whose children can have limits, and what it takes to give them some.

Rank 2. Part of `cgroup`, which imports it where that version offers the controllers that are needed.
"""

from __future__ import annotations

import posix
import time

from capsule_run.host.path_resolution import exists
from capsule_run.host.system import kernel, read
from capsule_run.model.host import Place
from capsule_run.policy.limits import CPU, IO, MEMORY, NEEDED, PROCESSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


HOSTS_NAMESPACE = "cgroup:[4026531835]"  # PROC_CGROUP_INIT_INO of linux/proc_ns.h


def nearest(path: str, top: str, own_name: Callable[[], str]) -> Place | None:
    """The nearest group, from our own upwards, whose children can have limits and which we may enter from here.

    `own_name` names the leaf that we move to where our own group can have no children with limits else.
    """
    mine, here = posix.geteuid(), path
    while _writable(here) and _writable(f"{here}/cgroup.procs"):
        ours = _is_top(here) or (posix.stat(here).st_uid == mine if mine else here == top and _is_private())
        if place := _place2(here, enable=ours):
            return place
        if here == path and _is_delegated(path) and (place := _empty_own(path, own_name())):
            return place
        if here == top or _is_limited(here):
            break
        here = here.rpartition("/")[0]
    return _empty_own(path, own_name()) if _writable(path) and _writable(f"{path}/cgroup.procs") else None


def _writable(path: str) -> bool:
    return posix.access(path, posix.W_OK, effective_ids=True)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _is_top(path: str) -> bool:
    """Whether this is the hierarchy's real root: there processes and controllers of children may be side by side."""
    return not exists(f"{path}/cgroup.type")


def _given(path: str) -> list[str]:
    """The controllers that children of this group have."""
    return read(f"{path}/cgroup.subtree_control").split()


def _enable(path: str) -> list[str]:
    """Give children of this group what can be given; a group with processes in it refuses (EBUSY)."""
    offered = read(f"{path}/cgroup.controllers").split()
    for name in (MEMORY, PROCESSES, CPU, IO):
        if name in offered and name not in _given(path):
            try:
                _write(f"{path}/cgroup.subtree_control", f"+{name}")
            except OSError:
                if name in NEEDED:
                    break
    return _given(path)


def _place2(path: str, *, enable: bool) -> Place | None:
    given = _given(path)
    if enable and not {MEMORY, PROCESSES, CPU, IO} <= set(given):
        given = _enable(path)
    if not set(NEEDED) <= set(given):
        return None
    controllers = tuple(one for one in (MEMORY, PROCESSES, CPU, IO) if one in given)
    return Place(version=2, path=path, controllers=controllers, has_peak=_has_peak(path))


def _has_peak(path: str) -> bool:
    """Whether the groups made here will have `memory.peak` (5.19). The real root has none itself: there the release says."""
    if not _is_top(path):
        return exists(f"{path}/memory.peak")
    return kernel() >= (5, 19)


def _is_limited(path: str) -> bool:
    """Whether a neighbour of this group would escape a limit that somebody set on it."""
    return any(read(f"{path}/{file}").split()[:1] not in ([], ["max"]) for file in ("memory.max", "cpu.max"))


def _is_delegated(path: str) -> bool:
    """systemd's mark of a group that it leaves to whoever runs in it (`Delegate=yes`)."""
    for name in ("user.delegate", "trusted.delegate"):
        try:
            return posix.getxattr(path, name) == b"1"
        except OSError:
            continue
    return False


def _empty_own(path: str, name: str) -> Place | None:
    """Move ourselves to a leaf of our own group: with processes in it, it can give its children no controllers.

    Only where nobody else is in it. The leaf stays while we live, and is swept when we are gone.
    """
    members = ours_alone(path)
    if not members:
        return None
    leaf = f"{path}/{name}"
    posix.mkdir(leaf, 0o755)
    for member in members:
        _write(f"{leaf}/cgroup.procs", member)
    found = _place2(path, enable=True)
    if found is None:
        for member in read(f"{leaf}/cgroup.procs").split():
            _write(f"{path}/cgroup.procs", member)
        posix.rmdir(leaf)
    return found


def _is_private() -> bool:
    """Whether we are in a cgroup namespace of our own, as in a container: its root is then the container's, not the host's."""
    return posix.readlink("/proc/self/ns/cgroup") != HOSTS_NAMESPACE


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
