"""Write an audit log of who ran what under which policy, and metrics of all runs for Prometheus.

    from capsule_run.monitor import Monitor

    monitor = Monitor(metrics_file="/var/lib/node_exporter/capsule.prom", audit_log="/var/log/capsule-audit.jsonl")
    result = monitor.execute(request)

A line of the log is written whole or not at all, under a lock of the file; the metrics file is replaced whole, under a lock
of its directory. A failed write is reported and does not fail the run, unless the log is `required`: see
docs/monitoring.md. Loaded only if one of the two files is wanted.
"""

from __future__ import annotations

import fcntl
import posix
import select
import time
from _stat import S_ISREG
from errno import EFBIG, ENOSPC, ETIMEDOUT

from capsule_run._base.errors import CapsuleError
from capsule_run._base.statuses import ERROR
from capsule_run._base.strict_json import dumps
from capsule_run._base.value import replace
from capsule_run.engine.build_result import new_execution_id, timestamp
from capsule_run.engine.execute import execute
from capsule_run.engine.prepare import prepare
from capsule_run.host.caller_files import Place, callers_descriptor, reason_of
from capsule_run.host.path_resolution import DIRECTORY_FLAGS
from capsule_run.monitor.prometheus import accumulated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run.engine.streams import Streams
    from capsule_run.launcher import Run
    from capsule_run.model.policy import Policy
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

LOCK_PATIENCE_S = 2.0
MAX_METRICS_BYTES = 1 << 20
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
    from hashlib import sha256  # noqa: PLC0415  # only here

    return sha256(dumps(fields, indent=None).encode("utf-8", "surrogateescape")).hexdigest()


def _failure(what: str, path: str, error: OSError) -> CapsuleError:
    why, hint = reason_of(error)
    details = {"path": path, "errno": error.errno}
    return CapsuleError("E6005", f"cannot write the {what} `{path}`: {why}", details=details, hint=hint)


def _lock(fd: int) -> None:
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
                _lock(fd)
                _write_whole(fd, line, before=posix.fstat(fd).st_size)
                posix.fdatasync(fd)
            else:
                _write_through(fd, line)
        finally:
            posix.close(fd)
    except OSError as error:
        raise _failure("audit log", path, error) from None


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


def _content(place: Place) -> str:
    try:
        content = place.read(MAX_METRICS_BYTES)
    except FileNotFoundError:
        return ""
    if len(content) > MAX_METRICS_BYTES:
        raise OSError(EFBIG, posix.strerror(EFBIG))
    return content.decode("utf-8", "replace")


def add_metrics(path: str, result: Result) -> None:
    """Add one run to the metrics file `path`, and replace the file whole. Raises CapsuleError E6005."""
    try:
        with Place(path) as place:
            directory = posix.open(".", DIRECTORY_FLAGS, dir_fd=place.directory)
            try:
                _lock(directory)
                text = accumulated(_content(place), result, now=time.time())
                place.replace(text.encode(), mode=0o644)
            finally:
                posix.close(directory)
    except OSError as error:
        raise _failure("metrics file", path, error) from None


def _shortened(command: tuple[str, ...]) -> list[str]:
    return [word if len(word) <= MAX_WORD_BYTES else f"{word[:MAX_WORD_BYTES]}…" for word in command[:MAX_WORDS]]


def _print_failure(error: CapsuleError) -> None:
    try:
        posix.write(2, f"capsule-run: {error.code}: {error.message}\n\nhint: {error.hint}\n".encode())
    except OSError:
        pass  # stderr is closed or full


class Monitor:
    """Records every run of its `execute`. Safe in threads, and with other processes that write the same files."""

    def __init__(
        self,
        *,
        metrics_file: str = "",
        audit_log: str = "",
        required: bool = False,
        on_failure: Callable[[CapsuleError], None] = _print_failure,
    ) -> None:
        """Set the files; an empty path writes none.

        :param required: run nothing whose first line cannot be logged, and fail a run whose last line cannot be logged.
        :param on_failure: called with the error of a write that is not required; by default prints it to stderr.
        """
        self._metrics_file, self._audit_log = metrics_file, audit_log
        self._required, self._on_failure = required, on_failure

    def execute(
        self, request: Request, *, streams: Streams | None = None, on_start: Callable[[Run], None] | None = None
    ) -> Result:
        """Run a request and record the run. Raises CapsuleError E6005 if the log is required and cannot be written."""
        if request.execution_id is None:
            request = replace(request, execution_id=new_execution_id())
        entry = self._entry(request) if self._audit_log else {}
        if self._required and self._audit_log:
            append_line(self._audit_log, {"event": "start", "time": timestamp(time.time_ns()), **entry})
        result = execute(request, streams=streams, on_start=on_start)
        if self._metrics_file:
            self._reporting_failure(lambda: add_metrics(self._metrics_file, result))
        if not self._audit_log:
            return result
        try:
            append_line(self._audit_log, {"event": "end", "time": result.finished_at, **entry, **_outcome(result)})
        except CapsuleError as error:
            if self._required:
                return replace(result, status=ERROR, exit_code=125, error=error.failure())
            self._on_failure(error)
        return result

    def _reporting_failure(self, write: Callable[[], None]) -> None:
        try:
            write()
        except CapsuleError as error:
            self._on_failure(error)

    def _entry(self, request: Request) -> dict[str, object]:
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


def _outcome(result: Result) -> dict[str, object]:
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
