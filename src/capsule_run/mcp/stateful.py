"""The tools of the MCP server that keep state between calls: sandboxes, contexts, processes and files. See docs/mcp.md.

They are there if the operator allows living sandboxes (`--sandboxes`). A model can set only the arguments in the schemas.
"""

from __future__ import annotations

from errno import EIO

from capsule_run._base.errno_words import errno_words
from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.agents.arguments import ARGUMENTS, Argument, check_arguments, requested_timeout_ms
from capsule_run.agents.cell_text import cell_text, error_and_advice, text_lines
from capsule_run.agents.conversations import Stop, cell_language, cell_languages
from capsule_run.agents.text import readable, stream_lines
from capsule_run.mcp.resources import base64
from capsule_run.mcp.results import MAX_IMAGE_BYTES, error_object, shortened
from capsule_run.model.result_parts import Output
from capsule_run.request.validators import check_string, shown, wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from capsule_run.agents.operator import Operator
    from capsule_run.mcp.sandboxes import Sandboxes
    from capsule_run.model.cell import CellResult

    Checked = Mapping[str, object]
    Done = tuple[str, dict[str, object], list[object]]  # text, structured content, further blocks of content

MOST_IMAGES = 20  # in an answer
MOST_WAIT_SECONDS = 60
_STRING: dict[str, object] = {"type": "string"}
_PATHS = "files are read and written beneath /workspace, /home/user and /tmp"


class StatefulTool(Value):
    """One tool. `act` does what a call asks for, and returns the answer's content and structured content."""

    name: str
    title: str
    description: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    act: Callable[[Checked, Sandboxes, Operator, Stop], Done]


def _check_wait(value: object, label: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong_type(label, "a number of seconds", value)
    return min(max(float(value), 0.0), MOST_WAIT_SECONDS)


_OWN_ARGUMENTS = {
    "sandbox": Argument(
        check=check_string,
        schema=_STRING,
        description="Which sandbox; without it the first, which is made if there is none",
    ),
    "process": Argument(check=check_string, schema=_STRING, description="The process that `start_process` named"),
    "wait_seconds": Argument(
        check=_check_wait,
        schema={"type": "number", "minimum": 0, "maximum": MOST_WAIT_SECONDS},
        description="How long to wait for the end of the process before reading",
    ),
    "path": Argument(
        check=check_string, schema=_STRING, description="A path in the sandbox, absolute or relative to /workspace"
    ),
    "text": Argument(check=check_string, schema=_STRING, description="The content of the file"),
}
_ALL_ARGUMENTS = {**ARGUMENTS, **_OWN_ARGUMENTS}


def _create(_checked: Checked, boxes: Sandboxes, _limits: Operator, _stop: Stop) -> Done:
    name = boxes.create()
    return f"status: success\nsandbox: {name}", {"status": "success", "sandbox": name}, []


def _close(checked: Checked, boxes: Sandboxes, _limits: Operator, _stop: Stop) -> Done:
    name = boxes.close(checked["sandbox"])
    return f"status: success\n{name} has ended", {"status": "success", "sandbox": name}, []


def _run_code(checked: Checked, boxes: Sandboxes, limits: Operator, stop: Stop) -> Done:
    language = cell_language(checked, limits)
    name, box = boxes.get(checked.get("sandbox"))
    context = box.own_context(language)
    stop.runs_in(context)
    result = context.run_code(str(checked["code"]), timeout_ms=requested_timeout_ms(checked, limits))
    fields: dict[str, object] = {"status": result.status, "sandbox": name, "state_lost": result.state_lost}
    if result.text is not None:
        fields["value"] = shortened(result.text.encode("utf-8", "replace"), limits.shown_bytes)
    fields["stdout"] = shortened(result.stdout_stream.data, limits.shown_bytes)
    fields["stderr"] = shortened(result.stderr_stream.data, limits.shown_bytes)
    if result.error is not None:
        fields["error"] = error_object(result.error.name, result.error.cause, *error_and_advice(result.error))
    return cell_text(result, limits), fields, _images(result)


def _images(result: CellResult) -> list[object]:
    found: list[object] = []
    for one in result.results:
        for kind in ("image/png", "image/jpeg"):
            data = one.image_bytes(kind)
            if data and len(data) <= MAX_IMAGE_BYTES and len(found) < MOST_IMAGES:
                found.append({"type": "image", "data": base64(data), "mimeType": kind})
    return found


def _start(checked: Checked, boxes: Sandboxes, _limits: Operator, _stop: Stop) -> Done:
    sandbox, box = boxes.get(checked.get("sandbox"))
    name = boxes.start(box, str(checked["command"]))
    text = f"status: success\nprocess: {name}, in {sandbox}"
    return text, {"status": "success", "sandbox": sandbox, "process": name}, []


def _read_output(checked: Checked, boxes: Sandboxes, limits: Operator, _stop: Stop) -> Done:
    started = boxes.process(checked["process"])
    wait = checked.get("wait_seconds", 0.0)
    assert isinstance(wait, float)
    code = started.wait(wait)
    lines = ["status: success", "the process runs" if code is None else f"the process has ended with exit code {code}"]
    fields: dict[str, object] = {"status": "success", "running": code is None}
    if code is not None:
        fields["exit_code"] = code
    for name, stream in (("stdout", started.stdout), ("stderr", started.stderr)):
        text, omitted = stream.take()
        lines += [f"{omitted} characters of {name} before this are not kept"] if omitted else []
        lines += text_lines(name, text, limits.shown_bytes)
        fields[name] = shortened(text.encode("utf-8", "replace"), limits.shown_bytes)
    return "\n".join(lines), fields, []


def _stop_process(checked: Checked, boxes: Sandboxes, _limits: Operator, _stop: Stop) -> Done:
    started = boxes.process(checked["process"])
    started.process.kill()
    boxes.forget(checked["process"])
    return "status: success\nthe process has ended", {"status": "success"}, []


def _write_file(checked: Checked, boxes: Sandboxes, _limits: Operator, _stop: Stop) -> Done:
    sandbox, box = boxes.get(checked.get("sandbox"))
    data = str(checked["text"]).encode("utf-8", "replace")
    box.files.write(str(checked["path"]), data)
    text = f"status: success\n{len(data)} bytes were written in {sandbox}"
    return text, {"status": "success", "sandbox": sandbox, "bytes": len(data)}, []


def _read_file(checked: Checked, boxes: Sandboxes, limits: Operator, _stop: Stop) -> Done:
    sandbox, box = boxes.get(checked.get("sandbox"))
    size = box.files.stat(str(checked["path"])).size
    data = box.files.read_bytes(str(checked["path"]), size=limits.shown_bytes)
    output = Output(data=data, total_bytes=size, truncated=size > len(data))
    text = "\n".join(["status: success", *stream_lines("file", output, limits.shown_bytes)])
    return text, {"status": "success", "sandbox": sandbox, "text": readable(data), "bytes": size}, []


_ROWS = (
    ("create_sandbox", "Create sandbox", _create, (), (), "Make a sandbox that keeps files and processes between calls"),
    ("close_sandbox", "Close sandbox", _close, ("sandbox",), (), "End a sandbox with everything in it"),
    (
        "run_code", "Run code", _run_code, ("code",), ("language", "sandbox", "timeout_seconds"),
        "Run code in an interpreter that keeps its variables, like a notebook: the last value and figures come back",
    ),
    (
        "start_process", "Start process", _start, ("command",), ("sandbox",),
        "Start a shell command that goes on after the call, such as a server",
    ),
    (
        "read_output", "Read output", _read_output, ("process",), ("wait_seconds",),
        "Read what a started process has written since the last read, and whether it runs",
    ),
    ("stop_process", "Stop process", _stop_process, ("process",), (), "End a started process and all that it started"),
    ("write_file", "Write file", _write_file, ("path", "text"), ("sandbox",), "Write a text file in a sandbox"),
    ("read_file", "Read file", _read_file, ("path",), ("sandbox",), "Read a text file of a sandbox"),
)  # fmt: skip
STATEFUL_TOOLS = {
    name: StatefulTool(name=name, title=title, description=about, required=required, optional=optional, act=act)
    for name, title, act, required, optional, about in _ROWS
}

STATEFUL_DESCRIPTION = (
    "The other tools work in sandboxes that keep variables, files and processes from call to call; "
    "one that is not used for a while ends."
)

_OUTPUT_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["success", "error", "timeout", "killed", "not run"]},
        **dict.fromkeys(("sandbox", "process", "value", "stdout", "stderr", "text"), _STRING),
        "state_lost": {"type": "boolean", "description": "whether the variables of earlier calls are gone"},
        "running": {"type": "boolean"},
        "exit_code": {"type": "integer"},
        "bytes": {"type": "integer", "minimum": 0},
        "error": {
            "type": "object",
            "properties": dict.fromkeys(("code", "cause", "message", "do"), _STRING),
            "required": ["code", "cause", "message"],
        },
    },
    "required": ["status"],
}


