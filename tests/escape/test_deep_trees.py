"""Trees far deeper than any path is long, made by a command: all that walks what was left comes to its end, and says so."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from pathlib import Path

import pytest
from inside import COMMAND

import capsule_run
from capsule_run.host import snapshot, survey, tree_walk
from capsule_run.workspace.diff import MAX_DEPTH, Comparison, Known
from capsule_run.workspace.export import HostTree, apply_changes
from capsule_run.workspace.remove_tree import remove

NOTHING = Known(mount_points=frozenset(), directories=frozenset(), copied=None, files={})
# Deeper than Python recurses, and 5 MB of path, which is 1,200 times what a system call takes.
DEPTHS = [(1500, 3), (20_000, 255)]
deep = pytest.mark.parametrize(("depth", "length"), DEPTHS, ids=["1500", "20000 of 255 bytes"])
MAKE = """
import os, sys
def make(top, depth, length):
    here = os.open(".", os.O_RDONLY)
    os.mkdir(top); os.chdir(top)
    for _ in range(depth):
        os.mkdir("d" * length); os.chdir("d" * length)
    open("last", "w").write("l")
    os.fchdir(here); os.close(here)
"""


def make_inside(depth, length):
    """The command that makes the tree `deep`."""
    return ["/usr/bin/python3", "-c", f"{MAKE}\nmake('deep', {depth}, {length})"]


def make_here(directory, name, depth, length):
    """The same tree on the host, made by another process, whose current directory may change."""
    subprocess.run(["/usr/bin/python3", "-c", f"{MAKE}\nmake({name!r}, {depth}, {length})"], cwd=directory, check=True)


@pytest.fixture
def tree():
    """A shared directory with one file, in memory, where deep trees take no time; a program removes it that can."""
    top = Path(tempfile.mkdtemp(prefix="deep-", dir="/dev/shm"))
    (top / "tree").mkdir()
    (top / "tree" / "kept").write_text("k")
    yield top / "tree"
    subprocess.run(["rm", "-rf", top], check=True)


@pytest.fixture
def few_descriptors():
    """Not many more descriptors than are open already, so that a walk that keeps one for each level fails."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd"))) + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def opened(path):
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


LIMITS = {"memory": "1G", "disk": "512M", "max_pids": 50}


@pytest.mark.sandbox
def test_apply_deletes_a_directory_however_deep(tree, few_descriptors):
    """Applying the deletion of a directory of the host's deletes all of it, however deep it is."""
    make_here(tree, "deep", 1500, 255)
    result = capsule_run.run(["rm", "-rf", "deep"], workspace=str(tree), apply_changes=True, **LIMITS)
    assert ("success", (), ["kept"]) == (result.status, result.not_applied, os.listdir(tree))
    assert ["deep"] == [one.path for one in result.changes]


@pytest.mark.sandbox
@deep
@pytest.mark.parametrize("option", ["apply_changes", "save_changes"])
def test_apply_deep_new_directory_is_written_to_the_bound(tree, few_descriptors, depth, length, option):
    """What lies deeper than is looked into is named in `not_applied`, and the list of changes says that it is not whole."""
    saved = tree.parent / "saved"
    value = str(saved) if option == "save_changes" else True
    result = capsule_run.run(make_inside(depth, length), workspace=str(tree), **{option: value}, **LIMITS)
    assert "success" == result.status, result.stderr
    assert ["too_deep"] == [one.reason for one in result.not_applied]
    assert result.changes_truncated
    assert "deep" in os.listdir(saved if option == "save_changes" else tree)


@pytest.mark.sandbox
@deep
def test_collect_too_deep_is_named_and_ends(tree, few_descriptors, depth, length):
    """Collecting everything comes to its end, and names the directory where it stopped."""
    command = make_inside(depth, length)
    result = capsule_run.run(command, collect=["**", "kept"], files={"kept": "k"}, **LIMITS)
    assert "success" == result.status, result.stderr
    assert (["kept"], ["too_deep"]) == (list(result.files), [one.reason for one in result.not_collected])


@pytest.mark.sandbox
def test_disk_layer_deep_is_removed_with_the_run(place, few_descriptors):
    """An upper layer goes with the run, however deep what lies in it."""
    for name in ("disk", "tree"):
        (place / name).mkdir()
    upper = {"directory": str(place / "disk"), "bytes": 512 << 20}
    command = make_inside(1500, 255)
    result = capsule_run.run(command, workspace=str(place / "tree"), workspace_upper=upper, timeout_ms=50_000, **LIMITS)
    assert ("success", []) == (result.status, os.listdir(place / "disk")), result.stderr


FILLING = """
os.chdir("deep")
for _ in range(40):
    os.chdir("d" * 255)
for n in range(16):
    open(str(n), "wb").write(bytes(1 << 20)); os.sync
HIDE
import time; time.sleep(20)
"""


