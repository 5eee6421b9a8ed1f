"""Decide which files go into and come out of the workspace of a run.

Pure. Called by `policy.resolve.resolve`.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.lexical_paths import WORKSPACE, normal, within
from capsule_run.model.policy import PAGE, PRIVATE, TRANSIENT, TransferPolicy
from capsule_run.model.request import COPY, COPY_ON_WRITE, DEFAULT_COLLECT_BYTES
from capsule_run.policy.limits import given_or

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Host
    from capsule_run.model.optional import Upper, WorkspaceFile
    from capsule_run.model.policy import BoundPath, Limits
    from capsule_run.model.request import Isolation, Request
    from capsule_run.model.source import Source


def resolve(request: Request, host: Host, kind: str, covered: tuple[str, ...], limits: Limits) -> TransferPolicy:
    """Return the file transfer of a run whose workspace is of this kind.

    :param covered: places in the sandbox at which a bind or a mask hides the workspace.
    :raises CapsuleError: E1009 if files of the request cannot be put there.
    """
    collect_bytes = given_or(request.collect_bytes, DEFAULT_COLLECT_BYTES)
    start = f"{WORKSPACE}/"
    _check_changes(request, kind)
    _check_unmask(request.isolation)
    files = _input_files(host, kind, covered, limits)
    mount_points = frozenset([place[len(start) :] for place in covered if place.startswith(start)])
    shared = host.secrets.get(_source(request, host))
    secrets = [name for name, _is_directory in shared.found] if shared is not None else []
    copy = host.copy
    if copy is not None:
        copy = copy.without(mount_points | {file.path for file in files} | set(secrets))
    return TransferPolicy(
        files=(*files, *(copy.files if copy else ())),
        directories=copy.directories if copy else (),
        links=copy.links if copy else (),
        copied=copy.paths if copy else frozenset(),
        collect=request.collect,
        collect_bytes=collect_bytes,
        collect_file_bytes=given_or(request.collect_file_bytes, collect_bytes),
        collect_to=_absolute(request.collect_to, host),
        lists_changes=kind in (COPY, COPY_ON_WRITE) if request.changes is None else request.changes,
        makes_diff=bool(request.diff),
        applies_changes=request.apply_changes,
        save_changes=_absolute(request.save_changes, host),
        layer_on_disk=host.upper is not None,
        has_layer=kind == COPY_ON_WRITE or (kind == COPY and host.copy is None),
        mount_points=mount_points,
        hidden=frozenset([*secrets, *(shared.absent if shared is not None else ())]),
    )


# A tree within these limits is copied in about 2 ms (docs/decisions/workspace-ladder.md).
SMALL_ENTRIES, SMALL_BYTES = 128, 1 << 19
MAX_COPY_ENTRIES = 200_000


def tree_copy(request: Request, host: Host, kind: str, limits: Limits) -> tuple[int, int] | None:
    """Return how many entries and bytes of the workspace's directory may be copied; None if it is not to be copied.

    An overlay does not show what is mounted beneath the directory; a copy could not leave it out.

    Raises CapsuleError E1009 if the request contradicts a required copy, E2008 if something is mounted in the directory.
    """
    source = _source(request, host)
    has_mounts = source in host.secrets and host.secrets[source].has_mounts
    if kind == COPY and host.copy is None:
        for given, name in ((host.upper is not None, "workspace_upper"), ("overlay" in request.require, "overlay")):
            if given:
                raise CapsuleError("E1009", f"isolation.workspace: mode `copy` contradicts `{name}`")
        if has_mounts:
            raise CapsuleError(
                "E2008",
                f"the workspace `{source}` cannot be copied: something is mounted beneath it",
                details={"path": source},
                hint="share it as `cow`",
            )
        most_bytes = min(limits.memory_bytes // 2, limits.disk_bytes)
        return MAX_COPY_ENTRIES, most_bytes
    if kind != COPY_ON_WRITE or host.upper is not None or "overlay" in request.require or has_mounts:
        return None
    # what is copied is memory of the run, on top of what the command needs
    most_bytes = min(SMALL_BYTES, limits.memory_bytes // 16, limits.disk_bytes)
    return SMALL_ENTRIES, most_bytes


def upper(host: Host, kind: str, shared: Source | None, binds: tuple[BoundPath, ...]) -> Upper | None:
    """Return the directory on disk for files written to the workspace; None keeps them in memory.

    Raises CapsuleError E1009 if the request contradicts it, E2008 if its file system cannot carry an overlay.
    """
    found = host.upper
    if found is None:
        return None
    field = "isolation.workspace_upper"
    if kind not in TRANSIENT:
        if host.overlay:
            raise CapsuleError(
                "E1009", f"{field}: a workspace that is the host's own directory (`{kind}`) has no upper layer"
            )
        raise CapsuleError(
            "E2008",
            f"{field}: the file system of `{found.directory}` does not support a copy-on-write view",
            details={"path": found.directory},
            hint="name a directory on ext4, xfs, btrfs or tmpfs that is not part of another overlay",
        )
    shown = [bound.source.path for bound in binds] + ([shared.path] if shared is not None else [])
    around = next((path for path in shown if within(found.directory, path)), None)
    if around is not None:
        raise CapsuleError(
            "E1009",
            f"{field}: `{found.directory}` lies in `{around}`, which is shared with the sandbox",
            hint="use a directory that is not shared, such as one below `/var/tmp`",
        )
    return found


def _source(request: Request, host: Host) -> str:
    wanted = request.isolation.workspace
    return host.sources[wanted.source].path if wanted is not None else ""


def _absolute(path: str | None, host: Host) -> str:
    if path is None:
        return ""
    return normal(path if path.startswith("/") else f"{host.directory}/{path}")


def _check_changes(request: Request, kind: str) -> None:
    if request.apply_changes and kind not in (COPY, COPY_ON_WRITE):
        what = "starts empty" if kind == PRIVATE else f"is not copy-on-write (`{kind}`)"
        raise CapsuleError(
            "E1009",
            f"apply_changes: the workspace {what}, so there is no directory to apply changes to",
            hint="share a directory copy-on-write with `--workspace DIR` (`isolation.workspace`)",
        )
    for field, given in (("changes", request.changes), ("diff", request.diff), ("save_changes", request.save_changes)):
        if given and kind not in TRANSIENT:
            raise CapsuleError(
                "E1009",
                f"{field}: changes in the host's own directory (`{kind}`) are made directly and cannot be listed or saved",
                hint="share the directory copy-on-write (mode `cow`)",
            )
    if request.collect_to is not None and not request.collect:
        raise CapsuleError(
            "E1009", "collect_to: there are no files to write, since nothing is collected", hint="set `collect` as well"
        )
    for field, limit in (("collect_bytes", request.collect_bytes), ("collect_file_bytes", request.collect_file_bytes)):
        if limit is not None and not request.collect:
            raise CapsuleError(
                "E1009",
                f"{field}: there are no files to limit, since nothing is collected",
                hint="set `collect` as well",
            )


def _check_unmask(isolation: Isolation) -> None:
    """Raise CapsuleError E1009 for a secret to be shown in a sandbox with which nothing is shared."""
    shares = (isolation.readonly_paths, isolation.writable_paths, isolation.binds, isolation.tools)
    if isolation.unmask and isolation.workspace is None and not any(shares):
        raise CapsuleError(
            "E1009",
            f"isolation.unmask: nothing is shared with the sandbox, so there is no `{isolation.unmask[0]}` to show",
            hint="share the directory that has it with `--workspace DIR` (`isolation.workspace`)",
        )


def _input_files(host: Host, kind: str, covered: tuple[str, ...], limits: Limits) -> tuple[WorkspaceFile, ...]:
    """Return the files to copy in. Raises CapsuleError E1009 if they do not fit or would be hidden."""
    if not host.input_files:
        return ()
    if kind not in TRANSIENT:
        raise CapsuleError(
            "E1009",
            f"files: input files cannot be copied into a workspace that is the host's own directory (`{kind}`)",
            hint="share the directory copy-on-write (mode `cow`), or copy the files there yourself",
        )
    if host.upper is not None:
        disk_bytes = memory_bytes = host.upper.bytes
    else:  # files in the workspace are memory
        disk_bytes, memory_bytes = limits.disk_bytes, limits.memory_bytes
    total = sum([max(-(-file.size // PAGE), 1) * PAGE for file in host.input_files])
    if total > min(disk_bytes, memory_bytes):
        limit = f"disk limit is {disk_bytes}" if total > disk_bytes else f"memory limit is {memory_bytes}"
        raise CapsuleError(
            "E1009",
            f"files: they take {total} bytes, in pages of {PAGE}, and the {limit}",
            details={"files_bytes": total, "disk_bytes": disk_bytes, "memory_bytes": memory_bytes},
            hint="raise `--disk` (`resources.disk_bytes`) and `--memory` (`resources.memory_bytes`)",
        )
    for place in covered:
        hidden = next((one.path for one in host.input_files if within(f"{WORKSPACE}/{one.path}", place)), None)
        if hidden is not None:
            raise CapsuleError("E1009", f"files: `{hidden}` would be hidden by the path shared at `{place}`")
    return host.input_files
