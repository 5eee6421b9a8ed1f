"""Run a request to its end: repeat the attempt while the host teaches something, and return errors as results."""

from __future__ import annotations

import posix
import time
from errno import EMFILE

from capsule_run._base import shortage as base_shortage
from capsule_run._base.errors import LEAST_DESCRIPTORS, CapsuleError, exhausted, exhaustion
from capsule_run.engine import build_result, prefetch
from capsule_run.engine.attempt import Call, attempt
from capsule_run.engine.fallbacks import STALE_FACTS, RetryAttemptError
from capsule_run.engine.streams import Streams
from capsule_run.launcher import PATH as CORE_PATH
from capsule_run.request import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run.launcher import Run
    from capsule_run.model.request import Request
    from capsule_run.model.result import Result

_OPEN_MAX = 4  # of sysconf(3)


def _attempts(call: Call) -> Result:
    """Attempt the request until it was run: each attempt knows what the one before found out about the host."""
    stale_ok = True
    while True:
        try:
            return attempt(call, stale_ok=stale_ok)
        except RetryAttemptError as retry:
            stale_ok = stale_ok and retry.reason != STALE_FACTS


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
    prefetch.load(prefetch.FOR_A_FAILED_RESULT)
    return perform(parse.check_request(request), streams=streams, on_start=on_start, core_path=core_path)


def perform(
    request: Request,
    *,
    streams: Streams | None = None,
    on_start: Callable[[Run], None] | None = None,
    core_path: str = CORE_PATH,
    short: bool = False,
) -> Result:
    """`execute`, for a request that `jsonapi` made and so has checked. `short`: without accounts of a quiet, good end."""
    call = Call(
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
            found = base_shortage.shortage(failed)
        if found is None:
            raise
        error = found
    try:
        return build_result.failed_result(error, build_result.names(request, call.began_ns))
    except (OSError, ImportError):  # not one descriptor is left to load them with
        raise error from None
