"""Map the arguments of `capsule_run.run` to request fields: one table. Pure; `parse` checks the fields."""

from __future__ import annotations

from capsule_run.model.request import UNLIMITED
from capsule_run.request.parse import FIELDS, nested, request_from_mapping
from capsule_run.request.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.request import Request

# Every argument of the SDK's `run` and the request field that it fills; a field of bytes also takes a size ("256M").
ARGUMENTS = {
    "command": "command",
    "timeout_ms": "timeout_ms",
    "memory": "resources.memory_bytes",
    "env": "environment",
    "stdin": "stdin",
    "workspace": "isolation.workspace",
    "workspace_upper": "isolation.workspace_upper",
    "network": "isolation.network",
    "max_output": "resources.max_output_bytes",
    "max_pids": "resources.max_pids",
    "disk": "resources.disk_bytes",
    "stack": "resources.stack_bytes",
    "cpu_time_ms": "resources.cpu_time_ms",
    "cpus": "resources.cpu_quota",
    "readonly": "isolation.readonly_paths",
    "writable": "isolation.writable_paths",
    "tools": "isolation.tools",
    "unmask": "isolation.unmask",
    "workdir": "isolation.working_directory",
    "user": "isolation.user",
    "on_output_limit": "on_output_limit",
    "profile": "profile",
    "on_violation": "on_violation",
    "files": "files",
    "collect": "collect",
    "collect_to": "collect_to",
    "changes": "changes",
    "diff": "diff",
    "apply_changes": "apply_changes",
    "save_changes": "save_changes",
    "collect_bytes": "collect_bytes",
    "collect_file_bytes": "collect_file_bytes",
    "execution_id": "execution_id",
    "postmortem": "postmortem",
    "ledger": "ledger",
    "preset": "preset",
}


def request_from_arguments(**arguments: object) -> Request:
    """Return the request for keyword arguments; None is *not given*. Raises CapsuleError E10xx, which names the argument."""
    return request_from_mapping(mapping_from_arguments(**arguments))


def mapping_from_arguments(**arguments: object) -> dict[str, object]:
    """Return the request mapping for keyword arguments; `command` may be missing. Raises CapsuleError E10xx."""
    fields: dict[str, object] = {}
    for label, given in arguments.items():
        if label not in ARGUMENTS:
            raise TypeError(f"unexpected keyword argument `{label}`")
        if given is None:
            continue
        path, field = ARGUMENTS[label], given
        if isinstance(given, str) and path.endswith("_bytes") and (label, given) != ("stack", UNLIMITED):
            field = parse_size(given, label=label)
        elif path in ("environment", "files") and hasattr(given, "keys") and hasattr(given, "__getitem__"):
            names = given.keys()  # any mapping, such as `os.environ`
            field = {name: given[name] for name in names}
        FIELDS[path](field, label)
        fields[path] = field
    return nested(fields)
