"""What runs under the same terms have in common: a policy and the furnishing of its room, made once and kept for a second.

Rank 3. A loop of short runs asks for the same sandbox each time, with another command. Nothing stale can be enforced by it:
what is kept is made of facts that `host` keeps no longer, and of which the core refuses every one that has changed. A
request that names anything of the host's (a directory, a file, a tool) is looked at anew each time.
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

    # the steps of a room behind its birth, and their text
    RoomSteps = tuple[tuple[tuple[str, ...], ...], bytes]

MOST_KEPT = 4


class Terms(Value):
    """One policy, what it was made from, and the furnishing of its room as steps and as they are sent."""

    shape: Request
    streams_stdin: bool
    static: Static
    cgroups: Cgroups
    refused: frozenset[str]
    identity: Identity
    policy: Policy
    room_steps_known: RoomSteps


_kept: tuple[Terms, ...] = ()


def _shape(request: Request) -> Request:
    """All of a request that its terms depend on."""
    return replace(request, command=("",), stdin=None if request.stdin is None else b"", execution_id=None)


def _names_nothing(request: Request) -> bool:
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


def _like(identity: Identity) -> tuple[int, int, bool]:
    """What of an identity is the same on each run: root's sandbox gets other ids each time."""
    return identity.uid, identity.gid, identity.privileged


def find(
    request: Request, identity: Identity, refused: Iterable[str], *, streams_stdin: bool
) -> tuple[Policy, RoomSteps] | None:
    """The policy for this request, and the furnishing of its room; None where its like is not known yet, or no longer."""
    static, groups, shape = survey.kept(), discover.find(), _shape(request)
    for terms in _kept:
        if (
            terms.static is static
            and terms.cgroups is groups
            and terms.streams_stdin == streams_stdin
            and terms.refused == refused
            and _like(terms.identity) == _like(identity)
            and terms.shape == shape
        ):
            lacking = survey.lacking(request.command[0], terms.static.python)
            return adapted(terms.policy, request, identity, lacking), terms.room_steps_known
    return None


def keep(
    request: Request, policy: Policy, room_steps_known: RoomSteps, refused: Iterable[str], *, streams_stdin: bool
) -> None:
    """Remember the terms of a request, if all that they depend on is kept too."""
    global _kept  # noqa: PLW0603  # one tuple, replaced as a whole: a thread sees the old or the new one
    static = survey.kept()
    if static is None or not _names_nothing(request):
        return
    terms = Terms(
        shape=_shape(request),
        streams_stdin=streams_stdin,
        static=static,
        cgroups=discover.find(),
        refused=frozenset(refused),
        identity=policy.identity,
        policy=policy,
        room_steps_known=room_steps_known,
    )
    _kept = (terms, *_kept[: MOST_KEPT - 1])
