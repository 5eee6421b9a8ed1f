"""The Python interface: `run` and `run_code` take keyword arguments and return a result.

For settings beyond these arguments, make a `Request` and call `engine.execute.execute`.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError, exhausted
from capsule_run.engine import code as engine_code
from capsule_run.engine import configuration, live_output
from capsule_run.engine import variables as engine_variables
from capsule_run.engine.execute import perform
from capsule_run.host.path_resolution import variables
from capsule_run.request import interface_words
from capsule_run.request.arguments import mapping_from_arguments
from capsule_run.request.parse import request_from_mapping
from capsule_run.request.validators import check_boolean
from capsule_run.result import hint_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike
    from typing import Concatenate, ParamSpec, Protocol

    from capsule_run.engine.live_output import OnText
    from capsule_run.engine.streams import Streams
    from capsule_run.model.request import (
        Language,
        OnOutputLimit,
        OnViolation,
        ProfileName,
        Request,
        Workspace,
        WorkspaceUpper,
    )
    from capsule_run.model.result import Result

    Options = ParamSpec("Options")

    class RunCode(Protocol[Options]):
        """A function that takes code and the options of `run`."""

        def __call__(
            self,
            code: str,
            language: Language | str = "python",
            arguments: Sequence[str] = (),
            file: str | None = None,
            *args: Options.args,
            **options: Options.kwargs,
        ) -> Result: ...

    def _run_code_like(_run: Callable[Concatenate[Sequence[str], Options], Result]) -> RunCode[Options]: ...


def fields_from_arguments(*, config: object = False, **arguments: object) -> dict[str, object]:
    """Return the request mapping of keyword arguments, completed from the environment and from configuration files.

    :param config: read the caller's and the project's files; the system's always holds (`engine.configuration`).
    """
    return completed_fields(mapping_from_arguments(**arguments), config=config)


def completed_fields(fields: dict[str, object], *, config: object = False) -> dict[str, object]:
    """Complete a request mapping from the environment and from configuration files, as `fields_from_arguments`."""
    if variables():
        fields = engine_variables.completed(fields)
    if check_boolean(config, "config") or "preset" in fields:
        fields = configuration.completed(fields, own=bool(config))
    return fields


def in_own_words(result: Result) -> Result:
    """Return a result whose error names arguments of `run`, and not fields of the request or options."""
    if result.error is None:
        return result
    try:
        if result.error.code[:2] == "E2":
            result = interface_words.renamed_in_result(result, interface_words.ARGUMENT_NAMES)
        return hint_words.worded(result, hint_words.in_arguments)
    except (OSError, ImportError):  # no descriptor is left to import a module with
        return result


def perform_in_words(request: Request, *, on_stdout: OnText | None = None, on_stderr: OnText | None = None) -> Result:
    """Perform a request that was made of arguments; an error names the argument and not the field of the request."""
    if on_stdout is None and on_stderr is None:
        return _perform_in_words(request)
    return live_output.run_live(lambda streams: _perform_in_words(request, streams), on_stdout, on_stderr)


def _perform_in_words(request: Request, streams: Streams | None = None) -> Result:
    try:
        result = perform(request, streams=streams)
    except CapsuleError as error:
        raise _of_arguments(error) from None
    return in_own_words(result)


def _of_arguments(error: CapsuleError) -> CapsuleError:
    try:
        return interface_words.renamed(error, interface_words.ARGUMENT_NAMES)
    except (OSError, ImportError):  # no descriptor is left to import a module with
        return error


def run(
    command: Sequence[str | PathLike[str]],
    *,
    timeout_ms: int | str | None = None,
    memory: int | str | None = None,
    env: Mapping[str, str | PathLike[str]] | None = None,
    stdin: bytes | str | None = None,
    workspace: str | PathLike[str] | Workspace | Mapping[str, object] | None = None,
    workspace_upper: str | PathLike[str] | WorkspaceUpper | Mapping[str, object] | None = None,
    network: bool | None = None,
    max_output: int | str | None = None,
    max_pids: int | None = None,
    disk: int | str | None = None,
    stack: int | str | None = None,
    cpu_time_ms: int | str | None = None,
    cpus: float | None = None,
    readonly: Sequence[str | PathLike[str]] = (),
    writable: Sequence[str | PathLike[str]] = (),
    tools: Sequence[str | PathLike[str]] = (),
    unmask: Sequence[str] = (),
    workdir: str | PathLike[str] | None = None,
    user: int | str | None = None,
    on_output_limit: OnOutputLimit | None = None,
    profile: ProfileName | str | PathLike[str] | None = None,
    on_violation: OnViolation | None = None,
    files: Mapping[str, object] | None = None,
    collect: Sequence[str] | None = None,
    collect_to: str | PathLike[str] | None = None,
    changes: bool | None = None,
    diff: bool | None = None,
    apply_changes: bool | None = None,
    save_changes: str | PathLike[str] | None = None,
    collect_bytes: int | str | None = None,
    collect_file_bytes: int | str | None = None,
    execution_id: str | None = None,
    postmortem: bool | None = None,
    ledger: bool | None = None,
    on_stdout: OnText | None = None,
    on_stderr: OnText | None = None,
    preset: str | None = None,
    config: bool = False,
) -> Result:
    """Run `command` in a fresh sandbox, wait for it, and return the result.

    An argument that is None is not given. A path may be a string or an `os.PathLike`.

    :param command: the program and its arguments; no shell is involved.
    :param timeout_ms: wall-clock limit in milliseconds (default 30 000), or a text with a unit such as "5s".
    :param memory: bytes, or a size such as "256M" (default 512 MiB), for the command and all its children together.
    :param env: variables; nothing of the caller's environment is passed on.
    :param stdin: what the command reads; None is end-of-file at once.
    :param workspace: a host directory shown copy-on-write at /workspace, or a `Workspace` with a mode (None: empty).
    :param workspace_upper: a directory, or a `WorkspaceUpper` with a size: what is written to the workspace lies there.
    :param network: True gives the command the host's network.
    :param max_output: bytes kept of each stream, or a size (default 1 MiB).
    :param max_pids: the most processes and threads at a time (default 100).
    :param disk: bytes of the private file systems, or a size (default: 7/8 of `memory`).
    :param stack: bytes of the stack of each process, a size, or "unlimited" (default 8 MiB).
    :param cpu_time_ms: limit of the CPU time of all processes together, like `timeout_ms`.
    :param cpus: the most processors used at a time, such as 0.5.
    :param readonly: host paths shown read-only at the same place.
    :param writable: host paths shown writable at the same place.
    :param tools: programs from outside /usr, shown read-only with what they need.
    :param unmask: names of secrets to show nevertheless.
    :param workdir: the directory that the command starts in (default /workspace).
    :param user: user id inside, or "UID:GID" (default 1000).
    :param on_output_limit: "kill" or "truncate": what happens when a stream reaches `max_output` (default "kill").
    :param profile: system call profile: a name, NAME+GROUP or the path of a TOML file.
    :param on_violation: which forbidden system calls end the run: "kill_attacks" (the default: those that only an attack
        makes), "kill" (all) or "refuse" (none).
    :param files: files in /workspace: by path, content or an object with "text", "base64" or "source", and "mode".
    :param collect: patterns of the files that come back in `Result.files`, such as "out/*".
    :param collect_to: a host directory that collected files are written to.
    :param changes: whether `Result.changes` lists what changed (default: if the workspace is copy-on-write).
    :param diff: True gives `Result.diff`, a unified diff of what changed.
    :param apply_changes: True applies the changes to the shared directory.
    :param save_changes: a host directory that changed files are written to.
    :param collect_bytes: the most bytes that come back, or a size.
    :param collect_file_bytes: the most bytes of one file, or a size.
    :param execution_id: names the run in its result and in logs (default: a random UUID).
    :param postmortem: False leaves out what each thread was doing at a timeout.
    :param ledger: True lists every process in `Result.processes`.
    :param on_stdout: called with each piece of standard output, as text, while the command runs; what it raises ends the run.
    :param on_stderr: the same for standard error; with either, `Result.output` has both streams in order of arrival.
    :param preset: a named set of options, such as "judge" (docs/configuration.md).
    :param config: True reads the configuration files of the user and the project; the system's always holds.
    :raises CapsuleError: with a code E1xxx if the request is wrong.
    """
    try:
        fields = fields_from_arguments(
            command=command,
            timeout_ms=timeout_ms,
            memory=memory,
            env=env,
            stdin=stdin,
            workspace=workspace,
            workspace_upper=workspace_upper,
            network=network,
            max_output=max_output,
            max_pids=max_pids,
            disk=disk,
            stack=stack,
            cpu_time_ms=cpu_time_ms,
            cpus=cpus,
            readonly=readonly,
            writable=writable,
            tools=tools,
            unmask=unmask,
            workdir=workdir,
            user=user,
            on_output_limit=on_output_limit,
            profile=profile,
            on_violation=on_violation,
            files=files,
            collect=collect,
            collect_to=collect_to,
            changes=changes,
            diff=diff,
            apply_changes=apply_changes,
            save_changes=save_changes,
            collect_bytes=collect_bytes,
            collect_file_bytes=collect_file_bytes,
            execution_id=execution_id,
            postmortem=postmortem,
            ledger=ledger,
            preset=preset,
            config=config,
        )
        request = request_from_mapping(fields)
    except (OSError, ImportError) as error:  # importing a module needs a descriptor, too
        raise exhausted(error) or error from None
    return perform_in_words(request, on_stdout=on_stdout, on_stderr=on_stderr)


def _run_code(
    code: str,
    language: Language | str = "python",
    arguments: Sequence[str] = (),
    file: str | None = None,
    *,
    on_stdout: OnText | None = None,
    on_stderr: OnText | None = None,
    **options: object,
) -> Result:
    """Run `code` in a fresh sandbox, wait for it, and return the result.

    :param language: python, javascript, typescript, bash, ruby, perl, c, c++, java, go or rust, as far as the host has it.
    :param arguments: words for the program.
    :param file: the name of the source file in /workspace, such as main.py.
    :param options: what `run` takes besides the command, such as `timeout_ms` or `files`.
    :raises CapsuleError: with a code E1xxx if the request is wrong; E1010 if the sandbox lacks the language.
    """
    fields = fields_from_arguments(**options)
    request = engine_code.code_request(code, language, fields, arguments=arguments, file=file)
    return perform_in_words(request, on_stdout=on_stdout, on_stderr=on_stderr)


# Type checkers take the options of `run_code` from `run`, so that they are written once.
if TYPE_CHECKING:
    run_code = _run_code_like(run)
else:
    run_code = _run_code
    run_code.__name__ = run_code.__qualname__ = "run_code"
