"""The beginning of a room's half, which the core may have ahead of the rest; and how a half is written.

Rank 1: pure, and little to import, since it is wanted before anything else is. What these steps need is known before the
host is surveyed and the policy resolved: so the namespaces are made while that is done (docs/order-of-operations.md).
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
OOM_SCORE = 1000  # under memory pressure the kernel ends a sandbox before anything of the host's
GROUP_NAME = "capsule-…"  # what a plan that is only shown says; a real one has the owner in it


def _text(start: tuple[str, ...], steps: tuple[Step, ...]) -> bytes:
    words = list(start)
    for step in steps:
        words += step
    words.append("")
    text = "\0".join(words).encode("utf-8", "surrogateescape")
    if text.count(b"\0") != len(words) - 1:  # it would begin a field of its own
        raise CapsuleError("E1005", "a NUL stands in a value of the plan")
    return text


def continuation(steps: tuple[Step, ...]) -> bytes:
    """The text of the last steps of a half, up to its end."""
    return _text((), steps) + END


def encode(half: str, steps: tuple[Step, ...], rest: bytes = END) -> bytes:
    """The text of one half, as the core reads it; `rest` is the `continuation` of the steps."""
    return _text(("capsule-plan", "1", half), steps) + rest


def preamble_steps(
    identity: Identity,
    groups: tuple[Group, ...],
    *,
    network: bool,
    name: str,
) -> tuple[Step, ...]:
    """Namespaces, ids, and the group that init is born in, if any, named `name`. Descriptors: a parent for each group."""
    born = [("cgroup", str(fd), name) for fd, group in enumerate(groups) if group.version == 2]
    return (
        *[("namespace", space) for space in NAMESPACES],
        *([("host-net",)] if network else []),
        *([("drop-groups",)] if identity.drops_groups else []),
        *born,
        ("uid-map", "0", str(identity.outside_uid)),
        ("gid-map", "0", str(identity.outside_gid)),
        ("oom-score-adj", str(OOM_SCORE)),
    )
