"""A workspace is writable where no overlay could make it so: as a private copy, within limits, and the result says so."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

import capsule_run
from capsule_run.engine import fallbacks
from capsule_run.host import snapshot

pytestmark = pytest.mark.sandbox
PACKAGES = str(Path(capsule_run.__file__).parents[1])
SCRIPT = "cat f d/g; readlink l; echo more >> f; echo new > n; rm -r d; ls -A"


@pytest.fixture
def no_overlay(monkeypatch):
    """A host that has refused an overlay before."""
    monkeypatch.setattr(fallbacks, "unsupported", {"overlay"})


@pytest.fixture
def tree(tmp_path):
    place = tmp_path / "tree"
    (place / "d").mkdir(parents=True)
    (place / "f").write_text("host\n")
    (place / "d" / "g").write_bytes(b"deep\n")
    (place / "d" / "g").chmod(0o444)
    (place / "l").symlink_to("../elsewhere")
    (place / ".env").write_text("SECRET")
    os.mkfifo(place / "p")
    return place


def kinds(result):
    return {one.path: one.kind for one in result.changes}


def test_workspace_copy_without_overlay_is_complete(no_overlay, tree):
    """Files, folders, links and modes are there, all of it can be changed, and the host keeps its own."""
    result = capsule_run.run(["sh", "-c", SCRIPT], workspace=str(tree))
    assert "host\ndeep\n../elsewhere\nf\nl\nn\n" == result.stdout, result.stderr
    assert ("copy", {"f": "modified", "n": "created", "d": "deleted"}) == (
        result.isolation["workspace"]["kind"],
        kinds(result),
    )
    assert ("host\n", True) == ((tree / "f").read_text(), (tree / "d" / "g").exists())


def test_workspace_copy_changes_can_be_applied(no_overlay, tree):
    """What the command left arrives, and what was not copied (a secret, a FIFO) is not taken for deleted."""
    (tree / "later").write_text("l")
    result = capsule_run.run(["sh", "-c", SCRIPT + " > /dev/null"], workspace=str(tree), apply_changes=True)
    assert ((), [".env", "f", "l", "later", "n", "p"]) == (result.not_applied, sorted(os.listdir(tree)))
    assert "host\nmore\n" == (tree / "f").read_text()


def test_workspace_copy_untouched_has_no_changes(no_overlay, tree):
    """A command that changes nothing changes nothing."""
    assert () == capsule_run.run(["cat", "f"], workspace=str(tree)).changes


def test_workspace_copy_input_files_win(no_overlay, tree):
    """A file that the request brings stands in the place of what would be copied there, whatever that is."""
    files = {"d": "a file now", "l/x": "a folder now", "f": "mine"}
    result = capsule_run.run(["cat", "d", "l/x", "f"], workspace=str(tree), files=files)
    assert "a file nowa folder nowmine" == result.stdout, result.stderr


@pytest.mark.parametrize(("name", "limit"), [("MAX_ENTRIES", 3), ("MAX_BYTES", 4096)])
def test_workspace_copy_over_the_limits_is_read_only(no_overlay, tree, monkeypatch, name, limit):
    """A directory of too many names or bytes is shown read-only, and a note says why."""
    monkeypatch.setattr(snapshot, name, limit)
    result = capsule_run.run(["sh", "-c", "cat f; echo x > n"], workspace=str(tree))
    assert ("host\n", "ro") == (result.stdout, result.isolation["workspace"]["kind"])
    assert "too large to copy" in result.isolation["notes"][0]


def test_workspace_copy_of_another_group_is_writable(as_user, needs, place):
    """Where the kernel could not copy a file up (another group than the caller's own), the whole is copied instead."""
    needs("root")
    (place / "f").write_text("host\n")
    for path in (place, place / "f"):
        os.chown(path, as_user.uid, 27)
    code = (
        "import json, capsule_run; r = capsule_run.run(['sh', '-c', 'echo more >> f; mkdir d; cat f'],"
        " workspace='.'); print(json.dumps([r.stdout, r.stderr, r.isolation['workspace']['kind']]))"
    )
    env = {"PYTHONPATH": PACKAGES, "PATH": "/usr/bin:/bin"}
    done = as_user([sys.executable, "-c", code], cwd=place, env=env)
    assert ["host\nmore\n", "", "copy"] == json.loads(done.stdout), done.stderr
    assert "host\n" == (place / "f").read_text()
