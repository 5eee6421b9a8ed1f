"""Parse a request from JSON, or from the mapping that JSON would give.

Pure. One table, `FIELDS`, has the checker of every field. The command line and the SDK have no checks of their own: they
build the same mapping, and call a field's checker themselves to name their own option or argument in errors.
"""

from __future__ import annotations

from capsule_run._base import strict_json
from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value, replace
from capsule_run.model.request import (
    COPY,
    COPY_ON_WRITE,
    KILL,
    KILL_ATTACKS,
    READ_ONLY,
    READ_WRITE,
    REFUSE,
    TRUNCATE,
    UNLIMITED,
    Bind,
    Isolation,
    Request,
    Resources,
    Workspace,
)
from capsule_run.request import file_fields
from capsule_run.request.validators import (
    check_base64,
    check_boolean,
    check_command,
    check_directory,
    check_environment,
    check_execution_id,
    check_hostname,
    check_place,
    check_profile,
    check_source,
    check_stdin,
    check_traceparent,
    check_user,
    choice,
    integer,
    integer_or,
    integer_or_duration,
    invalid,
    list_of,
    nearest,
    number,
    shown,
    text_of_path,
    wrong_type,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from capsule_run.request.validators import Checker

REQUIREMENTS = ("cgroup2", "cgroup1", "landlock", "overlay", "seccomp_notify")

MAX_REQUEST_BYTES = 256 << 20  # 50 MiB of stdin in base64, with room
MAX_COMMAND_BYTES = 1 << 20  # arguments and environment together, without the NULs between them
# With MAX_COMMAND_BYTES this stays under the 2 MiB that the kernel has for argv, environment and their pointers.
MAX_COMMAND_STRINGS = 1 << 16


def check_object(value: object, label: str, table: Mapping[str, Checker]) -> dict[str, object]:
    """Return the checked fields of an object. Raises E1002 for an unknown field."""
    if isinstance(value, Value):  # a value such as `Resources` counts as the fields it was given
        value = _given_fields(value, value.__dict__)
    if not isinstance(value, dict):
        raise wrong_type(label, "an object", value)
    for key in value:
        if key not in table:
            raise _unknown_field(key, label, table)
    prefix = f"{label}." if label != _TOP else ""
    return {name: check(value[name], prefix + name) for name, check in table.items() if name in value}


_TOP = "request"  # the label of the whole request in messages; its fields have no prefix


def _unknown_field(key: object, label: str, table: Mapping[str, Checker]) -> CapsuleError:
    name = key if isinstance(key, str) else str(key)
    guess = nearest(name, table)
    if guess is None and label == _TOP:
        # A common mistake is the right field at the wrong level.
        guess = next((path for path in FIELDS if path.rpartition(".")[2] == name), None)
    why = f"unknown field {shown(name)}" + (f"; did you mean `{guess}`?" if guess else "")
    return invalid("E1002", label, why, hint="known fields: " + ", ".join(table))


check_bind_mode = choice(READ_ONLY, READ_WRITE)
check_workspace_mode = choice(COPY_ON_WRITE, COPY, READ_ONLY, READ_WRITE)
check_requirement = choice(*REQUIREMENTS)

_BIND: dict[str, Checker] = {
    "source": check_source,
    "destination": check_directory,
    "mode": check_bind_mode,
    "force": check_boolean,
}
_WORKSPACE: dict[str, Checker] = {
    "source": check_source,
    "mode": check_workspace_mode,
    "hide_path": check_boolean,
}


def check_bind(value: object, label: str) -> Bind:
    """Check a bind: source, destination, and mode (read-only by default)."""
    fields = check_object(value, label, _BIND)
    _need(fields, "source", label)
    _need(fields, "destination", label)
    return replace(Bind(source="", destination=""), **fields)


def check_workspace(value: object, label: str) -> Workspace | None:
    """Check a workspace: a directory, or an object with its mode; None is an empty workspace."""
    if value is None:
        return None
    value = text_of_path(value)
    if isinstance(value, str):
        return Workspace(source=check_source(value, label))
    if not isinstance(value, (dict, Workspace)):
        raise wrong_type(label, "a path, an object or null", value)
    fields = check_object(value, label, _WORKSPACE)
    _need(fields, "source", label)
    return replace(Workspace(source=""), **fields)


def _need(fields: Mapping[str, object], name: str, label: str) -> None:
    if name not in fields:
        raise invalid("E1006", label, f"the field `{name}` is missing")


_RESOURCES: dict[str, Checker] = {
    "memory_bytes": integer(1 << 20, 1 << 62, " bytes"),
    "cpu_shares": integer(2, 262_144),
    "max_output_bytes": integer(0, 1 << 40, " bytes"),
    "max_pids": integer(1, 4_194_304),
    "max_open_files": integer(16, 1_048_576),
    "max_file_bytes": integer(0, 1 << 62, " bytes"),
    "disk_bytes": integer(4096, 1 << 62, " bytes"),
    "stack_bytes": integer_or(UNLIMITED, 128 << 10, 1 << 62, " bytes"),
    "cpu_quota": number(0.01, 8192, " processors"),
    "io_read_bps": integer(4096, 1 << 62, " bytes a second"),
    "io_write_bps": integer(4096, 1 << 62, " bytes a second"),
    "io_read_iops": integer(1, 1 << 31, " a second"),
    "io_write_iops": integer(1, 1 << 31, " a second"),
    "cpu_time_ms": integer_or_duration(1, 86_400_000),
}


def _check_workspace_upper(value: object, label: str) -> object:
    return file_fields.check_workspace_upper(value, label)


def _check_unmask(value: object, label: str) -> object:
    return () if value == () else file_fields.check_unmask(value, label)  # the default of `run`


_ISOLATION: dict[str, Checker] = {
    "network": check_boolean,
    "readonly_paths": list_of(check_place),
    "writable_paths": list_of(check_place),
    "binds": list_of(check_bind),
    "working_directory": check_directory,
    "workspace": check_workspace,
    "workspace_upper": _check_workspace_upper,
    "user": check_user,
    "hostname": check_hostname,
    "tools": list_of(check_source),
    "unmask": _check_unmask,
}


def _check_resources(value: object, label: str) -> Resources:
    return replace(Resources(), **check_object(value, label, _RESOURCES))


def _check_isolation(value: object, label: str) -> Isolation:
    return replace(Isolation(), **check_object(value, label, _ISOLATION))


def _check_files(value: object, label: str) -> object:
    return file_fields.check_files(value, label)


def _check_collect(value: object, label: str) -> object:
    return file_fields.check_collect(value, label)


_REQUEST: dict[str, Checker] = {
    "command": check_command,
    "environment": check_environment,
    "stdin": check_stdin,
    "stdin_base64": check_base64,
    "timeout_ms": integer_or_duration(1, 86_400_000),
    "resources": _check_resources,
    "isolation": _check_isolation,
    "on_output_limit": choice(KILL, TRUNCATE),
    "execution_id": check_execution_id,
    "traceparent": check_traceparent,
    "require": list_of(check_requirement),
    "profile": check_profile,
    "on_violation": choice(KILL_ATTACKS, KILL, REFUSE),
    "postmortem": check_boolean,
    "ledger": check_boolean,
    "files": _check_files,
    "collect": _check_collect,
    "collect_bytes": integer(0, 1 << 62, " bytes"),
    "collect_file_bytes": integer(0, 1 << 62, " bytes"),
    "collect_to": check_source,
    "changes": check_boolean,
    "diff": check_boolean,
    "apply_changes": check_boolean,
    "save_changes": check_source,
}
# Every field by its path: interfaces look up checkers here.
FIELDS: dict[str, Checker] = {
    **_REQUEST,
    "preset": check_source,  # a name that `engine.configuration` replaces by what it stands for
    **{f"resources.{name}": check for name, check in _RESOURCES.items()},
    **{f"isolation.{name}": check for name, check in _ISOLATION.items()},
}


def request_from_mapping(given: object) -> Request:
    """Return the request for a mapping as JSON gives it; tuples and bytes are accepted, too. Raises CapsuleError E10xx."""
    fields = check_object(given, _TOP, _REQUEST)
    _need(fields, "command", _TOP)
    if "stdin_base64" in fields:
        if "stdin" in fields:
            raise invalid("E1009", "stdin", "`stdin` and `stdin_base64` cannot both be given")
        fields["stdin"] = fields.pop("stdin_base64")
    request = replace(Request(command=()), **fields)
    _check_command_size(request)
    return request


def _check_command_size(request: Request) -> None:
    strings = [*request.command, *(f"{name}={text}" for name, text in request.environment)]
    if len(strings) > MAX_COMMAND_STRINGS:
        raise invalid(
            "E1008", "command", f"at most {MAX_COMMAND_STRINGS} words and variables together, got {len(strings)}"
        )
    size = sum([len(string.encode("utf-8", "surrogateescape")) for string in strings])
    if size > MAX_COMMAND_BYTES:
        raise invalid(
            "E1008",
            "command",
            f"command and environment together must be at most {MAX_COMMAND_BYTES} bytes, got {size}",
            hint="pass more through `stdin` or a file",
        )


def nested(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the request mapping for fields named by path, as in `FIELDS`."""
    mapping: dict[str, object] = {}
    for path, field in fields.items():
        group, dot, name = path.partition(".")
        if dot:
            members = mapping.setdefault(group, {})
            assert isinstance(members, dict)
            members[name] = field
        else:
            mapping[path] = field
    return mapping


def with_defaults(given: object, defaults: Mapping[str, object]) -> object:
    """Return a request mapping completed with defaults for the fields that it does not give.

    Objects (also `environment`) are completed key by key. A list or a single value comes from one of the two, and a `null`
    in the request counts as given. A default limit of what is collected is left out if nothing is collected.
    """
    if not isinstance(given, dict):
        return given
    merged: dict[str, object] = dict(defaults)
    merged.update(given)
    for name in ("environment", "resources", "isolation"):
        default = defaults.get(name)
        if name in given and isinstance(default, dict):
            merged[name] = with_defaults(given[name], default)
    for name in ("collect_bytes", "collect_file_bytes"):
        if name in defaults and name not in given and not merged.get("collect"):
            del merged[name]
    return merged


def parse_request(
    text: bytes,
    *,
    defaults: Mapping[str, object] | None = None,
    complete: Callable[[Mapping[str, object]], Mapping[str, object]] | None = None,
) -> Request:
    """Parse a request from a JSON text, with `defaults` for fields that it does not give.

    :param complete: fills in what the configuration files give.

    Raises CapsuleError E10xx, with the request's `execution_id` if that could be read.
    """
    given = strict_json.loads(_decoded(text))
    completed = with_defaults(given, defaults or {})
    try:
        if complete is not None and isinstance(completed, dict):
            completed = complete(completed)
        return request_from_mapping(completed)
    except CapsuleError as error:
        error.execution_id = _readable_id(completed)
        raise


def _decoded(text: bytes) -> str:
    if len(text) > MAX_REQUEST_BYTES:
        raise invalid("E1008", _TOP, f"must be at most {MAX_REQUEST_BYTES} bytes, got {len(text)}")
    if not text.strip():
        raise invalid("E1001", _TOP, "is empty")
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise invalid("E1001", _TOP, f"is not valid UTF-8 at byte {error.start}", offset=error.start) from None


def _readable_id(given: object) -> str | None:
    if not isinstance(given, dict) or "execution_id" not in given:
        return None
    try:
        return check_execution_id(given["execution_id"], "execution_id")
    except CapsuleError:
        return None  # the error already reports it, or a field before it


def check_request(request: Request) -> Request:
    """Check a `Request` that a program constructed, like any other (a NUL in it would corrupt the plan)."""
    if len(dict(request.environment)) != len(request.environment):
        raise invalid("E1009", "environment", "a name is given twice")
    return request_from_mapping(request_to_mapping(request))


def request_to_mapping(request: Request) -> dict[str, object]:
    """Return the mapping from which `request_from_mapping` makes this request; what was not given is absent."""
    isolation = _given_fields(request.isolation, _ISOLATION)
    if request.isolation.binds:
        isolation["binds"] = [_given_fields(bind, _BIND) for bind in request.isolation.binds]
    if request.isolation.workspace is not None:
        isolation["workspace"] = _given_fields(request.isolation.workspace, _WORKSPACE)
    if request.isolation.workspace_upper is not None:
        isolation["workspace_upper"] = _given_fields(request.isolation.workspace_upper, ("directory", "bytes"))
    resources = _given_fields(request.resources, _RESOURCES)
    mapping = _given_fields(request, [name for name in _REQUEST if name != "stdin_base64"])
    mapping.update(environment=dict(request.environment), resources=resources, isolation=isolation)
    if request.files:
        mapping["files"] = file_fields.files_to_mapping(request.files)
    return {name: field for name, field in mapping.items() if field != {}}


def _given_fields(value: object, names: Iterable[str]) -> dict[str, object]:
    fields = {name: getattr(value, name) for name in names}
    return {name: field for name, field in fields.items() if field is not None and field != ()}
