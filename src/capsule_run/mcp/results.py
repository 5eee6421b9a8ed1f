"""Build the answer to a call: text for the model, the same as structured data, and the collected files.

What comes from inside the sandbox is untrusted: control characters are replaced, names are shown and never used, and the
kind of a file is recognised by its first bytes. No path of the host is in an answer. Used by `session`.
"""

from __future__ import annotations

from capsule_run._base.value import replace
from capsule_run.agents.text import message_and_advice, not_set_up_text, readable, refusal_text, tool_text
from capsule_run.mcp.resources import base64, contents, listing, shown_path, stored_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run._base.errors import CapsuleError
    from capsule_run.agents.operator import Operator
    from capsule_run.mcp.resources import ResourceStore, StoredFile
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result
    from capsule_run.model.result_parts import CollectedFile, Output

MAX_SHOWN_FILES = 20  # in an answer; the others are counted
MAX_IMAGE_BYTES = 1 << 20  # as an image in the answer; a larger one is linked
MAX_EMBEDDED_BYTES = 16 << 10  # of a text in the answer; a longer one is linked


def shortened(data: bytes, shown: int) -> str:
    """Return a stream as text: all of it, or its beginning and its end."""
    if len(data) <= shown:
        return readable(data)
    half = shown // 2
    return f"{readable(data[:half])}\n[…]\n{readable(data[-half:])}"


def error_object(code: str, cause: str, message: str, advice: str) -> dict[str, str]:
    """Build the `error` of an answer; `advice` may be empty."""
    error = {"code": code, "cause": cause, "message": message}
    return {**error, "do": advice} if advice else error


def _stream(name: str, output: Output | None, shown: int) -> dict[str, object]:
    if output is None:
        return {}
    data = output.data
    missing = max(len(data) - shown, 0) + output.total_bytes - len(data)
    return {
        name: shortened(data, shown),
        f"{name}_bytes": output.total_bytes,
        f"{name}_omitted_bytes": missing,
    }


def _structured(result: Result, limits: Operator) -> dict[str, object]:
    """Build the structured form of a result, with nothing about the host in it."""
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
        fields["error"] = error_object(result.error.code, result.error.cause, *message_and_advice(result.error))
    return fields


def _block(file: StoredFile) -> dict[str, object]:
    """Build the content block of a file: an image, a short text, or a link."""
    if file.mime_type.startswith("image/") and len(file.data) <= MAX_IMAGE_BYTES:
        return {"type": "image", "data": base64(file.data), "mimeType": file.mime_type}
    if file.text is not None and len(file.data) <= MAX_EMBEDDED_BYTES:
        return {"type": "resource", "resource": contents(file)}
    return {"type": "resource_link", **listing(file)}


def _is_given(file: CollectedFile, request: Request) -> bool:
    """Return whether the file is an unchanged input file of the call."""
    return any(given.path == file.path and given.content == bytes(file) for given in request.files)


def answer(result: Result, request: Request, limits: Operator, store: ResourceStore) -> dict[str, object]:
    """Build the answer to a call that ran."""
    blocks: list[object] = [{"type": "text", "text": tool_text(result, limits)}]
    structured = _structured(result, limits)
    produced = [file for file in result.collected if not _is_given(file, request)]
    rows: list[dict[str, object]] = []
    for file in produced[:MAX_SHOWN_FILES]:
        stored = stored_file(result.execution_id, file.path, bytes(file))
        row: dict[str, object] = {"path": stored.path, "bytes": len(file)}
        if store.add(stored):
            row["uri"] = stored.uri
            blocks.append(_block(stored))
        rows.append(row)
    remaining = MAX_SHOWN_FILES - len(rows)
    rows += [
        {"path": shown_path(skipped.path), "bytes": skipped.bytes, "reason": skipped.reason}
        for skipped in result.not_collected[:remaining]
    ]
    if rows:
        structured["files"] = rows
    omitted = len(produced) + len(result.not_collected) - len(rows)
    if omitted:
        structured["files_omitted"] = omitted
    return {"content": blocks, "structuredContent": structured, "isError": not result.ok}


def invalid_call(error: CapsuleError) -> dict[str, object]:
    """Build the answer to a call with invalid arguments: a result, so that the model sees it and can correct the call."""
    message, advice = message_and_advice(error.failure())
    return _not_run(error, message, advice, refusal_text(error))


def not_set_up(error: CapsuleError) -> dict[str, object]:
    """Build the answer to a call that the operator's limits do not fit; it shows nothing of the limits."""
    text = not_set_up_text(error)
    return _not_run(error, "the sandbox is not set up for this call", text.rpartition("do: ")[2], text)


def _not_run(error: CapsuleError, message: str, advice: str, text: str) -> dict[str, object]:
    failure = error_object(error.code, error.failure().cause, message, advice)
    structured = {"status": "not run", "error": failure}
    return {"content": [{"type": "text", "text": text}], "structuredContent": structured, "isError": True}
