"""Control groups as this caller may make them: where, making them, and removing what dead owners left.

Rank 2: the only module that touches the cgroup file systems. It makes groups only beneath the caller's own group or one
that the caller may write, names them as ours (`capsule-…`, with the owner's pid and start time), and removes only those.
Nothing that it did not make is moved or changed, but for the two cases of `_empty_own` and `_enable`.

Its part of the record are lines `cgroup FILE TEXT`, one for each file that `groups` names and the kernel has, read by the
launcher when everything inside is dead. TEXT is the file's content; `counters` reads it.
"""

from __future__ import annotations

import _thread
import posix

from capsule_run._base.value import replace
from capsule_run.cgroup import disks as cgroup_disks
from capsule_run.cgroup import v2
from capsule_run.host.owner_tag import own_name
from capsule_run.host.path_resolution import exists
from capsule_run.host.system import read_ascii
from capsule_run.model.host import Cgroups, Place
from capsule_run.policy.limits import ACCOUNT, CGROUP1, CGROUP2, CPU, IO, MEMORY, NEEDED, PROCESSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Host
    from capsule_run.model.request import Request


_NAMES1 = {"memory": MEMORY, "pids": PROCESSES, "cpu": CPU, "cpuacct": ACCOUNT, "blkio": IO}
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
_lock = _thread.allocate_lock()  # the two places where something is changed once for a whole process


def _write(path: str, text: str, *, directory: int | None = None) -> None:
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC, dir_fd=directory)
    try:
        posix.write(fd, text.encode())
    finally:
        posix.close(fd)


def _writable(path: str) -> bool:
    return posix.access(path, posix.W_OK, effective_ids=True)


# ---- finding ----


def _mounts() -> list[tuple[str, str, str, list[str]]]:
    """Type, root, place and options of each mounted cgroup hierarchy."""
    found = []
    for line in read_ascii("/proc/self/mountinfo").splitlines():
        left, dash, right = line.partition(" - cgroup")
        if dash:
            fields, kinds = left.split(" "), right.split(" ")
            place = fields[4].encode().decode("unicode_escape") if "\\" in fields[4] else fields[4]
            found.append((f"cgroup{kinds[0]}", fields[3], place, kinds[2].split(",")))
    return found


def _directory(own: str, root: str, place: str) -> str:
    """Where the group `own` is in a mount of `root` at `place`; empty where that does not show it."""
    if root == "/":
        return (place + own).rstrip("/")
    return (place + own[len(root) :]).rstrip("/") if f"{own}/".startswith(f"{root}/") else ""


def _own() -> dict[str, str]:
    """The caller's own group in each hierarchy, by controller; version 2 is the empty name."""
    own: dict[str, str] = {}
    for line in read_ascii("/proc/self/cgroup").splitlines():
        _number, names, path = line.split(":", 2)
        own.update((name, path) for name in names.split(","))
    return own


def _version1(mounts: list[tuple[str, str, str, list[str]]], own: dict[str, str]) -> list[Place]:
    """Children of our own group in each hierarchy, so that what is above still accounts for us."""
    places: dict[str, list[str]] = {}
    for kind, root, place, options in mounts:
        for option in options if kind == "cgroup" else ():
            if option in _NAMES1 and option in own and (path := _directory(own[option], root, place)):
                names = places.setdefault(path, [])
                if _NAMES1[option] not in names and _writable(path):
                    names.append(_NAMES1[option])
    return [Place(version=1, path=path, controllers=tuple(names)) for path, names in places.items() if names]


def _version2(mounts: list[tuple[str, str, str, list[str]]], own: dict[str, str]) -> Place | None:
    """Where groups of version 2 can be made, if it is there with the controllers that are needed."""
    path = top = ""
    for kind, root, at, _options in mounts:
        # what is mounted later lies on top; a mount may also show another part only
        if kind == "cgroup2" and (found := _directory(own.get("", "/.."), root, at)) and "/.." not in found:
            path, top = found, at
    if not path or not set(NEEDED) <= set(read_ascii(f"{top}/cgroup.controllers").split()):
        return None

    return v2.nearest(path, top, own_name)


def _advice() -> str:
    """What the host's owner would have to do for version 2."""
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


# What was found out, by the user that it holds for. Who made it stays right: another group means another mkdir, which fails.
_found: dict[int, Cgroups] = {}
_unswept: list[str] = []  # where those are that nobody has looked through for what the dead left


def find() -> Cgroups:
    """Where this process may make groups. Looked up once for each process and user; `forget` makes us look again."""
    known = _found.get(posix.geteuid())
    if known is not None:
        return known
    with _lock:
        mounts, own = _mounts(), _own()
        places = []
        try:
            second = _version2(mounts, own)
        except OSError:  # read-only, or going away under us: then there is none
            second = None
        if second is not None:
            places.append(second)
        places += _version1(mounts, own)
        found = Cgroups(places=tuple(places), lacking=((CGROUP2, _advice()), (CGROUP1, _ADVICE1)))
        _unswept[:] = [place.path for place in places]
        _found[posix.geteuid()] = found
    return found


def can_wait(request: Request) -> bool:
    """Whether looking for groups can wait until the room is begun.

    That is where it has not been done yet, init is not born in a group, since memory is version 1's, whose groups are entered
    by who is there already, and the request asks for nothing that no other rung has.
    """
    asked = request.resources
    alone = request.require or asked.cpu_quota is not None or asked.has_io_limits
    return not alone and posix.geteuid() not in _found and exists("/sys/fs/cgroup/memory/memory.limit_in_bytes")


_ADVICE1 = "the owner of the host gives this account a child of its own group in the memory, pids and cpu hierarchies"


def forget(*, none: bool = False) -> None:
    """Look anew next time; with `none`, this process makes no groups any more, since the host refused one."""
    _found.clear()
    if none:
        _found[posix.geteuid()] = Cgroups(lacking=((CGROUP2, _advice()), (CGROUP1, _ADVICE1)))


def offered(request: Request, host: Host) -> Cgroups:
    """What `find` found, and for a request with io limits the disks that carry what its sandbox would see."""
    found, asked = find(), request.resources
    if not asked.has_io_limits:
        return found

    return replace(
        found, disks=cgroup_disks.disks([source.device for source in host.sources.values() if not source.error])
    )
