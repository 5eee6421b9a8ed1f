"""cgroups of version 2: find the nearest cgroup whose children can have limits, and enable controllers for them.

Loaded by `discover` if version 2 has the controllers needed.
"""

from __future__ import annotations

import posix
import time

from capsule_run.host.path_resolution import exists, is_writable
from capsule_run.host.system import kernel, read
from capsule_run.model.host import Place
from capsule_run.policy.limits import CPU, IO, MEMORY, NEEDED, PROCESSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


HOSTS_NAMESPACE = "cgroup:[4026531835]"  # PROC_CGROUP_INIT_INO of linux/proc_ns.h


def nearest(path: str, top: str, own_name: Callable[[], str]) -> Place | None:
    """Return the nearest cgroup, from our own upwards, whose children can have limits and which we may enter.

    :param path: our own cgroup. :param top: the root of the mount.
    :param own_name: names the leaf that we move to if our own cgroup cannot have children with limits otherwise.
    """
    mine, here = posix.geteuid(), path
    while is_writable(here) and is_writable(f"{here}/cgroup.procs"):
        may_enable = _is_top(here) or (posix.stat(here).st_uid == mine if mine else here == top and _is_private())
        if place := _place(here, enable=may_enable):
            return place
        if here == path and _is_delegated(path) and (place := _move_own_processes(path, own_name())):
            return place
        if here == top or _is_limited(here):
            break
        here = here.rpartition("/")[0]
    return _move_own_processes(path, own_name()) if is_writable(path) and is_writable(f"{path}/cgroup.procs") else None


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _is_top(path: str) -> bool:
    """Return whether this is the root of the hierarchy, which may have both processes and children with controllers."""
    return not exists(f"{path}/cgroup.type")


def _enabled_controllers(path: str) -> list[str]:
    """Return the controllers that children of this cgroup have."""
    return read(f"{path}/cgroup.subtree_control").split()


def _enable_controllers(path: str) -> list[str]:
    """Enable the available controllers for children. The kernel denies it (EBUSY) for a cgroup with processes."""
    offered = read(f"{path}/cgroup.controllers").split()
    for name in (MEMORY, PROCESSES, CPU, IO):
        if name in offered and name not in _enabled_controllers(path):
            try:
                _write(f"{path}/cgroup.subtree_control", f"+{name}")
            except OSError:
                if name in NEEDED:
                    break
    return _enabled_controllers(path)


def _place(path: str, *, enable: bool) -> Place | None:
    enabled = _enabled_controllers(path)
    if enable and not {MEMORY, PROCESSES, CPU, IO} <= set(enabled):
        enabled = _enable_controllers(path)
    if not set(NEEDED) <= set(enabled):
        return None
    controllers = tuple(one for one in (MEMORY, PROCESSES, CPU, IO) if one in enabled)
    return Place(version=2, path=path, controllers=controllers, has_peak=_has_peak(path))


def _has_peak(path: str) -> bool:
    """Return whether children have `memory.peak` (Linux 5.19). The root has no such file: there, check the release."""
    if not _is_top(path):
        return exists(f"{path}/memory.peak")
    return kernel() >= (5, 19)


def _is_limited(path: str) -> bool:
    """Return whether this cgroup has a limit, which a cgroup beside it would escape."""
    return any(read(f"{path}/{file}").split()[:1] not in ([], ["max"]) for file in ("memory.max", "cpu.max"))


def _is_delegated(path: str) -> bool:
    """Return whether systemd has delegated this cgroup (`Delegate=yes`)."""
    for name in ("user.delegate", "trusted.delegate"):
        try:
            return posix.getxattr(path, name) == b"1"
        except OSError:
            continue
    return False


def _move_own_processes(path: str, name: str) -> Place | None:
    """Move our own processes to a leaf of our cgroup: a cgroup with processes cannot have children with controllers.

    Only if nobody else is in it. The leaf stays while this process lives, and is swept later.
    """
    members = own_members(path)
    if not members:
        return None
    leaf = f"{path}/{name}"
    posix.mkdir(leaf, 0o755)
    for member in members:
        _write(f"{leaf}/cgroup.procs", member)
    found = _place(path, enable=True)
    if found is None:
        for member in read(f"{leaf}/cgroup.procs").split():
            _write(f"{path}/cgroup.procs", member)
        posix.rmdir(leaf)
    return found


def _is_private() -> bool:
    """Return whether we are in our own cgroup namespace, as in a container: its root is not the host's."""
    return posix.readlink("/proc/self/ns/cgroup") != HOSTS_NAMESPACE


def _is_own_launcher(pid: str) -> bool:
    """Return whether a process is a launcher of may_enable. Right after the spawn it has no command line for an instant."""
    if read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1:2] != [str(posix.getpid())]:
        return False
    for _ in range(20):
        if line := read(f"/proc/{pid}/cmdline"):
            return line == "capsule-core\0"
        time.sleep(0.005)
    return False


def own_members(path: str) -> list[str]:
    """Return the processes in the cgroup at `path` if they are this process and its launchers, else an empty list."""
    members = read(f"{path}/cgroup.procs").split()
    mine = str(posix.getpid())
    return members if all(member == mine or _is_own_launcher(member) for member in members) else []
