"""`Pool`: rooms that are built ahead, each for one run, so that a run waits for nothing but its command (docs/pools.md)."""

from __future__ import annotations

import threading
from collections import deque

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value, replace
from capsule_run.api import fields_from_arguments
from capsule_run.engine import code as engine_code
from capsule_run.engine import execute
from capsule_run.host.finalizer import finalizer
from capsule_run.request.parse import request_from_mapping
from capsule_run.request.validators import invalid
from capsule_run.sandbox import mapping
from capsule_run.sandbox.calls import request_of_call, run_with_callbacks
from capsule_run.sandbox.filler import Filler
from capsule_run.sandbox.prepared import PREPARED_PYTHON, prepared_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from os import PathLike
    from typing import Literal, Self

    from capsule_run.engine.attempt import Steps
    from capsule_run.engine.live_output import OnText
    from capsule_run.engine.spare import SpareRoom
    from capsule_run.engine.streams import Streams
    from capsule_run.launcher import Cancel, Run
    from capsule_run.model.request import Language, OnOutputLimit, Request, Resources
    from capsule_run.model.result import Result
    from capsule_run.sandbox.mapping import PoolCall

    OnEmpty = Literal["cold", "wait", "fail"]

COLD, WAIT, FAIL = "cold", "wait", "fail"
MAX_SIZE = 1024
# The arguments of `run`.
_ARGUMENTS = (
    *("command", "env", "cwd", "stdin", "timeout_ms", "max_output", "on_output_limit"),
    *("on_stdout", "on_stderr", "execution_id"),
)
_STARTS_KEPT = 10_000  # of which the percentiles are taken


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
        self._filler = Filler(self._request, size, None if preload is None else prepared_command(preload))
        self._finalizer = finalizer(self, self._filler.close)
        self._lock = threading.Lock()
        self._busy = self._hits = self._misses = 0
        self._starts_us: deque[int] = deque(maxlen=_STARTS_KEPT)

    @property
    def prepares(self) -> bool:
        """Whether an interpreter waits in each room."""
        return self._filler.prepares

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
        request = self.call_of(
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
        request, work = self.call_of_code(code, language, env=env, timeout_ms=timeout_ms, execution_id=execution_id)
        return self._run(request, work=work) if work is not None else execute.wait(self.steps(request, None))

    def call_of_code(
        self,
        code: str,
        language: str,
        *,
        env: Mapping[str, str] | None,
        timeout_ms: int | None,
        execution_id: str | None,
    ) -> tuple[Request, bytes | None]:
        """Return the request of `run_code`, and what a prepared interpreter reads; None for code that starts cold."""
        limits = {"timeout_ms": timeout_ms, "execution_id": execution_id}
        if language == "python" and self._filler.prepares and not env:
            return self.call_of(PREPARED_PYTHON, env=None, **limits), code.encode()
        made = engine_code.code_request(code, language, fields_from_arguments(env=env, **limits))
        request = replace(
            self.call_of(made.command, env=dict(made.environment), **limits),
            files=made.files,
            resources=_with_memory(self._request.resources, made.resources.memory_bytes),
        )
        return request, None

    def map(
        self,
        calls: Iterable[PoolCall],
        *,
        ordered: bool = True,
        workers: int | None = None,
    ) -> Iterator[Result]:
        """Run many commands, several at once, and yield their results: as `capsule_run.map`, in the rooms of this pool.

        :param calls: commands, or mappings of the arguments of `run`. They are taken as they are needed, in another thread.
        :param ordered: yield the results in the order of the calls, and not as they come.
        :param workers: how many run at once (default: the size of the pool).
        """
        most = self._filler.size if workers is None else mapping.checked_jobs(workers, "workers")
        return mapping.pool_results(self._run_call, calls, workers=most, ordered=ordered)

    def _run_call(self, call: PoolCall, cancel: Cancel) -> Result:
        """Run one call of `map`. Every outcome is a result, also of a wrong call."""
        given_id = None
        try:
            request, on_stdout, on_stderr = self.mapped_call(call)
            given_id = request.execution_id
            return run_with_callbacks(
                lambda streams: self._run(request, streams, on_start=cancel.started), on_stdout, on_stderr
            )
        except CapsuleError as error:
            return mapping.refused_call(error, given_id)

    def mapped_call(self, call: PoolCall) -> tuple[Request, OnText | None, OnText | None]:
        """Return the request of a call of `map`, and its callbacks. Raises CapsuleError E10xx."""
        arguments = mapping.arguments_of(call, _ARGUMENTS)
        if "command" not in arguments:
            raise invalid("E1006", "call", "the argument `command` is missing")
        on_stdout, on_stderr = arguments.pop("on_stdout", None), arguments.pop("on_stderr", None)
        if "cwd" in arguments:
            arguments["workdir"] = arguments.pop("cwd")
        # `LiveOutput` checks the callbacks, and the request its fields
        return self.call_of(**arguments), on_stdout, on_stderr  # type: ignore[arg-type, return-value]

    def call_of(self, command: str | Sequence[str], **arguments: object) -> Request:
        """Return the request of a call of `run`. Raises CapsuleError E10xx."""
        call = execute.bounded(request_of_call(self._request, command, **arguments))
        return replace(call, changes=self._request.changes, collect=self._request.collect)

    def _run(
        self,
        request: Request,
        streams: Streams | None = None,
        work: bytes | None = None,
        on_start: Callable[[Run], None] | None = None,
    ) -> Result:
        spare = self.take(work=work, wait=self._on_empty == WAIT)
        return execute.wait(self.steps(request, spare, streams=streams, work=work, on_start=on_start))

    def take(self, *, work: bytes | None, wait: bool) -> SpareRoom | None:
        """Return a room for `steps`; None if the run starts cold. Raises CapsuleError E6003 if it may not."""
        if self._filler.prepares and work is None:  # its rooms have an interpreter in them, and wait for code
            return None
        spare = self._filler.take(wait=wait)
        with self._lock:
            self._hits += spare is not None
            self._misses += spare is None
        if spare is None and self._on_empty == FAIL:
            hint = "make the pool larger, or let `on_empty` be `wait`"
            raise CapsuleError("E6003", "the pool has no room ready", hint=hint)
        return spare

    def steps(
        self,
        request: Request,
        spare: SpareRoom | None,
        *,
        streams: Streams | None = None,
        work: bytes | None = None,
        on_start: Callable[[Run], None] | None = None,
    ) -> Steps:
        """Run a request in a room of `take`, in steps (`engine.attempt.Steps`), and count it."""
        with self._lock:
            self._busy += 1
        try:
            result = yield from self._filler.steps(request, spare, streams=streams, work=work, on_start=on_start)
            if result.metrics is not None and result.metrics.startup is not None:
                self._starts_us.append(sum(result.metrics.startup.values()))
            return result
        finally:
            with self._lock:
                self._busy -= 1

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
