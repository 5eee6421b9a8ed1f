"""Build a sandbox and run a payload in it.

A room is a built sandbox that waits for a payload. `Room.build` sends the first half of the plan and returns while the
launcher still builds; `Room.start` sends the payload's half; the `RunningPayload` receives the report. A one-shot run is
build, start, wait, finish (`attempt`). The caller owns the launcher and the control groups, which outlive the room.
"""

from __future__ import annotations

from capsule_run.cgroup import discover
from capsule_run.cgroup.create import ControlGroups
from capsule_run.engine import fallbacks, plan_cache, prefetch
from capsule_run.engine.fallbacks import CGROUP_VERSION_2, RetryAttemptError, create_cgroups
from capsule_run.engine.prepare import prepare
from capsule_run.engine.running import RunningPayload
from capsule_run.engine.streams import StdioTargets
from capsule_run.host.survey import identify, kept
from capsule_run.launcher import Run
from capsule_run.model.plan import Plan
from capsule_run.plan import join as plan_join
from capsule_run.plan import payload as plan_payload
from capsule_run.plan.preamble import continuation, encode, preamble_steps
from capsule_run.plan.room import steps_after_preamble
from capsule_run.policy import limits
from capsule_run.policy.resolve import with_cgroups
from capsule_run.workspace import transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from capsule_run.engine.plan_cache import RoomSteps
    from capsule_run.engine.running import Payload
    from capsule_run.launcher import Launcher
    from capsule_run.model.host import Identity
    from capsule_run.model.optional import Upper
    from capsule_run.model.policy import Group, Policy
    from capsule_run.model.request import Request
    from capsule_run.workspace.disk_layer import UpperDirectory
    from capsule_run.workspace.transfer import FileTransfer

    Steps = tuple[tuple[str, ...], ...]


class Room:
    """A sandbox that is being built or waits for a payload. A context manager; leaving it closes the workspace's files."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        cgroups: ControlGroups,
        policy: Policy,
        steps: Steps,
        files: FileTransfer | None,
        shared: Room | None = None,
    ) -> None:
        self._launcher, self._cgroups, self._shared = launcher, cgroups, shared
        self._policy, self._steps, self._files = policy, steps, files
        self._confined: Steps | None = None
        self._early_report = b""

    @classmethod
    def build(
        cls,
        request: Request,
        launcher: Launcher,
        cgroups: ControlGroups,
        *,
        streams_stdin: bool,
        disk_layer: UpperDirectory | None,
        share: bool = False,
    ) -> Self:
        """Tell the launcher to build the room for a request, and return while it builds.

        :param streams_stdin: whether the payload's stdin is a descriptor of the caller.
        :param disk_layer: the directory on disk for files written to the workspace; None keeps them in memory.
        :param share: payloads of other launchers join the room, and its files are read and written from outside.
        :raises CapsuleError: this host cannot meet the request.
        :raises RetryAttemptError: this host does not support an optional mechanism of the plan.
        """
        keeps_plans = (
            kept() is not None and not share
        )  # the first command of a process, mostly the only one, needs no cache
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
        files = transfer.FileTransfer(policy, share=share) if share or policy.transfer.files else None
        try:
            if room_steps is None:
                steps = steps_after_preamble(policy, stream_fd=len(cgroups.fds), share=share)
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

    @classmethod
    def join(cls, shared: Room, policy: Policy, launcher: Launcher) -> Self:
        """Tell a launcher to join a shared room, for a payload with this policy. Return while it joins.

        The cgroups of the shared room hold the payload, too; it has none of its own.
        """
        parents, groups = shared.cgroup_parents, shared.policy.limit_mechanisms.groups
        mechanisms = shared.policy.limit_mechanisms
        most = None if mechanisms.holds("processes") else shared.policy.max_pids
        steps = plan_join.join_steps(shared.policy, group_name=shared.cgroup_name, max_processes=most)
        version2 = [fd for fd, group in zip(parents, groups, strict=True) if group.version == 2]
        launcher.send_half("join", encode("join", steps), (*shared.namespaces, *version2))
        return cls(launcher=launcher, cgroups=ControlGroups(), policy=policy, steps=steps, files=None, shared=shared)

    @property
    def policy(self) -> Policy:
        """What the room was built from; of a payload that joins one, the payload's."""
        return self._policy

    @property
    def files(self) -> FileTransfer | None:
        """The transfers of files; a shared room has them always."""
        return self._files

    @property
    def namespaces(self) -> tuple[int, ...]:
        """The descriptors of a shared room's namespaces, once it is ready."""
        return () if self._files is None else tuple(self._files.namespaces)

    @property
    def cgroup_name(self) -> str:
        """The name of the room's cgroups; empty if it has none."""
        return self._cgroups.name

    @property
    def cgroup_parents(self) -> tuple[int, ...]:
        """A descriptor of the parent directory of each cgroup of the room."""
        return tuple(self._cgroups.fds[: len(self._policy.limit_mechanisms.groups)])

    def _make_ready(self) -> None:
        """Copy files in, and create the cgroups that init enters."""
        self._early_report = self._files.fill(self._launcher) if self._files else b""
        create_cgroups(self._cgroups, self._policy.limit_mechanisms.groups)

    def confine(self, policy: Policy) -> None:
        """Confine a payload with this policy before its command is known; `start` sends the command."""
        self._make_ready()
        name, fds = self._groups()
        self._confined = plan_payload.confinement_steps(policy, group_name=name)
        self._launcher.send_half("confinement", encode("payload", self._confined), fds)

    def _groups(self) -> tuple[str, tuple[int, ...]]:
        """Return the name of the payload's cgroups, and their descriptors."""
        if self._shared is not None:
            return self._shared.cgroup_name, self._shared.cgroup_parents
        return self.cgroup_name, tuple(self._cgroups.fds)

    def start(self, payload: Payload, policy: Policy | None = None) -> RunningPayload:
        """Copy files in and send the payload's half of the plan: the command starts as soon as the room is built.

        :param policy: of the payload, where it differs from the room's (`policy.later_payload`).
        """
        policy = policy or self._policy
        run = Run(self._launcher)
        if payload.on_start is not None:
            payload.on_start(run)
        if self._confined is None:
            self._make_ready()
        stdio = StdioTargets(payload.request, payload.streams)
        try:
            return RunningPayload(
                launcher=self._launcher,
                policy=policy,
                files=self._files,
                payload=payload,
                run=run,
                stdio=stdio,
                plan=Plan(room=self._steps, payload=self._send_payload(payload, policy, stdio)),
                report=self._early_report,
            )
        except BaseException:  # also if no descriptor is left to import a module with
            stdio.close()
            raise

    def _send_payload(self, payload: Payload, policy: Policy, stdio: StdioTargets) -> Steps:
        name, group_fds = self._groups()
        if self._confined is not None:
            late = plan_payload.command_steps(policy, first_fd=len(group_fds), is_late=True)
            self._launcher.send_command(continuation(late), stdio.open())
            steps = (*self._confined, *late)
        else:
            steps = plan_payload.payload_steps(
                policy,
                group_name=name,
                hold=payload.hold,
                keep=payload.keep,
                terminal=payload.streams.terminal is not None,
            )
            self._launcher.send_half("payload", encode("payload", steps), (*stdio.open(), *group_fds))
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
