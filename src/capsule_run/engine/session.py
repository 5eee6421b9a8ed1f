"""A sandbox that lives: a room held by a launcher of its own, which payloads join, one after the other or at once.

The holder's payload does nothing; its time limit is the lease of the sandbox. Each command has a launcher of its own that
joins the room's namespaces (docs/decisions/sessions.md), so that its result is made as for a one-shot run.
"""

from __future__ import annotations

import _thread
import time

from capsule_run._base.errors import CapsuleError
from capsule_run._base.statuses import KILLED
from capsule_run._base.value import replace
from capsule_run.engine import build_result, output_pipe
from capsule_run.engine.execute import bounded, supervised
from capsule_run.engine.fallbacks import STALE_FACTS, RetryAttemptError
from capsule_run.engine.joined_ahead import JoinedAhead
from capsule_run.engine.room import Room
from capsule_run.engine.running import Payload
from capsule_run.engine.spare import message_fits, open_room
from capsule_run.engine.streams import Streams
from capsule_run.host import survey
from capsule_run.launcher import PATH as CORE_PATH
from capsule_run.launcher import SIGKILL, Launcher
from capsule_run.policy import later_payload
from capsule_run.policy.limits import limits
from capsule_run.result import verdict
from capsule_run.workspace import live

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from capsule_run.cgroup.create import ControlGroups
    from capsule_run.engine.attempt import Steps
    from capsule_run.engine.joined_ahead import Joined
    from capsule_run.engine.running import RunningPayload
    from capsule_run.launcher import Run
    from capsule_run.model.policy import Policy
    from capsule_run.model.report import FinishedRun
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result
    from capsule_run.workspace.live import LiveFiles
    from capsule_run.workspace.transfer import FileTransfer

_CORE_LOST, _KILLED_BY_SIGNAL, _ROOM_ENDED = "E6002", "E3005", "E3010"
# How a command ends when its room does, and how long to wait for the holder's report, which comes behind it. The kernel
# that runs out of a cgroup's memory kills one process of it first.
_PATIENCE_S = {_CORE_LOST: 1.0, _KILLED_BY_SIGNAL: 0.25, "E6003": 0.1}
_NOT_STARTED = ("E2", "E6")  # codes of a command that could not be started, as in a room that is ending


