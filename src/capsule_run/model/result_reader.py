"""Read a JSON API response back into the fields of a `Result`: `Result.from_dict`.

Pure. The response may come from a log or another machine, so each field is checked for its type. Fields that this version
does not know are left out.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64

from capsule_run._base.errors import Failure
from capsule_run._base.statuses import ERROR, KILLED, SUCCESS, TIMEOUT
from capsule_run.model.changes import Change, NotApplied
from capsule_run.model.result_parts import CollectedFile, Metrics, NotCollected, Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypedDict, TypeVar

    from capsule_run._base.statuses import Status
    from capsule_run.model.result_parts import OutputPiece, StreamName

    T = TypeVar("T")

    class ResultFields(TypedDict):
        """The fields of a `Result`."""

        execution_id: str
        status: Status
        started_at: str
        finished_at: str
        exit_code: int | None
        signal: str | None
        stdout_stream: Output | None
        stderr_stream: Output | None
        metrics: Metrics | None
        isolation: Mapping[str, object]
        error: Failure | None
        collected: tuple[CollectedFile, ...]
        not_collected: tuple[NotCollected, ...]
        limits_hit: tuple[Mapping[str, object], ...]
        postmortem: Mapping[str, object] | None
        changes: tuple[Change, ...] | None
        changes_truncated: bool
        diff: str | None
        diff_truncated: bool
        not_applied: tuple[NotApplied, ...]
        measurement: Mapping[str, object] | None
        denied: tuple[Mapping[str, object], ...]
        denied_count: int
        processes: tuple[Mapping[str, object], ...] | None
        output: tuple[OutputPiece, ...] | None


_STATUSES: tuple[Status, ...] = (SUCCESS, ERROR, TIMEOUT, KILLED)
_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}
_REQUIRED_METRICS = ("wall_ms", "user_ms", "system_ms", "cpu_ms")


def _typed(value: object, kind: type[T], place: str) -> T:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"not a response: `{place}` must be {_NAMES[kind]}")
    return value


def _needed(fields: Mapping[str, object], name: str, kind: type[T], place: str = "") -> T:
    if name not in fields:
        raise ValueError(f"not a response: the field `{place}{name}` is missing")
    return _typed(fields[name], kind, place + name)


def _optional(fields: Mapping[str, object], name: str, kind: type[T], place: str = "") -> T | None:
    return _typed(fields[name], kind, place + name) if name in fields else None


def _base64(text: str, place: str) -> bytes:
    try:
        return a2b_base64(text.encode("ascii"), strict_mode=True)
    except (Base64Error, UnicodeEncodeError):
        raise ValueError(f"not a response: `{place}` must be base64") from None


def _output(fields: Mapping[str, object], name: str) -> Output | None:
    text, exact = _optional(fields, name, str), _optional(fields, f"{name}_base64", str)
    if text is None:
        return None
    return Output(
        data=text.encode("utf-8", "surrogatepass") if exact is None else _base64(exact, f"{name}_base64"),
        total_bytes=_needed(fields, f"{name}_bytes", int),
        truncated=_needed(fields, f"{name}_truncated", bool),
    )


def _file(path: str, value: object) -> CollectedFile:
    place = f"files[{path}]."
    fields = _typed(value, dict, place.rstrip("."))
    text, exact = _optional(fields, "text", str, place), _optional(fields, "base64", str, place)
    mode = _needed(fields, "mode", str, place)
    if not mode or set(mode) - set("01234567"):
        raise ValueError(f"not a response: `{place}mode` must be octal digits")
    data = (text or "").encode() if exact is None else _base64(exact, f"{place}base64")
    size = _needed(fields, "bytes", int, place)
    saved = _optional(fields, "saved", str, place)
    return CollectedFile(path=path, data=data, mode=int(mode, 8), saved=saved, size_bytes=size if saved else None)


def _failure(fields: Mapping[str, object]) -> Failure:
    return Failure(
        code=_needed(fields, "code", str, "error."),
        message=_needed(fields, "message", str, "error."),
        cause=_needed(fields, "cause", str, "error."),
        details=_needed(fields, "details", dict, "error."),
        hint=_optional(fields, "hint", str, "error.") or "",
    )


def _metrics(fields: Mapping[str, object]) -> Metrics:
    for name in _REQUIRED_METRICS:
        _needed(fields, name, float, "metrics.")
    for name in ("cpu_ms_complete", "memory_complete"):
        _optional(fields, name, bool, "metrics.")
    known = Metrics.__annotations__
    return Metrics(**{name: field for name, field in fields.items() if name in known})  # type: ignore[arg-type]  # ours


def _members(
    fields: Mapping[str, object], name: str, make: Callable[[dict[str, object], str], T]
) -> tuple[T, ...] | None:
    members = _optional(fields, name, list)
    if members is None:
        return None
    places = [f"{name}[{index}]" for index in range(len(members))]
    return tuple([make(_typed(one, dict, place), f"{place}.") for one, place in zip(members, places, strict=True)])


def _not_collected(fields: dict[str, object], place: str) -> NotCollected:
    path, reason = _needed(fields, "path", str, place), _needed(fields, "reason", str, place)
    return NotCollected(path=path, reason=reason, bytes=_needed(fields, "bytes", int, place))


def _not_applied(fields: dict[str, object], place: str) -> NotApplied:
    return NotApplied(path=_needed(fields, "path", str, place), reason=_needed(fields, "reason", str, place))


def _change(fields: dict[str, object], place: str) -> Change:
    return Change(
        path=_needed(fields, "path", str, place),
        kind=_needed(fields, "kind", str, place),  # type: ignore[arg-type]  # a later version may know more kinds
        bytes=_needed(fields, "bytes", int, place),
        type=_optional(fields, "type", str, place) or "file",  # type: ignore[arg-type]  # as above
    )


def _pieces(fields: Mapping[str, object]) -> tuple[OutputPiece, ...] | None:
    members = _optional(fields, "output", list)
    if members is None:
        return None
    pieces: list[OutputPiece] = []
    names: tuple[StreamName, ...] = ("stdout", "stderr")
    for index, member in enumerate(members):
        piece: list[object] = _typed(member, list, f"output[{index}]")
        name = next((name for name in names if piece[1:2] == [name]), None)
        if len(piece) != 3 or name is None:
            raise ValueError(f"not a response: `output[{index}]` must be seconds, `stdout` or `stderr`, and a text")
        seconds, text = _typed(piece[0], float, f"output[{index}][0]"), _typed(piece[2], str, f"output[{index}][2]")
        pieces.append((seconds, name, text))
    return tuple(pieces)


def _as_is(fields: dict[str, object], _place: str) -> dict[str, object]:
    return fields


def fields_of_response(response: Mapping[str, object]) -> ResultFields:
    """Return the fields of the `Result` that a JSON API response describes. Raises ValueError for what is none."""
    given = _typed(dict(response) if hasattr(response, "keys") else response, dict, "response")
    status = next((status for status in _STATUSES if status == given.get("status")), None)
    if status is None:
        raise ValueError(f"not a response: `status` must be one of {', '.join(_STATUSES)}")
    metrics, error = _optional(given, "metrics", dict), _optional(given, "error", dict)
    files = _optional(given, "files", dict) or {}
    return {
        "execution_id": _needed(given, "execution_id", str),
        "status": status,
        "started_at": _needed(given, "started_at", str),
        "finished_at": _needed(given, "finished_at", str),
        "exit_code": _optional(given, "exit_code", int),
        "signal": _optional(given, "signal", str),
        "stdout_stream": _output(given, "stdout"),
        "stderr_stream": _output(given, "stderr"),
        "metrics": None if metrics is None else _metrics(metrics),
        "isolation": _optional(given, "isolation", dict) or {},
        "error": None if error is None else _failure(error),
        "collected": tuple([_file(path, file) for path, file in files.items()]),
        "not_collected": _members(given, "not_collected", _not_collected) or (),
        "limits_hit": _members(given, "limits_hit", _as_is) or (),
        "postmortem": _optional(given, "postmortem", dict),
        "changes": _members(given, "changes", _change),
        "changes_truncated": _optional(given, "changes_truncated", bool) or False,
        "diff": _optional(given, "diff", str),
        "diff_truncated": _optional(given, "diff_truncated", bool) or False,
        "not_applied": _members(given, "not_applied", _not_applied) or (),
        "measurement": _optional(given, "measurement", dict),
        "denied": _members(given, "denied", _as_is) or (),
        "denied_count": _optional(given, "denied_count", int) or 0,
        "processes": _members(given, "processes", _as_is),
        "output": _pieces(given),
    }
