"""A workspace whose writes go to the host's disk: what comes of it, what bounds it, and that nothing of it stays."""

from __future__ import annotations

import os
import subprocess

import pytest
from inside import COMMAND, code_of


@pytest.fixture
def tree(inside, place):
    """A project of the account that runs things."""
    project = place / "project"
    (project / "dir").mkdir(parents=True)
    (project / "dir" / "file").write_text("before")
    (project / "kept").write_text("k")
    (project / "old").write_text("o")
    for path in (project, project / "dir", *project.glob("**/*")):
        os.chown(path, inside.uid, inside.uid)
    return project


@pytest.fixture
def disk(inside, place):
    """A directory that only that account may write."""
    path = place / "disk"
    path.mkdir(mode=0o755)
    os.chown(path, inside.uid, -1)
    return path


def over(tree, disk, **more):
    return {"workspace": str(tree), "workspace_upper": {"directory": str(disk), **more}}


def test_disk_layer_is_used_and_removed(inside, tree, disk):
    """What is written shows the disk's size, is listed as changes, belongs to the sandbox's user, and is gone after the run."""
    script = "stat -f -c %b /workspace; echo x > new; rm old; echo y >> kept; rm -r dir; mkdir dir; stat -c %u new kept"
    response = inside(["sh", "-c", script], isolation=over(tree, disk))
    assert "success" == response["status"], response
    assert [str(os.statvfs(disk).f_blocks), "1000", "1000"] == response["stdout"].split()
    kinds = {change["path"]: change["kind"] for change in response["changes"]}
    assert {"new": "created", "old": "deleted", "kept": "modified", "dir/file": "deleted"} == kinds
    assert {"kind": "cow", "source": str(tree)} == {
        name: response["isolation"]["workspace"][name] for name in ("kind", "source")
    }
    assert str(disk) == response["isolation"]["workspace"]["upper"]["directory"]
    assert ([], ["dir", "kept", "old"]) == (os.listdir(disk), sorted(os.listdir(tree)))


def test_disk_layer_is_private(place):
    """Nobody but the owner may enter the directory of a run."""
    disk = place / "disk"
    disk.mkdir(mode=0o755)
    started = [*COMMAND, "--no-workspace", "--upper", str(disk), "--", "sh", "-c", "echo up; read line"]
    process = subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert b"up\n" == process.stdout.readline()
        names = os.listdir(disk)
        assert [0o700] == [(disk / name).stat().st_mode & 0o777 for name in names]
        process.communicate(b"go\n")
    assert [] == os.listdir(disk)


def test_disk_layer_changes_are_applied_and_collected(inside, tree, disk):
    """`apply_changes`, `files` and `collect` work as with a layer in memory."""
    response = inside(
        ["sh", "-c", "cat in/text; echo x > new; rm old; echo y >> kept"],
        isolation=over(tree, disk),
        files={"in/text": {"text": "brought", "mode": "0600"}},
        collect=["new", "in/*"],
        apply_changes=True,
    )
    assert ("success", "brought") == (response["status"], response["stdout"]), response
    assert {"new": "x\n", "in/text": "brought"} == {name: one["text"] for name, one in response["files"].items()}
    assert (["dir", "kept", "new"], "ky\n") == (sorted(os.listdir(tree)), (tree / "kept").read_text())
    assert [] == os.listdir(disk)


def test_disk_layer_with_empty_workspace_works(inside, disk, place):
    """Without a shared directory /workspace starts empty, on the disk, with files and binds in it."""
    (place / "shown").mkdir()
    isolation = {
        "workspace_upper": str(disk),
        "binds": [{"source": str(place / "shown"), "destination": "/workspace/sub/shown"}],
    }
    response = inside(["sh", "-c", "find . | sort; echo x > y"], isolation=isolation, files={"a/b": "t"}, changes=True)
    assert ". ./a ./a/b ./sub ./sub/shown" == " ".join(response["stdout"].split()), response
    assert ["y"] == [change["path"] for change in response["changes"]]
    assert [] == os.listdir(disk)


def test_disk_layer_file_larger_than_memory_is_written(inside, disk):
    """The memory limit bounds what lies in memory, not what lies on the disk."""
    script = "dd if=/dev/zero of=big bs=1M count=96 conv=fsync 2>/dev/null; stat -c %s big"
    response = inside(
        ["sh", "-c", script],
        isolation={"workspace_upper": {"directory": str(disk), "bytes": 128 << 20}},
        resources={"memory_bytes": 64 << 20},
    )
    assert str(96 << 20) == response["stdout"].strip(), response


