"""`aio.Sandbox`: run and start commands in one sandbox from coroutines.

Commands wait on the event loop, without a thread. What is done with files of the sandbox or the host, and building and ending
the sandbox, is done in threads meanwhile. Decisions are those of `sandbox.box`.
"""

from __future__ import annotations

import asyncio

from capsule_run._base.errors import CapsuleError
from capsule_run.aio.drive import InThreads
from capsule_run.aio.files import Files
from capsule_run.aio.one_shot import run_steps
from capsule_run.aio.process import Process
from capsule_run.aio.thread import in_thread
from capsule_run.api import in_own_words
from capsule_run.contexts import program as programs
from capsule_run.contexts.aio_context import AsyncContext
from capsule_run.contexts.interpreter import DEFAULT_GRACE_MS
from capsule_run.engine.live_output import LiveOutput
from capsule_run.policy.limits import limits
from capsule_run.sandbox.box import Sandbox as BlockingSandbox
from capsule_run.sandbox.calls import without_limits
from capsule_run.sandbox.cells import interpreter_request
from capsule_run.sandbox.piped import PipedProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike
    from typing import Self

    from capsule_run.engine.attempt import Steps
    from capsule_run.engine.live_output import OnText
    from capsule_run.engine.session import Session
    from capsule_run.host.process_usage import SandboxProcess
    from capsule_run.launcher import Run
    from capsule_run.model.cell import CellResult, RichResult
    from capsule_run.model.changes import Change, NotApplied
    from capsule_run.model.request import OnOutputLimit, Request
    from capsule_run.model.result import Result
    from capsule_run.sandbox.box import SandboxInfo
    from capsule_run.sandbox.snapshot import Snapshot
    from capsule_run.sandbox.usage import SandboxMetrics


class _Core(BlockingSandbox):
    """The blocking sandbox, with what its commands need that wait on a loop."""

    _keeps_one_ahead = False  # a thread would make it

    @property
    def session(self) -> Session:
        return self._session

    def request_of(self, command: str | Sequence[str], **arguments: object) -> Request:
        return self._request_of_call(command, **arguments)


