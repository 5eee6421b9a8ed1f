"""Run many commands through a pool, with bounded concurrency and memory."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Protocol, Required, TypedDict

    from capsule_run.model.request import OnOutputLimit
    from capsule_run.model.result import Result

    class CallArguments(TypedDict, total=False):
        """The arguments of `Pool.run`."""

        command: Required[str | Sequence[str]]
        env: Mapping[str, str] | None
        cwd: str | None
        stdin: bytes | str | None
        timeout_ms: int | None
        max_output: int | str | None
        on_output_limit: OnOutputLimit | None
        on_stdout: Callable[[str], object] | None
        on_stderr: Callable[[str], object] | None
        execution_id: str | None

    class RunCall(Protocol):
        """`Pool.run` and its like."""

        def __call__(
            self,
            command: str | Sequence[str],
            *,
            env: Mapping[str, str] | None = None,
            cwd: str | None = None,
            stdin: bytes | str | None = None,
            timeout_ms: int | None = None,
            max_output: int | str | None = None,
            on_output_limit: OnOutputLimit | None = None,
            on_stdout: Callable[[str], object] | None = None,
            on_stderr: Callable[[str], object] | None = None,
            execution_id: str | None = None,
        ) -> Result: ...

    Call = CallArguments | Sequence[str] | str


class _Task:
    def __init__(self, call: Call) -> None:
        self.call = call
        self.done = threading.Event()
        self.result: Result | None = None
        self.error: BaseException | None = None

    def outcome(self) -> Result:
        self.done.wait()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


def mapped(run: RunCall, calls: Iterable[Call], *, workers: int, ordered: bool) -> Iterator[Result]:
    """Yield the results of calls of `run`. No more calls are taken than there are workers, and results that wait."""
    waiting: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
    finished: queue.SimpleQueue[_Task] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=_work, args=(run, waiting, finished), name="capsule-run map", daemon=True)
        for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    source, running = iter(calls), deque[_Task]()
    try:
        while True:
            while len(running) < 2 * workers and (task := _next_task(source)) is not None:
                running.append(task)
                waiting.put(task)
            if not running:
                return
            if ordered:
                yield running.popleft().outcome()
            else:
                task = finished.get()
                running.remove(task)
                yield task.outcome()
    finally:  # also if the caller takes no more results: what has started is waited for
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()


def _next_task(source: Iterator[Call]) -> _Task | None:
    for call in source:
        return _Task(call)
    return None


def _work(run: RunCall, waiting: queue.SimpleQueue[_Task | None], finished: queue.SimpleQueue[_Task]) -> None:
    while (task := waiting.get()) is not None:
        try:
            call = task.call
            task.result = run(call) if isinstance(call, (str, Sequence)) else run(**call)
        except BaseException as error:  # noqa: BLE001  # raised where the result is taken
            task.error = error
        task.done.set()
        finished.put(task)
