"""Gather the facts about this host and the caller's paths that `policy.resolve.resolve` decides on.

Decides nothing and changes nothing.
"""

from __future__ import annotations

import posix
import time
from _stat import S_IROTH, S_ISDIR, S_ISLNK, S_ISREG
from errno import EIO, ELOOP

from capsule_run._base.known_paths import DEVICES, ETC_COPIED, ETC_PATHS, VAR_PATHS
from capsule_run._base.lexical_paths import normal, within
from capsule_run._base.value import Value
from capsule_run.host import identity as host_identity
from capsule_run.host import input_files, path_resolution, snapshot, system
from capsule_run.host import secrets as host_secrets
from capsule_run.host.system import KEPT_NS
from capsule_run.model.host import Host, Identity
from capsule_run.model.request import COPY_ON_WRITE
from capsule_run.model.source import CopiedFile, Source
from capsule_run.policy.limits import given_or, limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from capsule_run.model.host import Secrets
    from capsule_run.model.optional import Copy, ToolMounts, Upper, WorkspaceFile
    from capsule_run.model.request import Request


# The real paths of system directories, resolved once for each process: if one changes, the launcher detects it.
_real: dict[str, str] = {}


def _stat_system_path(path: str) -> tuple[str, posix.stat_result | None, int]:
    """Return `path` without links, its status or None, and an errno. Costs one system call if `path` is not a link."""
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


def stat_path(path: str, *, directory: str | None = None) -> Source:
    """Resolve all links in `path`, and read the status of the result. An error is stored in `Source.error`.

    :param directory: given for a path of the caller's, which is relative to it; then a link that an earlier run may have
        planted (CVE-2024-42472) is the error ELOOP.
    """
    if directory is not None:
        plain = path_resolution.join(directory, path)
        try:
            real, links = path_resolution.real_and_links(plain)
        except OSError as error:  # a magic link of /proc, or a path that changes meanwhile
            return _failed(path, plain, error.errno or ELOOP)
        if links and not all(path_resolution.only_root_can_create(link) for link, _target in links):
            return _failed(path, real, ELOOP)
        try:
            seen = posix.stat(real)
        except OSError as error:
            return _failed(path, real, error.errno or EIO)
    else:
        real, found, error_number = _stat_system_path(path)
        if found is None:
            return _failed(path, real, error_number)
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


def _failed(asked: str, path: str, error: int) -> Source:
    return Source(asked=asked, path=path, device=0, inode=0, is_directory=False, owner=0, group=0, error=error)


class Static(Value):
    """Facts that no request changes: the system's own paths and this process."""

    seen_ns: int  # monotonic time of the reading
    uid: int
    architecture: str
    kernel: tuple[int, int]
    python: str
    python_prefixes: tuple[str, ...]
    python_links: tuple[tuple[str, str], ...]
    sources: dict[str, Source]
    system_links: dict[str, str]
    proc_covers: tuple[tuple[str, str], ...]
    localtime: str
    etc_paths: tuple[str, ...]
    etc_copied: tuple[CopiedFile, ...]
    etc_links: tuple[tuple[str, str], ...]
    gitconfig: str


# Kept for KEPT_NS, so that a loop of short runs does not resolve the same forty paths each time. Stale facts are safe: the
# launcher compares every object with its device and inode, rejects another one, and `forget` discards the facts.
_kept: list[Static] = []


def forget() -> bool:
    """Discard the kept facts. Return whether there were any."""
    had = bool(_kept)
    _kept.clear()
    _real.clear()
    return had


# A larger table is mounted: copying it takes longer, and fails if the caller may write only smaller files.
MAX_COPIED_BYTES = 1 << 15


