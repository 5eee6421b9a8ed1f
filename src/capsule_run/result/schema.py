"""The JSON Schema of a response. Every response that the tests see is validated against it. Pure.

Loaded by `capsule-run schema` only. A response may get new fields in a later version, so unknown ones are allowed; the tests
do not allow them.
"""

from __future__ import annotations

from capsule_run._base.statuses import CATEGORIES, ERROR, KILLED, SUCCESS, TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Schema = Mapping[str, object]

_STRING: Schema = {"type": "string"}
_BOOLEAN: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number", "minimum": 0}
_STRINGS: Schema = {"type": "array", "items": _STRING}
_TIME: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
_ANY_OBJECT: Schema = {"type": "object", "additionalProperties": True}


def _object(properties: Mapping[str, Schema], *required: str) -> Schema:
    found: dict[str, object] = {"type": "object", "properties": dict(properties)}
    return {**found, "required": list(required)} if required else found


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(members: Schema) -> Schema:
    return {"type": "object", "additionalProperties": members}


def _one_of(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


_PIECE: Schema = {
    "type": "array",
    "prefixItems": [_NUMBER, _one_of("stdout", "stderr"), _STRING],
    "minItems": 3,
    "maxItems": 3,
}
_METRICS = _object(
    {
        **dict.fromkeys(("wall_ms", "user_ms", "system_ms", "cpu_ms", "throttled_ms"), _NUMBER),
        **dict.fromkeys(("cpu_ms_complete", "memory_complete"), _BOOLEAN),
        **dict.fromkeys(
            (
                *("max_memory_bytes", "max_process_memory_bytes", "io_read_bytes", "io_write_bytes"),
                *("io_read_operations", "io_write_operations", "voluntary_context_switches"),
                *(
                    "involuntary_context_switches",
                    "minor_page_faults",
                    "major_page_faults",
                    "max_processes",
                    "disk_bytes",
                ),
            ),
            _COUNT,
        ),
        "memory_source": _one_of("cgroup", "watch", "process"),
        "pressure": _map(_map(_NUMBER)),
        "startup": _map(_COUNT),
    },
    "wall_ms",
    "user_ms",
    "system_ms",
    "cpu_ms",
)
_IDS = _object({"inside": _COUNT, "outside": _COUNT, "host": {"type": "integer"}}, "inside")
_ATTESTED = _object(
    {
        "capabilities": _map(_COUNT),
        "no_new_privs": _BOOLEAN,
        "seccomp": _object(
            {"mode": _COUNT, "filters": _COUNT, "filters_of_caller": _COUNT, "sha256": _STRING}, "mode", "filters"
        ),
        "namespaces": _map(_COUNT),
        "shared_namespaces": _STRINGS,
        "landlock_abi": _COUNT,
        "cgroups": _COUNT,
        "user": _IDS,
        "group": _IDS,
    }
)
_WORKSPACE = _object(
    {
        "kind": _one_of("private", "cow", "copy", "ro", "rw"),
        "source": _STRING,
        "mechanism": _one_of("copy", "overlay"),
        "upper": _object({"directory": _STRING, "bytes": _COUNT}, "directory", "bytes"),
        "masked": _STRINGS,
    },
    "kind",
)
_ISOLATION = _object(
    {
        "namespaces": _STRINGS,
        "network": _one_of("none", "host"),
        "user": _IDS,
        "no_new_privs": _BOOLEAN,
        "capabilities": _STRINGS,
        "seccomp": _STRING,
        "landlock_abi": _COUNT,
        "workspace": _WORKSPACE,
        "attested": _ATTESTED,
        "limits": _map(_STRING),
        "notes": _STRINGS,
    },
    "namespaces",
    "network",
    "user",
    "seccomp",
    "workspace",
    "limits",
)
_PROCESS = _object(
    {
        **dict.fromkeys(("pid", "parent", "exit_code", "signal", "max_memory_bytes"), _COUNT),
        **dict.fromkeys(("started_ms", "ended_ms", "user_ms", "system_ms"), _NUMBER),
        **dict.fromkeys(("argv", "argv_before"), _STRINGS),
        "argv_truncated": _BOOLEAN,
        "command": _STRING,
    },
    "pid",
    "parent",
)
_THREAD = _object(
    {
        **dict.fromkeys(("pid", "tid", "descriptor"), _COUNT),
        **dict.fromkeys(("command", "state", "syscall", "waits_in"), _STRING),
        "cpu_ms": _NUMBER,
    },
    "pid",
    "tid",
)
_MEASUREMENT = _object(
    {
        "trustworthy": _BOOLEAN,
        "doubts": _STRINGS,
        "observed_ms": _NUMBER,
        "steal_ms": _NUMBER,
        "waited_ms": _map(_NUMBER),
        "forced_switches": _COUNT,
    },
    "trustworthy",
    "doubts",
)
_DENIED = _object(
    {
        "syscall": _STRING,
        "errno": _STRING,
        "count": _COUNT,
        "first_args": _STRINGS,
        "process": _object({"name": _STRING, "argv": _STRINGS}),
        "reported": _BOOLEAN,
    },
    "syscall",
    "errno",
    "count",
)
_FILE = _object(
    {
        "mode": {"type": "string", "pattern": "^0[0-7]{3}$"},
        "bytes": _COUNT,
        "text": _STRING,
        "base64": _STRING,
        "saved": _STRING,
    },
    "mode",
    "bytes",
)
_CHANGE = _object(
    {
        "path": _STRING,
        "kind": _one_of("created", "modified", "deleted"),
        "bytes": _COUNT,
        "type": _one_of("file", "directory", "symlink", "special"),
    },
    "path",
    "kind",
    "bytes",
)
_CODE: Schema = {"type": "string", "pattern": "^E[1-6][0-9]{3}$"}
_HIT = _object({"code": _CODE, "cause": _STRING, "details": _ANY_OBJECT}, "code", "cause", "details")
_ERROR = _object(
    {
        "code": _CODE,
        "category": _one_of(*sorted(set(CATEGORIES.values()))),
        "message": _STRING,
        "cause": _STRING,
        "details": _ANY_OBJECT,
        "hint": _STRING,
    },
    "code",
    "category",
    "message",
    "cause",
    "details",
)


def _stream(name: str) -> dict[str, Schema]:
    return {
        name: _STRING,
        f"{name}_base64": _STRING,
        f"{name}_bytes": _COUNT,
        f"{name}_truncated": _BOOLEAN,
    }


_RESPONSE = _object(
    {
        "line": {"type": "integer", "minimum": 1},
        "execution_id": {"type": "string", "minLength": 1},
        "status": _one_of(SUCCESS, ERROR, TIMEOUT, KILLED),
        "exit_code": {"type": "integer", "minimum": 0, "maximum": 255},
        "signal": {"type": "string", "pattern": "^SIG"},
        **_stream("stdout"),
        **_stream("stderr"),
        "output": _list(_PIECE),
        "started_at": _TIME,
        "finished_at": _TIME,
        "metrics": _METRICS,
        "isolation": _ISOLATION,
        "files": _map(_FILE),
        "not_collected": _list(
            _object({"path": _STRING, "reason": _STRING, "bytes": _COUNT}, "path", "reason", "bytes")
        ),
        "postmortem": _object({"threads": _list(_THREAD), "complete": _BOOLEAN}, "threads", "complete"),
        "measurement": _MEASUREMENT,
        "processes": _list(_PROCESS),
        "limits_hit": _list(_HIT),
        "changes": _list(_CHANGE),
        "changes_truncated": {"const": True},
        "diff": _STRING,
        "diff_truncated": {"const": True},
        "not_applied": _list(_object({"path": _STRING, "reason": _STRING}, "path", "reason")),
        "denied": _list(_DENIED),
        "denied_count": {"type": "integer", "minimum": 1},
        "error": _ERROR,
    },
    "execution_id",
    "status",
    "started_at",
    "finished_at",
)


def response_schema() -> Schema:
    """Return the JSON Schema of a response."""
    return {
        "title": "capsule-run response",
        "description": "What `capsule-run --json` prints on stdout; docs/json-api.md",
        **_RESPONSE,
        "if": {"properties": {"status": {"const": SUCCESS}}},
        "then": {"not": {"required": ["error"]}, "required": ["exit_code"]},
        "else": {"required": ["error"]},
    }