class Session:
    """A room and its holder. A context manager; leaving it ends the sandbox with everything in it."""

    def __init__(
        self, request: Request, *, lease_ms: int, core_path: str = CORE_PATH, keeps_one_ahead: bool = False
    ) -> None:
        """Build the room and wait until it is ready.

        :param request: what the room is made of; its command is ignored.
        :param lease_ms: how long the sandbox lives, unless `set_lease` changes it.
        :param keeps_one_ahead: after the first command, keep a payload that is confined for the next one.
        :raises CapsuleError: this host cannot meet the request.
        """
        self._request, self._core_path = bounded(request), core_path
        self._cgroups, self._launcher, self._room, self._holder = _build(self._request, lease_ms, core_path)
        self._ahead = (
            JoinedAhead(self._join_confined) if keeps_one_ahead and self._room.policy.calls.recipe is None else None
        )
        self._report: FinishedRun | None = None
        self._closed = self._lost = False
        self._receiving = _thread.allocate_lock()
        self._launchers: list[int] = []  # of the commands that run
        self._ended_cpu_ms: list[float] = []  # of the commands that have ended
        self.started_ns = time.monotonic_ns()

    @property
    def policy(self) -> Policy:
        """What is enforced on every command, as far as it does not have limits of its own."""
        return self._room.policy

    @property
    def request(self) -> Request:
        """The request that the room was built for."""
        return self._request

    @property
    def pid(self) -> int:
        """The process id of the holder's launcher."""
        return self._launcher.pid

    @property
    def transfer(self) -> FileTransfer:
        """The workspace's changes. Raises CapsuleError if the sandbox has ended."""
        self.check_alive()
        assert self._room.files is not None  # a shared room has them
        return self._room.files

    def files(self) -> LiveFiles:
        """Return the files of the sandbox. Raises CapsuleError if it has ended."""
        identity = self._room.policy.identity
        ids = (identity.outside_uid, identity.outside_gid) if identity.uid == 0 else None
        return live.LiveFiles(self.transfer.root, ids=ids)

    def set_lease(self, milliseconds: int) -> None:
        """End the sandbox this many milliseconds from now, and not at the time that was set before."""
        self.check_alive()
        self._launcher.send(f"clock {milliseconds}")

    # --- commands ---

    def steps(
        self,
        request: Request,
        *,
        streams: Streams | None = None,
        on_start: Callable[[Run], None] | None = None,
        keep: bool = False,
    ) -> Steps:
        """Run a checked request in the room, in steps (`engine.attempt.Steps`). Every outcome is a result.

        :param request: the room's request with the command, variables, directory and limits of this command.
        :param keep: what the command leaves running lives on; the run ends when all of it has ended.
        """
        began_ns = time.time_ns()

        def joined(bounded: Request, *, whole: bool) -> Steps:  # noqa: ARG001  # they are always measured
            return self._joined(bounded, streams or Streams(), on_start, began_ns=began_ns, keep=keep)

        return self._judged((yield from supervised(request, joined, began_ns=began_ns)))

    def _joined(
        self,
        request: Request,
        streams: Streams,
        on_start: Callable[[Run], None] | None,
        *,
        began_ns: int,
        keep: bool,
    ) -> Steps:
        called_ns = time.monotonic_ns()
        self.check_alive()
        policy = self.payload_policy(request, streams_stdin=streams.stdin is not None)
        payload = Payload(request=request, streams=streams, on_start=on_start, short=False, stale_ok=False, keep=keep)
        launcher, room = self._joined_room(request, policy, keep=keep)
        has_ended = False
        try:
            with room.start(payload, policy) as running:
                self._launchers.append(launcher.pid)
                try:
                    yield running
                finally:
                    self._launchers.remove(launcher.pid)
                finished = running.finish()
            has_ended = True
        finally:
            if self._ahead is not None and has_ended:
                self._ahead.leave(launcher)
            else:
                launcher.close()
        result = build_result.build(finished, request, called_ns=called_ns, began_ns=began_ns, short=False)
        if result.metrics is not None:
            self._ended_cpu_ms.append(result.metrics.cpu_ms)
        return result

    @property
    def launchers(self) -> tuple[int, ...]:
        """The process ids of the launchers of the commands that run."""
        return tuple(self._launchers)

    @property
    def ended_cpu_ms(self) -> float:
        """The CPU time of the commands that have ended."""
        return sum(self._ended_cpu_ms)

    def _joined_room(self, request: Request, policy: Policy, *, keep: bool) -> Joined:
        """Return a launcher that joins the room: the one that is ahead, if it is confined as this request wants.

        Of `keep` its init would have to know before.
        """
        if self._ahead is not None and not keep and message_fits(request) and self._has_usual_limits(request):
            joined = self._ahead.take()
            if joined is not None:
                return joined
        launcher = Launcher(path=self._core_path)
        try:
            return launcher, Room.join(self._room, policy, launcher)
        except BaseException:
            launcher.close()
            raise

    def _has_usual_limits(self, request: Request) -> bool:
        """Whether the limits that confine a command are the sandbox's: not that of its output, which the launcher holds."""
        usual, wanted = self._request.resources, request.resources
        return wanted is usual or replace(wanted, max_output_bytes=usual.max_output_bytes) == usual

    def _join_confined(self) -> Joined:
        """Join the room with a payload that is confined, for a command with the limits of the sandbox."""
        policy = self.payload_policy(self._request, streams_stdin=False)
        launcher = Launcher(path=self._core_path)
        try:
            room = Room.join(self._room, policy, launcher)
            room.confine(policy)
        except BaseException:
            launcher.close()
            raise
        return launcher, room

    def payload_policy(self, request: Request, *, streams_stdin: bool) -> Policy:
        """Return the policy of one command in this room."""
        lacking = survey.lacking_now(request.command[0])
        return later_payload.for_payload(
            self._room.policy, request, lacking=lacking, streams_stdin=streams_stdin, joins=True
        )

    # --- the end ---

    def has_ended(self, *, wait_s: float = 0.0) -> bool:
        """Return whether the room has ended, by its lease, a limit, or the death of one of its processes."""
        if self._is_known_to_have_ended():
            return True
        if wait_s:  # without the lock, and without a timeout of the socket, which other threads use meanwhile
            try:
                output_pipe.readable_within(self._launcher.fileno(), wait_s)
            except (OSError, ValueError):  # closed meanwhile
                return self._closed
        with self._receiving:
            if not self._is_known_to_have_ended() and self._launcher.wait_readable(0):
                self._receive()
        return self._is_known_to_have_ended()

    def _is_known_to_have_ended(self) -> bool:
        return self._closed or self._lost or self._report is not None

    def _receive(self) -> None:
        if not self._holder.receive():
            return
        try:
            self._report = self._holder.finish()
        except CapsuleError:  # its launcher was killed: there is no report
            self._lost = True

    @property
    def end(self) -> CapsuleError | None:
        """Why the sandbox has ended; None while it lives."""
        if not self.has_ended():
            return None
        if self._report is None:
            return _ended("its process was killed" if self._lost else "it was closed")
        if self._report.report.killed == "clock":
            return _ended("its lease is over", hint="give it a longer one: `lease_ms=`, `set_timeout()`")
        failure = verdict.judge(self._report)[3]
        if failure is None:
            return _ended("its process has ended")
        return CapsuleError(
            failure.code, f"the sandbox has ended: {failure.message}", details=failure.details, hint=failure.hint
        )

    def check_alive(self) -> None:
        """Raise CapsuleError if the sandbox has ended: why."""
        error = self.end
        if error is not None:
            raise error

    def _judged(self, result: Result) -> Result:
        """Return the result of a command; of one that ended with the room, with what ended the room as the cause."""
        if result.error is None or (result.signal or "SIGKILL") != "SIGKILL":
            return result
        wait_s = _PATIENCE_S.get(result.error.code, 0.0 if result.error.code[:2] in _NOT_STARTED else None)
        if wait_s is None or not self.has_ended(wait_s=wait_s):
            return result
        cause = self.end
        assert cause is not None
        return replace(result, status=KILLED, exit_code=137, signal="SIGKILL", error=cause.failure())

    def close(self) -> None:
        """End the sandbox, with every process in it, and wait until it has ended."""
        with self._receiving:
            if self._closed:
                return
            self._closed = True
        if self._ahead is not None:
            self._ahead.close()
        self._holder.run.cancel(SIGKILL)
        self._holder.close()
        self._room.close()
        self._cgroups.removed_by_launcher = self._launcher.close() == 0 and not self._lost
        self._cgroups.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def result_of(running: Steps) -> Result:
    """Resume a command in a room whose report was received, and return its result. It was started once, and is not again."""
    try:
        next(running)
    except StopIteration as ended:
        result: Result = ended.value
        return result
    raise AssertionError("a command in a room is not started again")


