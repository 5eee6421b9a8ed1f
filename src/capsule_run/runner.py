"""Run one request: survey the host, resolve, plan, hand both halves to the core, and make of its report a result.

Rank 3. The only process that Python makes here is the core. Safe in threads (no shared state but two facts about the
host, which only ever turn from true to false) and beside a running event loop.
"""

from __future__ import annotations

import posix
import time

from . import cgroup, groups
from ._value import Value
from .birth import birth_steps, continuation, encode
from .core import NEVER_RAN, Core
from .core import PATH as CORE_PATH
from .errors import EMFILE, EXHAUSTED, LEAST_DESCRIPTORS, CapsuleError, exhausted, exhaustion
from .host import forget, identify, kept, survey
from .plan import Plan, compile_plan, furnishing_steps
from .policy import resolve, with_groups
from .sinks import Sinks, Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .birth import Identity
    from .exchange import Exchange
    from .groups import Group
    from .host import Host, Upper
    from .measure import Sample
    from .model import Request
    from .policy import Policy
    from .report import Ended, Report
    from .result import Result
    from .terms import Furnishing
    from .tools import Shown
    from .upper import UpperDirectory

# What this host has refused so far, so that only the first run of a process pays for finding out.
_refused: set[str] = set()
_OPEN_MAX = 4  # of sysconf(3)
_TRANSIENT = frozenset((4, 11, 28, *EXHAUSTED))  # and EINTR, EAGAIN, ENOSPC: of these nothing is learned about a host


class Run:
    """One run under way. `cancel` may be called from a signal handler or another thread."""

    __slots__ = ("_core", "cancelled_by")

    def __init__(self, core: Core) -> None:
        self._core = core
        self.cancelled_by = 0

    def cancel(self, signal_number: int) -> None:
        """End the sandbox now; the result says that `signal_number` did it."""
        self.cancelled_by = self.cancelled_by or signal_number
        self._core.send("kill")

    def signal(self, signal_number: int) -> None:
        """Send a signal to the command's process group."""
        self._core.send(f"signal {signal_number}")


class _Attempt:
    """One core and what it is told. The room is built while the payload's half is made here."""

    def __init__(self, request: Request, core: Core, made: cgroup.Made, sinks: Sinks) -> None:
        self.request, self.core, self.made, self.sinks = request, core, made, sinks
        self.is_known = kept() is not None  # this host; a process that runs one command need not keep its terms
        self.is_later = not self.is_known and cgroup.can_wait(request)  # that groups are looked for
        self.room: tuple[tuple[str, ...], ...] = ()
        self.payload: tuple[tuple[str, ...], ...] = ()
        self.meanwhile: tuple[Sample, Sample] | None = None  # what the host did, if it took long
        self.conclude: Callable[[Ended], Result]

    def _born(self, identity: Identity, wanted: tuple[Group, ...], *, network: bool) -> tuple[tuple[str, ...], ...]:
        """The birth's steps. Where init is born in a group, that is made now; those of version 1 can wait."""
        if any(group.version == 2 for group in wanted):
            _make_groups(self.made, wanted)
        return birth_steps(identity, wanted, network=network, name=self.made.name)

    def send_birth(self, identity: Identity) -> None:
        """Send ahead what is known already; not for a request whose disks have a say in its groups."""
        if self.request.resources.has_io_limits:
            return
        wanted: tuple[Group, ...] = ()
        if not self.is_later and any(place.version == 2 for place in cgroup.find().places):
            wanted = groups.of_request(self.request, cgroup.find())[1].groups
        born = self._born(identity, wanted, network=bool(self.request.isolation.network))
        self.core.send_half("birth", encode("room", born), self.made.fds)

    def terms(self, identity: Identity, upper: Upper | None) -> tuple[Policy, Furnishing | None]:
        """What will be enforced, and of the room what is known already. Raises CapsuleError."""
        if self.is_known:
            from . import terms

            known = terms.find(self.request, identity, _refused, streams_stdin=self.sinks.streams_stdin)
            if known is not None:
                return known
        stdin = self.sinks.streams_stdin
        made = prepare(self.request, identity=identity, streams_stdin=stdin, upper=upper, groups_later=self.is_later)
        return made[1], None

    def send_room(self, policy: Policy, furnishing: Furnishing | None) -> None:
        """Send the room's half, which begins as the birth did. `furnishing` is what is known of it already."""
        born = self._born(policy.identity, policy.rungs.groups, network=policy.network)
        if furnishing is None:
            steps = furnishing_steps(policy, stream_fd=len(self.made.fds))
            furnishing = steps, continuation(steps)
            if self.is_known:
                from . import terms

                terms.keep(self.request, policy, furnishing, _refused, streams_stdin=self.sinks.streams_stdin)
        steps, text = furnishing
        fds = self.sinks.exchange.room_fds if self.sinks.exchange else ()
        self.core.send_half("room", encode("room", born, text), (*self.made.fds, *fds))
        self.room = (*born, *steps)

    def settled(self, policy: Policy) -> Policy:
        """The policy on its groups, where looking for them was put off until the room is being built."""
        if not self.is_later:
            return policy
        settled = with_groups(policy, self.request, cgroup.find())
        if any(group.version == 2 for group in settled.rungs.groups):
            raise _LookAgainError("version 2")  # in which init would have been born
        return settled

    def finish(self, policy: Policy, call: _Call, on_start: Callable[[Run], None] | None) -> tuple[Report, int]:
        """Send the payload's half and wait for the report. Returns it, and the signal that cancelled the run, or 0."""
        run = Run(self.core)
        exchange = self.sinks.exchange
        if on_start is not None:
            on_start(run)
        early = exchange.fill(self.core) if exchange else b""
        from .confinement import payload_steps  # while the room is built, not while it is waited for

        _make_groups(self.made, policy.rungs.groups)
        self.payload, fds = payload_steps(policy, group_name=self.made.name), self.sinks.open()
        self.core.send_half("payload", encode("payload", self.payload), (*fds, *self.made.fds))
        from . import attestation, outcome  # while the command runs, not while somebody waits for it
        from .report import parse_report

        self.conclude = outcome.concluding(call.request, call.called_ns, call.began_ns, short=call.short)
        attestation.filter_hash(_program(self.payload))
        cgroup.sweep_found()
        message = early or (exchange.ready(self.core) if exchange else b"")
        if not call.short:
            from . import account, changes, measure, verdict  # noqa: F401  # likewise

            before = measure.begin(self.core) if not message else None
            message = message or self.core.receive()
            self.meanwhile = (before, measure.sample()) if before is not None else None
        message = message or self.core.receive()
        if not message:
            if (status := self.core.close()) == NEVER_RAN and self.core.is_early:
                raise _LookAgainError("core")
            raise CapsuleError("E6002", f"the core ended without a report (wait status {status})")
        return parse_report(message), run.cancelled_by


