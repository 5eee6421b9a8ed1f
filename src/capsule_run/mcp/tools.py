"""The tools of the MCP server: how `tools/list` describes them, and the request that a call becomes.

A model can set only the arguments in the schemas (`agents.arguments`); the limits are the operator's.
"""

from __future__ import annotations

from capsule_run._base.value import Value
from capsule_run.agents.arguments import (
    CODE_ARGUMENTS,
    arguments_schema,
    call_fields,
    check_arguments,
    code_call_request,
    requested_timeout_ms,
)
from capsule_run.agents.tool import EXECUTE_CODE, EXECUTE_CODE_ABOUT
from capsule_run.model.request import READ_WRITE
from capsule_run.request.parse import request_from_mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from capsule_run.agents.operator import Operator
    from capsule_run.model.request import Request


class Tool(Value):
    """One tool. `request` builds what a call runs, from its checked arguments and its other request fields."""

    name: str
    title: str
    description: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    request: Callable[[Mapping[str, object], Mapping[str, object], Operator], Request]


def _command(checked: Mapping[str, object], fields: Mapping[str, object], limits: Operator) -> Request:
    return request_from_mapping(call_fields({**fields, "command": ["sh", "-c", checked["command"]]}, limits))


_OPTIONAL = ("stdin", "files", "collect", "timeout_seconds")
TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            name=EXECUTE_CODE,
            title="Execute code",
            description=EXECUTE_CODE_ABOUT,
            required=CODE_ARGUMENTS,
            optional=_OPTIONAL,
            request=code_call_request,
        ),
        Tool(
            name="execute_command",
            title="Execute command",
            description="Execute a shell command in a secure sandbox",
            required=("command",),
            optional=_OPTIONAL,
            request=_command,
        ),
    )
}


def _isolation(limits: Operator) -> Mapping[str, object]:
    isolation = limits.limits.get("isolation", {})
    assert isinstance(isolation, dict)
    return isolation


def changes_host(limits: Operator) -> bool:
    """Return whether a call can write to anything of the host that the operator has shared."""
    isolation = _isolation(limits)
    binds, workspace = isolation.get("binds", ()), isolation.get("workspace")
    shared = [*(binds if isinstance(binds, (list, tuple)) else ()), workspace]
    return bool(isolation.get("writable_paths")) or any(
        isinstance(path, dict) and path.get("mode") == READ_WRITE for path in shared
    )


def has_network(limits: Operator) -> bool:
    """Return whether calls use the host's network."""
    return bool(_isolation(limits).get("network"))


def collects_all(limits: Operator) -> bool:
    """Return whether all files are collected by default: only if no workspace is shared, so that all are the call's own."""
    return _isolation(limits).get("workspace") is None and "collect" not in limits.limits


def sandbox_description(limits: Operator) -> str:
    """Describe the sandbox to a model in one line."""
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


def tool_entry(tool: Tool, limits: Operator) -> dict[str, object]:
    """Build a tool's entry of `tools/list`."""
    schema = arguments_schema(tool.required, tool.optional, limits, with_descriptions=True)
    writes, network = changes_host(limits), has_network(limits)
    return {
        "name": tool.name,
        "title": tool.title,
        "description": f"{tool.description}. {sandbox_description(limits)}",
        "inputSchema": {**schema, "additionalProperties": False},
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
        "metrics": {"type": "object", "additionalProperties": {"type": ["number", "boolean"]}},
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


def call_request(tool: Tool, arguments: object, limits: Operator) -> Request:
    """Build the request of a call. Raises CapsuleError E10xx for invalid arguments, which a model can correct."""
    checked = check_arguments(arguments, tool.required, tool.optional)
    fields: dict[str, object] = {name: checked[name] for name in ("stdin", "files", "collect") if name in checked}
    fields["timeout_ms"] = requested_timeout_ms(checked, limits)
    if "collect" not in checked and collects_all(limits):
        fields["collect"] = ["**"]
    return tool.request(checked, fields, limits)
