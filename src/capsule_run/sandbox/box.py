"""`Sandbox`: run and start commands, read and write files, and keep both between the calls (docs/sessions.md)."""

from __future__ import annotations

import threading
import time
import weakref

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value, replace
from capsule_run.api import fields_from_arguments
from capsule_run.engine import execute
from capsule_run.engine.session import Session
from capsule_run.host.finalizer import finalizer
from capsule_run.policy.limits import limits
from capsule_run.request.parse import check_request, request_from_mapping
from capsule_run.sandbox import usage
from capsule_run.sandbox.calls import request_of_call, run_with_callbacks, without_limits
from capsule_run.sandbox.cells import Contexts
from capsule_run.sandbox.files import Files
from capsule_run.sandbox.lease import Lease, positive
from capsule_run.sandbox.piped import PipedProcess
from capsule_run.sandbox.process import Process
from capsule_run.sandbox.snapshot import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from os import PathLike
    from typing import Self

    from capsule_run.contexts.context import Context
    from capsule_run.engine.streams import Streams
    from capsule_run.host.process_usage import SandboxProcess
    from capsule_run.model.cell import CellResult, RichResult
    from capsule_run.model.changes import Change, NotApplied
    from capsule_run.model.request import OnOutputLimit, Request
    from capsule_run.model.result import Result
    from capsule_run.sandbox.usage import SandboxMetrics

DEFAULT_LEASE_MS = 3_600_000
# Options of `run` that are about the end of one command.
_NOT_FOR_SANDBOXES = (
    "command", "stdin", "collect", "collect_to", "changes", "apply_changes", "save_changes", "collect_bytes",
    "collect_file_bytes", "execution_id", "workspace_upper",
)  # fmt: skip


class SandboxInfo(Value):
    """What a sandbox is at the moment."""

    id: str
    """Unique among the sandboxes of this process."""
    pid: int
    """The process id of its launcher on the host."""
    is_alive: bool
    """Whether it can be used."""
    age_ms: int
    """Since it was made."""
    memory_bytes: int
    """Its limit."""
    workspace_kind: str
    """How the workspace is shown: `private`, `cow`, `copy`, `ro` or `rw`."""


_living: weakref.WeakSet[Sandbox] = weakref.WeakSet()
_numbers = iter(range(1, 1 << 62))
_numbering = threading.Lock()


