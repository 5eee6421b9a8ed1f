"""A result as the JSON response. Rank 1: pure."""

from __future__ import annotations

from binascii import b2a_base64

from .codes import entry
from .result import Metrics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .result import Change, CollectedFile, Failure, Output, Result


def response(result: Result) -> dict[str, object]:
    """A result as the JSON response: what was not measured, or never happened, is absent."""
    fields: dict[str, object] = {"execution_id": result.execution_id, "status": result.status}
    if result.exit_code is not None:
        fields["exit_code"] = result.exit_code
    if result.signal is not None:
        fields["signal"] = result.signal
    _add_output(fields, "stdout", result.stdout_stream)
    _add_output(fields, "stderr", result.stderr_stream)
    fields["started_at"] = result.started_at
    fields["finished_at"] = result.finished_at
    if result.metrics is not None:
        fields["metrics"] = _measured(result.metrics)
    if result.isolation:
        fields["isolation"] = result.isolation
    if result.measurement is not None:
        fields["measurement"] = result.measurement
    if result.processes is not None:
        fields["processes"] = list(result.processes)
    if result.limits_hit:
        fields["limits_hit"] = list(result.limits_hit)
    if result.denied:
        fields["denied"] = list(result.denied)
    if result.postmortem is not None:
        fields["postmortem"] = result.postmortem
    _add_workspace(fields, result)
    if result.error is not None:
        fields["error"] = _error_fields(result.error)
    return fields


def _add_workspace(fields: dict[str, object], result: Result) -> None:
    if result.collected:
        fields["files"] = {file.path: _file_fields(file) for file in result.collected}
    if result.not_collected:
        fields["not_collected"] = [
            {"path": file.path, "reason": file.reason, "bytes": file.bytes} for file in result.not_collected
        ]
    if result.changes is not None:
        fields["changes"] = [_change_fields(change) for change in result.changes]
    if result.changes_truncated:
        fields["changes_truncated"] = True
    if result.not_applied:
        fields["not_applied"] = [{"path": one.path, "reason": one.reason} for one in result.not_applied]


def _measured(metrics: Metrics) -> dict[str, object]:
    # A thousandth of a millisecond is what the clocks are good for.
    fields = {name: getattr(metrics, name) for name in Metrics.__annotations__}
    return {
        name: round(field, 3) if isinstance(field, float) else field
        for name, field in fields.items()
        if field is not None
    }


def _add_output(fields: dict[str, object], name: str, output: Output | None) -> None:
    if output is None:
        return
    try:
        fields[name] = output.data.decode()
    except UnicodeDecodeError:
        fields[name] = output.data.decode("utf-8", "replace")
        fields[f"{name}_base64"] = b2a_base64(output.data, newline=False).decode("ascii")
    fields[f"{name}_bytes"] = output.total_bytes
    fields[f"{name}_truncated"] = output.truncated


def _file_fields(file: CollectedFile) -> dict[str, object]:
    """One file as `files` of a request would take it, and its size."""
    fields: dict[str, object] = {"mode": f"{file.mode:04o}", "bytes": len(file)}
    if file.saved is not None:
        fields["saved"] = file.saved
        return fields
    content = bytes(file)
    try:
        fields["text"] = content.decode()
    except UnicodeDecodeError:
        fields["base64"] = b2a_base64(content, newline=False).decode("ascii")
    return fields


def _change_fields(change: Change) -> dict[str, object]:
    fields: dict[str, object] = {"path": change.path, "kind": change.kind, "bytes": change.bytes}
    return fields if change.type == "file" else {**fields, "type": change.type}


def _error_fields(error: Failure) -> dict[str, object]:
    fields: dict[str, object] = {
        "code": error.code,
        "category": entry(error.code).category,
        "message": error.message,
        "cause": error.cause,
        "details": error.details,
    }
    if error.hint:
        fields["hint"] = error.hint
    return fields