def prepare(
    request: Request,
    *,
    identity: Identity | None = None,
    streams_stdin: bool = False,
    upper: Upper | None = None,
    groups_later: bool = False,
) -> tuple[Host, Policy]:
    """What will be enforced, on this host; with `groups_later` but for control groups (`with_groups`). Raises CapsuleError."""
    if upper is None and request.isolation.workspace_upper is not None:
        from .upper import found_for

        upper = found_for(request.isolation.workspace_upper)
    tools: tuple[Shown, ...] = ()
    if request.isolation.tools:
        from .tools import of_request  # who names no tool need not pay for it

        tools = of_request(request)
    host, recipe = survey(request, identity=identity, refused=_refused, tools=tools, upper=upper), None
    if request.profile is not None:
        from .profile_file import load

        recipe = load(request.profile)
    offered = groups.NONE if groups_later else cgroup.offered(request, host)
    return host, resolve(request, host, cgroups=offered, streams_stdin=streams_stdin, recipe=recipe)


def dry_run(request: Request) -> list[str]:
    """The plan in words, a line a step; nothing is started. Raises CapsuleError."""
    from .words import lines

    return lines(compile_plan(prepare(request)[1]))


class _LookAgainError(Exception):
    """The attempt found out something about the host; `args[0]` says what. Another attempt may go better."""


class _Call(Value):
    """What a run was called with, the same for each attempt."""

    request: Request
    streams: Streams
    on_start: Callable[[Run], None] | None
    core_path: str
    called_ns: int  # CLOCK_MONOTONIC
    began_ns: int  # CLOCK_REALTIME
    short: bool  # without accounts of a quiet, good end


def _once(
    call: _Call, on_start: Callable[[Run], None] | None, *, stale_ok: bool, upper: UpperDirectory | None = None
) -> Result:
    """One attempt. The core starts first: it makes namespaces on another processor while the plan is made on this one."""
    request = call.request
    with cgroup.Made() as made, Core(path=call.core_path) as core:  # the groups outlive the core, which is in the way
        sinks = Sinks(request, call.streams)
        try:
            attempt, identity = _Attempt(request, core, made, sinks), identify()
            attempt.send_birth(identity)
            policy, furnishing = attempt.terms(identity, None if upper is None else upper.facts)
            if upper is not None:
                upper.lay(policy)
            brought = _exchange(policy, sinks) if policy.transfer.deliveries else None
            attempt.send_room(policy, furnishing)
            policy = attempt.settled(policy)
            exchange = brought or _exchange(policy, sinks)  # what only takes can wait until the room is being built
            report, cancelled_by = attempt.finish(policy, call, on_start)
            from .report import Ended, parse_record

            plan = Plan(room=attempt.room, payload=attempt.payload)
            _learn(report, plan, stale_ok=stale_ok)
            if report.landlock_abi is None and report.killed != "caller":
                from .missing import unstarted

                raise unstarted(report, plan, request, lambda: prepare(request)[0])
            ended = Ended(
                policy=policy,
                report=report,
                record=parse_record(sinks.content(sinks.record, report.record[0])),
                program=_program(plan.payload),
                cancelled_by=cancelled_by,
                meanwhile=attempt.meanwhile,
                stdout=sinks.content(sinks.stdout, report.stdout[0]),
                stderr=sinks.content(sinks.stderr, report.stderr[0]),
                taken=exchange.take(by_itself=report.exited is not None and not report.killed) if exchange else None,
            )
            result = attempt.conclude(ended)  # while the core, which has reported, ends
            # a core that has started nothing need not know of them
            made.are_gone = core.close() == 0 and report.landlock_abi is not None
            return result
        finally:
            sinks.close()