def _copied(tables: Iterable[str] = ()) -> tuple[CopiedFile, ...]:
    """Return the files of ETC_COPIED and `tables` that everybody may read."""
    found = []
    for place in (*ETC_COPIED, *tables):
        path, seen, _error = _stat_system_path(place)
        if seen is not None and S_ISREG(seen.st_mode) and seen.st_mode & S_IROTH:
            found.append(CopiedFile(place=place, path=path, device=seen.st_dev, inode=seen.st_ino, size=seen.st_size))
    return tuple(found)


def _read_static() -> Static:
    python, prefixes, python_links = system.python(caller_home())
    settings, tables, etc_links = system.package_settings()
    copied = _copied(tables)
    large = [file.place for file in copied if file.size > MAX_COPIED_BYTES]
    etc_paths = [*ETC_PATHS, *VAR_PATHS, *system.java_settings(), *settings, *large]
    localtime = system.localtime()
    if not localtime:
        etc_paths.append("/etc/localtime")
    links = system.system_links()
    paths = ["/usr", *(f"/dev/{name}" for name in DEVICES), *etc_paths, *prefixes]
    paths += [f"/{name}" for name, target in links.items() if not target]
    sources = {path: source for path in paths if not (source := stat_path(path)).error}
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
        proc_covers=system.proc_covers(),
        localtime=localtime,
        etc_paths=tuple(path for path in etc_paths if path in sources),
        etc_copied=tuple([file for file in copied if file.size <= MAX_COPIED_BYTES]),
        etc_links=tuple(etc_links.items()),
        gitconfig=system.gitconfig(),
    )


def kept() -> Static | None:
    """Return the kept facts about the system, or None if they are older than KEPT_NS or of another user."""
    for known in _kept:
        if time.monotonic_ns() - known.seen_ns < KEPT_NS and known.uid == posix.geteuid():
            return known
    return None


def _static() -> Static:
    known = kept()
    if known is None:
        known = _read_static()
        _kept[:] = [known]
    return known


def _asked_sources(request: Request, directory: str) -> dict[str, Source]:
    isolation = request.isolation
    asked = [*isolation.readonly_paths, *isolation.writable_paths, *(bind.source for bind in isolation.binds)]
    if isolation.workspace is not None:
        asked.append(isolation.workspace.source)
    return {path: stat_path(path, directory=directory) for path in asked}


def _workspace_names(request: Request, asked: dict[str, Source], directory: str) -> tuple[str, ...]:
    """Return the paths by which the caller and its tools know the workspace's directory, without links first.

    The shell's PWD is one of them: CMake and others keep it, with the links that it contains.
    """
    wanted = request.isolation.workspace
    if wanted is None or wanted.hide_path or asked[wanted.source].error:
        return ()
    real = asked[wanted.source].path
    names = {real: None, path_resolution.join(directory, wanted.source): None}
    spelled = path_resolution.environment("PWD")
    if (
        spelled != directory
        and spelled == normal(spelled)
        and within(real, directory)
        and _leads_to(spelled, directory)
    ):
        names[normal(spelled + real[len(directory.rstrip("/")) :])] = None
    return tuple(names)


def _leads_to(path: str, directory: str) -> bool:
    try:
        return path_resolution.real(path) == directory
    except OSError:
        return False


def lacking_now(command: str) -> tuple[str, ...]:
    """Return the directories of PATH without `command`, as `lacking`, for a room that was built before."""
    return lacking(command, (_kept[0] if _kept else _static()).python)


def lacking(command: str, python: str) -> tuple[str, ...]:
    """Return the directories of PATH, the same inside as outside, without `command`: exec need not try them."""
    if "/" in command:
        return ()
    places = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", python.rpartition("/")[0])
    return tuple(place for place in places if not path_resolution.exists(f"{place}/{command}", follow=False))


# No such path exists (there is no process 0), so relative paths fail, and the error shows the reason.
GONE = "/proc/0/the current directory is gone"


def current_directory() -> str:
    """Return the current directory, or GONE if it was removed."""
    try:
        return posix.getcwd()
    except OSError:
        return GONE


