"""The profiles: which groups of rules make up each, offline and online, as user and as root inside."""

from __future__ import annotations

from .._value import value


@value
class Profile:
    """Groups that always count, and those that depend on the network and on who the payload is inside."""

    groups: tuple[str, ...]
    offline: tuple[str, ...]
    online: tuple[str, ...]
    as_user: tuple[str, ...]
    as_root: tuple[str, ...]
    # Escape-class calls that `default` refuses end the run here, and no request can soften a violation.
    unforgiving: bool


_STRICT = ("base", "signals", "files-core", "events", "threads", "probed", "suspects", "escape")
_DEFAULT = (
    "base",
    "signals",
    "signals-more",
    "memory",
    "files-core",
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

PROFILES: dict[str, Profile] = {
    "strict": Profile(
        groups=_STRICT,
        offline=("no-sockets",),
        online=("sockets", "net"),
        as_user=(),
        as_root=("ownership-pretended",),
        unforgiving=True,
    ),
    "default": Profile(
        groups=(*_DEFAULT, "spared"),
        offline=(),
        online=("net",),
        as_user=("ownership",),
        as_root=("ownership-pretended",),
        unforgiving=False,
    ),
    "build": Profile(
        groups=(*_DEFAULT, "ipc", "build-more"),
        offline=(),
        online=("net",),
        as_user=("ownership",),
        as_root=("ownership-pretended",),
        unforgiving=False,
    ),
}
