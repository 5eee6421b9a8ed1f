"""For fleets: figures of all runs for Prometheus, and an audit log of who ran what under which policy.

    from capsule_run.monitor.audit_log import Monitor

    monitor = Monitor(metrics_file="/var/lib/node_exporter/capsule.prom", audit_log="/var/log/capsule-audit.jsonl")
    result = monitor.execute(request)

Rank 3: it runs requests and writes two files. Nothing of it is loaded, or costs anything, where nobody asks for it.
A line of the log is written whole or not at all, under a lock; the figures are replaced whole, under a lock of their
directory. A failure to write is told, and ends nothing, unless the log is `required`: see docs/monitoring.md.
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
MOST_METRICS_BYTES = 1 << 20
MOST_WORDS, MOST_WORD_BYTES = 64, 1024  # of a command in the log
# What differs from run to run under one policy, or only says where this host keeps things.
_PER_RUN = {
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


def _stable(part: object) -> object:
    """A part of a policy as text that is the same on every run: sources by their path, not by what lies there now."""
    if hasattr(part, "device") and hasattr(part, "path"):
        return part.path
    if isinstance(part, tuple | list):
        return [_stable(one) for one in part]
    if isinstance(part, dict):
        return {str(name): _stable(one) for name, one in sorted(part.items())}
    if hasattr(part, "_fields"):
        return {name: _stable(getattr(part, name)) for name in sorted(part._fields)}
    return part if part is None or isinstance(part, str | int | float | bool) else str(part)


def policy_hash(policy: Policy) -> str:
    """SHA-256 of everything that was enforced, but for the command itself: equal for equal policies."""
    fields = {name: _stable(getattr(policy, name)) for name in sorted(policy.__dict__) if name not in _PER_RUN}
    from hashlib import sha256  # noqa: PLC0415  # only here

    return sha256(dumps(fields, indent=None).encode("utf-8", "surrogateescape")).hexdigest()


def _failure(what: str, path: str, error: OSError) -> CapsuleError:
    why, hint = reason_of(error)
    details = {"path": path, "errno": error.errno}
    return CapsuleError("E6005", f"cannot write the {what} `{path}`: {why}", details=details, hint=hint)


def _lock(fd: int) -> None:
    """Wait for the lock, but not for ever: who holds it may be stopped."""
    until = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.005)


def _write_whole(fd: int, text: bytes, *, before: int) -> None:
    """All of it, or nothing: a disk that is full in the middle leaves the file as it was."""
    if posix.write(fd, text) != len(text):
        posix.ftruncate(fd, before)
        raise OSError(ENOSPC, "no space left")


def append_line(path: str, entry: dict[str, object]) -> None:
    """One line at the end of the log, whole or not at all. Raises CapsuleError E6005."""
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
    """To a pipe, a socket or a terminal of the caller's, which is waited for as long as for a lock."""
    until = time.monotonic() + LOCK_PATIENCE_S
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    while line:
        left = until - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise OSError(ETIMEDOUT, posix.strerror(ETIMEDOUT))
        line = line[posix.write(fd, line[: select.PIPE_BUF]) :]  # so much never blocks behind POLLOUT


def _content(place: Place) -> str:
    try:
        content = place.read(MOST_METRICS_BYTES)
    except FileNotFoundError:
        return ""
    if len(content) > MOST_METRICS_BYTES:
        raise OSError(EFBIG, posix.strerror(EFBIG))
    return content.decode("utf-8", "replace")


def add_metrics(path: str, result: Result) -> None:
    """Add one run to the figures in `path` and replace it whole. Raises CapsuleError E6005."""
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


def _cut(command: tuple[str, ...]) -> list[str]:
    return [word if len(word) <= MOST_WORD_BYTES else f"{word[:MOST_WORD_BYTES]}…" for word in command[:MOST_WORDS]]


def _say(error: CapsuleError) -> None:
    try:
        posix.write(2, f"capsule-run: {error.code}: {error.message}\n\nhint: {error.hint}\n".encode())
    except OSError:
        pass  # nobody is left to be told


class Monitor:
    """Writes down every run that goes through `execute`. Safe in threads and beside other processes on the same files."""

    def __init__(
        self,
        *,
        metrics_file: str = "",
        audit_log: str = "",
        required: bool = False,
        on_failure: Callable[[CapsuleError], None] = _say,
    ) -> None:
        """An empty path writes nothing.

        :param required: nothing runs unless the log has taken its first line, and a run whose last line it does not
            take is an error.
        :param on_failure: called with what could not be written where it is not required; by default a line on stderr.
        """
        self._metrics_file, self._audit_log = metrics_file, audit_log
        self._required, self._on_failure = required, on_failure

    def execute(
        self, request: Request, *, streams: Streams | None = None, on_start: Callable[[Run], None] | None = None
    ) -> Result:
        """`engine.execute.execute`, written down. Raises CapsuleError E6005 before anything runs where the log is required."""
        if request.execution_id is None:
            request = replace(request, execution_id=new_execution_id())
        entry = self._entry(request) if self._audit_log else {}
        if self._required and self._audit_log:
            append_line(self._audit_log, {"event": "start", "time": timestamp(time.time_ns()), **entry})
        result = execute(request, streams=streams, on_start=on_start)
        if self._metrics_file:
            self._attempt(lambda: add_metrics(self._metrics_file, result))
        if not self._audit_log:
            return result
        try:
            append_line(self._audit_log, {"event": "end", "time": result.finished_at, **entry, **_outcome(result)})
        except CapsuleError as error:
            if self._required:
                return replace(result, status=ERROR, exit_code=125, error=error.failure())
            self._on_failure(error)
        return result

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except CapsuleError as error:
            self._on_failure(error)

    def _entry(self, request: Request) -> dict[str, object]:
        """Who, what, and under which policy; a request that gets no policy has none, and its end says why."""
        try:
            policy = policy_hash(prepare(request)[1])
        except CapsuleError:
            policy = None
        return {
            "execution_id": request.execution_id,
            "caller": {"uid": posix.getuid(), "gid": posix.getgid(), "pid": posix.getpid()},
            "command": _cut(request.command),
            "command_words": len(request.command),
            "policy_sha256": policy,
        }


def _outcome(result: Result) -> dict[str, object]:
    found: dict[str, object] = {"started_at": result.started_at, "status": result.status}
    if result.exit_code is not None:
        found["exit_code"] = result.exit_code
    if result.error is not None:
        found.update(code=result.error.code, cause=result.error.cause)
    if result.limits_hit:
        found["limits_hit"] = [hit["cause"] for hit in result.limits_hit]
    if result.metrics is not None:
        found.update(wall_ms=result.metrics.wall_ms, cpu_ms=result.metrics.cpu_ms)
        if result.metrics.max_memory_bytes is not None:
            found["max_memory_bytes"] = result.metrics.max_memory_bytes
    return found