class Sandbox:
    """A sandbox that lives until it is closed, its lease is over or its owner dies.

    Takes the options of `capsule_run.run` as its own, which are also the defaults of each command, and:

    :param lease_ms: how long it lives, in milliseconds (default one hour); `set_timeout` changes it.
    :param idle_timeout_ms: how long it lives without a call; None is as long as the lease.
    :param snapshot: the files to start with, of `Sandbox.snapshot`.
    :param request: a `Request` in place of the options; its command is ignored.
    :raises CapsuleError: a wrong option, or a host that cannot meet it.
    """

    _keeps_one_ahead = True

    def __init__(
        self,
        *,
        lease_ms: int = DEFAULT_LEASE_MS,
        idle_timeout_ms: int | None = None,
        snapshot: Snapshot | None = None,
        request: Request | None = None,
        **options: object,
    ) -> None:
        for name in _NOT_FOR_SANDBOXES:
            if options.get(name) is not None:
                raise CapsuleError("E1009", f"`{name}` is of one command, and not of a sandbox")
        if request is not None and options:
            raise CapsuleError("E1009", f"`request` has all options: `{next(iter(options))}` is one of them")
        self._given, self._options = request, dict(options)
        self._lease = Lease(positive("lease_ms", lease_ms), idle_timeout_ms)
        self._session = Session(
            _request(request, options), lease_ms=self._lease.left_ms(), keeps_one_ahead=self._keeps_one_ahead
        )
        with _numbering:
            self.id = f"sandbox-{next(_numbers)}"
        self._finalizer = finalizer(self, self._session.close)
        session, lease = self._session, self._lease  # not `self`: a sandbox that nobody refers to ends at once
        self._contexts = Contexts(session, lambda: lease.in_use(session))
        self.files = Files(self._session)
        """The files of the sandbox."""
        _living.add(self)
        if snapshot is not None:
            snapshot.put(self._session.files())

    @classmethod
    def create(cls, **options: object) -> Self:
        """Make a sandbox, as the constructor does."""
        return cls(**options)  # type: ignore[arg-type]

    @classmethod
    def list(cls) -> list[SandboxInfo]:
        """Return the living sandboxes of this process."""
        return [info for box in sorted(_living, key=lambda box: box.id) if (info := box.info()).is_alive]

    # --- commands ---

    def run(
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
        on_stdout: Callable[[str], object] | None = None,
        on_stderr: Callable[[str], object] | None = None,
        execution_id: str | None = None,
    ) -> Result:
        """Run a command in the sandbox, wait for it, and return its result. What it leaves running ends with it.

        :param command: the program and its arguments, or a line for the shell.
        :param env: variables in addition to those of the sandbox.
        :param cwd: the directory that it starts in, absolute inside (default: the sandbox's).
        :param stdin: what it reads; None is end-of-file at once.
        :param timeout_ms: its wall-clock limit (default: the sandbox's, or 30 000).
        :param memory: a limit of this command, at most that of the sandbox.
        :param max_output: bytes kept of each stream, or a size.
        :param max_pids: the most processes and threads of this command.
        :param cpu_time_ms: the limit of its CPU time.
        :param on_output_limit: "kill" or "truncate".
        :param on_stdout: called with text as it comes, in this thread; so is `on_stderr`.
        :param execution_id: names the command in its result.
        :raises CapsuleError: E10xx for a wrong argument.
        """
        request = self._request_of_call(
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

        def run(streams: Streams | None) -> Result:
            return execute.wait(self._session.steps(request, streams=streams))

        with self._lease.in_use(self._session):
            return run_with_callbacks(run, on_stdout, on_stderr)

    def start(
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
        on_stdout: Callable[[str], object] | None = None,
        on_stderr: Callable[[str], object] | None = None,
    ) -> Process:
        """Start a command in the sandbox, and return while it runs. What it leaves running lives on with the sandbox.

        :param stdin: True gives the process a `stdin` to write to; else it reads end-of-file.
        :param timeout_ms: a wall-clock limit; None lets it run as long as the sandbox lives.
        :param max_output: bytes kept of each stream, or a size; more than that does not end the command.
        :param on_stdout: called with text as it comes, in a thread of the process; so is `on_stderr`.

        The other arguments are those of `run`.
        """
        request = self._request_of_call(
            command,
            env=env,
            workdir=cwd,
            timeout_ms=timeout_ms,
            memory=memory,
            max_output=max_output,
            max_pids=max_pids,
            cpu_time_ms=cpu_time_ms,
        )
        return Process(
            self._session,
            without_limits(request, timeout_ms),
            stdin=stdin,
            keep_bytes=limits(request.resources).max_output_bytes,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
        )

    # --- code ---

    def run_code(
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
        """Run a cell in the sandbox's own context of the language, whose variables stay (docs/contexts.md).

        :param language: "python", or "javascript" if the sandbox has `node`.

        The other arguments, and the result, are those of `Context.run_code`.
        """
        return self._contexts.own(language).run_code(
            code,
            timeout_ms=timeout_ms,
            memory=memory,
            max_output=max_output,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            on_result=on_result,
        )

    def own_context(self, language: str = "python") -> Context:
        """Return the context of a language that `run_code` uses, such as to interrupt its cell from another thread."""
        return self._contexts.own(language)

    def create_context(
        self,
        language: str = "python",
        *,
        cwd: str | PathLike[str] | None = None,
        memory: int | str | None = None,
        grace_ms: int = 1_000,
    ) -> Context:
        """Make a context with variables of its own; its interpreter starts with the first cell.

        :param language: "python", or "javascript" if the sandbox has `node`.
        :param cwd: the directory that it starts in, absolute inside (default: the sandbox's).
        :param memory: a limit of the interpreter and its children (default: 7/8 of the sandbox's), which ends only these.
        :param grace_ms: how long a cell may go on after its interrupt before its interpreter is killed.
        :raises CapsuleError: E10xx for a wrong argument; E1010 if the sandbox lacks the language.
        """
        return self._contexts.make(language, cwd=cwd, memory=memory, grace_ms=grace_ms)

    def start_piped(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> PipedProcess:
        """Start a command whose stdin and stdout are plain pipes, for a protocol of the caller's."""
        request = self._request_of_call(command, env=env, workdir=cwd)
        return PipedProcess(self._session, without_limits(request))

    def _request_of_call(self, command: str | Sequence[str], **arguments: object) -> Request:
        return execute.bounded(request_of_call(self._session.request, command, **arguments))

    # --- files ---

    def changes(self) -> tuple[Change, ...]:
        """Return what has changed in the workspace since the sandbox was made."""
        return tuple(self._session.transfer.changes_now())

    def diff(self) -> str:
        """Return the changes of the workspace as a unified diff, as `git diff` prints and `git apply` reads it."""
        return self._session.transfer.diff_now()

    def apply(self) -> tuple[NotApplied, ...]:
        """Apply the changes to the shared directory. Return what was not applied, and why."""
        self._check_has_directory("apply")
        workspace = self._session.request.isolation.workspace
        if workspace is not None:
            execute.check_host_path("workspace", workspace.source, writes=True)
        return tuple(self._session.transfer.apply_now())

    def discard(self) -> None:
        """Undo the changes: the workspace is as it was at the start."""
        self._session.transfer.discard_now(self._session.files())

    def _check_has_directory(self, call: str) -> None:
        if not self._session.transfer.has_directory:
            raise CapsuleError("E1009", f"`{call}` needs a sandbox with a `workspace` that it does not write to")

    def snapshot(self) -> Snapshot:
        """Keep a copy of the files as they are now: of the workspace's changes, HOME and the temporary directories."""
        return Snapshot(self._session.files(), list(self.changes()))

    def fork(self) -> Sandbox:
        """Make a second sandbox with the same options that starts with the files of this one. Processes are not copied."""
        with self.snapshot() as snapshot:
            lease_ms, idle_ms = self._lease.lease_ms, self._lease.idle_ms
            return type(self)(
                lease_ms=lease_ms, idle_timeout_ms=idle_ms, snapshot=snapshot, request=self._given, **self._options
            )

    # --- the sandbox ---

    def set_timeout(self, milliseconds: int) -> None:
        """Let the sandbox live this long from now."""
        self._lease.set(positive("milliseconds", milliseconds), self._session)

    def in_use(self) -> AbstractContextManager[None]:
        """Return a context manager for a time that does not count as idle; the idle time begins anew after it."""
        return self._lease.in_use(self._session)

    def info(self) -> SandboxInfo:
        """Return what the sandbox is at the moment."""
        policy = self._session.policy
        return SandboxInfo(
            id=self.id,
            pid=self._session.pid,
            is_alive=not self._session.has_ended(),
            age_ms=(time.monotonic_ns() - self._session.started_ns) // 1_000_000,
            memory_bytes=policy.memory_bytes,
            workspace_kind=policy.workspace_kind,
        )

    def metrics(self) -> SandboxMetrics:
        """Return what the sandbox uses now: processes, CPU time, memory, disk. Raises CapsuleError if it has ended."""
        return usage.metrics_of(self._session)

    def processes(self) -> tuple[SandboxProcess, ...]:
        """Return the processes in the sandbox now, those of one command together. Raises CapsuleError if it has ended."""
        return usage.processes_of(self._session)

    def kill(self) -> None:
        """End the sandbox with every process in it, and wait until all have ended. What runs in it ends with E3010."""
        self._finalizer()
        self._contexts.close()

    close = kill

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def __repr__(self) -> str:
        return f"<Sandbox {self.id}: {'has ended' if self._session.has_ended() else 'alive'}>"


def _request(given: Request | None, options: Mapping[str, object]) -> Request:
    """Return the request of a sandbox: what was given, or its options and a command that is not run."""
    made = given or request_from_mapping(fields_from_arguments(command=["true"], **options))
    return replace(check_request(made), changes=True)