def _ended(why: str, *, hint: str | None = None) -> CapsuleError:
    return CapsuleError(_ROOM_ENDED, f"the sandbox has ended: {why}", hint=hint)


def _build(request: Request, lease_ms: int, core_path: str) -> tuple[ControlGroups, Launcher, Room, RunningPayload]:
    """Build a room with a holder, and wait until it is ready."""
    stale_ok = True
    while True:
        try:
            return _build_once(request, lease_ms, core_path, stale_ok=stale_ok)
        except RetryAttemptError as retry:
            stale_ok = stale_ok and retry.reason != STALE_FACTS


def _build_once(
    request: Request, lease_ms: int, core_path: str, *, stale_ok: bool
) -> tuple[ControlGroups, Launcher, Room, RunningPayload]:
    held = _of_the_holder(request, lease_ms)
    cgroups, launcher, room = open_room(held, core_path, share=True)
    holder = None
    try:
        payload = Payload(request=held, streams=Streams(), on_start=None, short=True, stale_ok=stale_ok, hold=True)
        holder = room.start(payload)
        if holder.receive():  # a report: it failed
            _raise_failure(holder)
    except BaseException:
        for opened in (holder, room, launcher, cgroups):
            if opened is not None:
                opened.close()
        raise
    return cgroups, launcher, room, holder


# The holder's init and its payload, the same for the command that is ahead, and an init for each command: they are in the
# room, and do not count for the commands.
OWN_PROCESSES, MAX_COMMANDS = 4, 32


def _of_the_holder(request: Request, lease_ms: int) -> Request:
    """Return the request of the room as a whole, whose time limit is the lease."""
    most = limits(request.resources).max_pids + OWN_PROCESSES + MAX_COMMANDS
    resources = replace(request.resources, max_pids=most)
    return replace(request, resources=resources, timeout_ms=lease_ms, stdin=None)


def _raise_failure(holder: RunningPayload) -> None:
    """Raise why a room could not be built: `finish` does, unless it ended right after it was built."""
    holder.finish()
    raise CapsuleError(_CORE_LOST, "the sandbox ended while it was built")
