"""`--diff`, `diff`: a unified diff of what the command changed in its workspace."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from contextlib import suppress

import pytest

import capsule_run
from capsule_run.model.changes import Change
from capsule_run.workspace import text_diff

SCRIPT = r"""
sed -i s/two/TWO/ kept.txt; chmod +x kept.txt; rm -r old; printf 'no newline' > "new file"; ln -sf kept.txt link
"""
EXPECTED = """\
diff --git a/old/a b/old/a
deleted file mode 100644
--- a/old/a
+++ /dev/null
@@ -1 +0,0 @@
-a
diff --git a/old/deep/b b/old/deep/b
deleted file mode 100644
--- a/old/deep/b
+++ /dev/null
@@ -1 +0,0 @@
-b
diff --git a/kept.txt b/kept.txt
old mode 100644
new mode 100755
--- a/kept.txt
+++ b/kept.txt
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
diff --git a/link b/link
--- a/link
+++ b/link
@@ -1 +1 @@
-old/a
\\ No newline at end of file
+kept.txt
\\ No newline at end of file
diff --git a/new file b/new file
new file mode 100644
--- /dev/null
+++ b/new file
@@ -0,0 +1 @@
+no newline
\\ No newline at end of file
"""


@pytest.fixture
def tree(tmp_path):
    """A small project."""
    project = tmp_path / "project"
    (project / "old" / "deep").mkdir(parents=True)
    (project / "kept.txt").write_text("one\ntwo\nthree\n")
    (project / "old" / "a").write_text("a\n")
    (project / "old" / "deep" / "b").write_text("b\n")
    (project / "link").symlink_to("old/a")
    for path in (project, *project.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    return project


def inside(project, script, **options):
    return capsule_run.run(["sh", "-c", script], workspace=str(project), diff=True, **options)


@pytest.mark.sandbox
def test_diff_snapshot(tree):
    """Content, modes, links, deleted directories, a missing newline; what was deleted and modified comes first."""
    result = inside(tree, SCRIPT)
    assert (EXPECTED, False) == (result.diff, result.diff_truncated)
    assert "one\ntwo\nthree\n" == (tree / "kept.txt").read_text()


@pytest.mark.sandbox
@pytest.mark.needs("git")
def test_diff_applied_by_git_gives_the_same_tree(tree):
    """`git apply` makes of the old tree what the command saw."""
    (tree.parent / "patch").write_text(inside(tree, SCRIPT).diff)
    subprocess.run(["git", "apply", "../patch"], cwd=tree, check=True, capture_output=True)
    assert "" == inside(tree, "true").diff
    assert ("one\nTWO\nthree\n", "no newline", "kept.txt", False) == (
        (tree / "kept.txt").read_text(), (tree / "new file").read_text(), os.readlink(tree / "link"), (tree / "old").exists()
    )  # fmt: skip


@pytest.mark.sandbox
def test_diff_is_printed_behind_the_output(capsule_cli, tree):
    """On the command line the diff is on stdout, behind what the command printed; in the JSON response it is a field."""
    words = ("--", "sh", "-c", "echo said; echo four >> kept.txt")
    done = subprocess.run([capsule_cli, "--diff", *words], cwd=tree, capture_output=True, text=True)
    assert done.stdout.startswith("said\ndiff --git a/kept.txt b/kept.txt\n--- a/kept.txt\n")
    assert done.stdout.endswith(" three\n+four\n")
    answer = subprocess.run([capsule_cli, "--diff", "--pretty", *words], cwd=tree, capture_output=True, text=True)
    assert done.stdout == "said\n" + json.loads(answer.stdout)["diff"]


@pytest.mark.sandbox
def test_diff_on_a_terminal_moves_no_cursor(capsule_cli, tree):
    """What the command wrote into a file cannot act on the terminal that the diff is shown on."""
    ours, theirs = pty.openpty()
    words = ["--diff", "--color=never", "--", "sh", "-c", "printf 'x\\033[2Jy\\n' > kept.txt"]
    try:
        subprocess.run(
            [capsule_cli, *words], cwd=tree, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL
        )
        os.close(theirs)
        said = b""
        with suppress(OSError):  # EIO: nobody has the other end any more
            while piece := os.read(ours, 1 << 16):
                said += piece
    finally:
        os.close(ours)
    assert (False, True) == (b"\033" in said, b"+x\\x1b[2Jy" in said), said


@pytest.mark.sandbox
def test_diff_of_binary_and_large_files_names_them_only(tree):
    """A file that is not text, or is large, is one line."""
    (tree / "data").write_bytes(b"\0old")
    script = f"printf '\\0new' > data; head -c {text_diff.MAX_FILE_BYTES + 1} /dev/zero | tr '\\0' x > big; mkfifo pipe"
    lines = inside(tree, script).diff.splitlines()
    assert "Binary files a/data and b/data differ" in lines
    assert "Binary files /dev/null and b/big differ" in lines
    assert "not shown: b/pipe (special file)" in lines


@pytest.mark.sandbox
def test_diff_larger_than_the_bound_is_truncated(tree):
    """The diff ends before the bound, with whole files, and the result says so."""
    script = "for n in $(seq 9); do yes | head -c 200000 > $n; done"
    result = inside(tree, script)
    assert result.diff_truncated
    assert text_diff.MAX_BYTES // 2 < len(result.diff) <= text_diff.MAX_BYTES


@pytest.mark.sandbox
def test_diff_of_hostile_lines_takes_bounded_time(tree):
    """Two files without a line in common are replaced whole, not compared for minutes."""
    (tree / "many").write_text("".join(f"a{n}\n" for n in range(20_000)))
    result = inside(tree, "sed -i s/a/b/ many", timeout_ms="60s")
    assert (20_000, 20_000) == (result.diff.count("\n-a"), result.diff.count("\n+b"))


@pytest.mark.sandbox
def test_diff_shows_no_masked_secret(tree):
    """A masked name is no change, whatever the command tries with it."""
    (tree / ".npmrc").write_text("token=hunter2\n")
    result = inside(tree, "echo x > .npmrc; rm -f .npmrc; mv .npmrc x; cp .npmrc y; rm -rf ./*; echo 1 > n")
    assert "+1\n" in result.diff
    assert "hunter2" not in result.to_json()


def test_diff_reads_nothing_that_was_hidden(tmp_path):
    """If a hidden name is in the list of changes all the same, its old content is not read."""
    for side in ("lower", "upper"):
        (tmp_path / side / "d").mkdir(parents=True)
    (tmp_path / "lower" / "d" / ".env").write_text("hunter2\n")
    (tmp_path / "upper" / "d" / ".env").write_text("mine\n")
    changes = [
        Change(path="d/.env", kind="modified", bytes=5),
        Change(path="d/.env", kind="deleted", bytes=0),
        Change(path="d", kind="deleted", bytes=0, type="directory"),
    ]
    lower, upper = (os.open(tmp_path / side, os.O_RDONLY) for side in ("lower", "upper"))
    try:
        shown = text_diff.text_diff(changes, upper, lower, hidden=["d/.env"])
    finally:
        os.close(lower)
        os.close(upper)
    assert 3 * "not shown: b/d/.env (hidden from the command)\n" == shown.text


@pytest.mark.sandbox
def test_diff_of_the_hosts_own_directory_is_refused(tree):
    """A workspace that the command changes directly has no old content to compare with."""
    with pytest.raises(capsule_run.CapsuleError, match="E1009: diff: changes in the host's own directory"):
        capsule_run.run(["true"], workspace={"source": str(tree), "mode": "rw"}, diff=True)


@pytest.mark.sandbox
def test_diff_of_an_empty_workspace_has_what_was_created(tree):
    """Without a shared directory, everything is new; without a change the diff is empty, and None if not asked for."""
    assert "+1\n" in capsule_run.run(["sh", "-c", "echo 1 > a"], diff=True).diff
    assert "" == capsule_run.run(["true"], diff=True).diff
    assert capsule_run.run(["true"]).diff is None


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("a b/é", "b/a b/é"),
        ('q"', '"b/q\\""'),
        ("new\nline", '"b/new\\012line"'),
        ("\udcff", '"b/\\377"'),
        ("é\\", '"b/\\303\\251\\\\"'),
    ],
)
def test_diff_names_are_quoted_as_git_does(path, written):
    """Control characters, quotes and bytes that are not UTF-8 are escaped."""
    assert written == text_diff._quoted(f"b/{path}")
