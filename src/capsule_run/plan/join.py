"""Compile the first half of a payload that joins the room of another launcher (docs/decisions/sessions.md).

Pure. A room with `share` sends descriptors of its namespaces with `ready`, in the order of `namespaces_of`; a launcher that
is sent a `join` half instead of a `room` clones an init of its own into them.
"""

from __future__ import annotations

from capsule_run._base.lexical_paths import WORKSPACE
from capsule_run.model.request import COPY_ON_WRITE, READ_ONLY
from capsule_run.plan.payload import RLIMIT_NPROC
from capsule_run.plan.preamble import GROUP_NAME, OOM_SCORE
from capsule_run.plan.room import SETUP_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.plan import Step
    from capsule_run.model.policy import Policy

NAMESPACES = ("user", "mount", "pid", "ipc", "uts")


def namespaces_of(policy: Policy) -> tuple[str, ...]:
    """Return the names of the namespaces of a policy's room, in the order in which its init sends their descriptors."""
    return NAMESPACES if policy.network else (*NAMESPACES, "net")


def join_steps(
    policy: Policy, *, group_name: str = GROUP_NAME, own_group_name: str | None = None, max_processes: int | None = None
) -> tuple[Step, ...]:
    """Return the first half of a payload that joins the room of `policy`.

    Descriptors sent with it: the room's namespaces in the order of `namespaces_of`, then the parent directory of each
    cgroup of version 2, as for the room.

    :param group_name: the name of the room's cgroups. The payload's processes are members of it.
    :param own_group_name: the name of a cgroup of the payload alone, instead, which the launcher removes at the end.
    :param max_processes: the most processes in the room that a payload may make one more beside; None sets no limit.
    """
    namespaces = namespaces_of(policy)
    steps: list[Step] = []
    if policy.network:
        steps.append(("host-net",))
    if policy.identity.drops_groups:
        steps.append(("drop-groups",))
    for fd, group in enumerate(policy.limit_mechanisms.groups, len(namespaces)):
        if group.version == 2:
            verb = "join-cgroup" if own_group_name is None else "cgroup"
            steps.append((verb, str(fd), own_group_name or group_name))
    steps += (("oom-score-adj", str(OOM_SCORE)), ("setup-clock", str(SETUP_MS)))
    steps += [("join-namespace", name, str(fd)) for fd, name in enumerate(namespaces)]
    masked = [name for name, cover in policy.proc_covers if cover != READ_ONLY]
    steps += [("carry", f"/proc/{name}") for name in ("meminfo", *masked)]
    steps.append(("proc", "/proc", policy.proc_mode))
    if policy.proc_mode != READ_ONLY:
        read_only = [f"/proc/{name}" for name, cover in policy.proc_covers if cover == READ_ONLY]
        steps += [("inner-bind", place, place, READ_ONLY) for place in read_only]
    if max_processes is not None:
        steps.append(("rlimit", str(RLIMIT_NPROC), str(max_processes), str(max_processes)))
    if policy.workspace is not None and policy.workspace_kind == COPY_ON_WRITE:
        steps.append(("overlay-at", WORKSPACE))
    return tuple(steps)
