"""Explain why a command was not found in the sandbox although the host has it, and name the option that shows it.

Reads the file system. Imported only after a command was not found.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.lexical_paths import WORKSPACE, normal, within
from capsule_run.host import path_resolution
from capsule_run.host.tools import find, interpreter_of
from capsule_run.result import verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run.model.host import Host
    from capsule_run.model.plan import Plan
    from capsule_run.model.report import Report
    from capsule_run.model.request import Request


def not_started(report: Report, plan: Plan, request: Request, survey: Callable[[], Host]) -> CapsuleError:
    """Return the error of a command that never started. `survey` surveys the host."""
    error = verdict.room_error(report, plan)
    return (not_visible(request, survey()) if error.code == "E3001" else None) or error


def not_visible(request: Request, host: Host) -> CapsuleError | None:
    """Return E3004 for a command that the host has and the sandbox does not show, or whose interpreter it does not show."""
    command = request.command[0]
    if "/" not in command:
        outside = next(
            (f"{part}/{command}" for part in host.search_path if path_resolution.is_executable(f"{part}/{command}")), ""
        )
        return _hidden(command, outside, host) if outside else None
    place = normal(command if command.startswith("/") else f"{_directory(request)}/{command}")
    outside = _on_host(place, request, host)
    if outside and path_resolution.is_executable(outside):
        return _lacks_interpreter(command, outside, host)
    if command.startswith("/"):
        return _hidden(command, place, host) if path_resolution.is_executable(place) else None
    if within(place, WORKSPACE) and path_resolution.is_executable(path_resolution.join(host.directory, command)):
        return CapsuleError(
            "E3004",
            f"`{command}` is in `{host.directory}` on the host, which is not the workspace",
            details={"command": command, "path": path_resolution.join(host.directory, command)},
            hint="share the directory with `--workspace .` (`isolation.workspace`)",
        )
    return None


def _directory(request: Request) -> str:
    return request.isolation.working_directory or WORKSPACE


def _on_host(place: str, request: Request, host: Host) -> str:
    """Return the host path that the sandbox shows at `place`; empty if it shows none."""
    shown = request.isolation.workspace
    if shown is not None and within(place, WORKSPACE):
        return host.sources[shown.source].path + place[len(WORKSPACE) :]
    for bind in request.isolation.binds:
        if within(place, bind.destination):
            return host.sources[bind.source].path + place[len(bind.destination) :]
    shown_there = (*request.isolation.readonly_paths, *request.isolation.writable_paths, "/usr")
    return place if any(within(place, path_resolution.join(host.directory, path)) for path in shown_there) else ""


def _option(tool: str, host: Host) -> str:
    """Return the hint that makes `tool` visible in the sandbox, or says why that is impossible."""
    try:
        find(tool, "--tool", search_path=host.search_path, home=host.home, directory=host.directory)
    except CapsuleError as error:
        return error.hint or f"share its directory with `--readonly` (`isolation.readonly_paths`): {error.message}"
    return f"share it with `--tool {tool}` (`isolation.tools`)"


def _hidden(command: str, outside: str, host: Host) -> CapsuleError:
    return CapsuleError(
        "E3004",
        f"`{command}` is `{outside}` on the host, which is not visible in the sandbox",
        details={"command": command, "path": outside},
        hint=_option(command, host),
    )


def _lacks_interpreter(command: str, outside: str, host: Host) -> CapsuleError | None:
    """Return E3004 for a script whose interpreter the sandbox does not show: the kernel reports that as "not found"."""
    interpreter = interpreter_of(outside)
    if not interpreter or not path_resolution.is_executable(interpreter):
        return None
    return CapsuleError(
        "E3004",
        f"`{command}` is run by `{interpreter}`, which is not visible in the sandbox",
        details={"command": command, "path": interpreter},
        hint=_option(interpreter, host),
    )
