"""The JSON Schema of a request, made of the checkers that every request passes (`request.parse`). Pure.

A checker of one kind is a closure whose variables are its bounds: the schema reads them there, so that both cannot differ.
Loaded by `capsule-run schema` only. docs/schema has the files.
"""

from __future__ import annotations

from capsule_run.request import durations, file_fields, parse, validators
from capsule_run.request.option_table import OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run.request.validators import Checker

    Schema = dict[str, object]

_DURATION = rf"^[0-9]+(\.[0-9]+)?({'|'.join(durations.UNITS)})$"
_STRING: Schema = {"type": "string"}
_PATH: Schema = {"type": "string", "minLength": 1, "maxLength": validators.MAX_PATH_BYTES}
_ABSOLUTE: Schema = {"type": "string", "pattern": "^/", "maxLength": validators.MAX_PATH_BYTES}
_STRINGS: Schema = {"type": "object", "additionalProperties": _STRING}
_ID: Schema = {"type": "integer", "minimum": 0, "maximum": 65_533}
_FILE: Schema = {
    "type": "object",
    "properties": {
        "text": _STRING,
        "base64": {"type": "string", "contentEncoding": "base64"},
        "source": _PATH,
        "mode": {"type": "string", "pattern": "^0?[0-7]{3}$"},
    },
    "additionalProperties": False,
}


def _object(table: Mapping[str, Checker], required: tuple[str, ...], *, prefix: str = "") -> Schema:
    properties = {name: _described(prefix + name, schema_of(check)) for name, check in table.items()}
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


_ABOUT = {option.field: option.about for option in reversed(OPTIONS) if option.field in parse.FIELDS}


def _described(path: str, schema: Schema) -> Schema:
    return {**schema, "description": _ABOUT[path]} if path in _ABOUT else schema


def schema_of(check: Checker) -> Schema:
    """Return the schema of what a checker accepts from JSON. Raises KeyError for a checker that has none."""
    kind = check.__qualname__.partition(".")[0]
    if check.__closure__ is None:
        return _named(check)
    names: Mapping[str, object] = dict(
        zip(check.__code__.co_freevars, [cell.cell_contents for cell in check.__closure__], strict=True)
    )
    if kind in ("integer", "number"):
        return {"type": kind, "minimum": names["low"], "maximum": names["high"]}
    if kind == "choice":
        words = names["words"]
        assert isinstance(words, tuple)
        return {"type": "string", "enum": list(words)}
    if kind == "integer_or":
        return {"anyOf": [{"const": names["word"]}, schema_of(names["check_integer"])]}  # type: ignore[arg-type]  # a checker
    if kind == "integer_or_duration":
        return {"anyOf": [schema_of(names["check_integer"]), {"type": "string", "pattern": _DURATION}]}  # type: ignore[arg-type]
    if kind == "list_of":
        return {"type": "array", "items": schema_of(names["check_item"])}  # type: ignore[arg-type]  # a checker
    return _named(check)


def _named(check: Checker) -> Schema:
    simple: dict[object, Schema] = {
        validators.check_boolean: {"type": "boolean"},
        validators.check_command: {"type": "array", "items": _STRING, "minItems": 1},
        validators.check_environment: _STRINGS,
        validators.check_stdin: _STRING,
        validators.check_base64: {"type": "string", "contentEncoding": "base64"},
        validators.check_execution_id: {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
        validators.check_traceparent: {
            "type": "string",
            "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        },
        validators.check_hostname: {"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"},
        validators.check_user: {"anyOf": [_ID, {"type": "string", "pattern": "^[0-9]{1,5}(:[0-9]{1,5})?$"}]},
        validators.check_source: _PATH,
        validators.check_profile: _PATH,
        validators.check_place: _PATH,
        validators.check_directory: _ABSOLUTE,
        parse._check_unmask: {"type": "array", "items": _STRING},  # noqa: SLF001  # the checkers of its table
        parse._check_collect: {"type": "array", "items": _PATH, "maxItems": file_fields.MAX_PATTERNS},  # noqa: SLF001
        parse._check_files: {"type": "object", "additionalProperties": {"anyOf": [_STRING, _FILE]}},  # noqa: SLF001
    }
    if check in simple:
        return simple[check]
    if check is parse.check_workspace:
        workspace = _object(parse._WORKSPACE, ("source",))  # noqa: SLF001
        return {"anyOf": [{"type": "null"}, _PATH, workspace]}
    if check is parse._check_workspace_upper:  # noqa: SLF001
        most = {"type": "integer", "minimum": 1 << 20, "maximum": 1 << 62}
        upper = {"type": "object", "properties": {"directory": _PATH, "bytes": most}, "required": ["directory"]}
        return {"anyOf": [_PATH, {**upper, "additionalProperties": False}]}
    tables: dict[object, tuple[Mapping[str, Checker], tuple[str, ...], str]] = {
        parse.check_bind: (parse._BIND, ("source", "destination"), ""),  # noqa: SLF001
        parse._check_resources: (parse._RESOURCES, (), "resources."),  # noqa: SLF001
        parse._check_isolation: (parse._ISOLATION, (), "isolation."),  # noqa: SLF001
    }
    table, required, prefix = tables[check]
    return _object(table, required, prefix=prefix)


def request_schema() -> Schema:
    """Return the JSON Schema of a request."""
    top = {name: check for name, check in parse.FIELDS.items() if "." not in name}
    return {
        "title": "capsule-run request",
        "description": "What `capsule-run --json` reads from stdin; docs/json-api.md",
        **_object(top, ("command",)),
        "not": {"required": ["stdin", "stdin_base64"]},
    }
