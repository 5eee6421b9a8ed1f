"""Build a sandbox and run a payload in it.

A room is a built sandbox that waits for a payload. `Room.build` sends the first half of the plan and returns while the
launcher still builds; `Room.start` sends the payload's half; the `RunningPayload` receives the report. A one-shot run is
build, start, wait, finish (`attempt`). The caller owns the launcher and the control groups, which outlive the room.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.cgroup import discover
from capsule_run.cgroup.create import sweep_discovered
from capsule_run.engine import fallbacks, not_found, output_pipe, plan_cache, prefetch
from capsule_run.engine.fallbacks import CGROUP_VERSION_2, LAUNCHER_LOST, RetryAttemptError, create_cgroups
from capsule_run.engine.prepare import prepare
from capsule_run.engine.streams import StdioTargets
from capsule_run.host import load
from capsule_run.host.survey import identify, kept
from capsule_run.launcher import NEVER_RAN, Run
from capsule_run.model import report as model_report
from capsule_run.model.plan import Plan
from capsule_run.plan import payload as plan_payload
from capsule_run.plan.preamble import continuation, encode, preamble_steps
from capsule_run.plan.room import steps_after_preamble
from capsule_run.policy import limits
from capsule_run.policy.resolve import with_cgroups
from capsule_run.result import filter_hash
from capsule_run.result import report as result_report
from capsule_run.workspace import transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from capsule_run.cgroup.create import ControlGroups
    from capsule_run.engine.output_pipe import OutputPipe
    from capsule_run.engine.plan_cache import RoomSteps
    from capsule_run.engine.streams import Streams
    from capsule_run.launcher import Launcher
    from capsule_run.model.host import Identity
    from capsule_run.model.optional import Upper
    from capsule_run.model.policy import Group, Policy
    from capsule_run.model.report import FinishedRun, Report
    from capsule_run.model.report_details import Sample
    from capsule_run.model.request import Request
    from capsule_run.workspace.disk_layer import UpperDirectory
    from capsule_run.workspace.transfer import FileTransfer

    Steps = tuple[tuple[str, ...], ...]


class Payload(Value):
    """One command for a room."""

    request: Request
    streams: Streams
    on_start: Callable[[Run], None] | None  # called with the run before its command starts
    short: bool  # the caller needs no measurements if the run succeeds
    stale_ok: bool  # retry if set-up failed because of facts about the host that were kept


class Room:
    """A sandbox that is being built or waits for a payload. A context manager; leaving it closes the workspace's files."""

    def __init__(
        self, *, launcher: Launcher, cgroups: ControlGroups, policy: Policy, steps: Steps, files: FileTransfer | None
    ) -> None:
        self._launcher, self._cgroups = launcher, cgroups
        self._policy, self._steps, self._files = policy, steps, files

    @classmethod
    def build(
        cls,
        request: Request,
        launcher: Launcher,
        cgroups: ControlGroups,
        *,
        streams_stdin: bool,
        disk_layer: UpperDirectory | None,
    ) -> Self:
        """Tell the launcher to build the room for a request, and return while it builds.

        :param streams_stdin: whether the payload's stdin is a descriptor of the caller.
        :param disk_layer: the directory on disk for files written to the workspace; None keeps them in memory.
        :raises CapsuleError: this host cannot meet the request.
        :raises RetryAttemptError: this host does not support an optional mechanism of the plan.
        """
        keeps_plans = kept() is not None  # the first command of a process, mostly the only one, needs no cache
        defers_cgroups = not keeps_plans and discover.can_be_deferred(request)  # find them while the room is built
        identity = identify()
        _send_preamble(request, launcher, cgroups, identity, defers_cgroups=defers_cgroups)
        cached = (
            plan_cache.find(request, identity, fallbacks.unsupported, streams_stdin=streams_stdin)
            if keeps_plans
            else None
        )
        policy, room_steps = cached or (
            _resolve(request, identity, disk_layer, streams_stdin=streams_stdin, defers_cgroups=defers_cgroups),
            None,
        )
        if disk_layer is not None:
            disk_layer.create_entries(policy)
        files = transfer.FileTransfer(policy) if policy.transfer.files else None
        try:
            if room_steps is None:
                steps = steps_after_preamble(policy, stream_fd=len(cgroups.fds))
                room_steps = steps, continuation(steps)
                if keeps_plans:
                    plan_cache.keep(request, policy, room_steps, fallbacks.unsupported, streams_stdin=streams_stdin)
            all_steps = _send_room(launcher, cgroups, policy, room_steps, files)
            prefetch.load(prefetch.WHILE_THE_ROOM_IS_BUILT)
            if defers_cgroups:
                policy = _with_cgroups(policy, request)
            if files is None and policy.transfer.is_needed:  # nothing to copy in: it can wait until here
                files = transfer.FileTransfer(policy)
        except BaseException:
            if files is not None:
                files.close()
            raise
        return cls(launcher=launcher, cgroups=cgroups, policy=policy, steps=all_steps, files=files)

    def start(self, payload: Payload) -> RunningPayload:
        """Copy files in and send the payload's half of the plan: the command starts as soon as the room is built."""
        run = Run(self._launcher)
        if payload.on_start is not None:
            payload.on_start(run)
        early_report = self._files.fill(self._launcher) if self._files else b""
        create_cgroups(self._cgroups, self._policy.limit_mechanisms.groups)
        stdio = StdioTargets(payload.request, payload.streams)
        try:
            plan = Plan(room=self._steps, payload=self._send_payload(stdio))
        except BaseException:
            stdio.close()
            raise
        return RunningPayload(
            launcher=self._launcher,
            policy=self._policy,
            files=self._files,
            payload=payload,
            run=run,
            stdio=stdio,
            plan=plan,
            report=early_report,
        )

    def _send_payload(self, stdio: StdioTargets) -> Steps:
        steps, fds = plan_payload.payload_steps(self._policy, group_name=self._cgroups.name), stdio.open()
        self._launcher.send_half("payload", encode("payload", steps), (*fds, *self._cgroups.fds))
        stdio.sent()
        return steps

    def close(self) -> None:
        """Close the workspace's files."""
        if self._files is not None:
            self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


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
        self._load_before: Sample | None = None
        self._load_after: Sample | None = None
        self.run = run
        self.never_started = False  # known from the report
        prefetch.load(prefetch.WHILE_THE_COMMAND_RUNS)
        sweep_discovered()
        if not payload.short:
            prefetch.load(prefetch.FOR_A_FULL_RESULT)
            filter_hash.sha256_of(_filter_program(plan))  # computed now, and kept for the result

    def fileno(self) -> int:
        """Return a descriptor that is readable when the launcher has sent a message or has ended."""
        return self._launcher.fileno()

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
        self._report = self._launcher.receive()
        return True

    def wait(self) -> None:
        """Block until the run has ended, and hand on its output as it comes."""
        if self._files is not None and self._files.expects_ready:
            self.receive()
        if not self._payload.short and not self._report:
            self._sample_load_of_a_long_run()
        while True:
            if outputs := self.outputs:
                output_pipe.wait_readable(self.fileno(), outputs)
            if self.receive():
                return

    def _sample_load_of_a_long_run(self) -> None:
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
            program=_filter_program(self._plan),
            cancelled_by=self.run.cancelled_by,
            host_load=None if before is None or after is None else (before, after),
            stdout=stdio.content(stdio.stdout, report.stdout.kept),
            stderr=stdio.content(stdio.stderr, report.stderr.kept),
            output=self._take_output(report),
        )

    def _take_output(self, report: Report) -> model_report.WorkspaceOutput | None:
        if self._files is None:
            return None
        return self._files.take(by_itself=report.exited is not None and not report.killed, copied=report.copied)

    def close(self) -> None:
        """Close the descriptors of the command's streams."""
        self._stdio.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


