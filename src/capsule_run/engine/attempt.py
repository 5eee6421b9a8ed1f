"""Attempt a request once: start a launcher, build a room, run the payload in it, and build the result.

The only process that Python makes is the launcher. Safe in threads and while an event loop runs.
"""

from __future__ import annotations

from capsule_run._base.value import Value
from capsule_run.cgroup.create import ControlGroups
from capsule_run.engine import build_result
from capsule_run.engine.room import Room
from capsule_run.engine.running import Payload
from capsule_run.launcher import Launcher, Run
from capsule_run.workspace import disk_layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from capsule_run.engine.running import RunningPayload
    from capsule_run.engine.streams import Streams
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result
    from capsule_run.workspace.disk_layer import UpperDirectory

    # Yields each payload that was started, and is resumed when its report was received; returns the result.
    Steps = Generator[RunningPayload, None, Result]


class Call(Value):
    """The arguments of a run, the same for each attempt."""

    request: Request
    streams: Streams
    on_start: Callable[[Run], None] | None  # called with the run before its command starts
    core_path: str
    called_ns: int  # CLOCK_MONOTONIC
    began_ns: int  # CLOCK_REALTIME
    short: bool  # the caller needs no measurements if the run succeeds


def attempt(call: Call, *, stale_ok: bool) -> Steps:
    """Run a request once. The caller waits for the payload that it yields, by blocking or on an event loop.

    Raises CapsuleError, and RetryAttemptError if another attempt may succeed.
    """
    upper = call.request.isolation.workspace_upper
    if upper is None:
        return (yield from _attempt(call, call.on_start, stale_ok=stale_ok, layer=None))

    with disk_layer.UpperDirectory(upper) as layer:

        def started(run: Run) -> None:
            layer.watch(run)
            if call.on_start is not None:
                call.on_start(run)

        result = yield from _attempt(call, started, stale_ok=stale_ok, layer=layer)
        return layer.judged(result)


def _attempt(
    call: Call, on_start: Callable[[Run], None] | None, *, stale_ok: bool, layer: UpperDirectory | None
) -> Steps:
    # The cgroups outlive the launcher, which is a member of them. The launcher starts before the plan is made, since it
    # creates namespaces on another processor at the same time.
    with ControlGroups() as cgroups, Launcher(path=call.core_path) as launcher:
        streams_stdin = call.streams.stdin is not None
        payload = Payload(
            request=call.request, streams=call.streams, on_start=on_start, short=call.short, stale_ok=stale_ok
        )
        with (
            Room.build(call.request, launcher, cgroups, streams_stdin=streams_stdin, disk_layer=layer) as room,
            room.start(payload) as running,
        ):
            yield running
            finished = running.finish()
        result = build_result.build(
            finished, call.request, called_ns=call.called_ns, began_ns=call.began_ns, short=call.short
        )
        # a launcher that started no command may not know the cgroups, and so may not have removed them
        cgroups.removed_by_launcher = launcher.close() == 0 and finished.report.started
        return result
