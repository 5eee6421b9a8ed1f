"""Decide which host paths the sandbox shows, and where: binds, the workspace, the interpreter, and paths of commands.

Pure. Called by `policy.resolve.resolve`.
"""

from __future__ import annotations

from errno import EACCES, ELOOP, ENOENT

from capsule_run._base.errors import CapsuleError
from capsule_run._base.lexical_paths import (
    FIXED_TREES,
    PRIVATE_DIRECTORIES,
    SCRATCH_PLACES,
    SHIM_DIRECTORY,
    SHIMMED,
    SYSTEM_DIRECTORIES,
    SYSTEM_PATH,
    SYSTEM_TREES,
    VAR_TMP,
    WORKSPACE,
    normal,
    shown_already,
    within,
)
from capsule_run._base.value import replace
from capsule_run.model.policy import PRIVATE, TRANSIENT, BoundPath
from capsule_run.model.request import COPY, COPY_ON_WRITE, READ_ONLY, READ_WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Host, Secrets
    from capsule_run.model.policy import Policy
    from capsule_run.model.request import Request
    from capsule_run.model.source import Source


def _existing(host: Host, asked: str, field: str) -> Source:
    source = host.sources[asked]
    if source.error == ELOOP:
        raise CapsuleError(
            "E2004",
            f"{field}: `{asked}` contains a symbolic link and resolves to `{source.path}`",
            details={"path": source.path, "errno": ELOOP},
            hint=f"name `{source.path}` itself if that is the intended path",
        )
    if source.error:
        reason = {ENOENT: "no such file or directory", EACCES: "permission denied"}.get(
            source.error, f"errno {source.error}"
        )
        raise CapsuleError(
            "E2004", f"{field}: cannot share `{asked}`: {reason}", details={"path": source.path, "errno": source.error}
        )
    return source


def _destination(path: str, field: str, host: Host, *, force: bool) -> str:
    path = normal(path)
    top = "/" + path.split("/")[1]
    if force and host.system_links.get(top[1:]):  # a link on the host is one inside: /bin leads to /usr/bin
        path = normal("/" + host.system_links[top[1:]] + path[len(top) :])
    if path == "/" or any(within(path, tree) for tree in FIXED_TREES):
        raise CapsuleError("E1005", f"{field}: `{path}` is required by the sandbox and cannot be replaced")
    if not force and (path in SYSTEM_DIRECTORIES or any(within(path, tree) for tree in SYSTEM_TREES)):
        raise CapsuleError(
            "E1005",
            f"{field}: `{path}` belongs to the sandbox itself",
            hint="choose a destination such as `/data` or one beneath `/workspace`, or override this with "
            f'`--bind SRC:{path}:ro,force` (`"force": true`)',
        )
    return path


def _from(directory: str, path: str) -> str:
    """Return the destination of a path that is shown at the same place; a relative one starts at the caller's directory."""
    return normal(path if path.startswith("/") else f"{directory}/{path}")


def user_binds(request: Request, host: Host) -> list[BoundPath]:
    wanted: list[tuple[str, str, str, str, bool]] = []
    isolation = request.isolation
    for index, path in enumerate(isolation.readonly_paths):
        place = _from(host.directory, path)
        if not shown_already(place):
            wanted.append((path, place, READ_ONLY, f"isolation.readonly_paths[{index}]", False))
    for index, path in enumerate(isolation.writable_paths):
        place = _from(host.directory, path)
        if place not in PRIVATE_DIRECTORIES:
            wanted.append((path, place, READ_WRITE, f"isolation.writable_paths[{index}]", False))
    for index, bind in enumerate(isolation.binds):
        wanted.append((bind.source, bind.destination, bind.mode, f"isolation.binds[{index}]", bool(bind.force)))
    bound: list[BoundPath] = []
    for asked, destination, mode, field, force in wanted:
        source = _existing(host, asked, field)
        place = _destination(destination, field, host, force=force)
        if any(other.destination == place for other in bound):
            raise CapsuleError("E1009", f"{field}: `{place}` is already the destination of another bind")
        if mode == READ_WRITE:
            need_ownership(source, host, field)
        names = fixed_names(source, host) if mode == READ_ONLY else None
        idmap = shown_as_own(source, host)
        bound.append(BoundPath(source=source, destination=place, mode=mode, idmap=idmap, names=names))
    return bound + _places_in_workspace(request, host, bound)


