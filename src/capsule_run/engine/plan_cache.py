"""Cache of resolved policies and room plans.

A loop of short runs asks for the same sandbox each time, with another command. An entry lives as long as the host facts it
was made from, at most one second, and the launcher refuses a plan whose sources have changed since. A request that names
anything on the host (a directory, a file, a tool) is never cached.
"""

from __future__ import annotations

from capsule_run._base.value import Value, replace
from capsule_run.cgroup import discover
from capsule_run.host import survey
from capsule_run.policy.resolve import adapted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from capsule_run.host.survey import Static
    from capsule_run.model.host import Cgroups, Identity
    from capsule_run.model.policy import Policy
    from capsule_run.model.request import Request

    # the steps of a room after the preamble, and their text
    RoomSteps = tuple[tuple[tuple[str, ...], ...], bytes]

MAX_CACHED_PLANS = 4


class CachedPlan(Value):
    """A cached policy and its room steps, with everything that they were made from."""

    shape: Request
    streams_stdin: bool
    static: Static
    cgroups: Cgroups
    unsupported: frozenset[str]
    identity: Identity
    policy: Policy
    room_steps: RoomSteps


_kept: tuple[CachedPlan, ...] = ()


def _shape(request: Request) -> Request:
    """Return the part of a request that its policy depends on: the request without command, input and id."""
    return replace(
        request, command=("",), stdin=None if request.stdin is None else b"", execution_id=None, traceparent=None
    )


def _names_no_host_path(request: Request) -> bool:
    isolation = request.isolation
    named = (
        isolation.workspace
        or isolation.workspace_upper
        or isolation.readonly_paths
        or isolation.writable_paths
        or isolation.binds
        or isolation.tools
    )
    written = request.collect_to or request.apply_changes or request.save_changes
    return not (named or written or isolation.network or request.files or request.profile or request.require)


def _stable_identity(identity: Identity) -> tuple[int, int, bool]:
    """Return the part of an identity that is the same for each run: a sandbox of root gets other ids each time."""
    return identity.uid, identity.gid, identity.privileged


def find(
    request: Request, identity: Identity, unsupported: Iterable[str], *, streams_stdin: bool
) -> tuple[Policy, RoomSteps] | None:
    """Return the cached policy of a request, adapted to it, and the room steps; None if there is no valid entry."""
    static, groups, shape = survey.kept(), discover.find(), _shape(request)
    for entry in _kept:
        if (
            entry.static is static
            and entry.cgroups is groups
            and entry.streams_stdin == streams_stdin
            and entry.unsupported == unsupported
            and _stable_identity(entry.identity) == _stable_identity(identity)
            and entry.shape == shape
        ):
            lacking = survey.lacking(request.command[0], entry.static.python)
            return adapted(entry.policy, request, identity, lacking), entry.room_steps
    return None


def keep(
    request: Request, policy: Policy, room_steps: RoomSteps, unsupported: Iterable[str], *, streams_stdin: bool
) -> None:
    """Cache the policy and the room steps of a request, if the host facts that they depend on are kept too."""
    global _kept  # noqa: PLW0603  # one tuple, replaced as a whole: a thread sees the old or the new one
    static = survey.kept()
    if static is None or not _names_no_host_path(request):
        return
    entry = CachedPlan(
        shape=_shape(request),
        streams_stdin=streams_stdin,
        static=static,
        cgroups=discover.find(),
        unsupported=frozenset(unsupported),
        identity=policy.identity,
        policy=policy,
        room_steps=room_steps,
    )
    _kept = (entry, *_kept[: MAX_CACHED_PLANS - 1])
