"""The tools that a model sees: their schemas, and the request that a call stands for.

Whatever a model says is one of the few arguments in the schemas; limits are the operator's, see `tooling`. Pure; used by
`server.mcp`.
"""

from __future__ import annotations

from capsule_run._base.value import Value
from capsule_run.agents.operator import MAX_TIMEOUT_SECONDS, MIN_TIMEOUT_SECONDS
from capsule_run.engine.code import code_request
from capsule_run.model.request import READ_WRITE
from capsule_run.request.languages import language
from capsule_run.request.parse import check_object, request_from_mapping, with_defaults
from capsule_run.request.validators import check_source, check_stdin, list_of, refuse, wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from capsule_run.agents.operator import Operator
    from capsule_run.model.request import Request
    from capsule_run.request.validators import Checker


def _text(given: object, label: str) -> str:
    if not isinstance(given, str):
        raise wrong_type(label, "a string", given)
    if "\0" in given or not given.strip():
        raise refuse("E1005", label, "must not be empty or hold a NUL")
    return given


def _seconds(given: object, label: str) -> float:
    """Any number: too little or too much is brought within bounds, as every door does it."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise wrong_type(label, "a number", given)
    return min(max(given, MIN_TIMEOUT_SECONDS), MAX_TIMEOUT_SECONDS)


def _files(given: object, label: str) -> dict[str, object]:
    """Texts by path. The request's own form could name a file of the host, so nothing but text gets through here."""
    if not isinstance(given, dict):
        raise wrong_type(label, "an object of strings", given)
    for path, content in given.items():
        if not isinstance(content, str):
            raise wrong_type(f"{label}[{path!r}]", "a string", content)
    return given


# What a call may say: its checker, and its schema without the words for the model.
_ARGUMENTS: dict[str, tuple[Checker, dict[str, object]]] = {
    "language": (_text, {"type": "string"}),
    "code": (_text, {"type": "string"}),
    "command": (_text, {"type": "string"}),
    "stdin": (check_stdin, {"type": "string"}),
    "files": (_files, {"type": "object", "additionalProperties": {"type": "string"}}),
    "collect": (list_of(check_source), {"type": "array", "items": {"type": "string"}}),
    "timeout_seconds": (_seconds, {"type": "number", "minimum": MIN_TIMEOUT_SECONDS}),
}
_ABOUT = {
    "language": "The language the code is written in",
    "code": "The program, complete; print what you want to know",
    "command": "A command line for `sh`, such as `grep -c x data.txt | sort`",
    "stdin": "What the program reads on standard input",
    "files": "Files to put into the working directory first: relative path to text",
    "collect": 'Which files of the working directory come back, as patterns such as "*.png" or "out/**"',
    "timeout_seconds": "Seconds after which it is ended",
}


class Tool(Value):
    """One tool; `request` makes of checked arguments what is run."""

    name: str
    title: str
    about: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    request: Callable[[Mapping[str, object], dict[str, object], Operator], Request]


def _code(given: Mapping[str, object], fields: dict[str, object], limits: Operator) -> Request:
    row = language(given["language"], "arguments.language")
    if row.name not in limits.languages:
        known = ", ".join(limits.languages)
        raise refuse("E1005", "arguments.language", f"must be one of {known}, got `{row.name}`")
    return code_request(given["code"], row.name, _completed(fields, limits))


def _command(given: Mapping[str, object], fields: dict[str, object], limits: Operator) -> Request:
    return request_from_mapping(_completed({**fields, "command": ["sh", "-c", given["command"]]}, limits))


def _completed(fields: dict[str, object], limits: Operator) -> dict[str, object]:
    completed = with_defaults(fields, limits.limits)
    assert isinstance(completed, dict)
    return completed


_REST = ("stdin", "files", "collect", "timeout_seconds")
TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            name="execute_code",
            title="Execute code",
            about="Execute code in a secure sandbox",
            required=("language", "code"),
            optional=_REST,
            request=_code,
        ),
        Tool(
            name="execute_command",
            title="Execute command",
            about="Execute a shell command in a secure sandbox",
            required=("command",),
            optional=_REST,
            request=_command,
        ),
    )
}


# --- what a client is told about them ---------------------------------------------------------------------------------


def _isolation(limits: Operator) -> Mapping[str, object]:
    isolation = limits.limits.get("isolation", {})
    assert isinstance(isolation, dict)
    return isolation


def changes_host(limits: Operator) -> bool:
    """Whether the operator has shared anything of the host that a call can write."""
    isolation = _isolation(limits)
    binds, workspace = isolation.get("binds", ()), isolation.get("workspace")
    shared = [*(binds if isinstance(binds, (list, tuple)) else ()), workspace]
    return bool(isolation.get("writable_paths")) or any(
        isinstance(path, dict) and path.get("mode") == READ_WRITE for path in shared
    )