def _places_in_workspace(request: Request, host: Host, bound: list[BoundPath]) -> list[BoundPath]:
    """Return the binds once more, at their places in /workspace, if they lie in the workspace's source.

    Otherwise a write through a relative path would be discarded although the path is shared writable, or kept although it
    is shared read-only. An explicit read-only bind holds only at its own destination.
    """
    wanted = request.isolation.workspace
    if wanted is None:
        return []
    shared = host.sources[wanted.source]
    taken = {one.destination for one in bound}
    found: list[BoundPath] = []
    for one in bound:
        if not within(one.source.path, shared.path) or (one.mode == READ_ONLY and one.destination != one.source.path):
            continue
        others = [other for other in bound if other.mode != wanted.mode and within(one.source.path, other.source.path)]
        if one.mode == wanted.mode and not others:
            continue  # it is there in this mode already
        if one.source.path == shared.path:
            _refuse_workspace_itself(one, wanted.mode)
            continue
        place = normal(f"{WORKSPACE}/{one.source.path[len(shared.path) :]}")
        if place not in taken:
            taken.add(place)
            found.append(replace(one, destination=place))
    return found


def _refuse_workspace_itself(bound: BoundPath, mode: str) -> None:
    """Raise E1009 for a workspace that is also bound in a mode that contradicts its own."""
    if READ_WRITE not in (bound.mode, mode):
        return
    wanted = "rw" if bound.mode == READ_WRITE else "ro"
    raise CapsuleError(
        "E1009",
        f"`{bound.source.path}` is shared `{bound.mode}`, but it is also the workspace, whose mode is `{mode}`",
        hint=f"`--workspace {bound.source.path}:{wanted}` (`isolation.workspace`) shows it `{wanted}` at `{WORKSPACE}`",
    )


def fixed_names(source: Source, host: Host) -> Secrets | None:
    """Return the names that an overlay over a read-only share fixes; None if no overlay is possible.

    An overlay does not show mounts beneath its lower layer, and supports an id-mapped lower layer from Linux 5.19 on.
    """
    names = host.secrets.get(source.path)
    if names is None or names.has_mounts or not host.overlay or f"lower:{source.device}" in host.unsupported:
        return None
    if shown_as_own(source, host) and not shown_as_own(source, host, overlaid=True):
        return None
    return names


def shown_as_own(source: Source, host: Host, *, overlaid: bool = False) -> bool:
    """Return whether an id-mapped mount shows files of the source's owner as the sandbox's own. Only root needs that.

    Linux has id-mapped mounts from 5.12 on, as the lower layer of an overlay from 5.19 on.
    """
    if not host.identity.privileged or f"idmap:{source.device}" in host.unsupported:
        return False
    return host.kernel >= ((5, 19) if overlaid else (5, 12))


def need_ownership(source: Source, host: Host, field: str) -> None:
    """Raise E2009 if files written to a writable share would belong to an unknown user."""
    if host.identity.outside_uid == host.identity.uid or shown_as_own(source, host):
        return
    if not host.identity.privileged:
        lacks, hint = "CAP_SYS_ADMIN", "give the container CAP_SYS_ADMIN, or run as the ordinary user that owns it"
    elif host.kernel < (5, 12):
        lacks, hint = "Linux 5.12", "run as the ordinary user that owns it"
    else:
        lacks = "a file system with id-mapped mounts"
        hint = "run as the ordinary user that owns it, or share a directory on ext4, xfs, btrfs or tmpfs"
    raise CapsuleError(
        "E2009",
        f"{field}: `{source.path}` cannot be shared writable by root: an id map needs {lacks}",
        details={"path": source.path, "lacks": lacks},
        hint=hint,
    )


def python_binds(host: Host) -> list[BoundPath]:
    """Return the interpreter's trees outside /usr, at the same place as on the host: its files name each other by path."""
    bound: list[BoundPath] = []
    for prefix in sorted(host.python_prefixes):
        source = host.sources.get(prefix)
        if source is None or within(prefix, "/usr") or within(host.home, prefix) or prefix in SYSTEM_DIRECTORIES:
            continue
        if not any(within(prefix, other.destination) for other in bound):
            bound.append(BoundPath(source=source, destination=prefix, mode=READ_ONLY, idmap=False))
    return bound


def tool_binds(host: Host) -> list[BoundPath]:
    """Return what the tools of the request need, at the same place as on the host; of nested trees the outer one."""
    bound: list[BoundPath] = []
    sources = {source.path: source for tool in host.tools for source in tool.sources}
    for path, source in sorted(sources.items()):
        if not any(within(path, other.destination) for other in bound):
            bound.append(BoundPath(source=source, destination=path, mode=READ_ONLY, idmap=shown_as_own(source, host)))
    return bound


