"""Find where this caller may create cgroups.

cgroups are created only beneath the caller's own cgroup, or beneath one that the caller may write to. Their names carry the
owner's pid and start time (`capsule-…`), and only those are removed. Existing cgroups are not changed, except in two cases:
`v2._move_own_processes` and `v2._enable_controllers`.

The launcher reads the counters when everything inside is dead, and records them as lines `cgroup FILE TEXT`, one for each
file that `policy.limits` names and the kernel has; `result.metrics` parses them.
"""

from __future__ import annotations

import _thread
import posix

from capsule_run._base.value import replace
from capsule_run.cgroup import disks as cgroup_disks
from capsule_run.cgroup import v2
from capsule_run.host.owner_tag import own_name
from capsule_run.host.path_resolution import exists, is_writable
from capsule_run.host.system import read_whole
from capsule_run.model.host import Cgroups, Place
from capsule_run.policy.limits import ACCOUNT, CGROUP1, CGROUP2, CPU, IO, MEMORY, NEEDED, PROCESSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Host
    from capsule_run.model.request import Request


_NAMES1 = {"memory": MEMORY, "pids": PROCESSES, "cpu": CPU, "cpuacct": ACCOUNT, "blkio": IO}
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
_lock = _thread.allocate_lock()  # guards what is found and changed once for the whole process


def _mounts() -> list[tuple[str, str, str, list[str]]]:
    """Return the type, root, mount point and options of each mounted cgroup hierarchy."""
    found = []
    for line in read_whole("/proc/self/mountinfo").splitlines():
        left, dash, right = line.partition(" - cgroup")
        if dash:
            fields, kinds = left.split(" "), right.split(" ")
            place = fields[4].encode().decode("unicode_escape") if "\\" in fields[4] else fields[4]
            found.append((f"cgroup{kinds[0]}", fields[3], place, kinds[2].split(",")))
    return found


def _directory(own: str, root: str, place: str) -> str:
    """Return the path of the cgroup `own` in a mount of `root` at `place`, or "" if the mount does not contain it."""
    if root == "/":
        return (place + own).rstrip("/")
    return (place + own[len(root) :]).rstrip("/") if f"{own}/".startswith(f"{root}/") else ""


def _own() -> dict[str, str]:
    """Return the caller's own cgroup in each hierarchy, by controller; the empty name is version 2."""
    own: dict[str, str] = {}
    for line in read_whole("/proc/self/cgroup").splitlines():
        _number, names, path = line.split(":", 2)
        own.update((name, path) for name in names.split(","))
    return own


def _version1(mounts: list[tuple[str, str, str, list[str]]], own: dict[str, str]) -> list[Place]:
    """Return our own cgroup in each hierarchy as a parent, so that limits above it still apply."""
    places: dict[str, list[str]] = {}
    for kind, root, place, options in mounts:
        for option in options if kind == "cgroup" else ():
            if option in _NAMES1 and option in own and (path := _directory(own[option], root, place)):
                names = places.setdefault(path, [])
                if _NAMES1[option] not in names and is_writable(path):
                    names.append(_NAMES1[option])
    return [Place(version=1, path=path, controllers=tuple(names)) for path, names in places.items() if names]


def _version2(mounts: list[tuple[str, str, str, list[str]]], own: dict[str, str]) -> Place | None:
    """Return where cgroups of version 2 can be created, or None without version 2 or the controllers needed."""
    path = top = ""
    for kind, root, at, _options in mounts:
        # a later mount covers an earlier one; a mount may also contain another part only
        if kind == "cgroup2" and (found := _directory(own.get("", "/.."), root, at)) and "/.." not in found:
            path, top = found, at
    if not path or not set(NEEDED) <= set(read_whole(f"{top}/cgroup.controllers").split()):
        return None

    return v2.nearest(path, top, own_name)


def _advice() -> str:
    """Say what the host's administrator has to do for version 2."""
    if exists("/run/systemd/system"):
        return (
            "start it in a group of its own: `systemd-run --user --scope --property=Delegate=yes -- capsule-run …`, "
            "as root without `--user`"
        )
    return (
        "mount cgroup2 with the memory, pids and cpu controllers, and give this account a group that holds no other "
        "process and whose `cgroup.procs` and `cgroup.subtree_control` it may write; in a container: a private cgroup "
        "namespace, /sys/fs/cgroup writable, and the container's own processes in a leaf group"
    )


# What was found, by effective user id. It cannot become unsafe: in another cgroup, creating one fails.
_found: dict[int, Cgroups] = {}
_unswept: list[str] = []  # parents that were not yet swept


def find() -> Cgroups:
    """Return where this process may create cgroups. Found once for each process and user, until `forget`."""
    known = _found.get(posix.geteuid())
    if known is not None:
        return known
    with _lock:
        mounts, own = _mounts(), _own()
        places = []
        try:
            second = _version2(mounts, own)
        except OSError:  # read-only, or unmounted meanwhile
            second = None
        if second is not None:
            places.append(second)
        places += _version1(mounts, own)
        found = Cgroups(places=tuple(places), lacking=((CGROUP2, _advice()), (CGROUP1, _ADVICE1)))
        _unswept[:] = [place.path for place in places]
        _found[posix.geteuid()] = found
    return found


def can_be_deferred(request: Request) -> bool:
    """Return whether finding cgroups can be deferred until the launcher builds the room.

    It can if it was not done yet, if the memory controller is version 1 (init is then moved into its cgroup, not created in
    it), and if the request needs nothing that only cgroups provide.
    """
    asked = request.resources
    only_cgroups = request.require or asked.cpu_quota is not None or asked.has_io_limits
    return not only_cgroups and posix.geteuid() not in _found and exists("/sys/fs/cgroup/memory/memory.limit_in_bytes")


_ADVICE1 = "the owner of the host gives this account a child of its own group in the memory, pids and cpu hierarchies"


def forget(*, none: bool = False) -> None:
    """Find again next time; with `none`, this process creates no cgroups any more, because the host denied one."""
    _found.clear()
    if none:
        _found[posix.geteuid()] = Cgroups(lacking=((CGROUP2, _advice()), (CGROUP1, _ADVICE1)))


def cgroups_for(request: Request, host: Host) -> Cgroups:
    """Return what `find` returns, with the disks of all paths that the sandbox sees if the request has io limits."""
    found, asked = find(), request.resources
    if not asked.has_io_limits:
        return found

    return replace(
        found, disks=cgroup_disks.disks([source.device for source in host.sources.values() if not source.error])
    )
