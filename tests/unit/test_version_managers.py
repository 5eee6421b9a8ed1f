"""Which program a version manager's shim stands for, without asking the manager."""

from __future__ import annotations

import pytest

from capsule_run._base.errors import CapsuleError
from capsule_run.host.version_managers import resolve_shim

MANAGERS = {
    # folder: the variable and the file that choose
    ".pyenv": ("PYENV_VERSION", ".python-version"),
    ".rbenv": ("RBENV_VERSION", ".ruby-version"),
    ".nodenv": ("NODENV_VERSION", ".node-version"),
}


@pytest.fixture(params=MANAGERS)
def manager(request, tmp_path, monkeypatch):
    """A version manager with `tool` in 1.2.9, 1.2.10 and 2.0, and without it in 3.0; and a project."""
    root = tmp_path / request.param
    for version in ("1.2.9", "1.2.10", "2.0", "3.0"):
        folder = root / "versions" / version / "bin"
        folder.mkdir(parents=True)
        if version != "3.0":
            folder.joinpath("tool").write_text("#!/bin/sh\n")
            folder.joinpath("tool").chmod(0o755)
    root.joinpath("shims").mkdir()
    root.joinpath("shims", "tool").write_text("#!/bin/sh\n")
    tmp_path.joinpath("project", "deep").mkdir(parents=True)
    for variable, _file in MANAGERS.values():
        monkeypatch.delenv(variable, raising=False)
    return root


def chosen(manager):
    program = resolve_shim(
        str(manager / "shims" / "tool"), home=str(manager.parent), directory=str(manager.parent / "project" / "deep")
    )
    return program.removeprefix(f"{manager}/versions/").removesuffix("/bin/tool")


@pytest.mark.parametrize(
    ("own", "version"),
    [
        ("2.0\n", "2.0"),
        ("1.2\n", "1.2.10"),
        ("3.0 1.2.9\n", "1.2.9"),
        ("3.0\n", "2.0"),
        ("../..\n", "2.0"),
        ("system\n", ""),
    ],
)
def test_shim_version_is_read_from_the_managers_file(manager, own, version):
    """The version file of the manager: exact, a prefix for its latest, several, one without the tool, none that is there."""
    manager.joinpath("version").write_text(own)
    assert version == chosen(manager)


def test_shim_version_file_of_the_project_wins(manager):
    """A version file in the project is before the manager's own."""
    manager.joinpath("version").write_text("2.0\n")
    manager.parent.joinpath("project", MANAGERS[manager.name][1]).write_text("1.2.9\n")
    assert "1.2.9" == chosen(manager)


def test_shim_version_variable_wins(manager, monkeypatch):
    """The manager's variable is before any file."""
    manager.parent.joinpath("project", MANAGERS[manager.name][1]).write_text("1.2.9\n")
    monkeypatch.setenv(MANAGERS[manager.name][0], "2.0")
    assert "2.0" == chosen(manager)


def test_shim_ordinary_program_is_returned_unchanged(tmp_path):
    """A program anywhere else stands for itself."""
    program = tmp_path / "bin" / "tool"
    program.parent.mkdir()
    program.write_text("")
    assert str(program) == resolve_shim(str(program), home=str(tmp_path), directory=str(tmp_path))


def test_shim_of_asdf_is_an_error_with_the_command_to_ask(tmp_path):
    """asdf's shims say nothing: the error has the command that asks."""
    tmp_path.joinpath(".asdf", "shims").mkdir(parents=True)
    with pytest.raises(CapsuleError) as caught:
        resolve_shim(str(tmp_path / ".asdf" / "shims" / "node"), home=str(tmp_path), directory="/")
    assert ("E2004", 'use the program itself: `--tool "$(asdf which node)"`') == (caught.value.code, caught.value.hint)


@pytest.mark.parametrize(
    ("setting", "variable", "found"), [("stable", "", "stable-x"), ("stable", "nightly", "nightly-x"), ("", "", "")]
)
def test_shim_of_rustup_is_resolved_to_the_toolchain(tmp_path, monkeypatch, setting, variable, found):
    """rustup's default toolchain, or the one that RUSTUP_TOOLCHAIN names; without either the proxy stays what it is."""
    monkeypatch.delenv("RUSTUP_HOME", raising=False)
    monkeypatch.setenv("RUSTUP_TOOLCHAIN", variable)
    for name in ("stable-x", "nightly-x"):
        folder = tmp_path / ".rustup" / "toolchains" / name / "bin"
        folder.mkdir(parents=True)
        folder.joinpath("cargo").write_text("")
        folder.joinpath("cargo").chmod(0o755)
    tmp_path.joinpath(".rustup", "settings.toml").write_text(f'default_toolchain = "{setting}"\n' if setting else "")
    for name in ("rustup", "cargo"):
        tmp_path.joinpath(name).write_text("") if name == "rustup" else tmp_path.joinpath(name).symlink_to("rustup")
    seen = resolve_shim(str(tmp_path / "cargo"), home=str(tmp_path), directory="/")
    assert (
        str(tmp_path / ".rustup" / "toolchains" / found / "bin" / "cargo") if found else str(tmp_path / "cargo")
    ) == seen
