"""Decide how secrets in shared directories are hidden: masks, overlays that fix names, and guards where neither is safe.

Pure. Called by `policy.resolve` for a request that shares a directory. docs/decisions/masks-on-live-shares.md says which
applies where.
"""

from __future__ import annotations

from capsule_run._base.lexical_paths import WORKSPACE, within
from capsule_run.model import optional
from capsule_run.model.policy import TRANSIENT, Cover
from capsule_run.model.request import COPY, COPY_ON_WRITE, READ_ONLY
from capsule_run.policy.mounts import fixed_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Host, Secrets
    from capsule_run.model.policy import BoundPath
    from capsule_run.model.source import Source


def resolve(host: Host, kind: str, binds: tuple[BoundPath, ...], shared: Source | None) -> Cover:
    """Return the cover of a run whose workspace is of this kind and shows `shared`."""
    names = _workspace_names(host, kind, shared)
    masks = _masks(host, binds, shared)
    live = shared if kind not in TRANSIENT and names is None else None
    return Cover(
        masks=masks,
        workspace_names=names,
        guards=_guards(host, binds, live, masks),
        notes=_notes(host, binds, live, kind),
    )


def _workspace_names(host: Host, kind: str, source: Source | None) -> Secrets | None:
    """Return the names that the workspace's overlay fixes, if there is one."""
    if source is None or host.copy is not None or kind not in (READ_ONLY, COPY_ON_WRITE, COPY):
        return None
    return fixed_names(source, host) if kind == READ_ONLY else host.secrets[source.path]


def _masks(host: Host, binds: tuple[BoundPath, ...], shared: Source | None) -> tuple[tuple[str, bool], ...]:
    """Return the places inside of secrets in shared directories, and whether each is a directory.

    A place that the request itself fills, by a bind or a file, is not masked.
    """
    trees = [(bound.source, bound.destination) for bound in binds]
    if shared is not None and host.copy is None:
        trees.append((shared, WORKSPACE))
    chosen = [bound.destination for bound in binds]
    chosen += [f"{WORKSPACE}/{file.path}" for file in host.input_files]
    places: dict[str, bool] = {}
    for source, destination in trees:
        found = host.secrets[source.path].found if source.path in host.secrets else ()
        if not found:
            continue
        over = [place for place in chosen if place != destination and within(place, destination)]
        for name, is_directory in found:
            place = f"{destination}/{name}"
            if not any(within(place, other) for other in over):
                places[place] = is_directory
    return tuple(places.items())


def _guards(
    host: Host, binds: tuple[BoundPath, ...], live: Source | None, masked: tuple[tuple[str, bool], ...]
) -> tuple[optional.Guard, ...]:
    """Return guards for mounts that lie on a host directory without an overlay, from which the host can remove a mount.

    `live`: the workspace's directory, if it is shown without an overlay.
    """
    trees = {
        bound.destination: None if bound.names or bound.source.path not in host.secrets else bound.source
        for bound in binds
        if bound.source.is_directory
    }
    trees.setdefault(WORKSPACE, live)
    if not any(trees.values()):
        return ()
    places = [place for place, _is_directory in masked] + [bound.destination for bound in binds]
    found: dict[str, optional.Guard] = {}
    for place in places:
        tree = max([tree for tree in trees if tree != place and within(place, tree)], key=len, default="")
        source = trees.get(tree)
        if source is not None:
            found[place] = optional.Guard(source=source, path=place[len(tree) :], place=place)
    return tuple(found.values())


def _notes(host: Host, binds: tuple[BoundPath, ...], live: Source | None, kind: str) -> tuple[str, ...]:
    """Return a note for each read-only share without an overlay, in which a new secret could appear."""
    shares = [bound.source for bound in binds if bound.mode == READ_ONLY and bound.names is None]
    if live is not None and kind == READ_ONLY:
        shares.append(live)
    return tuple(
        f"secrets that appear in `{source.path}` during the run are not masked, since it is shown without an overlay"
        for source in shares
        if source.path in host.secrets
    )
