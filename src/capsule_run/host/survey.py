"""What this host offers and what the caller's paths really are: the facts that `policy.resolve.resolve` decides on.

Rank 2: reads the system, decides nothing, changes nothing.
"""

from __future__ import annotations

import posix
import time
from _stat import S_IROTH, S_ISDIR, S_ISLNK, S_ISREG
from errno import EIO, ELOOP

from capsule_run._base.lexical_paths import normal
from capsule_run._base.value import Value
from capsule_run.host import identity as host_identity
from capsule_run.host import input_files, path_resolution, snapshot, system
from capsule_run.host import secrets as host_secrets
from capsule_run.host.known_paths import DEVICES, ETC_COPIED, ETC_PATHS
from capsule_run.host.system import KEPT_NS
from capsule_run.model.host import CopiedFile, Host, Identity, Source
from capsule_run.model.request import COPY_ON_WRITE
from capsule_run.policy.limits import given_or, limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from capsule_run.model.host import Copy, Delivery, Secrets, ToolMounts, Upper
    from capsule_run.model.request import Request


# Where the system's own directories lead, asked once for each process: should one change, the core sees it and refuses.
_real: dict[str, str] = {}


def _system_look(path: str) -> tuple[str, posix.stat_result | None, int]:
    """`path` without links, what is there, and an errno. Most are no link and lie in few directories, so most cost one call."""
    parent, _slash, name = path.rpartition("/")
    if parent and parent not in _real:
        _real[parent] = path_resolution.real(parent)
    plain = f"{_real[parent]}/{name}" if parent else path
    try:
        seen = posix.lstat(plain)
        if S_ISLNK(seen.st_mode):
            plain = path_resolution.real(plain)
            seen = posix.stat(plain)
    except OSError as error:
        return plain, None, error.errno or EIO
    return plain, seen, 0


def look(path: str, *, directory: str | None = None) -> Source:
    """Look at `path` and at what it is once every link is resolved.

    With `directory` it is the caller's word, relative or not, and a symbolic link on the way that an earlier run may have
    planted (CVE-2024-42472) is an error, ELOOP.
    """
    if directory is not None:
        plain = path_resolution.join(directory, path)
        try:
            real, links = path_resolution.real_and_links(plain)
        except OSError as error:  # a magic link of /proc, or a path that changes under our eyes
            return _unseen(path, plain, error.errno or ELOOP)
        if links and not all(path_resolution.only_root_can_create(link) for link, _target in links):
            return _unseen(path, real, ELOOP)
        try:
            seen = posix.stat(real)
        except OSError as error:
            return _unseen(path, real, error.errno or EIO)
    else:
        real, found, error_number = _system_look(path)
        if found is None:
            return _unseen(path, real, error_number)
        seen = found
    return Source(
        asked=path,
        path=real,
        device=seen.st_dev,
        inode=seen.st_ino,
        is_directory=S_ISDIR(seen.st_mode),
        owner=seen.st_uid,
        group=seen.st_gid,
        error=0,
    )


def _unseen(asked: str, path: str, error: int) -> Source:
    return Source(asked=asked, path=path, device=0, inode=0, is_directory=False, owner=0, group=0, error=error)


class Static(Value):
    """What no request changes: the system's own paths and what this process is."""

    seen_ns: int
    uid: int
    architecture: str
    kernel: tuple[int, int]
    python: str
    python_prefixes: tuple[str, ...]
    python_links: tuple[tuple[str, str], ...]
    sources: dict[str, Source]
    system_links: dict[str, str]
    proc_masked: tuple[tuple[str, bool], ...]
    localtime: str
    etc_paths: tuple[str, ...]
    etc_copied: tuple[CopiedFile, ...]
    gitconfig: str


# Kept for a second, so that a loop of short runs does not look at the same forty paths each time. Nothing stale can be
# enforced by it: the core compares every object with what was seen, refuses another one, and `forget` makes us look again.
_kept: list[Static] = []


def forget() -> bool:
    """Look at everything anew next time. Returns whether anything had been kept."""
    had = bool(_kept)
    _kept.clear()
    _real.clear()
    return had


def _copied() -> tuple[CopiedFile, ...]:
    """Those of ETC_COPIED that are files which everybody may read."""
    found = []
    for place in ETC_COPIED:
        path, seen, _error = _system_look(place)
        if seen is not None and S_ISREG(seen.st_mode) and seen.st_mode & S_IROTH:
            found.append(CopiedFile(place=place, path=path, device=seen.st_dev, inode=seen.st_ino, size=seen.st_size))
    return tuple(found)


def _look_at_system() -> Static:
    python, prefixes, python_links = system.python(caller_home())
    etc_paths = [*ETC_PATHS, *system.java_settings()]
    localtime = system.localtime()
    if not localtime:
        etc_paths.append("/etc/localtime")
    links = system.system_links()
    paths = ["/usr", *(f"/dev/{name}" for name in DEVICES), *etc_paths, *prefixes]
    paths += [f"/{name}" for name, target in links.items() if not target]
    sources = {path: source for path in paths if not (source := look(path)).error}
    return Static(
        seen_ns=time.monotonic_ns(),
        uid=posix.geteuid(),
        architecture=posix.uname().machine,
        kernel=system.kernel(),
        python=python,
        python_prefixes=prefixes,
        python_links=python_links,
        sources=sources,
        system_links=links,
        proc_masked=system.proc_masked(),
        localtime=localtime,
        etc_paths=tuple(path for path in etc_paths if path in sources),
        etc_copied=_copied(),
        gitconfig=system.gitconfig(),
    )