def links(host: Host, binds: tuple[BoundPath, ...], shims: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return the links to create: the system's, `python`, and those to Python and tools, unless a bind shows them."""
    made = {f"/{name}": target for name, target in host.system_links.items() if target}
    made.update((f"{SHIM_DIRECTORY}/{name}", target) for name, target in shims)
    for link, target in (*host.etc_links, *host.python_links, *[link for tool in host.tools for link in tool.links]):
        if not any(within(link, bound.destination) for bound in binds):
            made.setdefault(link, target)
    return tuple(made.items())


def workspace(request: Request, host: Host) -> tuple[str, Source | None, bool]:
    """Return the workspace's kind, its source, and whether it is id-mapped: the best that this host allows."""
    wanted = request.isolation.workspace
    if wanted is None:
        return PRIVATE, None, False
    source = _existing(host, wanted.source, "isolation.workspace")
    if not source.is_directory:
        raise CapsuleError("E2008", f"isolation.workspace: `{wanted.source}` is not a directory")
    if host.copy is not None:
        return COPY, source, False
    mode = wanted.mode if wanted.mode != COPY_ON_WRITE or host.overlay else READ_ONLY
    if mode == READ_WRITE:
        need_ownership(source, host, "isolation.workspace")
    return mode, source, shown_as_own(source, host, overlaid=mode == COPY_ON_WRITE)


def inside_path(host: Host, binds: list[BoundPath], shims: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    python_directory = host.python.rsplit("/", 1)[0]
    first = dict.fromkeys(folder for tool in host.tools for folder in tool.path)
    if any(within(python_directory, bound.destination) for bound in binds):
        first[python_directory] = None
    return (*first, *([SHIM_DIRECTORY] if shims else []), *SYSTEM_PATH)


def shims(host: Host, binds: tuple[BoundPath, ...]) -> tuple[tuple[str, str], ...]:
    """Return `python` and `python3` as links to our interpreter, unless a bind shows it with its own names."""
    if not within(host.python, "/usr") and any(within(host.python, bound.destination) for bound in binds):
        return ()
    return tuple((name, host.python) for name in SHIMMED)


def candidates(command: str, path: str, directory: str, lacking: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths at which to look for the command. Never empty: a missing command is tried once and reported as such."""
    if "/" in command:
        return (normal(command if command.startswith("/") else f"{directory}/{command}"),)
    parts = [part for part in path.split(":") if part.startswith("/") and part not in lacking]
    if command not in SHIMMED:
        parts = [part for part in parts if part != SHIM_DIRECTORY]
    places = dict.fromkeys(normal(f"{part}/{command}") for part in parts)
    return tuple(places) or (normal(f"/usr/bin/{command}"),)


def every_bind(host: Host, python: list[BoundPath], user: list[BoundPath]) -> tuple[BoundPath, ...]:
    """Return the system's trees and files, then the other binds, outer before inner. Binds of the request win over ours."""
    paths = ["/usr", *(f"/{name}" for name, target in host.system_links.items() if not target), *host.etc_paths]
    system = [
        BoundPath(source=host.sources[path], destination=path, mode=READ_ONLY, idmap=False)
        for path in paths
        if path in host.sources
        and not any(within(path, bound.destination) for bound in user)  # a forced bind replaces it
        and not any(_is_made_in(path, bound) for bound in user)
    ]
    taken = {bound.destination for bound in user}
    ours = {bound.destination: bound for bound in (*tool_binds(host), *python) if bound.destination not in taken}
    others = [
        bound
        for place, bound in ours.items()
        if not any(within(place, other) for other in ours if other != place)  # the outer tree shows the inner one
    ] + user
    return (*system, *sorted(others, key=lambda one: one.destination.count("/")))


def _is_made_in(tree: str, bound: BoundPath) -> bool:
    """Return whether a bind of the request may need a new name in a directory of packages in /etc, which is then left out."""
    inner = bound.destination != tree and within(bound.destination, tree)
    return inner and tree.startswith("/etc/") and bound.source.path != bound.destination


def devices(host: Host) -> tuple[tuple[str, Source], ...]:
    return tuple((path[5:], source) for path, source in host.sources.items() if path in host.devices)


def private_mounts(policy: Policy) -> list[str]:
    """Return the writable directories that share the private disk."""
    workspace = [WORKSPACE] if policy.workspace_kind in TRANSIENT else []
    return [*workspace, *(place for place, _scratch, _mode in scratch_places(policy.binds))]


def scratch_places(binds: tuple[BoundPath, ...]) -> tuple[tuple[str, str, str], ...]:
    """Return the writable directories. /var/tmp is a link to /tmp unless a bind lies in it."""
    shown = any(within(bound.destination, VAR_TMP[0]) for bound in binds)
    return (*SCRATCH_PLACES, VAR_TMP) if shown else SCRATCH_PLACES
