"""`Pool`: rooms that are built ahead, each for one run, so that a run waits for nothing but its command (docs/pools.md)."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value, replace
from capsule_run.api import fields_from_arguments
from capsule_run.engine import code as engine_code
from capsule_run.engine import execute
from capsule_run.engine.fallbacks import RetryAttemptError
from capsule_run.engine.spare import SpareRoom
from capsule_run.request.parse import request_from_mapping
from capsule_run.sandbox import mapping
from capsule_run.sandbox.calls import request_of_call, run_with_callbacks
from capsule_run.sandbox.prepared import PREPARED_PYTHON, prepared_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from os import PathLike
    from typing import Literal, Self

    from capsule_run.engine.streams import Streams
    from capsule_run.model.request import Language, OnOutputLimit, Request, Resources
    from capsule_run.model.result import Result
    from capsule_run.sandbox.mapping import Call

    OnEmpty = Literal["cold", "wait", "fail"]

COLD, WAIT, FAIL = "cold", "wait", "fail"
MAX_SIZE = 1024
_STARTS_KEPT = 10_000  # of which the percentiles are taken
_PAUSE_AFTER_FAILURE_S = 1.0


class PoolStats(Value):
    """What a pool has done since it was made."""

    ready: int
    """Rooms that wait for a command."""
    busy: int
    """Runs that are under way."""
    hits: int
    """Runs that found a room ready."""
    misses: int
    """Runs that did not."""
    replaced: int
    """Rooms that were dead when they were wanted, and not used."""
    start_p50_us: int | None
    """Microseconds from the call to the start of the command, of half of the last runs; None before the first."""
    start_p95_us: int | None
    """The same of 95 in 100."""
    start_p99_us: int | None
    """The same of 99 in 100."""


class Pool:
    """Rooms that are built ahead. A context manager; closing it ends them all. Every method may be called from any thread.

    Takes the options of `capsule_run.run` that are about the sandbox, for all of its rooms, and:

    :param size: how many rooms wait at most.
    :param preload: modules that Python has imported before the code of `run_code` comes, such as "numpy"; an empty sequence
        starts the interpreter alone; None prepares nothing but the room. Other commands of such a pool start cold.
    :param on_empty: what a run does when no room is ready: "cold" builds one, "wait" waits for one, "fail" is an error.
    :raises CapsuleError: a wrong option, or a host that cannot meet it.
    """

    def __init__(
        self,
        size: int = 4,
        *,
        preload: Sequence[str] | None = None,
        on_empty: OnEmpty = "cold",
        **options: object,
    ) -> None:
        if type(size) is not int or not 1 <= size <= MAX_SIZE:
            raise CapsuleError("E1004", f"`size` must be a number from 1 to {MAX_SIZE}, not {size!r}")
        if on_empty not in (COLD, WAIT, FAIL):
            raise CapsuleError("E1005", f"`on_empty` must be `cold`, `wait` or `fail`, not {on_empty!r}")
        self._request = request_from_mapping(fields_from_arguments(command=["true"], **options))
        if self._request.files or self._request.isolation.workspace_upper is not None:
            raise CapsuleError("E1009", "`files` and `workspace_upper` are of one run, and not of a pool")
        self._on_empty = on_empty
        self._filler = _Filler(self._request, size, None if preload is None else prepared_command(preload))
        self._finalizer = weakref.finalize(self, self._filler.close)
        self._lock = threading.Lock()
        self._busy = self._hits = self._misses = 0
        self._starts_us: deque[int] = deque(maxlen=_STARTS_KEPT)

    # --- runs ---

    def run(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | PathLike[str] | None = None,
        stdin: bytes | str | None = None,
        timeout_ms: int | None = None,
        max_output: int | str | None = None,
        on_output_limit: OnOutputLimit | None = None,
        on_stdout: Callable[[str], object] | None = None,
        on_stderr: Callable[[str], object] | None = None,
        execution_id: str | None = None,
    ) -> Result:
        """Run a command in a room of its own, wait for it, and return its result.

        The arguments are those of `Sandbox.run`. Limits besides these are the pool's.
        """
        request = self._request_of_call(
            command,
            env=env,
            workdir=cwd,
            stdin=stdin,
            timeout_ms=timeout_ms,
            max_output=max_output,
            on_output_limit=on_output_limit,
            execution_id=execution_id,
        )
        return run_with_callbacks(lambda streams: self._run(request, streams), on_stdout, on_stderr)

    def run_code(
        self,
        code: str,
        language: Language | str = "python",
        *,
        env: Mapping[str, str] | None = None,
        timeout_ms: int | None = None,
        execution_id: str | None = None,
    ) -> Result:
        """Run code in a room of its own, wait for it, and return its result. It keeps nothing for the next call.

        With `preload`, Python code runs in an interpreter that has started and imported already.
        """
        if language == "python" and self._filler.prepares and not env:
            request = self._request_of_call(PREPARED_PYTHON, env=None, timeout_ms=timeout_ms, execution_id=execution_id)
            return self._run(request, work=code.encode())
        fields = fields_from_arguments(env=env, timeout_ms=timeout_ms, execution_id=execution_id)
        made = engine_code.code_request(code, language, fields)
        request = replace(
            self._request_of_call(made.command, env=dict(made.environment), timeout_ms=timeout_ms),
            files=made.files,
            resources=_with_memory(self._request.resources, made.resources.memory_bytes),
        )
        return self._cold(request)

    def map(self, calls: Iterable[Call], *, ordered: bool = True, workers: int | None = None) -> Iterator[Result]:
        """Run many commands, several at once, and yield their results.

        :param calls: commands, or mappings of the arguments of `run`. They are taken as they are needed.
        :param ordered: yield the results in the order of the calls, and not as they come.
        :param workers: how many run at once (default: the size of the pool).
        """
        return mapping.mapped(self.run, calls, workers=workers or self._filler.size, ordered=ordered)

    def _request_of_call(self, command: str | Sequence[str], **arguments: object) -> Request:
        call = execute.bounded(request_of_call(self._request, command, **arguments))
        return replace(call, changes=self._request.changes, collect=self._request.collect)

    def _run(self, request: Request, streams: Streams | None = None, work: bytes | None = None) -> Result:
        with self._lock:
            self._busy += 1
        try:
            if self._filler.prepares and work is None:  # its rooms have an interpreter in them, and wait for code
                return self._cold(request, streams)
            spare = self._filler.take(wait=self._on_empty == WAIT)
            with self._lock:
                self._hits += spare is not None
                self._misses += spare is None
            if spare is None and self._on_empty == FAIL:
                hint = "make the pool larger, or let `on_empty` be `wait`"
                raise CapsuleError("E6003", "the pool has no room ready", hint=hint)
            if spare is None:
                result = self._cold(request, streams, work)
            else:
                try:
                    result = execute.wait(spare.steps(request, streams=streams, work=work))
                except RetryAttemptError:  # the host has refused what it offered when the room was built
                    result = self._cold(request, streams, work)
                finally:
                    self._filler.discard(spare)
            if result.metrics is not None and result.metrics.startup is not None:
                self._starts_us.append(sum(result.metrics.startup.values()))
            return result
        finally:
            with self._lock:
                self._busy -= 1

    def _cold(self, request: Request, streams: Streams | None = None, work: bytes | None = None) -> Result:
        if work is None:
            return execute.perform(request, streams=streams)
        with self._filler.build() as spare:
            return execute.wait(spare.steps(request, streams=streams, work=work))

    # --- the pool ---

    def stats(self) -> PoolStats:
        """Return what the pool has done."""
        with self._lock:
            starts = sorted(self._starts_us)
            busy, hits, misses = self._busy, self._hits, self._misses

        def percentile(share: float) -> int | None:
            return starts[min(int(len(starts) * share), len(starts) - 1)] if starts else None

        return PoolStats(
            ready=self._filler.ready,
            busy=busy,
            hits=hits,
            misses=misses,
            replaced=self._filler.replaced,
            start_p50_us=percentile(0.5),
            start_p95_us=percentile(0.95),
            start_p99_us=percentile(0.99),
        )

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until every room is built; return whether they are, within `timeout` seconds."""
        return self._filler.wait_full(timeout)

    def drain(self) -> None:
        """Build no more rooms, and end those that wait. Runs that are under way go on; later ones start cold."""
        self._filler.close()

    def close(self) -> None:
        """End the rooms that wait."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _with_memory(resources: Resources, of_the_language: int | None) -> Resources:
    """Return the limits for code: the memory that its language needs, unless the pool has a limit."""
    return resources if resources.memory_bytes is not None else replace(resources, memory_bytes=of_the_language)


class _Filler:
    """Keeps rooms ready, in one thread that builds them one after the other, and clears away those that were used."""

    def __init__(self, request: Request, size: int, prepared: tuple[str, ...] | None) -> None:
        self._request, self.size, self._prepared = request, size, prepared
        self._ready: deque[SpareRoom] = deque()
        self._used: deque[SpareRoom] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: CapsuleError | None = None
        self.replaced = 0
        self._ready.append(self.build())  # a host that cannot meet the request says so now
        self._thread = threading.Thread(target=self._fill, name="capsule-run pool", daemon=True)
        self._thread.start()

    @property
    def prepares(self) -> bool:
        return self._prepared is not None

    @property
    def ready(self) -> int:
        with self._changed:
            return len(self._ready)

    def build(self) -> SpareRoom:
        spare = SpareRoom.build(self._request)
        if self._prepared is not None:
            try:
                spare.prepare(replace(self._request, command=self._prepared))
            except BaseException:
                spare.close()
                raise
        return spare

    def take(self, *, wait: bool) -> SpareRoom | None:
        """Return a room that lives; None if there is none."""
        with self._changed:
            while True:
                if wait:
                    self._changed.wait_for(lambda: self._ready or self._closed or self._error is not None)
                if not self._ready:
                    return None
                spare = self._ready.popleft()
                self._changed.notify_all()
                if spare.is_alive:
                    return spare
                self.replaced += 1
                self._used.append(spare)

    def discard(self, spare: SpareRoom) -> None:
        """Take back a room that was used: it is cleared away while nobody waits for it."""
        with self._changed:
            self._used.append(spare)
            self._changed.notify_all()
            if not self._closed:
                return
        self._clear_away()

    def _clear_away(self) -> None:
        while True:
            try:
                spare = self._used.popleft()
            except IndexError:
                return
            spare.close()

    def wait_full(self, timeout: float | None) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: len(self._ready) >= self.size or self._closed, timeout)
            return len(self._ready) >= self.size

    def _fill(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._ready) < self.size or self._used or self._closed)
                if self._closed:
                    return
                is_full = len(self._ready) >= self.size
            self._clear_away()
            if is_full:
                continue
            try:
                spare, self._error = self.build(), None
            except (CapsuleError, OSError) as error:  # the host is short of something: runs start cold, and say so
                self._error = error if isinstance(error, CapsuleError) else None
                time.sleep(_PAUSE_AFTER_FAILURE_S)
                continue
            if not self._add(spare):
                spare.close()

    def _add(self, spare: SpareRoom) -> bool:
        with self._changed:
            if not self._closed:
                self._ready.append(spare)
                self._changed.notify_all()
            return not self._closed

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._used.extend(self._ready)
            self._ready.clear()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._clear_away()