def kept() -> Static | None:
    """What is known of the system, if it was looked at within the last second."""
    for known in _kept:
        if time.monotonic_ns() - known.seen_ns < KEPT_NS and known.uid == posix.geteuid():
            return known
    return None


def _static() -> Static:
    known = kept()
    if known is None:
        known = _look_at_system()
        _kept[:] = [known]
    return known


def _asked_sources(request: Request, directory: str) -> dict[str, Source]:
    isolation = request.isolation
    asked = [*isolation.readonly_paths, *isolation.writable_paths, *(bind.source for bind in isolation.binds)]
    if isolation.workspace is not None:
        asked.append(isolation.workspace.source)
    return {path: look(path, directory=directory) for path in asked}


def lacking(command: str, python: str) -> tuple[str, ...]:
    """The directories, the same inside as here, that do not have `command`: no need to try each of them by exec."""
    if "/" in command:
        return ()
    places = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", python.rpartition("/")[0])
    return tuple(place for place in places if not path_resolution.exists(f"{place}/{command}", follow=False))


# There is no process 0: no relative path is found from here, and the error about it says why.
GONE = "/proc/0/the current directory is gone"


def current_directory() -> str:
    try:
        return posix.getcwd()
    except OSError:
        return GONE


def caller_home() -> str:
    """The caller's home directory, as its environment has it."""
    home = path_resolution.environment("HOME")
    return normal(home) if home.startswith("/") else "/root"


def caller_path() -> tuple[str, ...]:
    """The absolute directories of the caller's PATH."""
    return tuple(part for part in path_resolution.environment("PATH").split(":") if part.startswith("/"))


def _copy(
    request: Request,
    asked: dict[str, Source],
    static: Static,
    refused: Iterable[str],
    ids: tuple[int, int] | None,
    *,
    privileged: bool,
) -> Copy | None:
    """A private copy of the workspace's directory, where no overlay of it would be writable for the sandbox.

    `ids` are the sandbox's on the host, None where there are no overlays at all.
    """
    wanted = request.isolation.workspace
    if wanted is None or wanted.mode != COPY_ON_WRITE or asked[wanted.source].error:
        return None
    shared, resources = asked[wanted.source], request.resources
    mapped = privileged and f"idmap:{shared.device}" not in refused and static.kernel >= (5, 19)
    if ids is not None and (mapped or (shared.owner, shared.group) == ids):
        return None

    return snapshot.copy_of(shared, given_or(resources.disk_bytes, limits(resources).memory_bytes) // 2)


def identify() -> Identity:
    """Who calls, and the sandbox's ids on the host. Raises CapsuleError E2001 where no unprivileged id can be had for it."""
    uid, gid = posix.geteuid(), posix.getegid()
    if uid != 0:
        return Identity(uid=uid, gid=gid, outside_uid=uid, outside_gid=gid, privileged=False)

    return host_identity.identity_of_root(gid)


def survey(
    request: Request,
    *,
    identity: Identity | None = None,
    refused: Iterable[str] = (),
    tools: tuple[ToolMounts, ...] = (),
    upper: Upper | None = None,
) -> Host:
    """Gather the facts for one request. `refused` is what this host has refused before, as `runner` names it.

    `identity` is that of `identify`, where it has been asked for already; `tools` and `upper` are those of the request, found
    by who knows how. Raises CapsuleError E2001 as `identify` does.
    """
    static, identity = _static(), identity or identify()
    directory = current_directory()
    asked = _asked_sources(request, directory)
    secrets: dict[str, Secrets] = {}
    if asked:
        secrets = host_secrets.secrets_in(asked.values(), request.isolation.unmask)
    deliveries: tuple[Delivery, ...] = ()
    if request.files:
        deliveries = input_files.stat_files(request.files, directory)
    overlay = "overlay" not in refused and static.kernel >= (5, 11)
    if upper is not None and f"overlay:{upper.source.device}" in refused:
        overlay = False
    ids = (identity.outside_uid, identity.outside_gid)
    return Host(
        architecture=static.architecture,
        kernel=static.kernel,
        identity=identity,
        directory=directory,
        home=caller_home(),
        search_path=caller_path(),
        python=static.python,
        python_prefixes=static.python_prefixes,
        python_links=static.python_links,
        sources={**asked, **static.sources} if asked else static.sources,
        devices=tuple(f"/dev/{name}" for name in DEVICES),
        system_links=static.system_links,
        proc_masked=static.proc_masked,
        localtime=static.localtime,
        etc_paths=static.etc_paths,
        etc_copied=static.etc_copied,
        gitconfig=static.gitconfig,
        resolv_conf=system.read("/etc/resolv.conf") if request.isolation.network else "",
        overlay=overlay,
        refused=frozenset(refused),
        lacking=lacking(request.command[0], static.python),
        tools=tools,
        deliveries=deliveries,
        secrets=secrets,
        upper=upper,
        copy=_copy(request, asked, static, refused, ids if overlay else None, privileged=identity.privileged),
        processors=(posix.cpu_count() or 1) if request.resources.cpu_time_ms is not None else 1,
    )