def test_disk_layer_input_file_larger_than_memory_is_accepted(inside, disk, place):
    """What is brought lies on the disk as well, and takes nothing of the memory limit."""
    with (place / "large").open("wb") as file:
        file.truncate(96 << 20)
    response = inside(
        ["stat", "-c", "%s", "in"],
        files={"in": {"source": str(place / "large")}},
        isolation={"workspace_upper": {"directory": str(disk), "bytes": 128 << 20}},
        resources={"memory_bytes": 64 << 20},
    )
    assert str(96 << 20) == response["stdout"].strip(), response


def test_disk_layer_over_its_limit_is_e4005(inside, disk):
    """A run that takes more than its bytes is ended with E4005, and the disk is given back."""
    script = (
        "i=0; while [ $i -lt 100 ]; do dd if=/dev/zero of=$i bs=1M count=4 2>/dev/null; i=$((i+1)); sleep 0.05; done"
    )
    response = inside(["sh", "-c", script], isolation={"workspace_upper": {"directory": str(disk), "bytes": 16 << 20}})
    assert ("killed", "E4005") == (response["status"], code_of(response)), response
    assert "/workspace" == response["error"]["details"]["mount"]
    assert [] == os.listdir(disk)


def test_disk_layer_after_timeout_is_removed(inside, tree, disk):
    """A run that is cut short gives its layer up like any other, and applies nothing."""
    response = inside(
        ["sh", "-c", "echo x > new; sleep 60"], isolation=over(tree, disk), timeout_ms=500, apply_changes=True
    )
    assert ("timeout", []) == (response["status"], os.listdir(disk))
    assert not (tree / "new").exists()


def test_disk_layer_of_a_killed_python_is_swept(place):
    """The next run in the directory removes what a killed one has left, and not what a live one uses."""
    disk = place / "disk"
    disk.mkdir(mode=0o755)
    started = [*COMMAND, "--no-workspace", "--upper", str(disk), "--", "sh", "-c", "echo up; read line; ls"]
    with (
        subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed,
        subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as alive,
    ):
        assert (b"up\n", b"up\n") == (killed.stdout.readline(), alive.stdout.readline())
        assert 2 == len(os.listdir(disk))
        killed.kill()
        killed.wait()
        for _ in range(20):  # its sandbox may take a moment to end
            subprocess.run([*started[:-3], "true"], check=True)
            if len(os.listdir(disk)) == 1:
                break
        assert [str(alive.pid)] == [name.split("-")[2] for name in os.listdir(disk)]
        alive.communicate(b"go\n")
    assert [] == os.listdir(disk)


@pytest.mark.parametrize(
    ("where", "code"), [("project/dir", "E1009"), ("project", "E1009"), ("nowhere", "E2004"), ("project/kept", "E2004")]
)
def test_disk_layer_in_invalid_place_is_refused(inside, tree, place, where, code):
    """A directory that the sandbox sees, none, and a file are refused, and nothing is made."""
    response = inside(["true"], isolation=over(tree, place / where))
    assert (code, ["dir", "kept", "old"]) == (code_of(response), sorted(os.listdir(tree)))


def test_disk_layer_in_a_world_writable_directory_is_refused(inside, tree, place):
    """A directory that every account may write, without the sticky bit, is refused."""
    assert "E2008" == code_of(inside(["true"], isolation=over(tree, place)))


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_disk_layer_with_ro_or_rw_workspace_is_refused(inside, tree, disk, mode):
    """With mode `ro` or `rw` there is nothing that could lie there."""
    isolation = {"workspace": {"source": str(tree), "mode": mode}, "workspace_upper": str(disk)}
    assert "E1009" == code_of(inside(["true"], isolation=isolation))


def test_disk_layer_larger_than_the_disk_is_refused(inside, disk):
    """A size that would leave less than a quarter of what is free is refused before anything runs."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    isolation = {"workspace_upper": {"directory": str(disk), "bytes": free}}
    assert "E2008" == code_of(inside(["true"], isolation=isolation))


@pytest.mark.root
@pytest.mark.parametrize("lacking", ["chown", "dac_override", "fowner"])
def test_disk_layer_as_root_without_capabilities_is_e2009(place, lacking):
    """A root who could not give the layer away, or not remove it, gets E2009 naming what is missing, and nothing stays."""
    disk = place / "disk"
    disk.mkdir(mode=0o755)
    less = ["setpriv", "--bounding-set", f"-{lacking}", "--inh-caps", f"-{lacking}"]
    words = [*less, *COMMAND, "--no-workspace", "--upper", str(disk), "--", "sh", "-c", "mkdir d; echo x > d/y"]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/", check=False)
    assert (125, []) == (done.returncode, os.listdir(disk))
    assert "E2009" in done.stderr
    assert f"CAP_{lacking.upper()}" in done.stderr