def stateful_entry(tool: StatefulTool, limits: Operator, *, writes: bool, network: bool) -> dict[str, object]:
    """Build a tool's entry of `tools/list`."""
    properties: dict[str, dict[str, object]] = {}
    for name in (*tool.required, *tool.optional):
        properties[name] = {**_ALL_ARGUMENTS[name].schema, "description": _ALL_ARGUMENTS[name].description}
    if "language" in properties:
        properties["language"]["enum"] = cell_languages(limits)
    if "timeout_seconds" in properties:
        properties["timeout_seconds"]["maximum"] = limits.max_timeout_seconds
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(tool.required),
        "additionalProperties": False,
    }
    read_only = tool.name in ("read_output", "read_file")
    return {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": schema,
        "outputSchema": _OUTPUT_SCHEMA,
        "annotations": {
            "title": tool.title,
            "readOnlyHint": read_only,
            "destructiveHint": not read_only and (writes or network),
            "idempotentHint": tool.name in ("read_file", "write_file"),
            "openWorldHint": network and not read_only,
        },
    }


def stateful_answer(
    tool: StatefulTool, arguments: object, boxes: Sandboxes, limits: Operator, stop: Stop
) -> dict[str, object]:
    """Do what a call asks for, and build its answer. Raises CapsuleError."""
    checked = check_arguments(arguments, tool.required, tool.optional, table=_ALL_ARGUMENTS)
    try:
        text, fields, blocks = tool.act(checked, boxes, limits, stop)
    except OSError as error:  # of a file in the sandbox
        path = shown(checked.get("path", ""))
        raise CapsuleError("E1005", f"path: {path}: {errno_words(error.errno or EIO)}", hint=_PATHS) from None
    content = [{"type": "text", "text": text}, *blocks]
    return {"content": content, "structuredContent": fields, "isError": fields["status"] != "success"}
