"""The profiles: which groups of rules make up each, offline and online, as user and as root inside."""

from __future__ import annotations

from capsule_run._base.value import Value


class Profile(Value):
    """Groups that always count, and those that depend on the network and on who the payload is inside."""

    groups: tuple[str, ...]
    offline: tuple[str, ...]
    online: tuple[str, ...]
    as_user: tuple[str, ...]
    as_root: tuple[str, ...]
    # What else fits where the architecture has no older forms of calls, which on x86_64 take up a sixth of the budget.
    roomy: tuple[str, ...]
    # Escape-class calls that `default` refuses end the run here, and no request can soften a violation.
    unforgiving: bool


_STRICT = ("base", "signals", "files-read", "files-write", "events", "threads", "probed", "suspects", "escape")
_DEFAULT = (
    "base",
    "signals",
    "signals-more",
    "memory",
    "files-read",
    "files-write",
    "files-more",
    "events",
    "events-more",
    "process",
    "ids",
    "self",
    "sockets",
    "probed",
    "suspects",
    "escape",
)

_BUILD = (
    "timers",
    "watch",
    "files-newer",
    "sched",
    "pidfd",
    "descriptors-more",
    "memfd",
    "memory-more",
    "landlock",
    "build-more",
)

PROFILES: dict[str, Profile] = {
    "strict": Profile(
        groups=(*_STRICT, "spared-strict"),
        offline=("no-sockets", "start"),
        online=("sockets", "net"),
        as_user=(),
        as_root=("ownership-pretended",),
        roomy=(),
        unforgiving=True,
    ),
    "default": Profile(
        groups=(*_DEFAULT, "spared"),
        offline=(),
        online=("net",),
        as_user=("ownership",),
        as_root=("ownership-pretended",),
        roomy=("timers", "watch", "files-newer"),
        unforgiving=False,
    ),
    "build": Profile(
        groups=(*_DEFAULT, "ipc", *_BUILD),
        offline=(),
        online=("net",),
        as_user=("ownership",),
        as_root=("ownership-pretended",),
        roomy=(),
        unforgiving=False,
    ),
}
