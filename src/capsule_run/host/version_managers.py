"""Version managers: which program a shim stands for, so that the program is shown and not the shim.

Rank 2: looks at the system, runs nothing. Called by `tools`. A shim is a small script or link on PATH that asks its
manager which version the current directory wants; inside there is neither manager nor directory to ask. What a version
file says only ever chooses among the versions that are installed.
"""

from __future__ import annotations

import posix

from capsule_run._base.errors import CapsuleError
from capsule_run.host import path_resolution
from capsule_run.host.system import read

_MAX_BYTES = 4096  # of a file that names a version
# Where a manager keeps `shims` and `versions`: the variable and the file that name the version.
_VERSIONS = {
    "pyenv": ("PYENV_VERSION", ".python-version"),
    "rbenv": ("RBENV_VERSION", ".ruby-version"),
    "nodenv": ("NODENV_VERSION", ".node-version"),
}
_MAX_BYTES = 4096  # read of a version file
# Managers whose shims are links to one program, which would have to be asked.
_ASKED = ("mise", "asdf", "volta-shim", "proto-shim")


def seen_through(program: str, *, home: str, directory: str) -> str:
    """The program itself; what a shim stands for; an empty string for a shim whose version is `system`. Raises E2004."""
    folder, _slash, name = program.rpartition("/")
    manager = folder.removesuffix("/shims")
    if folder != manager:
        if path_resolution.exists(f"{manager}/versions"):
            return _chosen(manager, name, directory)
        raise _must_be_asked(program, manager.rpartition("/")[2].lstrip(".") or "asdf", name)
    try:
        real = path_resolution.real(program).rpartition("/")[2]
    except OSError:
        return program
    if real == "rustup" and name != "rustup":
        return _toolchain(home, name) or program
    if real in _ASKED and name != real:
        raise _must_be_asked(program, real.removesuffix("-shim"), name)
    return program


def _must_be_asked(shim: str, manager: str, name: str) -> CapsuleError:
    return CapsuleError(
        "E2004",
        f"`{shim}` is a shim: only `{manager}` can resolve the `{name}` that it selects",
        details={"path": shim, "manager": manager},
        hint=f'use the program itself: `--tool "$({manager} which {name})"`',
    )


def _names(folder: str) -> list[str]:
    try:
        return sorted(posix.listdir(folder), key=_by_numbers)
    except OSError:
        return []


def _by_numbers(version: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in version.split(".")]


def _wanted(manager: str, directory: str) -> list[str]:
    """The versions that the manager would use, as its variable, the files above the directory or its own file say."""
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


def _chosen(manager: str, name: str, directory: str) -> str:
    installed = _names(f"{manager}/versions")
    wanted = _wanted(manager, directory)
    # a prefix (3.12) means the latest of it
    fitting = [each for want in wanted for each in reversed(installed) if each == want or each.startswith(f"{want}.")]
    # where none is chosen that has it, the newest that does, which the manager would only have named
    others = [] if "system" in wanted else reversed(installed)
    programs = (f"{manager}/versions/{version}/bin/{name}" for version in (*fitting, *others))
    return next((program for program in programs if path_resolution.is_executable(program)), "")


def _toolchain(home: str, name: str) -> str:
    """The program of rustup's default toolchain, or an empty string."""
    root = path_resolution.environment("RUSTUP_HOME") or f"{home}/.rustup"
    chosen = path_resolution.environment("RUSTUP_TOOLCHAIN")
    for line in read(f"{root}/settings.toml", _MAX_BYTES).splitlines():
        key, _equals, text = line.partition("=")
        if key.strip() == "default_toolchain" and not chosen:
            chosen = text.strip().strip("\"'")
    fitting = [each for each in _names(f"{root}/toolchains") if each == chosen or each.startswith(f"{chosen}-")]
    programs = (f"{root}/toolchains/{each}/bin/{name}" for each in fitting if chosen)
    return next((program for program in programs if path_resolution.is_executable(program)), "")
