"""Paths that are shared, and lie in the workspace's source: at their place in /workspace they are the same as where they are."""

from __future__ import annotations

import os

import pytest
from inside import code_of


@pytest.fixture
def project(place, inside):
    """A project with folders; for a caller that is root it belongs to who runs inside."""
    for name in ("out", "out/deep", "data", "-odd name"):
        place.joinpath(name).mkdir(mode=0o777)
        place.joinpath(name).chmod(0o777)
        place.joinpath(name, "file").write_text(name)
        place.joinpath(name, "file").chmod(0o666)
    for path in (place, *place.rglob("*")):
        os.chown(path, inside.uid, -1)
    return place


WRITE = 'echo written > "/workspace/$1/new"'


@pytest.mark.parametrize("spelled", ["out", "./out", "{project}/out", "out/../out/deep", "-odd name", "data/"])
def test_writable_path_in_the_workspace_is_written_through_its_place(inside, project, spelled):
    """What is written by its place in /workspace is on the host, however the option spells the path; the rest is discarded."""
    path = spelled.format(project=project)
    name = os.path.relpath(os.path.normpath(project / path), project)
    script = f"{WRITE}; echo no > /workspace/discarded; cat /workspace/data/file"
    done = inside.cli(f"--writable={path}", "--workspace", ".", "--", "sh", "-c", script, "sh", name, cwd=project)
    assert (0, b"data") == (done.returncode, done.stdout), done.stderr
    assert "written\n" == project.joinpath(name, "new").read_text()
    assert not project.joinpath("discarded").exists()


def test_writable_path_in_the_current_directory_is_written_through_its_place(inside, project):
    """The same where nothing names the workspace, which is the current directory, and the command uses a relative path."""
    done = inside.cli("--writable", "out", "--", "sh", "-c", "echo written > out/new", cwd=project)
    assert 0 == done.returncode, done.stderr
    assert "written\n" == project.joinpath("out", "new").read_text()


@pytest.mark.parametrize("mode", ["cow", "ro"])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_writable_json_path_in_the_workspace_is_written_through_its_place(inside, project, mode, elsewhere):
    """The same in JSON, with a workspace that is not the current directory, and with a bind to another place."""
    bind = {"source": str(project / "out"), "destination": "/elsewhere", "mode": "rw"}
    shared = {"binds": [bind]} if elsewhere else {"writable_paths": [str(project / "out")]}
    isolation = {"workspace": {"source": str(project), "mode": mode}, **shared}
    response = inside(["sh", "-c", WRITE, "sh", "out"], isolation=isolation)
    assert "success" == response["status"], response
    assert "written\n" == project.joinpath("out", "new").read_text()


def test_readonly_path_in_a_writable_workspace_is_read_only_at_its_place(inside, project):
    """`--readonly data` protects it from writes through /workspace as well, and a writable path in it stays writable."""
    isolation = {
        "workspace": {"source": str(project), "mode": "rw"},
        "readonly_paths": [str(project / "out")],
        "writable_paths": [str(project / "out" / "deep")],
    }
    script = "echo no > /workspace/out/new; echo yes > /workspace/out/deep/new; echo yes > /workspace/data/new"
    response = inside(["sh", "-c", script], isolation=isolation)
    assert "Read-only file system" in response["stderr"]
    assert not project.joinpath("out", "new").exists()
    assert ["yes\n"] * 2 == [project.joinpath(name, "new").read_text() for name in ("out/deep", "data")]


def test_secrets_in_a_writable_path_of_the_workspace_stay_masked(inside, project):
    """A secret in a shared folder is masked at both of its places."""
    project.joinpath("out", ".env").write_text("KEY=secret")
    project.joinpath("out", ".env").chmod(0o644)
    isolation = {"workspace": str(project), "writable_paths": [str(project / "out")]}
    response = inside(["cat", "/workspace/out/.env", f"{project}/out/.env"], isolation=isolation)
    assert "secret" not in response["stdout"]


def test_bind_at_the_place_of_a_writable_path_wins(inside, project):
    """What a request puts at that place itself is what is there."""
    bind = {"source": str(project / "data"), "destination": "/workspace/out", "mode": "ro"}
    isolation = {"workspace": str(project), "writable_paths": [str(project / "out")], "binds": [bind]}
    assert "data" == inside.says(["cat", "/workspace/out/file"], isolation=isolation)


@pytest.mark.parametrize("mode", ["cow", "ro"])
def test_writable_path_that_is_the_workspace_is_refused(inside, project, mode):
    """The workspace's own source as a writable path contradicts a workspace that keeps nothing; the hint says what to write."""
    isolation = {"workspace": {"source": str(project), "mode": mode}, "writable_paths": [str(project)]}
    response = inside(["true"], isolation=isolation)
    assert "E1009" == code_of(response)
    assert ":rw" in response["error"]["hint"]