def caller_home() -> str:
    """Return the caller's home directory, from its environment."""
    home = path_resolution.environment("HOME")
    return normal(home) if home.startswith("/") else "/root"


def caller_path() -> tuple[str, ...]:
    """Return the absolute directories of the caller's PATH."""
    return tuple(part for part in path_resolution.environment("PATH").split(":") if part.startswith("/"))


def _copy(
    request: Request,
    asked: dict[str, Source],
    static: Static,
    unsupported: Iterable[str],
    ids: tuple[int, int] | None,
    *,
    privileged: bool,
) -> Copy | None:
    """List the workspace for a private copy, or return None if an overlay of it is writable for the sandbox.

    :param ids: the sandbox's user and group id on the host; None if overlays are unsupported.
    """
    wanted = request.isolation.workspace
    if wanted is None or wanted.mode != COPY_ON_WRITE or asked[wanted.source].error:
        return None
    shared, resources = asked[wanted.source], request.resources
    mapped = privileged and f"idmap:{shared.device}" not in unsupported and static.kernel >= (5, 19)
    if ids is not None and (mapped or (shared.owner, shared.group) == ids):
        return None

    return snapshot.copy_of(shared, given_or(resources.disk_bytes, limits(resources).memory_bytes) // 2)


def identify() -> Identity:
    """Return the caller's ids and the sandbox's ids on the host. Raises CapsuleError E2001 if no unprivileged id is available."""
    uid, gid = posix.geteuid(), posix.getegid()
    if uid != 0:
        return Identity(uid=uid, gid=gid, outside_uid=uid, outside_gid=gid, privileged=False)

    return host_identity.identity_of_root(gid)


def survey(
    request: Request,
    *,
    identity: Identity | None = None,
    unsupported: Iterable[str] = (),
    tools: tuple[ToolMounts, ...] = (),
    upper: Upper | None = None,
) -> Host:
    """Gather the facts for one request. Raises CapsuleError E2001 as `identify` does.

    :param identity: the result of `identify`, if it was called before.
    :param unsupported: the mechanisms that this host turned out not to support, as `engine.fallbacks` names them.
    :param tools: what the tools of the request need, from `tools.of_request`.
    :param upper: the disk layer of the request, from `workspace.disk_layer`.
    """
    static, identity = _static(), identity or identify()
    directory = current_directory()
    asked = _asked_sources(request, directory)
    secrets: dict[str, Secrets] = {}
    if asked:
        secrets = host_secrets.secrets_in(asked.values(), request.isolation.unmask)
    files: tuple[WorkspaceFile, ...] = ()
    if request.files:
        files = input_files.stat_files(request.files, directory)
    overlay = "overlay" not in unsupported and static.kernel >= (5, 11)
    if upper is not None and f"overlay:{upper.source.device}" in unsupported:
        overlay = False
    ids = (identity.outside_uid, identity.outside_gid)
    return Host(
        architecture=static.architecture,
        kernel=static.kernel,
        page_bytes=(page_bytes := posix.sysconf("SC_PAGE_SIZE")),
        memory_bytes=posix.sysconf("SC_PHYS_PAGES") * page_bytes,
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
        proc_covers=static.proc_covers,
        localtime=static.localtime,
        etc_paths=static.etc_paths,
        etc_copied=static.etc_copied,
        etc_links=static.etc_links,
        gitconfig=static.gitconfig,
        resolv_conf=system.read("/etc/resolv.conf") if request.isolation.network else "",
        overlay=overlay,
        unsupported=frozenset(unsupported),
        lacking=lacking(request.command[0], static.python),
        tools=tools,
        input_files=files,
        secrets=secrets,
        upper=upper,
        copy=_copy(request, asked, static, unsupported, ids if overlay else None, privileged=identity.privileged),
        workspace_names=_workspace_names(request, asked, directory),
        processors=(posix.cpu_count() or 1) if request.resources.cpu_time_ms is not None else 1,
    )
