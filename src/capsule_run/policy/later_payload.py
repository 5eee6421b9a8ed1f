"""The policy of a payload for a room that was built before it was known: in a pool, and in a sandbox that lives. Pure."""

from __future__ import annotations

from capsule_run._base.lexical_paths import normal
from capsule_run._base.value import replace
from capsule_run.model.policy import Decision
from capsule_run.model.request import DEFAULT_WORKING_DIRECTORY, KILL
from capsule_run.policy import limits as policy_limits
from capsule_run.policy import mounts
from capsule_run.policy.resolve import size_variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.policy import Limits, Policy
    from capsule_run.model.request import Request


def for_payload(
    room: Policy, request: Request, *, lacking: tuple[str, ...], streams_stdin: bool, joins: bool
) -> Policy:
    """Return the policy of a payload for a room that was built before: what the payload's half of a plan needs is the request's.

    :param room: the policy that the room was built from.
    :param request: the room's request with the command, variables, directory and limits of this payload.
    :param joins: the payload joins a room of several: the cgroups of the room hold its limits over all of them, and the
        launcher watches what the request limits beyond that. Else the room is the payload's alone.
    """
    limits = policy_limits.limits(request.resources)
    variables = dict(room.environment)
    if limits.memory_bytes < room.memory_bytes:
        variables.update(size_variables(min(limits.memory_bytes, room.visible_memory_bytes)))
    variables.update(request.environment)
    directory = normal(request.isolation.working_directory or DEFAULT_WORKING_DIRECTORY)
    mechanisms = _mechanisms(room, limits) if joins else room.limit_mechanisms
    return replace(
        room,
        command=request.command,
        candidates=mounts.candidates(request.command[0], variables.get("PATH", ""), directory, lacking),
        environment=tuple(variables.items()),
        working_directory=directory,
        has_stdin=streams_stdin or request.stdin is not None,
        timeout_ms=policy_limits.timeout_ms(request),
        watched=replace(room.watched, cpu_time_ms=request.resources.cpu_time_ms),
        memory_bytes=limits.memory_bytes,
        limit_mechanisms=mechanisms,
        max_output_bytes=limits.max_output_bytes,
        on_output_limit=request.on_output_limit or KILL,
        max_pids=limits.max_pids,
    )


def _mechanisms(room: Policy, limits: Limits) -> Decision:
    """Return the mechanisms of one payload in a room of several: a member of the room's cgroups, without cgroups of its own."""
    held = room.limit_mechanisms
    is_within = limits.memory_bytes >= room.memory_bytes
    memory = held.of(policy_limits.MEMORY) if is_within else "watch"
    return Decision(
        groups=(),
        mechanisms=((policy_limits.MEMORY, memory), ("processes", "rlimit"), ("cpu_shares", held.of("cpu_shares"))),
        has_peak=False,
        room_groups=held.groups,
        is_within_room_memory=is_within,
    )