def has_network(limits: Operator) -> bool:
    return bool(_isolation(limits).get("network"))


def collects_all(limits: Operator) -> bool:
    """Whether every file that a call leaves comes back unasked: only where all of them are the call's own."""
    return _isolation(limits).get("workspace") is None and "collect" not in limits.limits


def world(limits: Operator) -> str:
    """What a model should know about where its programs run, in one line."""
    parts = [
        "Every call is a fresh sandbox: nothing is kept between two calls, so bring what you need in `files`",
        "the network is the host's" if has_network(limits) else "there is no network",
        "the working directory is writable",
        "every file left in it comes back"
        if collects_all(limits)
        else "name the files that you want back in `collect`",
        f"a call may take {limits.timeout_ms / 1000:g} s, and {limits.max_timeout_ms / 1000:g} s if it asks for it",
    ]
    return "; ".join(parts) + "."


def described(tool: Tool, limits: Operator) -> dict[str, object]:
    """A tool as `tools/list` has it."""
    properties = {
        name: {**_ARGUMENTS[name][1], "description": _ABOUT[name]} for name in (*tool.required, *tool.optional)
    }
    if "language" in properties:
        properties["language"]["enum"] = list(limits.languages)
    properties["timeout_seconds"]["default"] = limits.timeout_ms / 1000
    properties["timeout_seconds"]["maximum"] = limits.max_timeout_ms / 1000
    writes, network = changes_host(limits), has_network(limits)
    return {
        "name": tool.name,
        "title": tool.title,
        "description": f"{tool.about}. {world(limits)}",
        "inputSchema": {
            "type": "object",
            "properties": properties,
            "required": list(tool.required),
            "additionalProperties": False,
        },
        "outputSchema": OUTPUT_SCHEMA,
        "annotations": {
            "title": tool.title,
            "readOnlyHint": not writes and not network,
            "destructiveHint": writes or network,
            "idempotentHint": not writes and not network,
            "openWorldHint": network,
        },
    }


_COUNT: dict[str, object] = {"type": "integer", "minimum": 0}
_STREAM: dict[str, tuple[dict[str, object], str]] = {
    "": ({"type": "string"}, "what it wrote, or the beginning and the end of it"),
    "_bytes": (_COUNT, "how many bytes it wrote"),
    "_omitted_bytes": (_COUNT, "how many of them are not in the text"),
}
OUTPUT_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "execution_id": {"type": "string"},
        "status": {
            "type": "string",
            "enum": ["success", "error", "timeout", "killed", "not run"],
            "description": "success: exit code 0; error: it ended otherwise by itself; killed: a limit or a rule ended it",
        },
        "exit_code": {"type": "integer"},
        "signal": {"type": "string"},
        **{
            f"{stream}{suffix}": {**kind, "description": about}
            for stream in ("stdout", "stderr")
            for suffix, (kind, about) in _STREAM.items()
        },
        "metrics": {"type": "object", "additionalProperties": {"type": "number"}},
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "cause": {"type": "string", "description": "one word"},
                "message": {"type": "string"},
                "do": {"type": "string", "description": "what to change"},
            },
            "required": ["code", "cause", "message"],
        },
        "files": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "path": {"type": "string"},
                    "bytes": _COUNT,
                    "uri": {"type": "string", "description": "to read it with resources/read"},
                    "reason": {"type": "string", "description": "why it did not come back"},
                },
                "required": ["path", "bytes"],
            },
        },
        "files_omitted": _COUNT,
    },
    "required": ["status"],
}


# --- from a call to a request -----------------------------------------------------------------------------------------


def call_request(tool: Tool, arguments: object, limits: Operator) -> Request:
    """What a call runs. Raises CapsuleError E10xx for arguments that a model can correct."""
    table = {name: _ARGUMENTS[name][0] for name in (*tool.required, *tool.optional)}
    given = check_object(arguments, "arguments", table)
    for name in tool.required:
        if name not in given:
            raise refuse("E1006", "arguments", f"the field `{name}` is missing")
    fields: dict[str, object] = {name: given[name] for name in ("stdin", "files", "collect") if name in given}
    seconds = given.get("timeout_seconds")
    assert seconds is None or isinstance(seconds, (int, float))
    fields["timeout_ms"] = limits.clamp(seconds)
    if "collect" not in given and collects_all(limits):
        fields["collect"] = ["**"]
    return tool.request(given, fields, limits)
