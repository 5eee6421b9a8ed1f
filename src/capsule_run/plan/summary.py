"""Describe a policy in about ten lines: what the command will see, and what it is limited to. Pure; for `--dry-run`."""

from __future__ import annotations

from capsule_run.model.policy import PRIVATE
from capsule_run.model.request import COPY, COPY_ON_WRITE, READ_ONLY, READ_WRITE
from capsule_run.request.durations import format_duration
from capsule_run.request.sizes import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from capsule_run.model.policy import Policy

_SHOWN = 6  # names in a line
_KINDS = {
    PRIVATE: "an empty private directory",
    COPY_ON_WRITE: "a private copy-on-write view of",
    COPY: "a private copy of",
    READ_ONLY: "read-only,",
    READ_WRITE: "read-write and shared with the host,",
}
_ALWAYS_SHOWN = ("/usr", "/etc", "/dev")


def summary(policy: Policy) -> list[str]:
    """Return the lines: a name in the first column, what it is in the second."""
    facts = {
        "command": " ".join(policy.command),
        "workspace": _workspace(policy),
        "reads": _reads(policy),
        "writes": _writes(policy),
        "hidden": _hidden(policy),
        "environment": ", ".join(name for name, _value in policy.environment),
        "network": "the host's, and everything that it reaches" if policy.network else "none but a loopback of its own",
        "user": f"{policy.user} in the sandbox, {policy.identity.outside_uid} on the host",
        "limits": _limits(policy),
        "": _sizes(policy),
        "system calls": f"profile {policy.calls.profile}",
    }
    return [f"{name:<13}{text}" for name, text in facts.items() if text]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _workspace(policy: Policy) -> str:
    kind = _KINDS[policy.workspace_kind]
    shown = f"{kind} {policy.workspace.path}" if policy.workspace is not None else kind
    transfer = policy.transfer
    fate = ""
    if transfer.applies_changes:
        fate = "; changes are applied to it"
    elif transfer.save_changes:
        fate = f"; changes are saved to {transfer.save_changes}"
    elif policy.workspace_kind in (COPY_ON_WRITE, COPY):
        fate = "; changes are discarded"
    return f"/workspace is {shown}{fate}"


def _places(policy: Policy, mode: str) -> list[str]:
    """Return the shared paths of one mode, with their source if it has another path."""
    return [
        bound.destination
        if bound.destination == bound.source.path
        else f"{bound.destination} (the host's {bound.source.path})"
        for bound in policy.binds
        if bound.mode == mode and not bound.destination.startswith("/etc/") and bound.destination not in _ALWAYS_SHOWN
    ]


def _reads(policy: Policy) -> str:
    return _some(["/usr, parts of /etc", *_places(policy, READ_ONLY)])


def _writes(policy: Policy) -> str:
    shared = _places(policy, READ_WRITE)
    private = "private and discarded: /tmp, /dev/shm, /home/user"
    return f"on the host: {_some(shared)}; {private}" if shared else private


def _hidden(policy: Policy) -> str:
    masked = [place for place, _is_directory in policy.cover.masks]
    names = policy.cover.workspace_names
    if names is not None:
        masked += [f"/workspace/{path}" for path, _is_directory in names.found]
        masked.append(f"{len(names.absent)} names that may appear, such as .env")
    return f"secrets: {_some(masked)}" if masked else ""


def _limits(policy: Policy) -> str:
    watched = policy.watched
    parts = [
        format_duration(policy.timeout_ms),
        f"{format_size(policy.memory_bytes)} of memory ({policy.limit_mechanisms.of('memory')})",
        f"{policy.max_pids} processes ({policy.limit_mechanisms.of('processes')})",
    ]
    if watched.cpu_time_ms is not None:
        parts.insert(1, f"{format_duration(watched.cpu_time_ms)} of CPU time")
    return ", ".join(parts)


def _sizes(policy: Policy) -> str:
    return (
        f"{format_size(policy.max_output_bytes)} of output, {format_size(policy.disk_bytes)} of files, "
        f"{policy.max_open_files} open files, {policy.cpu_shares} CPU shares"
    )
