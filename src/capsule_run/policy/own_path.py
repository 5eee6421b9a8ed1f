"""Decide how the workspace appears at its own path on the host, as a link or a second mount.

Build trees, run paths, virtual environments and editable installs that were made outside contain the path of the checkout.
Inside, this path leads to /workspace, so that what was edited there is what is built and tested, never the host's files.
Pure. Called by `policy.resolve.resolve`. docs/decisions/own-path.md says where there is no such path.
"""

from __future__ import annotations

from capsule_run._base.lexical_paths import HOME, SYSTEM_DIRECTORIES, WORKSPACE, normal, within
from capsule_run._base.value import replace
from capsule_run.model.policy import TRANSIENT, OwnPath
from capsule_run.model.request import READ_WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Host
    from capsule_run.model.policy import BoundPath
    from capsule_run.model.source import Source


_USR = ("/usr", "/usr/local")
_OF_USR = ("bin", "games", "include", "lib", "lib32", "lib64", "libexec", "libx32", "sbin", "share")
# The sandbox needs its own directories here.
_KEPT_TREES = ("/dev/pts", "/proc", "/run/capsule", "/sys", WORKSPACE)
_KEPT = ("/tmp", "/var/tmp", "/dev/shm", HOME, *_KEPT_TREES)
_LONGEST = 4000  # bytes: the kernel takes less than 4096, and the place is made below a directory of ours


def resolve(host: Host, kind: str, shared: Source, unchanged: OwnPath, directory: str) -> tuple[OwnPath, str]:
    """Return the binds and links with those that show the workspace, which shows `shared`, at its own path.

    Binds in the shared directory that the workspace shows anyway are left out, so that both paths show the same files.
    The working directory `directory` is returned as one beneath /workspace if it lies beneath a link to it.
    """
    shown = _shown(host, kind, shared, unchanged)
    for link, target in shown.links:
        if target == WORKSPACE and within(directory, link):
            return shown, normal(f"{WORKSPACE}/{directory[len(link) :]}")
    return shown, directory


def _shown(host: Host, kind: str, shared: Source, unchanged: OwnPath) -> OwnPath:
    own, binds = shared.path, unchanged.binds
    if not _may_be_shown(own, host):
        return unchanged
    around = max(
        (one for one in binds if one.destination != own and within(own, one.destination)),
        key=lambda one: len(one.destination),
        default=None,
    )
    inner = _inner_binds(host, kind, shared, binds)
    if inner is None:
        return unchanged
    links = tuple([pair for pair in unchanged.links if not within(pair[0], own)])
    if around is not None:
        return _mounted_once_more(host, own, around, replace(unchanged, binds=inner, links=links), unchanged)
    made = {own: WORKSPACE}
    for name in host.workspace_names:
        if _is_free(name, host, inner, (*links, *made.items())):
            made[name] = WORKSPACE
    return OwnPath(binds=inner, links=(*links, *made.items()))


def _may_be_shown(path: str, host: Host) -> bool:
    """Return whether nothing that the sandbox itself needs is at, beneath or around a path."""
    parent, _slash, name = path.rpartition("/")
    if path in (*SYSTEM_DIRECTORIES, *_USR) or (parent in _USR and name in _OF_USR):
        return False
    if any(within(path, tree) for tree in _KEPT_TREES) or (within(path, "/dev") and not within(path, "/dev/shm")):
        return False
    kept = (*_KEPT, *(copied.place for copied in host.etc_copied))
    return len(path.encode("utf-8", "surrogateescape")) < _LONGEST and not any(within(other, path) for other in kept)


def _inner_binds(host: Host, kind: str, shared: Source, binds: tuple[BoundPath, ...]) -> tuple[BoundPath, ...] | None:
    """Return the binds, those in the workspace's own path moved to /workspace or left out; None if one cannot be moved."""
    own = shared.path
    found = []
    at = {one.destination: (one.source.path, one.mode) for one in binds}
    for one in binds:
        if not within(one.destination, own):
            found.append(one)
            continue
        place = normal(f"{WORKSPACE}/{one.destination[len(own) :]}")
        is_own = one.source.path == one.destination
        if place in at and at[place] != (one.source.path, one.mode):
            return None  # the request shows something else there
        if place in at or one.source.path == own:
            continue  # the workspace, or another bind of the same path in it, shows it
        if is_own and one.source.device == shared.device and one.source.path not in host.secrets:
            continue  # the workspace shows it
        if one.destination == own or (not is_own and kind not in TRANSIENT):
            return None  # there may be no such place in the host's directory, and none can be made
        found.append(replace(one, destination=place))
    return tuple(found)


def _mounted_once_more(host: Host, own: str, around: BoundPath, shown: OwnPath, otherwise: OwnPath) -> OwnPath:
    """Return the result for a path in another shared directory, in which no link can be made."""
    if around.source.path + own[len(around.destination.rstrip("/")) :] != own:
        return otherwise  # another directory is shown there
    if around.mode == READ_WRITE:
        note = f"`{own}` is the host's directory and not the workspace, since `{around.destination}` is shared writable"
        return replace(otherwise, notes=(note,))
    secrets = host.secrets.get(around.source.path)
    hidden = () if secrets is None else [f"{around.destination}/{name}" for name, _is_directory in secrets.found]
    # before Linux 5.12 a mount is copied without those beneath it, and so without masks
    if host.kernel < (5, 12) or any(within(own, place) for place in hidden):
        return otherwise
    return replace(shown, places=(own,))


def _is_free(name: str, host: Host, binds: tuple[BoundPath, ...], links: tuple[tuple[str, str], ...]) -> bool:
    """Return whether a link can be made at another spelling of the workspace's path."""
    places = [*(one.destination for one in binds), *(link for link, _target in links)]
    return _may_be_shown(name, host) and not any(within(name, place) or within(place, name) for place in places)
