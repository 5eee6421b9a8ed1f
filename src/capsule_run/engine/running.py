"""A payload that was sent to its room: receive its output and its report, and collect its files."""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.cgroup.create import sweep_discovered
from capsule_run.engine import early_result, fallbacks, not_found, output_pipe, prefetch
from capsule_run.engine.fallbacks import LAUNCHER_LOST, RetryAttemptError
from capsule_run.engine.prepare import prepare
from capsule_run.host import load
from capsule_run.launcher import NEVER_RAN
from capsule_run.model import report as model_report
from capsule_run.result import filter_hash
from capsule_run.result import report as result_report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from capsule_run.engine.output_pipe import OutputPipe
    from capsule_run.engine.streams import StdioTargets, Streams
    from capsule_run.launcher import Launcher, Run
    from capsule_run.model.plan import Plan
    from capsule_run.model.policy import Policy
    from capsule_run.model.report import FinishedRun, Report
    from capsule_run.model.report_details import Sample
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result
    from capsule_run.workspace.transfer import FileTransfer


class Payload(Value):
    """One command for a room."""

    request: Request
    streams: Streams
    on_start: Callable[[Run], None] | None  # called with the run before its command starts
    short: bool  # the caller needs no measurements if the run succeeds
    stale_ok: bool  # retry if set-up failed because of facts about the host that were kept
    hold: bool = False  # no command: keep a shared room until it is ended
    keep: bool = False  # what the command leaves running lives on, and the run with it


class RunningPayload:
    """A payload that was sent to its room.

    Call `wait`; or, on an event loop, `receive` whenever `fileno` is readable, until it returns True. Then call `finish`.
    A context manager; leaving it closes the descriptors of the command's streams.
    """

    def __init__(
        self,
        *,
        launcher: Launcher,
        policy: Policy,
        files: FileTransfer | None,
        payload: Payload,
        run: Run,
        stdio: StdioTargets,
        plan: Plan,
        report: bytes,
    ) -> None:
        self._launcher, self._policy, self._files = launcher, policy, files
        self._payload, self._stdio, self._plan = payload, stdio, plan
        self._report = report
        self._program = next(step[1] for step in plan.payload if step[0] == "filter")
        self._early = b""
        self.never_started = False  # known from the report
        self._load_before: Sample | None = None
        self.run = run
        prefetch.load(prefetch.WHILE_THE_COMMAND_RUNS)
        sweep_discovered()
        if not payload.short:
            prefetch.load(prefetch.FOR_A_FULL_RESULT)
            filter_hash.sha256_of(self._program)  # computed now, and kept for the result

    def fileno(self) -> int:
        """Return a descriptor that is readable when the launcher has sent a message or has ended."""
        return self._launcher.fileno()

    @property
    def pid(self) -> int:
        """The process id of the launcher on the host."""
        return self._launcher.pid

    @property
    def ended_early(self) -> bool:
        """Whether the command has ended, and what it has left running lives on."""
        return bool(self._early)

    def result_so_far(self) -> Result:
        """Return the result of a command that `ended_early`: what is known, without measurements."""
        stdio = self._stdio
        outputs = stdio.content(stdio.stdout, 0), stdio.content(stdio.stderr, 0)
        return early_result.of(self._early, self._policy, self._payload.request, *outputs)

    @property
    def outputs(self) -> list[OutputPipe]:
        """The streams that are handed on while the command runs: call `read` whenever one is readable."""
        return self._stdio.outputs

    def receive(self) -> bool:
        """Receive the next message, which is there if `fileno` is readable. Return whether the run has ended."""
        if self._report:
            return True
        if self._files is not None and self._files.expects_ready:
            self._report = self._files.ready(self._launcher)
            return bool(self._report)
        message = self._launcher.receive()
        if message == b"started" and self._payload.streams.terminal is not None:
            self._payload.streams.terminal.started()
            return False
        if message.startswith((b"exited ", b"signalled ")) and not message.endswith(b"end\n"):
            self._early = message
            return False
        self._report = message
        return True

    def wait(self) -> None:
        """Block until the run has ended, and hand on its output as it comes."""
        terminal = self._payload.streams.terminal
        if terminal is None:
            self._wait()
            return
        try:
            self._wait()
            for output in self.outputs:
                output.read_all()
        finally:
            terminal.ended()  # before the launcher is closed, which restores a terminal that this process has left raw

    def _wait(self) -> None:
        if self._files is not None and self._files.expects_ready:
            self.receive()
        if not self._payload.short and not self._report:
            self._sample_load_of_a_long_run()
        terminal = self._payload.streams.terminal
        while True:
            if terminal is not None:
                terminal.wait(self.fileno(), self.outputs)
            elif outputs := self.outputs:
                output_pipe.wait_readable(self.fileno(), outputs)
            if self.receive():
                return

    def _sample_load_of_a_long_run(self) -> None:
        if self._payload.streams.terminal is not None:
            return
        if self.outputs or not self._launcher.wait_readable(load.PATIENCE_S):  # output is not to wait
            self.sample_load()

    def sample_load(self) -> None:
        """Sample how busy the host is, once the run is long enough to need it."""
        self._load_before = load.sample()

    def finish(self) -> FinishedRun:
        """Collect files, and return all that is known of the run, which has ended.

        Raises CapsuleError if the command could not be started, RetryAttemptError if another attempt may start it.
        """
        if not self._report:
            if (status := self._launcher.close()) == NEVER_RAN and self._launcher.is_early:
                raise RetryAttemptError(LAUNCHER_LOST)
            raise CapsuleError("E6002", f"the core ended without a report (wait status {status})")
        before, after = self._load_before, None if self._load_before is None else load.sample()
        report, payload, stdio = result_report.parse_report(self._report), self._payload, self._stdio
        self.never_started = not report.started
        fallbacks.raise_retry(report, self._plan, stale_ok=payload.stale_ok)
        if not report.started and report.killed != "caller":
            raise not_found.not_started(report, self._plan, payload.request, lambda: prepare(payload.request)[0])
        return model_report.FinishedRun(
            policy=self._policy,
            report=report,
            record=result_report.parse_record(stdio.content(stdio.record, report.record.bytes)),
            program=self._program,
            cancelled_by=self.run.cancelled_by,
            host_load=None if before is None or after is None else (before, after),
            stdout=stdio.content(stdio.stdout, report.stdout.kept),
            stderr=stdio.content(stdio.stderr, report.stderr.kept),
            output=self._take_output(report),
        )

    def _take_output(self, report: Report) -> model_report.WorkspaceOutput | None:
        if self._files is None or self._payload.hold:  # the files of a shared room are read while it lives
            return None
        return self._files.take(by_itself=report.exited is not None and not report.killed, copied=report.copied)

    def close(self) -> None:
        """Close the descriptors of the command's streams."""
        self._stdio.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