# --- the steps of `Room.build` ---


def _preamble(cgroups: ControlGroups, identity: Identity, wanted: tuple[Group, ...], *, network: bool) -> Steps:
    """Return the preamble's steps. Creates cgroups of version 2, since init is cloned into one; others can wait."""
    if any(group.version == 2 for group in wanted):
        create_cgroups(cgroups, wanted)
    return preamble_steps(identity, wanted, network=network, name=cgroups.name)


def _send_preamble(
    request: Request, launcher: Launcher, cgroups: ControlGroups, identity: Identity, *, defers_cgroups: bool
) -> None:
    """Send the first steps of the room before the host is surveyed: the launcher creates namespaces in the meantime.

    Sends nothing if the request limits io: its cgroups depend on the disks that the survey finds.
    """
    if request.resources.has_io_limits:
        return
    wanted: tuple[Group, ...] = ()
    if not defers_cgroups and any(place.version == 2 for place in discover.find().places):
        wanted = limits.of_request(request, discover.find())[1].groups
    steps = _preamble(cgroups, identity, wanted, network=bool(request.isolation.network))
    launcher.send_half("preamble", encode("room", steps), cgroups.fds)


def _resolve(
    request: Request,
    identity: Identity,
    disk_layer: UpperDirectory | None,
    *,
    streams_stdin: bool,
    defers_cgroups: bool,
) -> Policy:
    """Survey the host and resolve the policy."""
    upper: Upper | None = None if disk_layer is None else disk_layer.facts
    return prepare(request, identity=identity, streams_stdin=streams_stdin, upper=upper, defer_cgroups=defers_cgroups)[
        1
    ]


def _send_room(
    launcher: Launcher, cgroups: ControlGroups, policy: Policy, room_steps: RoomSteps, files: FileTransfer | None
) -> Steps:
    """Send the room's half of the plan; return all its steps, the preamble's first."""
    preamble = _preamble(cgroups, policy.identity, policy.limit_mechanisms.groups, network=policy.network)
    steps, text = room_steps
    fds = () if files is None else files.room_fds
    launcher.send_half("room", encode("room", preamble, text), (*cgroups.fds, *fds))
    return (*preamble, *steps)


def _with_cgroups(policy: Policy, request: Request) -> Policy:
    """Find cgroups while the room is built, and return the policy with them."""
    complete = with_cgroups(policy, request, discover.find())
    if any(group.version == 2 for group in complete.limit_mechanisms.groups):
        raise RetryAttemptError(CGROUP_VERSION_2)
    return complete


def _filter_program(plan: Plan) -> str:
    return next(step[1] for step in plan.payload if step[0] == "filter")
