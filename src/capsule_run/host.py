"""What this host offers and what the caller's paths really are: the facts that `policy.resolve` decides on.

Rank 2: reads the system, decides nothing, changes nothing. Everything is looked up afresh for each run (some thirty
`stat` calls, about 0.1 ms), so that nothing stale can be enforced.
"""

from __future__ import annotations

import os
import sys

from ._value import value
from .errors import CapsuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .model import Request

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# What programs expect of the host in /etc. Nothing here names an account, a secret, a host or a machine.
ETC_PATHS = (
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls",
    "/etc/pki/ca-trust",
    "/etc/crypto-policies",
    "/etc/alternatives",
    "/etc/services",
    "/etc/protocols",
    "/etc/mime.types",
    "/etc/fonts",
)
# Hidden in /proc beside its being read-only: an OCI container's list, and what tells of the host or its keys.
PROC_MASKED = (
    "acpi",
    "asound",
    "cmdline",
    "config.gz",
    "interrupts",
    "iomem",
    "ioports",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "modules",
    "sched_debug",
    "scsi",
    "slabinfo",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
)
SYSTEM_LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
# Above every range that systemd's table of ids gives to accounts, dynamic users, containers and home directories.
FREE_IDS_FROM, FREE_IDS = 0x70000000, 1 << 24
CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN = 6, 7, 21


@value
class Source:
    """One object on the host, as seen now: the core refuses any other that has taken its place.

    `asked` is the path as given, `path` the same without links; `error` is an errno where it cannot be looked at.
    """

    asked: str
    path: str
    device: int
    inode: int
    is_directory: bool
    owner: int
    error: int


@value
class Host:
    """The facts. Paths that do not exist are absent from `sources`, or there with an `error` if they were asked for."""

    architecture: str
    kernel: tuple[int, int]
    uid: int
    gid: int
    privileged: bool
    outside_uid: int
    outside_gid: int
    directory: str
    home: str
    search_path: tuple[str, ...]
    python: str
    python_prefixes: tuple[str, ...]
    sources: dict[str, Source]
    system_links: dict[str, str]
    proc_masked: tuple[tuple[str, bool], ...]
    localtime: str
    etc_paths: tuple[str, ...]
    resolv_conf: str
    overlay: bool
    idmap: bool


def look(path: str, *, directory: str = "/") -> Source:
    """Look at `path` (relative ones beneath `directory`) and at what it is once every link is resolved."""
    real = os.path.realpath(os.path.join(directory, path))
    try:
        seen = os.stat(real)
    except OSError as error:
        return Source(
            asked=path, path=real, device=0, inode=0, is_directory=False, owner=0, error=error.errno or 5
        )
    return Source(
        asked=path,
        path=real,
        device=seen.st_dev,
        inode=seen.st_ino,
        is_directory=seen.st_mode & 0o170000 == 0o040000,
        owner=seen.st_uid,
        error=0,
    )


def _read(path: str, limit: int = 1 << 16) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, limit).decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)


def _capabilities() -> int:
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line[7:], 16)
    return 0


def _id_ranges(file: str) -> list[tuple[int, int, int]]:
    return [(int(inside), int(outside), int(count)) for inside, outside, count in map(str.split, _read(file).splitlines())]


def _free_id(ranges: list[tuple[int, int, int]], accounts: str, taken: int) -> int:
    """An id that no account owns, within what this user namespace maps."""
    start, _outside, count = max(ranges, key=lambda one: one[2])
    if start + count >= FREE_IDS_FROM + FREE_IDS:
        start, count = FREE_IDS_FROM, FREE_IDS
    else:  # in a container: the upper half of what it has, below its `nobody`
        start, count = start + count // 2, count // 2 - 2
    for _ in range(100):
        candidate = start + int.from_bytes(os.urandom(4), "little") % max(count, 1)
        if f":{candidate}:" not in accounts and candidate not in (0, taken, 65534):
            return candidate
    raise CapsuleError("E2001", "this user namespace has no id to spare for the sandbox")


def _outside_ids(uid: int, gid: int, capabilities: int) -> tuple[int, int, bool]:
    """The host ids that the sandbox's root maps to, and whether the caller may choose them."""
    if uid != 0:
        return uid, gid, False
    uids, gids = _id_ranges("/proc/self/uid_map"), _id_ranges("/proc/self/gid_map")
    may_map = capabilities >> CAP_SETUID & 1 and capabilities >> CAP_SETGID & 1
    if may_map and max(one[2] for one in uids) > 1024 and max(one[2] for one in gids) > 1024:
        free = _free_id(uids, _read("/etc/passwd", 1 << 20), -1)
        return free, _free_id(gids, _read("/etc/group", 1 << 20), free), bool(capabilities >> CAP_SYS_ADMIN & 1)
    if any(inside == 0 and outside == 0 for inside, outside, _count in uids):
        raise CapsuleError(
            "E2001",
            "root without CAP_SETUID and CAP_SETGID cannot map the sandbox to an unprivileged id",
            hint="run as an ordinary user, or give the container CAP_SETUID and CAP_SETGID",
        )
    return uid, gid, False