def _once_on_disk(call: _Call, *, stale_ok: bool) -> Result:
    """One attempt whose workspace is written to a directory of its own, which outlives the core and not this call."""
    from .upper import with_upper

    def attempt(upper: UpperDirectory, started: Callable[[Run], None]) -> Result:
        return _once(call, started, stale_ok=stale_ok, upper=upper)

    return with_upper(call.request.isolation.workspace_upper, call.on_start, attempt)


def _make_groups(made: cgroup.Made, wanted: tuple[Group, ...]) -> None:
    """Make the run's groups, once. A host that refuses one makes us look again, and the second time do without."""
    if made.name:
        return
    try:
        made.make(wanted)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        cgroup.forget(none="cgroups" in _refused)
        _refused.add("cgroups")
        raise _LookAgainError("cgroups") from None


def _program(payload: tuple[tuple[str, ...], ...]) -> str:
    return next(step[1] for step in payload if step[0] == "filter")


def _exchange(policy: Policy, sinks: Sinks) -> Exchange | None:
    """For a run that brings files, or wants some; it is closed with the sinks."""
    if policy.transfer.is_needed:
        from .exchange import Exchange

        sinks.exchange = Exchange(policy)
    return sinks.exchange


def _learn(report: Report, plan: Plan, *, stale_ok: bool) -> None:
    """Raise _LookAgainError for a failed set-up that a second look avoids: an optional mechanism, or facts kept too long."""
    if report.failed is None or report.failed[0] != "room" or report.failed[1] >= len(plan.room):
        return
    from .verdict import next_rung

    if report.failed[2] in _TRANSIENT:  # it says nothing of the host's mechanisms, and nothing of what lies at a path
        return

    rung = next_rung(report, plan)
    if rung and rung not in _refused:
        _refused.add(rung)
        raise _LookAgainError(rung)
    if stale_ok and plan.room[report.failed[1]][0] in ("source", "inner-source", "copy", "guard", "inner-bind"):
        forget()
        raise _LookAgainError("sources")


def _attempts(call: _Call) -> Result:
    """As many attempts as it takes: each next one knows something of the host that the last one found out."""
    stale_ok = True
    while True:
        try:
            if call.request.isolation.workspace_upper is not None:
                return _once_on_disk(call, stale_ok=stale_ok)
            return _once(call, call.on_start, stale_ok=stale_ok)
        except _LookAgainError as found:
            stale_ok = stale_ok and found.args[0] != "sources"


def execute(
    request: Request,
    *,
    streams: Streams | None = None,
    on_start: Callable[[Run], None] | None = None,
    core_path: str = CORE_PATH,
) -> Result:
    """Run one request to its end and return what happened.

    Every outcome is a result, also that the sandbox could not be set up; only a wrong request (E1xxx) is raised, as
    CapsuleError. Blocks; an exception raised meanwhile (KeyboardInterrupt) ends the sandbox before it goes on.

    :param streams: descriptors for the command's streams, instead of capturing them.
    :param on_start: called with the running `Run` once the core has its plan.
    """
    from . import codes, outcome  # noqa: F401  # of a process without descriptors it can still be told
    from .jsonapi import check_request  # the doors that have made a request of text have checked it

    return perform(check_request(request), streams=streams, on_start=on_start, core_path=core_path)


def perform(
    request: Request,
    *,
    streams: Streams | None = None,
    on_start: Callable[[Run], None] | None = None,
    core_path: str = CORE_PATH,
    short: bool = False,
) -> Result:
    """`execute`, for a request that `jsonapi` made and so has checked. `short`: without accounts of a quiet, good end."""
    call = _Call(
        request=request,
        streams=streams or Streams(),
        on_start=on_start,
        core_path=core_path,
        called_ns=time.monotonic_ns(),
        began_ns=time.time_ns(),
        short=short,
    )
    try:
        if 0 <= (limit := posix.sysconf(_OPEN_MAX)) < LEAST_DESCRIPTORS:
            raise exhaustion(EMFILE, f"this process may have {limit} files open, which is too few for a run")
        return _attempts(call)
    except CapsuleError as raised:
        if raised.code.startswith("E1"):
            raise
        error = raised
    except (OSError, ImportError, MemoryError) as failed:  # a module, too, needs a descriptor to be read
        found = exhausted(failed)
        if found is None:
            from .shortage import shortage

            found = shortage(failed)
        if found is None:
            raise
        error = found
    try:
        from .outcome import failed_result, names

        return failed_result(error, names(request, call.began_ns))
    except (OSError, ImportError):  # not one descriptor is left to load them with
        raise error from None
