"""Run one request: survey the host, resolve, plan, hand both halves to the core, and make of its report a result.

Rank 3. The only process that Python makes here is the core. Safe in threads (no shared state but two facts about the
host, which only ever turn from true to false) and beside a running event loop.
"""

from __future__ import annotations

from capsule_run._base.errors import EXHAUSTED, CapsuleError
from capsule_run._base.value import Value
from capsule_run.cgroup import discover
from capsule_run.cgroup.create import ControlGroups, sweep_found
from capsule_run.engine import build_result, fallbacks, not_found, plan_cache, prefetch
from capsule_run.engine.fallbacks import RetryAttemptError, raise_retry
from capsule_run.engine.prepare import prepare
from capsule_run.engine.streams import StdioTargets
from capsule_run.host import load
from capsule_run.host.survey import identify, kept
from capsule_run.launcher import NEVER_RAN, Launcher, Run
from capsule_run.model import report as model_report
from capsule_run.model.plan import Plan
from capsule_run.plan import payload as plan_payload
from capsule_run.plan.preamble import continuation, encode, preamble_steps
from capsule_run.plan.room import steps_after_preamble
from capsule_run.policy import limits
from capsule_run.policy.resolve import with_groups
from capsule_run.result import isolation
from capsule_run.result import report as result_report
from capsule_run.workspace import disk_layer, transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run.engine.plan_cache import RoomSteps
    from capsule_run.engine.streams import Streams
    from capsule_run.model.host import Identity, Upper
    from capsule_run.model.policy import Group, Policy
    from capsule_run.model.report import FinishedRun, Report, Sample
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result
    from capsule_run.workspace.disk_layer import UpperDirectory


_OPEN_MAX = 4  # of sysconf(3)
_TRANSIENT = frozenset((4, 11, 28, *EXHAUSTED))  # and EINTR, EAGAIN, ENOSPC: of these nothing is learned about a host


class Attempt:
    """One core and what it is told. The room is built while the payload's half is made here."""

    def __init__(self, request: Request, core: Launcher, made: ControlGroups, sinks: StdioTargets) -> None:
        self.request, self.core, self.made, self.sinks = request, core, made, sinks
        self.is_known = kept() is not None  # this host; a process that runs one command need not keep its terms
        self.defer_cgroups = not self.is_known and discover.can_wait(request)  # that groups are looked for
        self.room: tuple[tuple[str, ...], ...] = ()
        self.payload: tuple[tuple[str, ...], ...] = ()
        self.meanwhile: tuple[Sample, Sample] | None = None  # what the host did, if it took long
        self.conclude: Callable[[FinishedRun], Result]

    def _born(self, identity: Identity, wanted: tuple[Group, ...], *, network: bool) -> tuple[tuple[str, ...], ...]:
        """The birth's steps. Where init is born in a group, that is made now; those of version 1 can wait."""
        if any(group.version == 2 for group in wanted):
            _make_groups(self.made, wanted)
        return preamble_steps(identity, wanted, network=network, name=self.made.name)

    def send_preamble(self, identity: Identity) -> None:
        """Send ahead what is known already; not for a request whose disks have a say in its groups."""
        if self.request.resources.has_io_limits:
            return
        wanted: tuple[Group, ...] = ()
        if not self.defer_cgroups and any(place.version == 2 for place in discover.find().places):
            wanted = limits.of_request(self.request, discover.find())[1].groups
        born = self._born(identity, wanted, network=bool(self.request.isolation.network))
        self.core.send_half("birth", encode("room", born), self.made.fds)

    def terms(self, identity: Identity, upper: Upper | None) -> tuple[Policy, RoomSteps | None]:
        """What will be enforced, and of the room what is known already. Raises CapsuleError."""
        if self.is_known:
            known = plan_cache.find(
                self.request, identity, fallbacks.unsupported, streams_stdin=self.sinks.streams_stdin
            )
            if known is not None:
                return known
        stdin = self.sinks.streams_stdin
        made = prepare(
            self.request, identity=identity, streams_stdin=stdin, upper=upper, defer_cgroups=self.defer_cgroups
        )
        return made[1], None

    def send_room(self, policy: Policy, room_steps_known: RoomSteps | None) -> None:
        """Send the room's half, which begins as the birth did. `furnishing` is what is known of it already."""
        born = self._born(policy.identity, policy.limit_mechanisms.groups, network=policy.network)
        if room_steps_known is None:
            steps = steps_after_preamble(policy, stream_fd=len(self.made.fds))
            room_steps_known = steps, continuation(steps)
            if self.is_known:
                plan_cache.keep(
                    self.request,
                    policy,
                    room_steps_known,
                    fallbacks.unsupported,
                    streams_stdin=self.sinks.streams_stdin,
                )
        steps, text = room_steps_known
        fds = self.sinks.exchange.room_fds if self.sinks.exchange else ()
        self.core.send_half("room", encode("room", born, text), (*self.made.fds, *fds))
        self.room = (*born, *steps)

    def settled(self, policy: Policy) -> Policy:
        """The policy on its groups, where looking for them was put off until the room is being built."""
        if not self.defer_cgroups:
            return policy
        settled = with_groups(policy, self.request, discover.find())
        if any(group.version == 2 for group in settled.limit_mechanisms.groups):
            raise RetryAttemptError("version 2")  # in which init would have been born
        return settled

    def finish(self, policy: Policy, call: Call, on_start: Callable[[Run], None] | None) -> tuple[Report, int]:
        """Send the payload's half and wait for the report. Returns it, and the signal that cancelled the run, or 0."""
        run = Run(self.core)
        exchange = self.sinks.exchange
        if on_start is not None:
            on_start(run)
        early = exchange.fill(self.core) if exchange else b""
        prefetch.load(prefetch.WHILE_THE_ROOM_IS_BUILT)

        _make_groups(self.made, policy.limit_mechanisms.groups)
        self.payload, fds = plan_payload.payload_steps(policy, group_name=self.made.name), self.sinks.open()
        self.core.send_half("payload", encode("payload", self.payload), (*fds, *self.made.fds))
        prefetch.load(prefetch.WHILE_THE_COMMAND_RUNS)

        self.conclude = build_result.concluding(call.request, call.called_ns, call.began_ns, short=call.short)
        isolation.filter_hash(_program(self.payload))
        sweep_found()
        message = early or (exchange.ready(self.core) if exchange else b"")
        if not call.short:
            prefetch.load(prefetch.FOR_A_FULL_RESULT)

            before = load.begin(self.core) if not message else None
            message = message or self.core.receive()
            self.meanwhile = (before, load.sample()) if before is not None else None
        message = message or self.core.receive()
        if not message:
            if (status := self.core.close()) == NEVER_RAN and self.core.is_early:
                raise RetryAttemptError("core")
            raise CapsuleError("E6002", f"the core ended without a report (wait status {status})")
        return result_report.parse_report(message), run.cancelled_by