@pytest.mark.sandbox
@pytest.mark.parametrize("hide", ["", 'os.chdir("/workspace"); os.chmod("deep", 0)'], ids=["deep", "no right to read"])
def test_disk_usage_counts_files_that_hide(inside, place, hide):
    """Files beyond the longest path, or in a directory that nobody may read, do not hide from an upper layer's bound."""
    (place / "disk").mkdir()
    os.chown(place / "disk", inside.uid, -1)
    isolation = {"workspace_upper": {"directory": str(place / "disk"), "bytes": 4 << 20}}
    code = f"{MAKE}\nmake('deep', 40, 255)\n{FILLING.replace('HIDE', hide)}"
    response = inside(["/usr/bin/python3", "-c", code], isolation=isolation, timeout_ms=15_000)
    assert "E4005" == response.get("error", {}).get("code"), response
    assert [] == os.listdir(place / "disk")


# --- each walk by itself ----------------------------------------------------------------------------------------------


@deep
def test_tree_removal_of_any_depth_ends(tree, few_descriptors, depth, length):
    """Both ways to remove a tree need few descriptors, no long path and no recursion."""
    make_here(tree, "one", depth, length)
    make_here(tree, "two", depth, length)
    directory = opened(tree)
    try:
        tree_walk.delete("one", directory)
        remove("two", directory)
    finally:
        os.close(directory)
    assert ["kept"] == os.listdir(tree)


@deep
def test_disk_usage_of_a_deep_tree_is_whole(tree, few_descriptors, depth, length):
    """What a tree takes is counted to its last file."""
    make_here(tree, "deep", depth, length)
    directory = opened(tree)
    try:
        used, whole = tree_walk.used_bytes(directory, 1 << 40)
        cut, _whole = tree_walk.used_bytes(directory, 4096)
    finally:
        os.close(directory)
    blocks = subprocess.run(["du", "-s", "-B512", tree], capture_output=True, check=True).stdout.split()[0]
    top = os.stat(tree).st_blocks
    assert ((int(blocks) - top) * 512, True) == (used, whole)
    assert used >= cut


def test_disk_usage_of_many_files_can_be_interrupted(tmp_path):
    """Counting a layer of many files delays neither the end of the run nor the check of the disk."""
    for n in range(3000):
        (tmp_path / f"{n}").write_text("x")
    directory, asked = opened(tmp_path), []
    try:
        used, whole = tree_walk.used_bytes(directory, 1 << 40, stop=lambda: bool(asked.append(1)) or len(asked) == 2)
        everything, _whole = tree_walk.used_bytes(directory, 1 << 40)
    finally:
        os.close(directory)
    assert (False, 2) == (whole, len(asked))
    assert used < everything


@deep
def test_workspace_copy_of_a_deep_tree_is_refused(tree, few_descriptors, depth, length):
    """A private copy has a bound of depth, past which there is none."""
    make_here(tree, "deep", depth, length)
    assert snapshot.copy_of(survey.stat_path(str(tree)), 1 << 30) is None


@deep
def test_changes_of_deep_trees_stop_at_the_bound(tree, few_descriptors, depth, length):
    """A layer and a tree below, both deep: changes are found down to the bound, and the rest is named."""
    lower = tree.parent / "lower"
    lower.mkdir()
    make_here(tree, "deep", depth, length)
    make_here(lower, "deep", 50, length)
    upper, below = opened(tree), opened(lower)
    try:
        comparison = Comparison(NOTHING)
        found = list(comparison.changes(upper, below))
        refused = apply_changes(found, upper, below, deletions=True)
    finally:
        os.close(upper)
        os.close(below)
    made = [one for one in found if one.type == "directory"]
    assert (MAX_DEPTH - 50, [], "too_deep") == (len(made), refused, comparison.skipped[0][1])


# --- what the host does meanwhile -------------------------------------------------------------------------------------


def test_tree_walk_in_a_moved_directory_ends(tmp_path):
    """A directory that somebody moves while a walk stands in it: the walk ends, and does not go on where `..` leads."""
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    root = opened(tmp_path / "root")
    try:
        with tree_walk.TreeCursor(root) as place:
            place.enter("a")
            place.enter("b")
            (tmp_path / "root" / "a" / "b").rename(tmp_path / "other" / "b")
            with pytest.raises(OSError, match="Stale"):
                place.leave()
    finally:
        os.close(root)


@pytest.mark.root
def test_deletion_does_not_reach_into_a_mount(inside_as_caller, place):
    """What is mounted in the shared directory is not seen inside, so deleting its mount point deletes nothing of it."""
    for name in ("tree/data", "precious"):
        (place / name).mkdir(parents=True)
    (place / "precious" / "file").write_text("p")
    script = f"""
        mount --bind {place}/precious {place}/tree/data && shift 0 &&
        exec "$@" --workspace {place}/tree --apply-changes -- sh -c 'ls data; rm -r data; echo new > new'
    """
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", *COMMAND], capture_output=True, check=False)
    assert (b"", 0) == (done.stdout, done.returncode), done.stderr
    assert b"data: mount" in done.stderr
    assert ("p", "new\n") == ((place / "precious/file").read_text(), (place / "tree/new").read_text())


def test_deletion_that_fails_is_reported(tree):
    """A directory that cannot be deleted is refused, not an exception of the kernel's."""
    make_here(tree, "deep", 3, 3)
    directory = opened(tree)
    try:
        HostTree(directory).remove("deep")
        HostTree(directory).remove("deep")  # what is gone already is no failure
    finally:
        os.close(directory)
    assert ["kept"] == os.listdir(tree)
