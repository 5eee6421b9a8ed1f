"""Append a run to an audit log: who ran what under which policy, and how it ended.

Used by `monitor.audit_log`, and by `engine.execute` for the log that a ceiling requires. Loaded only if there is a log.
"""

from __future__ import annotations

import fcntl
import posix
import select
import time
from _stat import S_ISREG
from errno import ENOSPC, ETIMEDOUT

from capsule_run._base.errors import CapsuleError
from capsule_run._base.statuses import ERROR
from capsule_run._base.strict_json import dumps
from capsule_run._base.value import replace
from capsule_run.engine.build_result import failed_result, names, timestamp
from capsule_run.engine.prepare import prepare
from capsule_run.host.caller_files import Place, callers_descriptor, reason_of
from capsule_run.result.filter_hash import sha256_of_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.engine.attempt import Steps
    from capsule_run.model.policy import Policy
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

LOCK_PATIENCE_S = 2.0
MAX_WORDS, MAX_WORD_BYTES = 64, 1024  # of a command in the log
# Fields that differ between runs under one policy, or only describe this host.
_NOT_HASHED = {
    "command",
    "candidates",
    "environment",
    "identity",
    "transfer",
    "notes",
    "has_stdin",
    "working_directory",
    "etc_copied",
    "gitconfig",
    "resolv_conf",
}


def _comparable(part: object) -> object:
    """Return a part of a policy in a form that is equal on every run: sources by path, not by device and inode."""
    if hasattr(part, "device") and hasattr(part, "path"):
        return part.path
    if isinstance(part, tuple | list):
        return [_comparable(one) for one in part]
    if isinstance(part, dict):
        return {str(name): _comparable(one) for name, one in sorted(part.items())}
    if hasattr(part, "_fields"):
        return {name: _comparable(getattr(part, name)) for name in sorted(part._fields)}
    return part if part is None or isinstance(part, str | int | float | bool) else str(part)


def policy_hash(policy: Policy) -> str:
    """Return the SHA-256 of everything that is enforced, without the command: equal for equal policies."""
    fields = {name: _comparable(getattr(policy, name)) for name in sorted(policy.__dict__) if name not in _NOT_HASHED}
    return sha256_of_bytes(dumps(fields, indent=None).encode("utf-8", "surrogateescape"))


def failure(what: str, path: str, error: OSError) -> CapsuleError:
    """Build the error of a file that cannot be written."""
    why, hint = reason_of(error)
    details = {"path": path, "errno": error.errno}
    return CapsuleError("E6005", f"cannot write the {what} `{path}`: {why}", details=details, hint=hint)


def lock(fd: int) -> None:
    """Wait for the lock, at most LOCK_PATIENCE_S: the process that holds it may be stopped."""
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _write_whole(fd: int, text: bytes, *, before: int) -> None:
    """Write all of `text`, or restore the file's size `before` and raise OSError ENOSPC."""
    if posix.write(fd, text) != len(text):
        posix.ftruncate(fd, before)
        raise OSError(ENOSPC, "no space left")


def append_line(path: str, entry: dict[str, object]) -> None:
    """Append one line to the log, whole or not at all. Raises CapsuleError E6005."""
    line = dumps(entry, indent=None).encode("utf-8", "surrogateescape") + b"\n"
    try:
        fd = _open_log(path)
        try:
            if S_ISREG(posix.fstat(fd).st_mode):
                lock(fd)
                _write_whole(fd, line, before=posix.fstat(fd).st_size)
                posix.fdatasync(fd)
            else:
                _write_through(fd, line)
        finally:
            posix.close(fd)
    except OSError as error:
        raise failure("audit log", path, error) from None


def _open_log(path: str) -> int:
    number = callers_descriptor(path)
    if number is not None:
        return posix.dup(number)
    with Place(path) as place:
        return place.open_to_append(0o600)


def _write_through(fd: int, line: bytes) -> None:
    """Write to the caller's pipe, socket or terminal; wait for it at most LOCK_PATIENCE_S."""
    deadline = time.monotonic() + LOCK_PATIENCE_S
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    while line:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise OSError(ETIMEDOUT, posix.strerror(ETIMEDOUT))
        line = line[posix.write(fd, line[: select.PIPE_BUF]) :]  # PIPE_BUF bytes do not block after POLLOUT


def _shortened(command: tuple[str, ...]) -> list[str]:
    return [word if len(word) <= MAX_WORD_BYTES else f"{word[:MAX_WORD_BYTES]}…" for word in command[:MAX_WORDS]]


def entry_of(request: Request) -> dict[str, object]:
    """Build the fields of both lines. `policy_sha256` is None for a request without a policy; its last line has the error."""
    try:
        policy = policy_hash(prepare(request)[1])
    except CapsuleError:
        policy = None
    return {
        "execution_id": request.execution_id,
        "caller": {"uid": posix.getuid(), "gid": posix.getgid(), "pid": posix.getpid()},
        "command": _shortened(request.command),
        "command_words": len(request.command),
        "policy_sha256": policy,
    }


def append_start(path: str, entry: dict[str, object], began_ns: int) -> None:
    """Append the line before a run. Raises CapsuleError E6005."""
    append_line(path, {"event": "start", "time": timestamp(began_ns), **entry})


def append_end(path: str, entry: dict[str, object], result: Result) -> None:
    """Append the line after a run. Raises CapsuleError E6005."""
    append_line(path, {"event": "end", "time": result.finished_at, **entry, **_outcome_of(result)})


def unrecorded(result: Result, error: CapsuleError) -> Result:
    """Return the result of a run whose last line is required and could not be written."""
    return replace(result, status=ERROR, exit_code=125, error=error.failure())


def _outcome_of(result: Result) -> dict[str, object]:
    """Build the fields of the last line."""
    fields: dict[str, object] = {"started_at": result.started_at, "status": result.status}
    if result.exit_code is not None:
        fields["exit_code"] = result.exit_code
    if result.error is not None:
        fields.update(code=result.error.code, cause=result.error.cause)
    if result.limits_hit:
        fields["limits_hit"] = [hit["cause"] for hit in result.limits_hit]
    if result.metrics is not None:
        fields.update(wall_ms=result.metrics.wall_ms, cpu_ms=result.metrics.cpu_ms)
        if result.metrics.max_memory_bytes is not None:
            fields["max_memory_bytes"] = result.metrics.max_memory_bytes
    return fields


def recorded(path: str, request: Request, running: Steps, *, began_ns: int) -> Steps:
    """Run `running` with a line before it and one after it. Without its first line nothing runs; without its last the run fails.

    Every outcome is a result, as in `engine.execute.steps`.
    """
    entry = entry_of(request)
    try:
        append_start(path, entry, began_ns)
    except CapsuleError as error:
        return failed_result(error, names(request, began_ns))
    result = yield from running
    try:
        append_end(path, entry, result)
    except CapsuleError as error:
        return unrecorded(result, error)
    return result
