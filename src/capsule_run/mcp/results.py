"""What a client gets for a call: text for the model, the same as data, and the files that came out.

What came from inside is a claim: text is made readable, names are shown and never used, a kind of file is told by its
first bytes. Nothing here names a path of the host. Used by `server.mcp`.
"""

from __future__ import annotations

from capsule_run._base.value import replace
from capsule_run.agents.text import explained, not_set_up_text, readable, refusal_text, tool_text
from capsule_run.mcp.resources import base64, contents, kept_file, listing, shown_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run._base.errors import CapsuleError
    from capsule_run.agents.operator import Operator
    from capsule_run.mcp.resources import KeptFile, ResourceStore
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result
    from capsule_run.model.result_parts import CollectedFile, Output

MAX_SHOWN_FILES = 20  # in an answer; the others are counted
MAX_IMAGE_BYTES = 1 << 20  # as an image in the answer; a larger one is linked
MAX_EMBEDDED_BYTES = 16 << 10  # of a text in the answer; a longer one is linked


def _stream(name: str, output: Output | None, shown: int) -> dict[str, object]:
    if output is None:
        return {}
    data = output.data
    omitted = max(len(data) - shown, 0)
    half = shown // 2
    text = readable(data) if not omitted else f"{readable(data[:half])}\n[…]\n{readable(data[-half:])}"
    missing = omitted + output.total_bytes - len(data)
    return {name: text, f"{name}_bytes": output.total_bytes, f"{name}_omitted_bytes": missing}


def _structured(result: Result, limits: Operator) -> dict[str, object]:
    """A result for programs, without anything of the host's."""
    whole = replace(result, stdout_stream=None, stderr_stream=None, collected=(), error=None).to_dict()
    fields: dict[str, object] = {
        name: whole[name] for name in ("execution_id", "status", "exit_code", "signal") if name in whole
    }
    fields |= _stream("stdout", result.stdout_stream, limits.shown_bytes)
    fields |= _stream("stderr", result.stderr_stream, limits.shown_bytes)
    metrics = whole.get("metrics")
    if isinstance(metrics, dict):
        fields["metrics"] = {name: number for name, number in metrics.items() if isinstance(number, (int, float))}
    if result.error is not None:
        message, advice = explained(result.error)
        error = {"code": result.error.code, "cause": result.error.cause, "message": message}
        fields["error"] = {**error, "do": advice} if advice else error
    return fields


def _block(file: KeptFile) -> dict[str, object]:
    """One file as content: an image, a short text, or a link to read it by."""
    if file.mime_type.startswith("image/") and len(file.data) <= MAX_IMAGE_BYTES:
        return {"type": "image", "data": base64(file.data), "mimeType": file.mime_type}
    if file.text is not None and len(file.data) <= MAX_EMBEDDED_BYTES:
        return {"type": "resource", "resource": contents(file)}
    return {"type": "resource_link", **listing(file)}


def _is_given(file: CollectedFile, request: Request) -> bool:
    """Whether the file is one that the call brought itself, as it was."""
    return any(given.path == file.path and given.content == bytes(file) for given in request.files)


def answer(result: Result, request: Request, limits: Operator, shelf: ResourceStore) -> dict[str, object]:
    """The result of a call for the client: text for the model, the same as data, and the files that came out."""
    blocks: list[object] = [{"type": "text", "text": tool_text(result, limits)}]
    structured = _structured(result, limits)
    produced = [file for file in result.collected if not _is_given(file, request)]
    rows: list[dict[str, object]] = []
    for file in produced[:MAX_SHOWN_FILES]:
        kept = kept_file(result.execution_id, file.path, bytes(file))
        row: dict[str, object] = {"path": kept.path, "bytes": len(file)}
        if shelf.add(kept):
            row["uri"] = kept.uri
            blocks.append(_block(kept))
        rows.append(row)
    room = MAX_SHOWN_FILES - len(rows)
    rows += [
        {"path": shown_path(left.path), "bytes": left.bytes, "reason": left.reason}
        for left in result.not_collected[:room]
    ]
    if rows:
        structured["files"] = rows
    omitted = len(produced) + len(result.not_collected) - len(rows)
    if omitted:
        structured["files_omitted"] = omitted
    return {"content": blocks, "structuredContent": structured, "isError": not result.ok}


def refusal(error: CapsuleError) -> dict[str, object]:
    """The answer to a call whose arguments were wrong: a result, so that the model sees it and can correct itself."""
    message, advice = explained(error.failure())
    return _not_run(error, message, advice, refusal_text(error))


def not_set_up(error: CapsuleError) -> dict[str, object]:
    """The answer to a call that the operator's limits fit badly: nothing of them is a model's to read."""
    text = not_set_up_text(error)
    return _not_run(error, "the sandbox is not set up for this call", text.rpartition("do: ")[2], text)


def _not_run(error: CapsuleError, message: str, advice: str, text: str) -> dict[str, object]:
    failure = {"code": error.code, "cause": error.failure().cause, "message": message}
    structured = {"status": "not run", "error": {**failure, "do": advice} if advice else failure}
    return {"content": [{"type": "text", "text": text}], "structuredContent": structured, "isError": True}
