"""The SDK's one call: keyword arguments in, a result out.

Rank 4, a door beside `cli`. What a program needs beyond these arguments it says in a `Request` (`runner.execute`).
"""

from __future__ import annotations

from .jsonapi import mapping_from_arguments, request_from_arguments
from .runner import perform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Concatenate, ParamSpec, Protocol

    from .result import Result

    Options = ParamSpec("Options")

    class CodeDoor(Protocol[Options]):
        """Takes code and, behind it, the options of `run`."""

        def __call__(
            self,
            code: str,
            language: str = "python",
            arguments: Sequence[str] = (),
            file: str | None = None,
            *args: Options.args,
            **options: Options.kwargs,
        ) -> Result: ...

    def _code_door_like(_run: Callable[Concatenate[Sequence[str], Options], Result]) -> CodeDoor[Options]: ...


def run(
    command: Sequence[str],
    *,
    timeout_ms: int | None = None,
    memory: int | str | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | str | None = None,
    workspace: str | None = None,
    workspace_upper: str | Mapping[str, object] | None = None,
    network: bool | None = None,
    max_output: int | str | None = None,
    max_pids: int | None = None,
    disk: int | str | None = None,
    cpu_time_ms: int | None = None,
    cpus: float | None = None,
    readonly: Sequence[str] = (),
    writable: Sequence[str] = (),
    tools: Sequence[str] = (),
    unmask: Sequence[str] = (),
    workdir: str | None = None,
    user: int | str | None = None,
    on_output_limit: str | None = None,
    profile: str | None = None,
    on_violation: str | None = None,
    files: Mapping[str, object] | None = None,
    collect: Sequence[str] | None = None,
    collect_to: str | None = None,
    changes: bool | None = None,
    apply_changes: bool | None = None,
    save_changes: str | None = None,
    collect_bytes: int | str | None = None,
    collect_file_bytes: int | str | None = None,
    execution_id: str | None = None,
    postmortem: bool | None = None,
    ledger: bool | None = None,
) -> Result:
    """Run `command` in a fresh sandbox, wait for it, and return the result.

    :param command: the program and its arguments; no shell is involved. :param timeout_ms: wall-clock limit (default 30 000).
    :param memory: bytes, or a size such as "256M" (default 256 MiB), for the command and all its children together.
    :param env: variables; nothing of the caller's is passed on. :param stdin: what it reads; None is end-of-file at once.
    :param workspace: a host directory shown copy-on-write at /workspace (None: empty). :param network: True gives the host's.
    :param workspace_upper: a directory, or {"directory": …, "bytes": …}: what is written there lies on disk, beneath it.
    :param max_output: bytes kept of each stream (default 1 MiB); what happens then is `on_output_limit`, "kill" or "truncate".
    :param max_pids: processes and threads (default 100). :param disk: bytes of private files (default: 7/8 of `memory`).
    :param cpu_time_ms: limit of processor time, of all processes together. :param cpus: processors at the most, such as 0.5.
    :param readonly: host paths shown read-only at the same place. :param writable: likewise, writable.
    :param tools: programs from outside /usr, shown read-only with what they need. :param unmask: names to show all the same.
    :param workdir: where it starts (default /workspace). :param user: id inside, or "UID:GID" (default 1000).
    :param files: what lies in /workspace: a path to its content, or to an object of "text", "base64" or "source", and "mode".
    :param collect: patterns of what comes back in `Result.files`, such as "out/*". :param collect_to: a host directory for them.
    :param changes: whether `Result.changes` says what the command changed (default: where the workspace is copy-on-write).
    :param apply_changes: True carries the changes over to the shared directory. :param save_changes: to another one.
    :param collect_bytes: how much may come back. :param collect_file_bytes: of one file.
    :param ledger: True lists every process in `Result.processes`. :param postmortem: False does not look before a timeout.
    :param profile: system calls: a name, NAME+GROUP or a TOML file. :param on_violation: "kill", or "refuse" and run on.
    :raises CapsuleError: with a code E1xxx when the request is wrong.
    """
    given = dict(locals())  # every argument, and nothing else yet: each has the name that the table of fields knows
    return perform(request_from_arguments(**given))


def _run_code(
    code: str, language: str = "python", arguments: Sequence[str] = (), file: str | None = None, **options: object
) -> Result:
    """Run `code` in a fresh sandbox, wait for it, and return the result.

    :param language: python, javascript, typescript, bash, ruby, perl, c, c++, java, go or rust, as far as the host has it.
    :param arguments: words for the program. :param file: what the source is called in /workspace (such as main.py).
    :param options: what `run` takes beside the command, such as `timeout_ms` or `files`.
    :raises CapsuleError: with a code E1xxx when the request is wrong; E1010 when the sandbox lacks the language.
    """
    from .program import code_request  # who runs a command needs no languages

    fields = mapping_from_arguments(**options)
    return perform(code_request(code, language, fields, arguments=arguments, file=file))


# A type checker knows every option of `run_code` from `run`: twenty of them, written twice, would part.
if TYPE_CHECKING:
    run_code = _code_door_like(run)
else:
    run_code = _run_code
    run_code.__name__ = run_code.__qualname__ = "run_code"
