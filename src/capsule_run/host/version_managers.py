"""Resolve the shims of version managers to the programs that they start, so that the program is shown inside.

Runs nothing. A shim is a small script or link on PATH that asks its manager which version the current directory selects;
inside, there is no manager to ask. A version file can only choose among the installed versions.
"""

from __future__ import annotations

import posix

from capsule_run._base.errors import CapsuleError
from capsule_run.host import path_resolution
from capsule_run.host.system import read

_MAX_BYTES = 4096  # of a file that names a version
# Managers with directories `shims` and `versions`: the variable and the file that name the version.
_VERSIONS = {
    "pyenv": ("PYENV_VERSION", ".python-version"),
    "rbenv": ("RBENV_VERSION", ".ruby-version"),
    "nodenv": ("NODENV_VERSION", ".node-version"),
}
# Managers whose shims are links to one program, which would have to be run.
_SINGLE_PROGRAM = ("mise", "asdf", "volta-shim", "proto-shim")


def resolve_shim(program: str, *, home: str, directory: str) -> str:
    """Resolve a version manager's shim to the real program.

    Return the path unchanged if it is not a shim, or "" if the shim selects the system version. Raises CapsuleError E2004
    if only the manager can tell.
    """
    folder, _slash, name = program.rpartition("/")
    manager = folder.removesuffix("/shims")
    if folder != manager:
        if path_resolution.exists(f"{manager}/versions"):
            return _selected_program(manager, name, directory)
        raise _unresolvable(program, manager.rpartition("/")[2].lstrip(".") or "asdf", name)
    try:
        real = path_resolution.real(program).rpartition("/")[2]
    except OSError:
        return program
    if real == "rustup" and name != "rustup":
        return _toolchain_program(home, name) or program
    if real in _SINGLE_PROGRAM and name != real:
        raise _unresolvable(program, real.removesuffix("-shim"), name)
    return program


def _unresolvable(shim: str, manager: str, name: str) -> CapsuleError:
    return CapsuleError(
        "E2004",
        f"`{shim}` is a shim: only `{manager}` can resolve the `{name}` that it selects",
        details={"path": shim, "manager": manager},
        hint=f'use the program itself: `--tool "$({manager} which {name})"`',
    )


def _names(folder: str) -> list[str]:
    try:
        return sorted(posix.listdir(folder), key=_version_key)
    except OSError:
        return []


def _version_key(version: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in version.split(".")]


def _selected_versions(manager: str, directory: str) -> list[str]:
    """Return the versions that the manager would use: from its variable, the nearest version file, or its own file."""
    kind = next((kind for kind in _VERSIONS if kind in manager.rpartition("/")[2]), "")
    if kind:
        variable, file = _VERSIONS[kind]
        text = path_resolution.environment(variable).replace(":", " ")
        while not text.strip():
            text = read(f"{directory}/{file}", _MAX_BYTES)
            if not directory:
                break
            directory = directory.rpartition("/")[0]
        if text.strip():
            return text.split()
    return read(f"{manager}/version", _MAX_BYTES).split()


def _selected_program(manager: str, name: str, directory: str) -> str:
    installed = _names(f"{manager}/versions")
    wanted = _selected_versions(manager, directory)
    # a prefix such as 3.12 selects its latest version
    fitting = [each for want in wanted for each in reversed(installed) if each == want or each.startswith(f"{want}.")]
    # if no selected version has the program, use the newest that does; the manager would only suggest it
    others = [] if "system" in wanted else reversed(installed)
    programs = (f"{manager}/versions/{version}/bin/{name}" for version in (*fitting, *others))
    return next((program for program in programs if path_resolution.is_executable(program)), "")


def _toolchain_program(home: str, name: str) -> str:
    """Return the program of rustup's default toolchain, or ""."""
    root = path_resolution.environment("RUSTUP_HOME") or f"{home}/.rustup"
    chosen = path_resolution.environment("RUSTUP_TOOLCHAIN")
    for line in read(f"{root}/settings.toml", _MAX_BYTES).splitlines():
        key, _equals, text = line.partition("=")
        if key.strip() == "default_toolchain" and not chosen:
            chosen = text.strip().strip("\"'")
    fitting = [each for each in _names(f"{root}/toolchains") if each == chosen or each.startswith(f"{chosen}-")]
    programs = (f"{root}/toolchains/{each}/bin/{name}" for each in fitting if chosen)
    return next((program for program in programs if path_resolution.is_executable(program)), "")
