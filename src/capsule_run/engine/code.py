"""Make the request that runs code in some language on this host.

Finds out which toolchains the sandbox would have. Every interface that takes code calls `code_request`.
"""

from __future__ import annotations

import sys

from capsule_run._base.errors import CapsuleError
from capsule_run._base.lexical_paths import SYSTEM_PATH
from capsule_run._base.value import replace
from capsule_run.engine import configuration
from capsule_run.engine.execute import perform
from capsule_run.host.path_resolution import SYSTEM_FILE, is_absent, is_executable
from capsule_run.host.survey import caller_path
from capsule_run.host.tools import of_request
from capsule_run.request.languages import language as language_row
from capsule_run.request.languages import program, toolchain
from capsule_run.request.parse import request_from_mapping
from capsule_run.request.validators import check_string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from capsule_run.model.request import Request
    from capsule_run.request.languages import Language, Toolchain


# The sandbox always shows the interpreter that runs us.
_ALWAYS = ("python", "python3")
# Results of probes: only the first request of a process runs one.
_probed: dict[tuple[str, ...], bool] = {}


def working(request: Request) -> Callable[[Toolchain], bool]:
    """Return the predicate of a toolchain: the sandbox of `request` has all its programs, and its probe succeeds."""
    shown = (folder for tool in of_request(request) for folder in tool.path)
    folders = (*shown, sys.executable.rpartition("/")[0], *SYSTEM_PATH)

    def works(tools: Toolchain) -> bool:
        if not all(name in _ALWAYS or _found(name, folders) for name in tools.programs):
            return False
        if tools.probe and tools.probe not in _probed:
            _probed[tools.probe] = perform(replace(request, command=tools.probe, files=(), collect=())).ok
        return not tools.probe or _probed[tools.probe]

    return works


def may_probe(language: object) -> bool:
    """Whether `code_request` may run a probe of a toolchain, which takes as long as a run."""
    return any(tools.probe and tools.probe not in _probed for tools in language_row(language).toolchains)


def _found(name: str, folders: Iterable[str]) -> bool:
    return any(is_executable(f"{folder}/{name}") for folder in folders)


def code_request(
    code: object,
    language: object,
    fields: Mapping[str, object],
    *,
    arguments: Sequence[str] = (),
    file: str | None = None,
) -> Request:
    """Return the request that runs `code`.

    :param fields: the other fields of the request (docs/json-api.md), without `command`.
    :param arguments: arguments of the program.
    :param file: the name of the source file in the workspace.
    :raises CapsuleError: E10xx for a wrong field, E1010 if the sandbox does not have the language.
    """
    text, row = check_string(code, "code"), language_row(language)
    if not is_absent(SYSTEM_FILE):
        fields = configuration.with_system(fields, language=row.name)
    base = request_from_mapping({**fields, "command": ["true"]})
    try:
        made = program(text, row, working(base), arguments=arguments, file=file)
    except CapsuleError as error:
        raise _with_tool(error, row) from None
    files = _object(fields, "files")
    for name in made.files:
        if name in files:
            raise CapsuleError("E1009", f"files: `{name}` is the code's own file", details={"field": "files"})
    completed: dict[str, object] = {**fields, "command": list(made.command)}
    completed["files"] = {**files, **made.files}
    completed["environment"] = {**made.environment, **dict(base.environment)}
    resources = _object(fields, "resources")
    if made.memory_bytes is not None and "memory_bytes" not in resources:
        completed["resources"] = {**resources, "memory_bytes": made.memory_bytes}
    return request_from_mapping(completed)


def check_toolchain(row: Language, request: Request) -> None:
    """Raise CapsuleError E1010 if the sandbox of `request` has none of the toolchains of the row."""
    try:
        toolchain(row, working(request))
    except CapsuleError as error:
        raise _with_tool(error, row) from None


def _object(fields: Mapping[str, object], name: str) -> dict[str, object]:
    given = fields.get(name, {})
    assert isinstance(given, dict)  # `request_from_mapping` has checked it
    return given


def _with_tool(error: CapsuleError, row: Language) -> CapsuleError:
    """Return the error with a hint to `--tool`, if the host has a toolchain that the sandbox does not show."""
    for tools in row.toolchains:
        hidden = [name for name in tools.programs if not _found(name, SYSTEM_PATH)]
        if error.code == "E1010" and hidden and all(_found(name, caller_path()) for name in hidden):
            options = " ".join(f"--tool {name}" for name in hidden)
            hint = f"show it with `{options}` (`isolation.tools`)"
            return CapsuleError(error.code, error.message, details=error.details, hint=hint)
    return error
