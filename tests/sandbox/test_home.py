"""HOME: a private, writable directory that is not the workspace, so that caches and settings are no part of the project."""

from __future__ import annotations

import os

import pytest

TOOLS = "mkdir -p ~/.cache/tool ~/.npm ~/.cargo && echo 1 > ~/.cache/tool/index && git config --global user.name x"


@pytest.fixture
def project(place, inside):
    """A project that belongs to who runs inside."""
    place.joinpath("file").write_text("before")
    for path in (place, place / "file"):
        os.chown(path, inside.uid, -1)
    return place


@pytest.mark.parametrize("user", [None, 0, "1234:4321"])
@pytest.mark.parametrize("shared", [True, False])
def test_home_is_a_private_directory_beside_the_workspace(inside, project, user, shared):
    """HOME is /home/user for every user id, with and without a shared directory; the account list says the same."""
    isolation = {"workspace": str(project)} if shared else {}
    if user is not None:
        isolation["user"] = user
    script = "cd; pwd; pwd > written; getent passwd $(id -u) | cut -d: -f6; stat -c '%a %u' .; id -u; ls -A; ls -A /workspace"
    lines = inside.says(["sh", "-c", script], isolation=isolation).splitlines()
    uid = str(user or 0).partition(":")[0] if user is not None else "1000"
    files = ["file"] if shared else []
    assert ["/home/user", "/home/user", f"700 {uid}", uid, "written", *files] == lines


def test_home_files_are_neither_changes_nor_applied(inside, project):
    """What tools keep in HOME is not among the changes, is not applied and is not collected; what is in the workspace is."""
    response = inside(
        ["sh", "-c", TOOLS + "; echo result > new"],
        isolation={"workspace": str(project)},
        apply_changes=True,
        collect=["**"],
    )
    assert "success" == response["status"], response
    assert ["new"] == [change["path"] for change in response["changes"]]
    assert ["file", "new"] == sorted(response["files"])
    assert ["file", "new"] == sorted(os.listdir(project))


def test_home_of_a_writable_workspace_is_not_on_the_host(inside, project):
    """With `rw`, what tools keep in HOME does not reach the host either."""
    response = inside(["sh", "-c", TOOLS], isolation={"workspace": {"source": str(project), "mode": "rw"}})
    assert ("success", ["file"]) == (response["status"], os.listdir(project))


def test_home_starts_empty_in_every_run(inside):
    """Nothing of a run is in the HOME of the next."""
    seen = [inside.says(["sh", "-c", "ls -A ~; echo 1 > ~/.left"]) for _ in range(2)]
    assert ["", ""] == seen


def test_home_counts_against_the_disk_limit(inside):
    """Files in HOME take of the same private disk as /tmp, and it ends there."""
    script = "head -c 3M /dev/zero > /tmp/a; head -c 3M /dev/zero > ~/b; echo $?; wc -c < ~/b"
    response = inside(["sh", "-c", script], resources={"disk_bytes": 4 << 20})
    status, written = response["stdout"].split()
    assert ("1", True, True) == (status, int(written) <= 1 << 20, "No space left" in response["stderr"])


def test_home_can_be_given_by_the_request(inside):
    """HOME in the request's environment wins; the private one exists all the same."""
    environment = {"HOME": "/workspace"}
    assert "/workspace\n/workspace/x" == inside.says(
        ["sh", "-c", "echo ~; echo > ~/x; ls -d /workspace/x; : > /home/user/y"], environment=environment
    )


def test_home_holds_paths_that_are_shared_in_it(inside, place):
    """A host path that is shown in HOME is there, read-only, and HOME is writable beside it."""
    place.joinpath("file").write_text("theirs")
    binds = [{"source": str(place), "destination": "/home/user/data", "mode": "ro"}]
    script = "cat ~/data/file; echo x > ~/y; cat ~/y; echo x > ~/data/z"
    response = inside(["sh", "-c", script], isolation={"binds": binds})
    assert ("theirsx\n", True) == (response["stdout"], "Read-only file system" in response["stderr"])


def test_home_can_be_replaced_by_a_bind(inside, place):
    """A bind onto HOME shows the host's directory there."""
    place.joinpath("file").write_text("theirs")
    binds = [{"source": str(place), "destination": "/home/user", "mode": "ro"}]
    assert "theirs" == inside.says(["sh", "-c", "cat ~/file"], isolation={"binds": binds})
