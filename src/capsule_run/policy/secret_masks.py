"""What covers secrets in the directories that a run shares: masks, layers of names, and guards where neither can be fixed.

Rank 1: pure. Called by `policy` for a request that shares a directory;
docs/decisions/masks-on-live-shares.md says what holds where.
"""

from __future__ import annotations

from capsule_run._base.lexical_paths import WORKSPACE, within
from capsule_run.model.policy import TRANSIENT, Cover, Guard
from capsule_run.model.request import COPY_ON_WRITE, READ_ONLY
from capsule_run.policy.mounts import fixed_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Host, Secrets, Source
    from capsule_run.model.policy import BoundPath


def resolve(host: Host, kind: str, binds: tuple[BoundPath, ...], shared: Source | None) -> Cover:
    """Decide, for a workspace of this kind that shows `shared`."""
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
    """The names that the workspace's overlay decides, if there is one."""
    if source is None or kind not in (READ_ONLY, COPY_ON_WRITE):
        return None
    return fixed_names(source, host) if kind == READ_ONLY else host.secrets[source.path]


def _masks(host: Host, binds: tuple[BoundPath, ...], shared: Source | None) -> tuple[tuple[str, bool], ...]:
    """Where a secret in what is shared would show, and whether each is a directory.

    What the request puts there itself, by a bind or a file, is shown: that is its own choice.
    """
    trees = [(bound.source, bound.destination) for bound in binds]
    if shared is not None and host.copy is None:
        trees.append((shared, WORKSPACE))
    chosen = [bound.destination for bound in binds]
    chosen += [f"{WORKSPACE}/{delivery.path}" for delivery in host.deliveries]
    places: dict[str, bool] = {}
    for source, destination in trees:
        over = [place for place in chosen if place != destination and within(place, destination)]
        for name, is_directory in host.secrets[source.path].found if source.path in host.secrets else ():
            place = f"{destination}/{name}"
            if not any(within(place, other) for other in over):
                places[place] = is_directory
    return tuple(places.items())


def _guards(
    host: Host, binds: tuple[BoundPath, ...], live: Source | None, masked: tuple[tuple[str, bool], ...]
) -> tuple[Guard, ...]:
    """What lies on a directory of the host's that is shown as it is: there the host can take a mount away.

    `live` is the workspace's directory, where it is shown so.
    """
    trees = {
        bound.destination: None if bound.names or bound.source.path not in host.secrets else bound.source
        for bound in binds
        if bound.source.is_directory
    }
    trees.setdefault(WORKSPACE, live)
    places = [place for place, _is_directory in masked] + [bound.destination for bound in binds]
    found: dict[str, Guard] = {}
    for place in places:
        tree = max([tree for tree in trees if tree != place and within(place, tree)], key=len, default="")
        source = trees.get(tree)
        if source is not None:
            found[place] = Guard(source=source, path=place[len(tree) :], place=place)
    return tuple(found.values())


def _notes(host: Host, binds: tuple[BoundPath, ...], live: Source | None, kind: str) -> tuple[str, ...]:
    """A line for each read-only share that is shown without an overlay, so that a secret could still appear in it."""
    shares = [bound.source for bound in binds if bound.mode == READ_ONLY and bound.names is None]
    if live is not None and kind == READ_ONLY:
        shares.append(live)
    return tuple(
        f"secrets that appear in `{source.path}` during the run are not masked, since it is shown without an overlay"
        for source in shares
        if source.path in host.secrets
    )