class Call(Value):
    """What a run was called with, the same for each attempt."""

    request: Request
    streams: Streams
    on_start: Callable[[Run], None] | None
    core_path: str
    called_ns: int  # CLOCK_MONOTONIC
    began_ns: int  # CLOCK_REALTIME
    short: bool  # without accounts of a quiet, good end


def run_once(
    call: Call, on_start: Callable[[Run], None] | None, *, stale_ok: bool, upper: UpperDirectory | None = None
) -> Result:
    """One attempt. The core starts first: it makes namespaces on another processor while the plan is made on this one."""
    request = call.request
    with (
        ControlGroups() as made,
        Launcher(path=call.core_path) as core,
    ):  # the groups outlive the core, which is in the way
        sinks = StdioTargets(request, call.streams)
        try:
            attempt, identity = Attempt(request, core, made, sinks), identify()
            attempt.send_preamble(identity)
            policy, room_steps_known = attempt.terms(identity, None if upper is None else upper.facts)
            if upper is not None:
                upper.lay(policy)
            brought = _exchange(policy, sinks) if policy.transfer.deliveries else None
            attempt.send_room(policy, room_steps_known)
            policy = attempt.settled(policy)
            exchange = brought or _exchange(policy, sinks)  # what only takes can wait until the room is being built
            report, cancelled_by = attempt.finish(policy, call, on_start)

            plan = Plan(room=attempt.room, payload=attempt.payload)
            raise_retry(report, plan, stale_ok=stale_ok)
            if report.landlock_abi is None and report.killed != "caller":
                raise not_found.unstarted(report, plan, request, lambda: prepare(request)[0])
            ended = model_report.FinishedRun(
                policy=policy,
                report=report,
                record=result_report.parse_record(sinks.content(sinks.record, report.record[0])),
                program=_program(plan.payload),
                cancelled_by=cancelled_by,
                meanwhile=attempt.meanwhile,
                stdout=sinks.content(sinks.stdout, report.stdout[0]),
                stderr=sinks.content(sinks.stderr, report.stderr[0]),
                taken=exchange.take(by_itself=report.exited is not None and not report.killed) if exchange else None,
            )
            result = attempt.conclude(ended)  # while the core, which has reported, ends
            # a core that has started nothing need not know of them
            made.removed_by_launcher = core.close() == 0 and report.landlock_abi is not None
            return result
        finally:
            sinks.close()


def run_once_on_disk(call: Call, *, stale_ok: bool) -> Result:
    """One attempt whose workspace is written to a directory of its own, which outlives the core and not this call."""

    def attempt(upper: UpperDirectory, started: Callable[[Run], None]) -> Result:
        return run_once(call, started, stale_ok=stale_ok, upper=upper)

    return disk_layer.with_upper(call.request.isolation.workspace_upper, call.on_start, attempt)


def _make_groups(made: ControlGroups, wanted: tuple[Group, ...]) -> None:
    """Make the run's groups, once. A host that refuses one makes us look again, and the second time do without."""
    if made.name:
        return
    try:
        made.make(wanted)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        discover.forget(none="cgroups" in fallbacks.unsupported)
        fallbacks.unsupported.add("cgroups")
        raise RetryAttemptError("cgroups") from None


def _program(payload: tuple[tuple[str, ...], ...]) -> str:
    return next(step[1] for step in payload if step[0] == "filter")


def _exchange(policy: Policy, sinks: StdioTargets) -> transfer.Exchange | None:
    """For a run that brings files, or wants some; it is closed with the sinks."""
    if policy.transfer.is_needed:
        sinks.exchange = transfer.Exchange(policy)
    return sinks.exchange
