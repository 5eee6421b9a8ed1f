"""`map`: run many commands, several at once. What the calls of `map`, `Pool.map` and `aio.map` mean (docs/batch.md)."""

from __future__ import annotations

import posix
from collections.abc import Mapping, Sequence

from capsule_run._base.errors import CapsuleError
from capsule_run.api import completed_fields, in_own_words
from capsule_run.engine import execute
from capsule_run.model.request import Request
from capsule_run.request import interface_words
from capsule_run.request.arguments import ARGUMENTS, mapping_from_arguments
from capsule_run.request.parse import request_from_mapping, with_defaults
from capsule_run.request.validators import did_you_mean, invalid, shown, wrong_type
from capsule_run.sandbox.calls import command_of
from capsule_run.sandbox.pools import Pools, is_shortage, refused
from capsule_run.sandbox.workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Required, TypedDict

    from capsule_run.engine.attempt import Steps
    from capsule_run.launcher import Cancel, Run
    from capsule_run.model.request import OnOutputLimit
    from capsule_run.model.result import Result

    class CallArguments(TypedDict, total=False):
        """The arguments of `Pool.run`."""

        command: Required[str | Sequence[str]]
        env: Mapping[str, str] | None
        cwd: str | None
        stdin: bytes | str | None
        timeout_ms: int | None
        max_output: int | str | None
        on_output_limit: OnOutputLimit | None
        on_stdout: Callable[[str], object] | None
        on_stderr: Callable[[str], object] | None
        execution_id: str | None

    PoolCall = CallArguments | Sequence[str] | str
    Call = Mapping[str, object] | Sequence[str] | str | Request

MAX_JOBS = 1024
_ABOUT_A_RESULT = 4096  # bytes, without streams and files
_CANCELLED = "E3007"


def usual_jobs() -> int:
    """Return how many runs keep this process's processors busy."""
    return len(posix.sched_getaffinity(0))


def checked_jobs(jobs: object, label: str = "jobs") -> int:
    """Return the number of runs at once. Raises CapsuleError E1003, E1004."""
    if jobs is None:
        return min(usual_jobs(), MAX_JOBS)
    if type(jobs) is not int:
        raise wrong_type(label, "a whole number", jobs)
    if not 1 <= jobs <= MAX_JOBS:
        raise invalid("E1004", label, f"must be from 1 to {MAX_JOBS}, got {jobs}")
    return jobs


def size_of(result: Result) -> int:
    """Return about how many bytes a result takes."""
    streams = [stream for stream in (result.stdout_stream, result.stderr_stream) if stream is not None]
    contents = [*[stream.data for stream in streams], *[file.data for file in result.collected]]
    return _ABOUT_A_RESULT + sum([len(content) for content in contents]) + len(result.diff or "")


def arguments_of(call: object, known: Iterable[str]) -> dict[str, object]:
    """Return the arguments of a call of `map`. Raises CapsuleError E1002, E1003."""
    if isinstance(call, Mapping):
        names = tuple(known)
        for name in call:
            if name not in names:
                why = f"unknown argument {shown(str(name))}{did_you_mean(str(name), names)}"
                raise invalid("E1002", "call", why, hint="arguments: " + ", ".join(names))
        return dict(call)
    if isinstance(call, (str, Sequence)) and not isinstance(call, (bytes, bytearray)):
        return {"command": call}
    raise wrong_type("call", "a command, a mapping of arguments or a `Request`", call)


class Calls:
    """Makes the requests of the calls of one `map`."""

    def __init__(self, options: Mapping[str, object], *, config: object = False) -> None:
        """Check what all calls have in common. Raises CapsuleError E10xx, TypeError."""
        self._config = config
        self._common = mapping_from_arguments(**options)
        self._request_of_fields({**self._common, "command": ["true"]})  # what is wrong with it is said now

    def request_of(self, call: object) -> Request:
        """Return the request of a call. Raises CapsuleError E10xx."""
        if isinstance(call, Request):
            return execute.complete(call)
        arguments = arguments_of(call, ARGUMENTS)
        command = arguments.get("command")
        if isinstance(command, str):
            arguments["command"] = command_of(command)
        fields = with_defaults(mapping_from_arguments(**arguments), self._common)
        assert isinstance(fields, dict)
        return self._request_of_fields(fields)

    def _request_of_fields(self, fields: dict[str, object]) -> Request:
        return request_from_mapping(completed_fields(fields, config=self._config))

    def steps(self, call: object, pools: Pools, on_start: Callable[[Run], None]) -> Steps:
        """Run a call in steps. Every outcome is a result, also of a wrong call."""
        try:
            return in_own_words((yield from pools.steps(self.request_of(call), on_start=on_start)))
        except CapsuleError as error:
            return refused_call(error, given_id(call))


def given_id(call: object) -> object:
    """Return the execution id that a call names, if it does."""
    return call.get("execution_id") if isinstance(call, Mapping) else getattr(call, "execution_id", None)


def refused_call(error: CapsuleError, its_id: object) -> Result:
    """Return the result of a wrong call, in the words of arguments."""
    named = interface_words.renamed(error, interface_words.ARGUMENT_NAMES)
    named.execution_id = error.execution_id or (its_id if isinstance(its_id, str) else None)
    return refused(named)


def waited(
    make_steps: Callable[[], Steps], cancel: Cancel, wait_for_another: Callable[[Cancel], bool]
) -> Result | None:
    """Run in steps, again after another run if there was a shortage. Return None if the run was cancelled."""
    while True:
        result = execute.wait(make_steps())
        if cancel.wanted and result.error is not None and result.error.code == _CANCELLED:
            return None
        if not is_shortage(result) or not wait_for_another(cancel):
            return result


def map(  # noqa: A001  # its public name
    calls: Iterable[Call], *, jobs: int | None = None, ordered: bool = True, config: bool = False, **options: object
) -> Iterator[Result]:
    """Run many commands, each in a sandbox of its own and several at once, and yield their results.

    A call that is wrong has a result like every other, with an error E1xxx. Runs of one kind share sandboxes that are built
    ahead. Closing the iterator ends what runs.

    :param calls: commands (a string is for the shell), mappings of the arguments of `run`, or requests. They are taken as
        they are needed, in another thread, so that there may be any number.
    :param jobs: how many run at once (default: the number of processors).
    :param ordered: yield the results in the order of the calls, and not as they come.
    :param options: arguments of `run` for all calls that do not give them, such as `memory` or `timeout_ms`.
    :param config: as in `run`.
    :raises CapsuleError: a wrong option.
    """
    most = checked_jobs(jobs)
    requests = Calls(options, config=config)
    return _mapped(requests, calls, most, ordered=ordered)


def _mapped(requests: Calls, calls: Iterable[Call], jobs: int, *, ordered: bool) -> Iterator[Result]:
    with Pools(jobs) as pools:

        def do(call: Call, cancel: Cancel) -> Result | None:
            return waited(lambda: requests.steps(call, pools, cancel.started), cancel, workers.wait_for_another)

        workers = Workers(do, calls, jobs=jobs, ordered=ordered, size_of=size_of)
        yield from workers.results()


def pool_results(
    run: Callable[[PoolCall, Cancel], Result], calls: Iterable[PoolCall], *, workers: int, ordered: bool
) -> Iterator[Result]:
    """Yield the results of calls of a pool, as `map` does."""

    def do(call: PoolCall, cancel: Cancel) -> Result | None:
        result = run(call, cancel)
        return None if cancel.wanted and result.error is not None and result.error.code == _CANCELLED else result

    yield from Workers(do, calls, jobs=workers, ordered=ordered, size_of=size_of).results()
