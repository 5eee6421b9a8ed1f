"""A room that is built ahead: the command comes later, and the room is used once."""

from __future__ import annotations

import posix
import time

from capsule_run._base.value import replace
from capsule_run.cgroup.create import ControlGroups
from capsule_run.engine import build_result
from capsule_run.engine.execute import bounded, supervised
from capsule_run.engine.fallbacks import RetryAttemptError
from capsule_run.engine.room import Room
from capsule_run.engine.running import Payload
from capsule_run.engine.streams import Streams
from capsule_run.host import survey
from capsule_run.host.caller_files import write_all
from capsule_run.launcher import PATH as CORE_PATH
from capsule_run.launcher import Launcher
from capsule_run.policy import later_payload, limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from capsule_run.engine.attempt import Steps
    from capsule_run.engine.running import RunningPayload
    from capsule_run.launcher import Run
    from capsule_run.model.policy import Policy
    from capsule_run.model.request import Request

# The clock of a command that waits for its input: the real one is set when that is sent.
WAITING_MS = 1 << 50
# Characters of a command and its variables, of which a message of 64 KiB has room for all, whatever they are.
MAX_LATE_COMMAND = 12_000


def message_fits(request: Request) -> bool:
    """Whether the command goes in one message to a payload that is confined already."""
    return (
        sum(map(len, request.command)) + sum(len(text) for pair in request.environment for text in pair)
        <= MAX_LATE_COMMAND
    )


def open_room(request: Request, core_path: str, *, share: bool = False) -> tuple[ControlGroups, Launcher, Room]:
    """Start a launcher and let it build a room, for a caller that closes all three: the room, the launcher, the cgroups.

    Raises CapsuleError, and RetryAttemptError as `Room.build`; then all are closed.
    """
    cgroups = ControlGroups()
    launcher = None
    try:
        launcher = Launcher(path=core_path)
        return (
            cgroups,
            launcher,
            Room.build(request, launcher, cgroups, streams_stdin=False, disk_layer=None, share=share),
        )
    except BaseException:
        if launcher is not None:
            launcher.close()
        cgroups.close()
        raise


class SpareRoom:
    """A room for one command, and all that it needs. A context manager; leaving it ends what is left of the room."""

    def __init__(self, cgroups: ControlGroups, launcher: Launcher, room: Room) -> None:
        self._cgroups, self._launcher, self._room = cgroups, launcher, room
        self._prepared: RunningPayload | None = None
        self._is_confined = False
        self._input = -1
        self._has_run = False  # its command was executed

    @classmethod
    def build(cls, request: Request, *, core_path: str = CORE_PATH) -> Self:
        """Build a room for requests like this one, whose command is ignored. Returns while the launcher still builds.

        Cgroups of version 1 are made for the command: a launcher removes what the command's half of the plan names.

        Raises CapsuleError if this host cannot meet the request.
        """
        request = bounded(request)
        while True:
            try:
                return cls(*open_room(request, core_path))
            except RetryAttemptError:  # without what this host does not support
                continue

    def confine(self, request: Request) -> None:
        """Confine a payload ahead, for commands with the limits of this request.

        Its filter must allow what is left to do: those of the profiles do, and of another one nothing is known.
        """
        if self._room.policy.calls.recipe is None:
            self._room.confine(self._policy_of(request, streams_stdin=False))
            self._is_confined = True

    def takes(self, request: Request) -> bool:
        """Whether this room can run the command: one that is too long for a message is for a payload that comes whole."""
        return not self._is_confined or message_fits(request)

    @property
    def is_alive(self) -> bool:
        """Whether the room can still be used: its launcher lives, and has reported no failure."""
        if self._launcher.has_ended():
            return False
        return not self._launcher.wait_readable(0) or (self._room.files is not None and self._room.files.expects_ready)

    def prepare(self, request: Request) -> None:
        """Start a command that reads its work from stdin, such as an interpreter that has imported what the work needs."""
        inner, self._input = posix.pipe2(posix.O_CLOEXEC)
        try:
            policy = self._policy_of(request, streams_stdin=True)
            payload = Payload(
                request=request,
                streams=Streams(stdin=inner),
                on_start=None,
                short=False,
                stale_ok=False,
            )
            self._prepared = self._room.start(payload, replace(policy, timeout_ms=WAITING_MS))
        finally:
            posix.close(inner)

    def _policy_of(self, request: Request, *, streams_stdin: bool) -> Policy:
        lacking = survey.lacking_now(request.command[0])
        return later_payload.for_payload(
            self._room.policy, request, lacking=lacking, streams_stdin=streams_stdin, joins=False
        )

    def steps(
        self,
        request: Request,
        *,
        streams: Streams | None = None,
        on_start: Callable[[Run], None] | None = None,
        work: bytes | None = None,
    ) -> Steps:
        """Run a request in this room, in steps (`engine.attempt.Steps`). The caller closes it then, which may be done later.

        :param work: what the prepared command reads; None starts the command of the request.
        """
        began_ns = time.time_ns()

        def in_this_room(bounded: Request, *, whole: bool) -> Steps:  # noqa: ARG001  # they are always measured
            return self._run(bounded, streams or Streams(), on_start, work, began_ns=began_ns)

        return (yield from supervised(request, in_this_room, began_ns=began_ns))

    def _run(
        self,
        request: Request,
        streams: Streams,
        on_start: Callable[[Run], None] | None,
        work: bytes | None,
        *,
        began_ns: int,
    ) -> Steps:
        called_ns = time.monotonic_ns()
        if work is not None and self._prepared is not None:
            running = self._send_work(self._prepared, work, request)
        else:
            policy = self._policy_of(request, streams_stdin=streams.stdin is not None)
            payload = Payload(request=request, streams=streams, on_start=on_start, short=False, stale_ok=False)
            running = self._room.start(payload, policy)
        with running:
            yield running
            finished = running.finish()
        self._has_run = finished.report.started
        if work is not None:  # it has run since it was prepared, and that is not the run's time
            times = {**finished.report.times, "started": called_ns}
            finished = replace(finished, report=replace(finished.report, times=times))
        return build_result.build(finished, request, called_ns=called_ns, began_ns=began_ns, short=False)

    def _send_work(self, prepared: RunningPayload, work: bytes, request: Request) -> RunningPayload:
        self._launcher.send(f"clock {limits.timeout_ms(request)}")
        try:
            write_all(self._input, work)
        except BrokenPipeError:  # it has ended meanwhile: its report says how
            pass
        posix.close(self._input)
        self._input = -1
        return prepared

    def close(self) -> None:
        """End the room."""
        if self._input >= 0:
            posix.close(self._input)
            self._input = -1
        if self._prepared is not None:
            self._prepared.close()
        self._room.close()
        self._cgroups.removed_by_launcher = self._launcher.close() == 0 and self._has_run
        self._cgroups.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
