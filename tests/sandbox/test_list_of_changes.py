"""The list of changes: what a command deleted and modified comes first, and is never displaced by what it created."""

from __future__ import annotations

import subprocess

import pytest

import capsule_run

FLOOD = "mkdir .cache; i=0; while [ $i -lt 1100 ]; do : > .cache/$i; : > a$i; i=$((i+1)); done"


@pytest.fixture
def tree(tmp_path):
    """A project whose files sort after what a flood creates."""
    for name in ("main.py", "old.py", "src/kept.py", "src/z.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    return tmp_path


@pytest.mark.sandbox
def test_changes_flood_of_created_files_displaces_no_other(tree):
    """Deletions and modifications are listed however many files were created beside and before them."""
    script = FLOOD + "; rm old.py src/z.py; echo more >> main.py; echo more >> src/kept.py"
    result = capsule_run.run(["sh", "-c", script], workspace=str(tree))
    first = [(one.kind, one.path) for one in result.changes[:4]]
    deleted = [("deleted", "old.py"), ("deleted", "src/z.py")]
    assert ([*deleted, ("modified", "main.py"), ("modified", "src/kept.py")], {"created"}, 1000, True) == (
        first,
        {one.kind for one in result.changes[4:]},
        len(result.changes),
        result.changes_truncated,
    )


@pytest.mark.sandbox
def test_changes_fewer_than_the_bound_are_ordered_and_whole(tree):
    """A list that is whole has the same order: deleted, modified, created, each by path."""
    result = capsule_run.run(
        ["sh", "-c", "echo 1 > a; rm -r src; echo 1 >> main.py; mkdir b; : > b/c"], workspace=str(tree)
    )
    kinds = [(one.kind, one.path) for one in result.changes]
    created = [("created", "a"), ("created", "b"), ("created", "b/c")]
    assert ([("deleted", "src"), ("modified", "main.py"), *created], False) == (kinds, result.changes_truncated)


@pytest.mark.sandbox
def test_changes_flood_of_deletions_fills_the_list(tree):
    """A list full of deletions says that it is not whole."""
    for number in range(1100):
        (tree / f"f{number}").write_text("")
    result = capsule_run.run(["sh", "-c", "rm f*; : > new"], workspace=str(tree))
    assert ({"deleted"}, 1000, True) == (
        {one.kind for one in result.changes},
        len(result.changes),
        result.changes_truncated,
    )


@pytest.mark.sandbox
def test_changes_line_on_stderr_names_deletions_first(capsule_cli, tree):
    """The line on stderr counts and names what was deleted and modified before what was created."""
    script = FLOOD + "; rm old.py; echo more >> main.py"
    run = subprocess.run(
        [capsule_cli, "--workspace", tree, "--", "sh", "-c", script], stderr=subprocess.PIPE, timeout=60
    )
    said = run.stderr.decode()
    assert "more than 1000 changes (1 deleted, 1 modified, 998 created: old.py, main.py, .cache, …)" in said


@pytest.mark.sandbox
def test_changes_flood_in_new_directory_still_applies(tree):
    """What the list leaves out is applied all the same."""
    result = capsule_run.run(["sh", "-c", FLOOD + "; rm old.py"], workspace=str(tree), apply_changes=True)
    assert ("old.py", False, 1100) == (
        result.changes[0].path,
        (tree / "old.py").exists(),
        len(list((tree / ".cache").iterdir())),
    )
