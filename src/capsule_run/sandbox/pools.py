"""Run requests that may differ, each in a room that was built ahead for its kind, or in one of its own (docs/batch.md).

What `capsule_run.map`, `aio.map` and `capsule-run batch` have in common, whatever waits for the runs.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from capsule_run._base.errors import CapsuleError
from capsule_run._base.lexical_paths import PRIVATE_DIRECTORIES, shown_already
from capsule_run._base.value import replace
from capsule_run.engine import build_result, execute
from capsule_run.sandbox.filler import Filler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from capsule_run.engine.attempt import Steps
    from capsule_run.launcher import Run
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

MAX_POOLS = 8
_KINDS_REMEMBERED = 64
_SHORTAGE = "E6003"


def kind_of(request: Request) -> Request | None:
    """Return what the rooms for a request are built from; None if it must have a room of its own.

    Requests of one kind differ in what is sent to a room that is built already: command, variables, input, directory,
    time limit and output limit. A request that shows directories of the host sees them as they are when it starts.
    """
    shown = request.isolation
    if (
        request.files
        or shown.workspace is not None
        or shown.workspace_upper is not None
        or shown.binds
        or shown.tools
        or not all(map(shown_already, shown.readonly_paths))
        or any(path not in PRIVATE_DIRECTORIES for path in shown.writable_paths)
    ):
        return None
    return replace(
        request,
        command=("true",),
        environment=(),
        stdin=None,
        timeout_ms=None,
        on_output_limit=None,
        execution_id=None,
        traceparent=None,
        resources=replace(request.resources, max_output_bytes=None),
        isolation=replace(shown, working_directory=None),
    )


class Pools:
    """Rooms that are built ahead for each kind of request that comes again. A context manager; closing it ends them."""

    def __init__(self, size: int) -> None:
        """:param size: how many rooms of each kind wait at most."""
        self._size = size
        self._lock = threading.Lock()
        self._fillers: dict[Request, Filler | None] = {}  # None: this host cannot build it ahead
        self._seen: OrderedDict[Request, None] = OrderedDict()

    def steps(self, request: Request, *, on_start: Callable[[Run], None] | None = None) -> Steps:
        """Run a checked request in steps (`engine.attempt.Steps`). Every outcome is a result, but for a wrong request."""
        request = execute.bounded(request)
        kind = kind_of(request)
        filler = None if kind is None else self.filler_of(kind)
        if filler is None:
            return (yield from execute.steps(request, on_start=on_start))
        return (yield from filler.steps(request, filler.take(wait=False), on_start=on_start))

    def filler_of(self, kind: Request) -> Filler | None:
        """Return the rooms of a kind; None the first time that it comes, and if there are too many kinds."""
        with self._lock:
            if kind in self._fillers:
                return self._fillers[kind]
            if kind not in self._seen:
                self._seen[kind] = None
                if len(self._seen) > _KINDS_REMEMBERED:
                    self._seen.popitem(last=False)
                return None
            if len(self._fillers) >= MAX_POOLS:
                return None
            try:
                self._fillers[kind] = Filler(kind, self._size, None)
            except (CapsuleError, OSError):  # the run itself says what is wrong
                self._fillers[kind] = None
            return self._fillers[kind]

    def close(self) -> None:
        """End the rooms that wait."""
        for filler in self._fillers.values():
            if filler is not None:
                filler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def is_shortage(result: Result) -> bool:
    """Return whether a run could not start because other runs use what the host has."""
    return result.error is not None and result.error.code == _SHORTAGE and result.exit_code is None


def refused(error: CapsuleError) -> Result:
    """Return the result of a request that is wrong: among many, it is an outcome like others."""
    names: build_result.Named = {
        "execution_id": error.execution_id or build_result.new_execution_id(),
        "started_at": build_result.timestamp(time.time_ns()),
    }
    return build_result.failed_result(error, names)
