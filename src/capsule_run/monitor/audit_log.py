"""Write an audit log of who ran what under which policy, and metrics of all runs for Prometheus.

    from capsule_run.monitor import Monitor

    monitor = Monitor(metrics_file="/var/lib/node_exporter/capsule.prom", audit_log="/var/log/capsule-audit.jsonl")
    result = monitor.execute(request)

A line of the log is written whole or not at all, under a lock of the file; the metrics file is replaced whole, under a lock
of its directory. A failed write is reported and does not fail the run, unless the log is `required`: see
docs/monitoring.md. Loaded only if one of the two files is wanted.
"""

from __future__ import annotations

import posix
import time
from errno import EFBIG

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.engine import configuration
from capsule_run.engine.audit import append_end, append_start, entry_of, failure, lock, unrecorded
from capsule_run.engine.build_result import new_execution_id
from capsule_run.engine.execute import complete, steps, wait
from capsule_run.host.caller_files import Place
from capsule_run.host.path_resolution import DIRECTORY_FLAGS, SYSTEM_FILE, is_absent
from capsule_run.monitor.prometheus import accumulated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run.engine.attempt import Steps
    from capsule_run.engine.streams import Streams
    from capsule_run.launcher import Run
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

MAX_METRICS_BYTES = 1 << 20


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
                lock(directory)
                text = accumulated(_content(place), result, now=time.time())
                place.replace(text.encode(), mode=0o644)
            finally:
                posix.close(directory)
    except OSError as error:
        raise failure("metrics file", path, error) from None


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
        return self.perform(complete(request), streams=streams, on_start=on_start)

    def perform(
        self, request: Request, *, streams: Streams | None = None, on_start: Callable[[Run], None] | None = None
    ) -> Result:
        """Run a request that is checked and complete already; else like `execute`."""
        return wait(self.steps(request, lambda named: steps(named, streams=streams, on_start=on_start)))

    def steps(self, request: Request, run: Callable[[Request], Steps]) -> Steps:
        """Run a checked request in steps (`engine.attempt.Steps`), and record the run.

        :param run: takes the request with its execution id.
        """
        if request.execution_id is None:
            request = replace(request, execution_id=new_execution_id())
        log = self._audit_log
        if not is_absent(SYSTEM_FILE):
            request = configuration.bounded(request)
            log = "" if log == configuration.audit_log() else log  # the engine writes that one
        entry = entry_of(request) if log else {}
        if self._required and log:
            append_start(log, entry, time.time_ns())
        result = yield from run(request)
        if self._metrics_file:
            self._reporting_failure(lambda: add_metrics(self._metrics_file, result))
        if not log:
            return result
        try:
            append_end(log, entry, result)
        except CapsuleError as error:
            if self._required:
                return unrecorded(result, error)
            self._on_failure(error)
        return result

    def _reporting_failure(self, write: Callable[[], None]) -> None:
        try:
            write()
        except CapsuleError as error:
            self._on_failure(error)
