"""Make the preamble of a room, and encode the halves of a plan.

Pure, with few imports, since a run needs it first. The preamble is the first steps of a room. They depend neither on the
survey of the host nor on the policy, so the launcher creates namespaces while Python does both
(docs/order-of-operations.md).
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Identity
    from capsule_run.model.policy import Group

    Step = tuple[str, ...]


NAMESPACES = ("user", "mount", "pid", "ipc", "uts", "cgroup")
END = b"end\0"
OOM_SCORE = 1000  # under memory pressure the kernel kills a sandbox before the host's processes
GROUP_NAME = "capsule-…"  # for a plan that is only printed; a real name has the owner in it


def _text(start: tuple[str, ...], steps: tuple[Step, ...]) -> bytes:
    words = list(start)
    for step in steps:
        words += step
    words.append("")
    text = "\0".join(words).encode("utf-8", "surrogateescape")
    if text.count(b"\0") != len(words) - 1:  # a NUL would begin a new field
        raise CapsuleError("E1005", "a NUL stands in a value of the plan")
    return text


def continuation(steps: tuple[Step, ...]) -> bytes:
    """Encode the last steps of a half, with its end."""
    return _text((), steps) + END


def encode(half: str, steps: tuple[Step, ...], rest: bytes = END) -> bytes:
    """Encode one half for the core; `rest` is the encoded `continuation` of `steps`."""
    return _text(("capsule-plan", "1", half), steps) + rest


def preamble_steps(
    identity: Identity,
    groups: tuple[Group, ...],
    *,
    network: bool,
    name: str,
) -> tuple[Step, ...]:
    """Return the steps for namespaces, ids and the cgroups (of version 2) that init is cloned into.

    :param name: the name of the cgroups to create. Descriptors sent with the steps: a parent for each cgroup.
    """
    cgroups = [("cgroup", str(fd), name) for fd, group in enumerate(groups) if group.version == 2]
    return (
        *[("namespace", space) for space in NAMESPACES],
        *([("host-net",)] if network else []),
        *([("drop-groups",)] if identity.drops_groups else []),
        *cgroups,
        ("uid-map", "0", str(identity.outside_uid)),
        ("gid-map", "0", str(identity.outside_gid)),
        ("oom-score-adj", str(OOM_SCORE)),
    )
