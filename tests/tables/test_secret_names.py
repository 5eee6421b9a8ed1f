"""Secrets of a shared directory are found by name, whichever of the two ways they are looked for."""

from __future__ import annotations

import pytest

from capsule_run._base.known_paths import SECRETS
from capsule_run.host import secrets, survey


@pytest.fixture(params=["listed", "asked one by one"])
def directory(request, tmp_path, monkeypatch):
    """An empty directory, in which secrets are found in this way."""
    monkeypatch.setattr(secrets, "_SMALL_DIRECTORY", 1 << 30 if request.param == "listed" else -1)
    return tmp_path


def found_in(directory, *unmask):
    return dict(secrets.secrets_in([survey.stat_path(str(directory))], unmask)[str(directory)].found)


def test_secret_names_ordinary_project_has_none(directory):
    """An ordinary project has no secrets."""
    directory.joinpath("main.py").write_text("")
    assert {} == found_in(directory)


@pytest.mark.parametrize("name", SECRETS)
def test_secret_names_are_each_found(directory, name):
    """As a file in the places that it has, and unless it is asked for by name."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    assert {name: False} == found_in(directory)
    assert {} == found_in(directory, name)


def test_secret_names_link_is_resolved(directory):
    """Where that lies in the directory."""
    directory.joinpath("keys").mkdir()
    directory.joinpath(".ssh").symlink_to("keys")
    directory.joinpath(".netrc").symlink_to("/etc/passwd")
    assert {"keys": True} == found_in(directory)


def test_secret_names_unlistable_directory_is_probed(directory, monkeypatch):
    """Nothing is taken for absent because nobody could look."""
    directory.joinpath(".env").write_text("")

    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(secrets.posix, "listdir", refuse)
    assert {".env": False} == found_in(directory)


def test_secret_names_case_insensitive_directory_is_covered(directory, monkeypatch):
    """A directory in which case does not matter lists a name as it was written, and gives it by any other."""
    directory.joinpath(".env").write_text("")
    monkeypatch.setattr(secrets.posix, "listdir", lambda _path: [".ENV"])
    assert {".env": False} == found_in(directory)
