"""Changes applied to the host: whatever a command plants in its copy, the host writes only what lies in the shared tree."""

from __future__ import annotations

import os
import posix
import shutil
import stat

import pytest

import capsule_run
from capsule_run import CapsuleError
from capsule_run.model.changes import Change
from capsule_run.workspace.diff import Comparison, Known
from capsule_run.workspace.export import HostTree, NotAppliedError, apply_changes, leaves_tree

SECRET = "the host's own"
NOTHING = Known(mount_points=frozenset(), directories=frozenset(), copied=None, files={})


@pytest.fixture
def tree(tmp_path):
    """A shared directory `tree`, and beside it what nobody may reach."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text(SECRET)
    place = tmp_path / "tree"
    (place / "dir").mkdir(parents=True)
    (place / "dir" / "file").write_text("before")
    (place / "kept").write_text("k")
    return place


def apply(tree, script, **options):
    return capsule_run.run(["sh", "-c", script], workspace=str(tree), apply_changes=True, **options)


def not_applied(result):
    return {one.path: one.reason for one in result.not_applied}


def outside(tree):
    """What lies beside the tree, which must stay as it is."""
    place = tree.parent / "outside"
    return {path.name: path.read_text() for path in place.iterdir()}


@pytest.mark.sandbox
def test_apply_writes_exactly_the_changes(tree):
    """What was created, modified and deleted arrives, with mode and time, and nothing else changes."""
    script = (
        "echo new > a; chmod 750 a; touch -d @1000000000 a; echo more >> kept; rm -r dir; mkdir -p x/y; echo 1 > x/y/z"
    )
    result = apply(tree, script)
    assert ([], {}) == (list(result.stderr), not_applied(result))
    seen = (tree / "a").stat()
    assert (0o750, 1_000_000_000) == (stat.S_IMODE(seen.st_mode), int(seen.st_mtime))
    assert ["a", "kept", "x"] == sorted(os.listdir(tree))
    assert ("kmore\n", "1\n") == ((tree / "kept").read_text(), (tree / "x/y/z").read_text())


@pytest.mark.sandbox
def test_apply_not_requested_writes_nothing(tree):
    """The same changes without `apply_changes` are listed, and the host keeps what it had."""
    result = capsule_run.run(["sh", "-c", "echo new > a; rm kept; echo x > dir/file"], workspace=str(tree))
    assert [("kept", "deleted", 1), ("dir/file", "modified", 2), ("a", "created", 4)] == [
        (one.path, one.kind, one.bytes) for one in result.changes
    ]
    assert (["dir", "kept"], "before") == (sorted(os.listdir(tree)), (tree / "dir/file").read_text())


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "target",
    [
        "/etc/passwd",
        "../outside/secret",
        "dir/../../outside",
        "..",
        "dir/..",
        "/workspace/kept",
        "./../outside",
        "../../x",
    ],
)
def test_apply_link_out_of_the_tree_is_refused(tree, target):
    """A link that is absolute, climbs out, or could by way of another link, stays inside."""
    result = apply(tree, f"ln -s {target} link")
    assert ({"link": "leaves_tree"}, False) == (not_applied(result), os.path.lexists(tree / "link"))


@pytest.mark.sandbox
def test_apply_link_within_the_tree_is_written(tree):
    """A link to a neighbour, also upwards to one, arrives as a link."""
    result = apply(tree, "ln -s kept a; ln -s ../kept dir/b; ln -s dir c")
    assert ({}, "kept", "../kept", "dir") == (
        not_applied(result), os.readlink(tree / "a"), os.readlink(tree / "dir/b"), os.readlink(tree / "c"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "target", "leaves"),
    [
        ("l", "a", False), ("l", ".", False), ("l", "a/b/c", False), ("d/l", "../a", False), ("d/e/l", "../../a", False),
        ("l", "..", True), ("d/l", "../..", True), ("l", "a/..", True), ("l", "a/../b", True), ("d/l", ".././..", True),
        ("l", "/", True), ("l", "//etc", True), ("d/l", "../a/../../x", True), ("l", "a/...", False),
    ],
)  # fmt: skip
def test_link_target_that_leaves_the_tree_is_recognised(path, target, leaves):
    """Only leading dots are believed, and no more of them than there are directories above the link."""
    assert leaves is leaves_tree(path, target)


@pytest.mark.sandbox
def test_apply_over_a_host_link_does_not_follow_it(tree):
    """A host link that the command replaces by a file is replaced, and what it leads to stays."""
    (tree / "link").symlink_to(tree.parent / "outside" / "secret")
    apply(tree, "rm link; echo mine > link")
    assert ("mine\n", {"secret": SECRET}) == ((tree / "link").read_text(), outside(tree))


@pytest.mark.sandbox
def test_apply_directory_replaced_by_a_link_writes_nothing_elsewhere(tree):
    """A directory that became a link does not make what lay in it be written elsewhere."""
    apply(tree, "rm -r dir; ln -s ../outside dir; echo x > dir/secret 2>/dev/null; true")
    assert {"secret": SECRET} == outside(tree)


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "make", ["mkfifo it", "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"it\")'"]
)
def test_apply_special_files_are_refused(tree, make):
    """A FIFO and a socket are named, not made, and nobody waits for them."""
    result = apply(tree, make)
    assert ({"it": "special"}, False) == (not_applied(result), os.path.lexists(tree / "it"))


@pytest.mark.sandbox
def test_apply_drops_set_id_bits(tree):
    """A mode arrives without the bits above the permissions, though a private copy lets open(2) set them."""
    script = "import os; os.write(os.open('t', os.O_CREAT | os.O_WRONLY, 0o6755), b'#!/bin/sh\\n')"
    result = apply(tree, f'cp /bin/true u; chmod 4755 u; python3 -c "{script}"', collect=["t"])
    assert (b"#!/bin/sh\n", 0o755) == (result.files["t"].data, result.files["t"].mode)
    assert [0o755, 0o755] == [stat.S_IMODE((tree / name).stat().st_mode) for name in "tu"]


@pytest.mark.sandbox
@pytest.mark.parametrize("end", ["kill -9 $$", "sleep 60"])
def test_apply_after_timeout_or_signal_writes_nothing(tree, end):
    """After a signal or a timeout the host keeps what it had, and the changes are listed."""
    result = apply(tree, f"echo half > kept; {end}", timeout_ms=1000)
    assert (["kept"], "k") == ([one.path for one in result.changes], (tree / "kept").read_text())


@pytest.mark.sandbox
def test_apply_hard_links_become_files(tree):
    """Two names of one file arrive as two files: a name can never tie the tree to something else."""
    apply(tree, "echo x > a; ln a b; ln kept c")
    assert [1, 1, 1] == [(tree / name).stat().st_nlink for name in "abc"]


@pytest.mark.sandbox
def test_apply_over_a_hard_link_keeps_its_other_name(tree):
    """A host file with a second name outside is replaced in the tree only."""
    os.link(tree.parent / "outside" / "secret", tree / "tied")
    apply(tree, "echo mine > tied")
    assert ("mine\n", {"secret": SECRET}) == ((tree / "tied").read_text(), outside(tree))


@pytest.mark.sandbox
def test_apply_ignores_mount_points(tree):
    """What a bind put into the workspace does not arrive in the tree, nor does what was written to it."""
    shown = tree.parent / "shown"
    shown.mkdir()
    request = {
        "command": ["sh", "-c", "ls data; echo x > new"],
        "isolation": {
            "workspace": str(tree),
            "binds": [{"source": str(tree.parent / "outside"), "destination": "/workspace/data"}],
        },
        "apply_changes": True,
    }
    result = capsule_run.execute(capsule_run.request.parse.request_from_mapping(request))
    assert ("secret\n", ["new"]) == (result.stdout, [one.path for one in result.changes])
    assert ["dir", "kept", "new"] == sorted(os.listdir(tree))


@pytest.mark.sandbox
def test_apply_ignores_input_files_unless_changed(tree):
    """An input file that the command leaves alone does not arrive; one that it writes to does."""
    files = {"same": "s", "deep/same": "s", "written": "w"}
    result = apply(tree, "echo >> written", files=files)
    assert (["written"], ["dir", "kept", "written"]) == ([one.path for one in result.changes], sorted(os.listdir(tree)))


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("script", "path", "read", "expected"),
    [
        ("touch -d @1000000000 dir/file", "dir/file", lambda path: path.stat().st_mtime, 1_000_000_000),
        ("chmod 640 dir/file", "dir/file", lambda path: stat.S_IMODE(path.stat().st_mode), 0o640),
        ("chmod 750 dir", "dir", lambda path: stat.S_IMODE(path.stat().st_mode), 0o750),
        ("chmod 700 dir; touch dir/new", "dir", lambda path: stat.S_IMODE(path.stat().st_mode), 0o700),
        ("ln -sfn dir link", "link", os.readlink, "dir"),
    ],
    ids=["time", "mode", "mode of a directory", "mode and entry of a directory", "target"],
)
def test_apply_time_mode_or_target_changed_alone_is_written(tree, script, path, read, expected):
    """A time, a mode or the target of a link that alone was changed is listed, and arrives on the host."""
    (tree / "link").symlink_to("kept")
    result = apply(tree, script)
    assert ("modified", {}) == ({one.path: one.kind for one in result.changes}.get(path), not_applied(result))
    assert (expected, "before") == (read(tree / path), (tree / "dir/file").read_text())


@pytest.mark.sandbox
def test_apply_directory_mode_keeps_its_set_id_bit(tree):
    """A directory whose mode is changed keeps the set-group-id bit that it had."""
    (tree / "dir").chmod(0o2775)
    result = apply(tree, "python3 -c 'import os; os.chmod(\"dir\", 0o750)'")
    assert (0o2750, {}) == (stat.S_IMODE((tree / "dir").stat().st_mode), not_applied(result))


@pytest.mark.sandbox
def test_apply_directory_mode_without_write_permission_is_set_last(tree):
    """A directory that ends without write permission still receives its changed files."""
    result = apply(tree, "echo after > dir/file; chmod 555 dir")
    assert ({}, "after\n", 0o555) == (
        not_applied(result),
        (tree / "dir/file").read_text(),
        stat.S_IMODE((tree / "dir").stat().st_mode),
    )
    (tree / "dir").chmod(0o755)


@pytest.mark.sandbox
def test_apply_ignores_files_only_opened_for_writing(tree):
    """A file that was opened, read through, or given the mode it had is as it was."""
    result = capsule_run.run(["sh", "-c", ": >> kept; chmod 600 kept; chmod 644 kept"], workspace=str(tree))
    assert () == result.changes


@pytest.mark.sandbox
def test_apply_sees_content_changed_under_an_old_time(tree):
    """Content that changed under the same size, mode and time is a change."""
    script = 'old=$(stat -c %y kept); printf K > kept; touch -d "$old" kept'
    result = capsule_run.run(["sh", "-c", script], workspace=str(tree))
    assert ["kept"] == [one.path for one in result.changes]


@pytest.mark.sandbox
def test_apply_many_changes_are_all_written_and_the_list_bounded(tree):
    """A list has at most 1,000 entries and says that it is not whole; what is applied is."""
    result = apply(tree, "i=0; while [ $i -lt 1100 ]; do : > f$i; i=$((i+1)); done")
    assert (1000, True, 1102) == (len(result.changes), result.changes_truncated, len(os.listdir(tree)))


@pytest.mark.sandbox
@pytest.mark.parametrize("workspace", [None, "ro", "rw"])
def test_apply_without_copy_on_write_directory_is_refused(tree, workspace):
    """Without a copy-on-write directory, applying is refused before anything runs."""
    isolation = {"workspace": {"source": str(tree), "mode": workspace}} if workspace else {}
    with pytest.raises(CapsuleError, match="E1009"):
        capsule_run.execute(
            capsule_run.request.parse.request_from_mapping(
                {"command": ["true"], "apply_changes": True, "isolation": isolation}
            )
        )


@pytest.mark.sandbox
def test_save_changes_leaves_the_shared_directory_unchanged(tree):
    """`save_changes` writes what is new or changed elsewhere; the shared directory and what was deleted stay out of it."""
    saved = tree.parent / "saved" / "here"
    result = capsule_run.run(
        ["sh", "-c", "rm kept; echo x > dir/file; echo y > n"], workspace=str(tree), save_changes=str(saved)
    )
    assert (3, ["dir", "n"], "x\n") == (
        len(result.changes),
        sorted(os.listdir(saved)),
        (saved / "dir/file").read_text(),
    )
    assert (["dir", "kept"], "before") == (sorted(os.listdir(tree)), (tree / "dir/file").read_text())


# --- races: what somebody else does to the tree while changes are carried over ----------------------------------------


@pytest.fixture
def layer(tmp_path):
    """Descriptors of a layer with one changed file, and of the tree it goes to."""
    for name in ("layer", "target"):
        (tmp_path / name / "dir").mkdir(parents=True)
    (tmp_path / "layer" / "dir" / "file").write_text("from inside")
    (tmp_path / "outside").mkdir()
    fds = [os.open(tmp_path / name, os.O_RDONLY | os.O_DIRECTORY) for name in ("layer", "target")]
    yield tmp_path, *fds
    for fd in fds:
        os.close(fd)


def test_apply_directory_swapped_for_a_link_is_not_entered(layer):
    """Between the look and the write, a directory becomes a link to another place: nothing is written there."""
    place, upper, lower = layer
    changes = list(Comparison(NOTHING).changes(upper, lower))
    (place / "target" / "dir").rmdir()
    (place / "target" / "dir").symlink_to(place / "outside")
    not_applied = apply_changes(changes, upper, lower, deletions=True)
    assert ([("dir/file", "symlink")], []) == (
        [(one.path, one.reason) for one in not_applied],
        os.listdir(place / "outside"),
    )


def test_apply_deletion_does_not_follow_a_link(layer):
    """A directory to delete that has become a link loses the link, and what it leads to stays."""
    place, upper, lower = layer
    (place / "outside" / "precious").write_text("p")
    (place / "target" / "dir").rmdir()
    (place / "target" / "dir").symlink_to(place / "outside")
    gone = Change(path="dir", kind="deleted", bytes=0, type="directory")
    assert ([], ["precious"]) == (apply_changes([gone], upper, lower, deletions=True), os.listdir(place / "outside"))


def test_apply_file_that_became_a_fifo_is_refused(layer):
    """A file that is a FIFO by the time it is read is refused, and nobody waits for a writer."""
    place, upper, lower = layer
    (place / "layer" / "dir" / "file").unlink()
    os.mkfifo(place / "layer" / "dir" / "file")
    (one,) = apply_changes([Change(path="dir/file", kind="created", bytes=0)], upper, lower, deletions=True)
    assert ("special", []) == (one.reason, os.listdir(place / "target" / "dir"))


def test_apply_write_that_fails_leaves_nothing(layer):
    """Where the host has a directory by now, the change is refused, and no half-written file stays beside it."""
    place, upper, lower = layer
    (place / "target" / "dir" / "file" / "more").mkdir(parents=True)
    (one,) = apply_changes([Change(path="dir/file", kind="modified", bytes=0)], upper, lower, deletions=True)
    assert ("directory", ["file"]) == (one.reason, os.listdir(place / "target" / "dir"))


@pytest.mark.parametrize("path", ["../outside/x", "dir/../../outside/x"])
def test_apply_path_with_dot_dot_is_refused(layer, path):
    """A path with `..`, which no layer can hold, is refused all the same where it is written."""
    place, _upper, lower = layer
    with pytest.raises(NotAppliedError):
        HostTree(lower).file(path, memoryview(b"x"), 0o644, None)
    assert [] == os.listdir(place / "outside")


def test_apply_into_a_tree_swapped_all_the_time_stays_inside(swapped):
    """While a directory of the tree turns into a link to elsewhere and back, 500 rounds of changes reach only the tree."""
    place = swapped.parent
    (place / "layer" / "out").mkdir(parents=True)
    (place / "layer" / "out" / "file").write_text("from inside")
    changes = [
        Change(path="out/file", kind="created", bytes=0, type="file"),
        Change(path="out/precious", kind="deleted", bytes=0, type="file"),
        Change(path="out/inner", kind="created", bytes=0, type="directory"),
        Change(path="out/inner", kind="deleted", bytes=0, type="directory"),
    ]
    (place / "layer" / "out" / "inner").mkdir()
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (place / "layer", place)]
    reasons = {"symlink": 0, "": 0}
    try:
        for _ in range(500):
            found = apply_changes(changes, *fds, deletions=True)
            for one in found:
                reasons[one.reason] = reasons.get(one.reason, 0) + 1
            reasons[""] += len(changes) - len(found)
    finally:
        for fd in fds:
            os.close(fd)
    assert ["precious"] == os.listdir(place / "elsewhere")
    assert all(reasons.values()), reasons


def test_apply_deletion_while_swapped_stays_inside(tmp_path, exchanging):
    """A directory that is being deleted turns into a link to elsewhere and back: what is elsewhere stays."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("p")
    target = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(100):
            inner = tmp_path / "deep" / "a"
            inner.mkdir(parents=True)
            (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
            for n in range(20):
                (inner / f"{n}").write_text("")
            with exchanging(inner, tmp_path / "link"):
                apply_changes(
                    [Change(path="deep", kind="deleted", bytes=0, type="directory")], target, target, deletions=True
                )
            for left in ("deep", "link"):
                shutil.rmtree(tmp_path / left, ignore_errors=True)
                (tmp_path / left).unlink(missing_ok=True)
    finally:
        os.close(target)
    assert ["precious"] == os.listdir(tmp_path / "elsewhere")


@pytest.mark.root
@pytest.mark.parametrize("swap", [os.link, os.symlink], ids=["hard link", "symbolic link"])
def test_apply_chown_while_swapped_gives_no_file_away(tmp_path, monkeypatch, swap):
    """What root makes is given to its owner by descriptor: a file that takes its name in between keeps its own owner."""
    (tmp_path / "tree").mkdir()
    os.chown(tmp_path / "tree", 60322, 60322)
    (tmp_path / "victim").write_text(SECRET)
    make = posix.mkdir

    def make_and_swap(name, mode, *, dir_fd):
        make(name, mode, dir_fd=dir_fd)
        posix.rmdir(name, dir_fd=dir_fd)
        swap(tmp_path / "victim", tmp_path / "tree" / name)

    target = os.open(tmp_path / "tree", os.O_RDONLY | os.O_DIRECTORY)
    try:
        monkeypatch.setattr(posix, "mkdir", make_and_swap)
        with pytest.raises(NotAppliedError):
            HostTree(target).directory("new", 0o755)
    finally:
        monkeypatch.undo()
        os.close(target)
    assert 0 == (tmp_path / "victim").stat().st_uid