class Sandbox:
    """A sandbox that lives until it is closed: `capsule_run.Sandbox` for coroutines, with the same options.

    async with aio.Sandbox(memory="1G") as box:
        result = await box.run("make")

    It is built by `async with`, or by `await Sandbox.create(...)`. For one event loop.
    """

    def __init__(self, **options: object) -> None:
        self._options = options
        self._built: _Core | None = None
        self._contexts: builtins.list[AsyncContext] = []
        self._own: dict[str, AsyncContext] = {}  # the sandbox's context of each language

    @classmethod
    async def create(cls, **options: object) -> Self:
        """Build a sandbox. Raises CapsuleError for a wrong option, or a host that cannot meet it."""
        return await cls(**options).__aenter__()

    @staticmethod
    def list() -> builtins.list[SandboxInfo]:
        """Return the living sandboxes of this process."""
        return BlockingSandbox.list()

    async def _build(self) -> Self:
        made: builtins.list[_Core] = []
        try:
            await in_thread(lambda: made.append(_Core(**self._options)))  # type: ignore[arg-type]  # it checks them
        except asyncio.CancelledError:
            for core in made:
                await in_thread(core.kill)
            raise
        self._built = made[0]
        return self

    @property
    def _core(self) -> _Core:
        if self._built is None:
            raise CapsuleError(
                "E1009", "the sandbox is not built yet", hint="use `async with`, or `await aio.Sandbox.create(...)`"
            )
        return self._built

    @property
    def id(self) -> str:
        """Unique among the sandboxes of this process."""
        return self._core.id

    @property
    def files(self) -> Files:
        """The files of the sandbox."""
        return Files(self._core.files)

    # --- commands ---

    async def run(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | PathLike[str] | None = None,
        stdin: bytes | str | None = None,
        timeout_ms: int | None = None,
        memory: int | str | None = None,
        max_output: int | str | None = None,
        max_pids: int | None = None,
        cpu_time_ms: int | None = None,
        on_output_limit: OnOutputLimit | None = None,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        execution_id: str | None = None,
    ) -> Result:
        """Run a command in the sandbox, and return its result. Cancelling ends the command with all that it started.

        The arguments are those of `capsule_run.Sandbox.run`; `on_stdout` and `on_stderr` may be coroutine functions.
        """
        core = self._core
        request = core.request_of(
            command,
            env=env,
            workdir=cwd,
            stdin=stdin,
            timeout_ms=timeout_ms,
            memory=memory,
            max_output=max_output,
            max_pids=max_pids,
            cpu_time_ms=cpu_time_ms,
            on_output_limit=on_output_limit,
            execution_id=execution_id,
        )
        live = None if on_stdout is None and on_stderr is None else LiveOutput(on_stdout, on_stderr)

        def steps(on_start: Callable[[Run], None]) -> Steps:
            return core.session.steps(request, streams=None if live is None else live.streams(), on_start=on_start)

        with core.in_use():
            return in_own_words(await run_steps(steps, live=live, in_threads=InThreads.LAST))

    async def start(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | PathLike[str] | None = None,
        stdin: bool = False,
        timeout_ms: int | None = None,
        memory: int | str | None = None,
        max_output: int | str | None = None,
        max_pids: int | None = None,
        cpu_time_ms: int | None = None,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
    ) -> Process:
        """Start a command in the sandbox, and return while it runs. What it leaves running lives on with the sandbox.

        The arguments are those of `capsule_run.Sandbox.start`; `on_stdout` and `on_stderr` may be coroutine functions.
        """
        core = self._core
        request = core.request_of(
            command,
            env=env,
            workdir=cwd,
            timeout_ms=timeout_ms,
            memory=memory,
            max_output=max_output,
            max_pids=max_pids,
            cpu_time_ms=cpu_time_ms,
        )
        return await Process.start(
            core.session,
            without_limits(request, timeout_ms),
            stdin=stdin,
            keep_bytes=limits(request.resources).max_output_bytes,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
        )

    # --- code ---

    async def run_code(
        self,
        code: str,
        language: str = "python",
        *,
        timeout_ms: int | None = None,
        memory: int | str | None = None,
        max_output: int | str | None = None,
        on_stdout: Callable[[str], object] | None = None,
        on_stderr: Callable[[str], object] | None = None,
        on_result: Callable[[RichResult], object] | None = None,
    ) -> CellResult:
        """Run a cell in the sandbox's own context of the language, whose variables stay. Cancelling interrupts it."""
        name = programs.language_of(language)
        if name not in self._own:
            made = await self.create_context(name)
            self._own.setdefault(name, made)
        return await self._own[name].run_code(
            code,
            timeout_ms=timeout_ms,
            memory=memory,
            max_output=max_output,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            on_result=on_result,
        )

    async def create_context(
        self,
        language: str = "python",
        *,
        cwd: str | PathLike[str] | None = None,
        memory: int | str | None = None,
        grace_ms: int = DEFAULT_GRACE_MS,
    ) -> AsyncContext:
        """Make a context with variables of its own; its interpreter starts with the first cell.

        The arguments are those of `capsule_run.Sandbox.create_context`.
        """
        core = self._core
        name, request = await in_thread(
            lambda: interpreter_request(core.session.request, language, cwd=cwd, memory=memory)
        )
        made = AsyncContext(
            lambda: _Piped(PipedProcess(core.session, request)), language=name, grace_ms=grace_ms, in_use=core.in_use
        )
        self._contexts.append(made)
        return made

    # --- files ---

    async def changes(self) -> tuple[Change, ...]:
        """Return what has changed in the workspace since the sandbox was made."""
        return await in_thread(self._core.changes)

    async def diff(self) -> str:
        """Return the changes of the workspace as a unified diff."""
        return await in_thread(self._core.diff)

    async def apply(self) -> tuple[NotApplied, ...]:
        """Apply the changes to the shared directory. Return what was not applied, and why."""
        return await in_thread(self._core.apply)

    async def discard(self) -> None:
        """Undo the changes: the workspace is as it was at the start."""
        await in_thread(self._core.discard)

    async def snapshot(self) -> Snapshot:
        """Keep a copy of the files as they are now: of the workspace's changes, HOME and the temporary directories."""
        return await in_thread(self._core.snapshot)

    async def fork(self) -> Self:
        """Make a second sandbox with the same options that starts with the files of this one."""
        made = type(self)(**self._options)
        core = await in_thread(self._core.fork)
        assert isinstance(core, _Core)
        made._built = core  # noqa: SLF001  # of its own class
        return made

    # --- the sandbox ---

    def set_timeout(self, milliseconds: int) -> None:
        """Let the sandbox live this long from now."""
        self._core.set_timeout(milliseconds)

    def info(self) -> SandboxInfo:
        """Return what the sandbox is at the moment."""
        return self._core.info()

    async def metrics(self) -> SandboxMetrics:
        """Return what the sandbox uses now: processes, CPU time, memory, disk. Raises CapsuleError if it has ended."""
        return await in_thread(self._core.metrics)

    async def processes(self) -> tuple[SandboxProcess, ...]:
        """Return the processes in the sandbox now, those of one command together. Raises CapsuleError if it has ended."""
        return await in_thread(self._core.processes)

    async def kill(self) -> None:
        """End the sandbox with every process in it, and wait until all have ended. What runs in it ends with E3010."""
        if self._built is not None:
            await in_thread(self._built.kill)
        while self._contexts:
            await self._contexts.pop().close()

    close = kill

    async def __aenter__(self) -> Self:
        return await self._build() if self._built is None else self

    async def __aexit__(self, *_error: object) -> None:
        await self.kill()

    def __repr__(self) -> str:
        return "<Sandbox: not built>" if self._built is None else repr(self._built)


class _Piped:
    """A process for a context on a loop: it ends in a thread, and then at once."""

    def __init__(self, process: PipedProcess) -> None:
        self._process = process
        self.stdin, self.stdout = process.stdin, process.stdout

    async def kill(self) -> None:
        await in_thread(self._process.kill)

    async def wait(self, seconds: float | None = None) -> Result:
        return await in_thread(lambda: self._process.wait(seconds))
