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
    # Escape-class calls that `default` refuses end the run here, and no request can soften a violation.
    unforgiving: bool


_STRICT = ("base", "signals", "files-read", "files-write", "events", "threads", "probed", "suspects", "escape")
_DEFAULT = (
    "base",
    "signals",
    "signals-more",
    "memory",
    "memory-more",
    "memfd-counted",
    "files-read",
    "files-write",
    "files-more",
    "files-newer",
    "descriptors-more",
    "events",
    "events-more",
    "watch",
    "timers",
    "process",
    "sched",
    "pidfd",
    "ids",
    "self",
    "sockets",
    "net",
    "ipc",
    "landlock",
    "build-more",
    "probed",
    "suspects",
    "escape",
)

PROFILES: dict[str, Profile] = {
    "strict": Profile(
        groups=(*_STRICT, "spared-strict"),
        offline=("no-sockets", "start"),
        online=("sockets", "net"),
        as_user=(),
        as_root=("ownership-pretended",),
        unforgiving=True,
    ),
    "default": Profile(
        groups=_DEFAULT,
        offline=(),
        online=(),
        as_user=("ownership", "ids-user"),
        as_root=("ownership-pretended", "ids-root"),
        unforgiving=False,
    ),
}