def _python() -> tuple[str, tuple[str, ...]]:
    """The interpreter that runs us, and the trees it needs that lie outside /usr."""
    executable = sys.executable or "/usr/bin/python3"
    prefixes = [sys.prefix, sys.base_prefix]
    environment = os.path.dirname(os.path.dirname(executable))
    if os.path.exists(os.path.join(environment, "pyvenv.cfg")):  # under -S nobody has told sys.prefix
        prefixes.insert(0, environment)
    return executable, tuple(dict.fromkeys(os.path.realpath(prefix) for prefix in prefixes))


def _links() -> dict[str, str]:
    """How /bin and its like are on this host: a link's target, or an empty string for a real directory."""
    found = {}
    for name in SYSTEM_LINKS:
        try:
            found[name] = os.readlink(f"/{name}")
        except FileNotFoundError:
            continue
        except OSError:
            found[name] = ""
    return found


def _java_settings() -> list[str]:
    """Debian's JDKs keep files in /etc that their tree links to."""
    if not os.path.isdir("/usr/lib/jvm"):
        return []
    return [f"/etc/{name}" for name in os.listdir("/etc") if name.startswith("java")]


def _localtime() -> str:
    try:
        return os.path.normpath(os.path.join("/etc", os.readlink("/etc/localtime")))
    except OSError:
        return ""


def _proc_masked() -> tuple[tuple[str, bool], ...]:
    """Which of the names to hide this kernel has, each with whether it is a directory."""
    found = []
    for name in PROC_MASKED:
        try:
            found.append((name, os.stat(f"/proc/{name}").st_mode & 0o170000 == 0o040000))
        except OSError:
            continue
    return tuple(found)


def _sources(request: Request, directory: str, always: Iterable[str]) -> dict[str, Source]:
    found = {path: source for path in always if not (source := look(path)).error}
    isolation = request.isolation
    asked = [*isolation.readonly_paths, *isolation.writable_paths, *(bind.source for bind in isolation.binds)]
    if isolation.workspace is not None:
        asked.append(isolation.workspace.source)
    for path in asked:
        found.setdefault(path, look(path, directory=directory))
    return found


def survey(request: Request, *, overlay: bool = True, idmap: bool = True) -> Host:
    """Gather the facts for one request. `overlay` and `idmap` are False once this host has refused them.

    Raises CapsuleError E2001 where no unprivileged id can be had for the sandbox.
    """
    uname = os.uname()
    major, minor = uname.release.split(".")[:2]
    kernel = int(major), int("".join(c for c in minor if c.isdigit()))
    uid, gid = os.geteuid(), os.getegid()
    outside_uid, outside_gid, privileged = _outside_ids(uid, gid, _capabilities() if uid == 0 else 0)
    directory = os.getcwd()
    python, prefixes = _python()
    etc_paths = [*ETC_PATHS, *_java_settings()]
    localtime = _localtime()
    if not localtime:
        etc_paths.append("/etc/localtime")
    links = _links()
    always = ["/usr", *(f"/dev/{name}" for name in DEVICES), *etc_paths, *prefixes]
    always += [f"/{name}" for name, target in links.items() if not target]
    sources = _sources(request, directory, always)
    return Host(
        architecture=uname.machine,
        kernel=kernel,
        uid=uid,
        gid=gid,
        privileged=privileged,
        outside_uid=outside_uid,
        outside_gid=outside_gid,
        directory=directory,
        home=os.environ.get("HOME", ""),
        search_path=tuple(part for part in os.environ.get("PATH", "").split(":") if part.startswith("/")),
        python=python,
        python_prefixes=prefixes,
        sources=sources,
        system_links=links,
        proc_masked=_proc_masked(),
        localtime=localtime,
        etc_paths=tuple(path for path in etc_paths if path in sources),
        resolv_conf=_read("/etc/resolv.conf") if request.isolation.network else "",
        overlay=overlay and kernel >= (5, 11),
        idmap=idmap and kernel >= (5, 19),
    )


def find_command(name: str, search_path: Iterable[str]) -> str:
    """Where the caller's PATH has an executable `name`, or an empty string."""
    for part in search_path:
        path = os.path.join(part, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""
