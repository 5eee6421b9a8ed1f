"""A small workspace is copied and a larger one is overlaid: both show the same files, and the result says which it was."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading

import pytest

import capsule_run
from capsule_run import CapsuleError
from capsule_run.host import secrets
from capsule_run.plan.room import HIDDEN_INODES
from capsule_run.policy import workspace

pytestmark = pytest.mark.sandbox
IDENTITY = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
LIST = """
import json, os, stat, sys
found, inodes = {}, {}
for top, directories, files in os.walk("."):
    for name in [*directories, *files]:
        path = os.path.join(top, name)
        seen = os.lstat(path)
        kind = stat.S_IFMT(seen.st_mode)
        first = inodes.setdefault((seen.st_dev, seen.st_ino), path)
        content = open(path, "rb").read().hex()[:64] if kind == stat.S_IFREG else ""
        target = os.readlink(path) if kind == stat.S_IFLNK else ""
        size = seen.st_size if kind == stat.S_IFREG else 0
        found[path] = [seen.st_mode, seen.st_mtime_ns, size, content, target, first if seen.st_nlink > 1 and size else ""]
json.dump(found, sys.stdout)
"""


@pytest.fixture(params=["copy", "overlay"])
def mechanism(request, monkeypatch):
    """The mechanism that the run has to use."""
    if request.param == "overlay":
        monkeypatch.setattr(workspace, "SMALL_ENTRIES", 0)
    return request.param


@pytest.fixture
def tree(tmp_path):
    """A directory with one of everything."""
    top = tmp_path / "tree"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("deep")
    (top / "a" / "plain").write_bytes(b"x" * 70_000)
    (top / "tool").write_text("#!/bin/sh\n")
    (top / "tool").chmod(0o755)
    os.link(top / "tool", top / "a" / "tool")
    (top / "link").symlink_to("a/plain")
    (top / "dangling").symlink_to("nowhere")
    (top / "closed").mkdir(mode=0o700)
    (top / "empty").write_bytes(b"")
    with open(top / "holes", "wb") as file:
        file.seek(300_000)
        file.write(b"end")
    (top / "na\nme \udcff".encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")).write_text("odd")
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(top / "socket"))
    for number, path in enumerate(sorted(top.rglob("*"), reverse=True)):
        os.utime(path, ns=(1, 10**18 + number * 1001), follow_symlinks=False)
    return top


def run(command, top, mode="cow", isolation=None, **fields):
    """Run a command, or a script, in the workspace `top`."""
    request = {
        "command": command if isinstance(command, list) else ["sh", "-c", command],
        "isolation": {**(isolation or {}), "workspace": {"source": str(top), "mode": mode}},
        **fields,
    }
    return capsule_run.execute(capsule_run.request.parse.request_from_mapping(request))


def used(result):
    return result.isolation["workspace"].get("mechanism")


def listed(result):
    return {one.path: one.kind for one in result.changes}


def host_listing(top):
    """The same as LIST prints inside."""
    return json.loads(subprocess.run([sys.executable, "-c", LIST], cwd=top, capture_output=True, check=True).stdout)


@pytest.mark.parametrize(
    "program", ['python3 -c \'import os; os.rename("a", "z")\'', "mv -T a z", 'perl -e \'rename("a", "z") or die $!\'']
)
def test_small_workspace_directory_can_be_renamed(tree, program):
    """rename(2) of a directory that was there before works, and its files keep their inode numbers."""
    result = run(f"stat -c %i a/b/file; {program} && stat -c %i z/b/file", tree)
    assert ("copy", 0, "") == (used(result), result.exit_code, result.stderr)
    assert 1 == len(set(result.stdout.split()))


def test_small_workspace_hard_link_is_the_same_file(tree):
    """A hard link and its source are one inode, as are two names of one file that were there before."""
    script = (
        "stat -c %i a/plain; ln a/plain g; stat -c %i a/plain g; test a/plain -ef g && test tool -ef a/tool && echo one"
    )
    result = run(script, tree)
    before, source, link, one = result.stdout.split()
    assert ("copy", before, before, "one") == (used(result), source, link, one)


@pytest.mark.needs("git")
def test_small_workspace_repository_can_be_cloned_and_moved(tmp_path):
    """`git clone` of a local repository, and `git mv` of a directory, work on a checkout that was there before."""
    top = tmp_path / "checkout"
    (top / "src" / "app").mkdir(parents=True)
    (top / "src" / "app" / "f").write_text("1")
    for words in (["init", "-q"], ["add", "."], [*IDENTITY, "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=top, check=True)
    result = run("git mv src lib && git clone -q . dst && git -C dst log --format=%s && cat lib/app/f", top)
    assert ("copy", "one\n1", "") == (used(result), result.stdout, result.stderr)


def test_workspace_shows_the_files_of_the_host_as_they_are(tree, mechanism):
    """Types, modes, times, content, holes, links and names are those of the host, whichever mechanism shows them."""
    result = run(["python3", "-c", LIST], tree)
    assert (mechanism, "") == (used(result), result.stderr)
    assert host_listing(tree) == json.loads(result.stdout)


def test_workspace_changes_are_listed_and_applied_alike(tree, mechanism):
    """Created, modified, deleted, touched, and changed modes and targets are listed and arrive, with either mechanism."""
    script = (
        "echo more >> a/plain; rm empty; mkdir -p new/er; echo n > new/er/f; touch -d @1000000000 tool; chmod 640 a/b/file;"
        " chmod 755 closed; ln -sfn a link; rm -r a/tool; : >> holes; mv dangling moved"
    )
    result = run(script, tree, apply_changes=True)
    assert (mechanism, 0, ()) == (used(result), result.exit_code, result.not_applied)
    expected = {
        "a/plain": "modified", "empty": "deleted", "new": "created", "new/er": "created", "new/er/f": "created",
        "tool": "modified", "a/b/file": "modified", "closed": "modified", "link": "modified", "a/tool": "deleted",
        "dangling": "deleted", "moved": "created",
    }  # fmt: skip
    assert expected == {**listed(result), "moved": "created"}
    assert (0o640, 0o755, 1_000_000_000, "a") == (
        stat.S_IMODE((tree / "a/b/file").stat().st_mode),
        stat.S_IMODE((tree / "closed").stat().st_mode),
        int((tree / "tool").stat().st_mtime),
        os.readlink(tree / "link"),
    )
    assert (False, False, "n\n") == (
        (tree / "empty").exists(),
        (tree / "a/tool").exists(),
        (tree / "new/er/f").read_text(),
    )


def test_workspace_unchanged_has_no_changes(tree, mechanism):
    """A command that only reads has changed nothing."""
    result = run("find . -type f -exec cat {} + > /dev/null", tree)
    assert (mechanism, ()) == (used(result), result.changes)


def test_renamed_directory_is_applied(tree):
    """A renamed directory is a deletion and a creation, and the host has it under its new name afterwards."""
    result = run(["python3", "-c", "import os; os.rename('a', 'z')"], tree, apply_changes=True)
    assert ("deleted", "created", "created") == tuple(listed(result)[path] for path in ("a", "z", "z/b/file"))
    assert (False, "deep") == ((tree / "a").exists(), (tree / "z/b/file").read_text())


def test_host_changes_during_a_run_in_a_copy_are_kept(tree):
    """What others create, change or remove on the host meanwhile is no change of the command's, and stays as they left it."""
    sync = tree.parent / "sync"
    sync.mkdir()
    os.mkfifo(sync / "ready")
    os.mkfifo(sync / "done")

    def change():
        (sync / "ready").read_bytes()  # until the command has opened it
        for path in ("later", "a/later", "a/plain"):
            (tree / path).write_text("host")
        (tree / "empty").unlink()
        (sync / "done").write_bytes(b"")

    host = threading.Thread(target=change)
    host.start()
    binds = [{"source": str(sync), "destination": "/sync", "mode": "rw"}]
    script = ": > /sync/ready; cat /sync/done; echo 1 > mine"
    result = run(script, tree, isolation={"binds": binds}, apply_changes=True)
    host.join()
    assert ("copy", {"mine": "created"}, ()) == (used(result), listed(result), result.not_applied)
    assert (["host"] * 3, False, "1\n") == (
        [(tree / path).read_text() for path in ("later", "a/later", "a/plain")],
        (tree / "empty").exists(),
        (tree / "mine").read_text(),
    )


def available(result):
    return [int(word) for word in result.stdout.split()]


def test_copied_files_do_not_use_up_the_disk_limit(tree, monkeypatch):
    """The command may write as much, and make as many files, beside a copy as over an overlay."""
    look = "stat -f -c '%a %d' /tmp"
    copied = run(look, tree, resources={"disk_bytes": 1 << 20})
    monkeypatch.setattr(workspace, "SMALL_ENTRIES", 0)
    overlaid = run(look, tree, resources={"disk_bytes": 1 << 20})
    assert ("copy", "overlay") == (used(copied), used(overlaid))
    blocks, files = (one - other for one, other in zip(available(copied), available(overlaid), strict=True))
    assert (0, True) == (blocks, 0 <= files <= HIDDEN_INODES)  # an overlay makes files of its own


def test_large_workspace_is_overlaid_unless_a_copy_is_requested(tree):
    """Past the limits an overlay shows the directory; mode `copy` copies it, with a list of changes that is as complete."""
    for number in range(workspace.SMALL_ENTRIES):
        (tree / f"f{number}").write_text("x")
    assert "overlay" == used(run("true", tree))
    request = {
        "command": ["sh", "-c", 'python3 -c \'import os; os.rename("a", "z")\'; rm f7; echo y > f8'],
        "isolation": {"workspace": {"source": str(tree), "mode": "copy"}},
        "apply_changes": True,
    }
    result = capsule_run.execute(capsule_run.request.parse.request_from_mapping(request))
    assert ("copy", "", ()) == (result.isolation["workspace"]["kind"], result.stderr, result.not_applied)
    assert {"a": "deleted", "f7": "deleted", "f8": "modified"}.items() <= listed(result).items()
    assert ("y\n", "deep") == ((tree / "f8").read_text(), (tree / "z/b/file").read_text())


def test_workspace_with_more_bytes_than_the_limit_is_overlaid(tree):
    """One large file is reason enough for an overlay, a sparse one too."""
    with open(tree / "large", "wb") as file:
        file.truncate(workspace.SMALL_BYTES + 1)
    assert "overlay" == used(run("true", tree))


def test_required_copy_that_does_not_fit_is_refused(tree):
    """Mode `copy` of a directory that is larger than half the memory limit is E2008, and says what is accepted."""
    with open(tree / "large", "wb") as file:
        file.truncate(40 << 20)
    result = run("true", tree, mode="copy", resources={"memory_bytes": 64 << 20})
    assert ("E2008", str(tree)) == (result.error.code, result.error.details["path"])
    assert "bytes" in result.error.message
    assert "cow" in result.error.hint


@pytest.mark.parametrize(
    "fields",
    [{"require": ["overlay"]}, {"isolation": {"workspace_upper": "/var/tmp"}}],
)
def test_required_copy_contradiction_is_refused(tree, fields):
    """Mode `copy` with a required overlay, or with an upper layer on disk, is E1009."""
    with pytest.raises(CapsuleError) as raised:
        run("true", tree, mode="copy", **fields)
    assert "E1009" == raised.value.code


def test_required_overlay_is_not_replaced_by_a_copy(tree):
    """`require: overlay` has an overlay however small the directory is."""
    assert "overlay" == used(run("true", tree, require=["overlay"]))


def test_workspace_that_cannot_be_copied_exactly_is_overlaid(tree):
    """A tree that is too deep to copy is shown by an overlay, with the modes and times of the host."""
    place = tree / "closed"
    for _ in range(60):
        place /= "d"
    place.mkdir(parents=True)
    (tree / "closed").chmod(0o710)
    result = run("stat -c %a closed; touch -d @1 a", tree)
    assert ("overlay", "710\n", ()) == (used(result), result.stdout, result.changes)


@pytest.mark.root
def test_workspace_with_a_file_of_another_owner_is_overlaid(tree):
    """A file that the sandbox cannot read ends the copy: the overlay shows it, and what was copied so far is no change."""
    for name in ("a/b/file", "tool"):
        os.chown(tree / name, 12345, 12345)
        (tree / name).chmod(0o600)
    result = run("cat a/b/file tool; stat -c %a:%U tool; echo 1 > new", tree)
    assert ("overlay", "600:nobody\n", {"new": "created"}) == (used(result), result.stdout, listed(result))


def test_workspace_with_mounts_beneath_it_is_overlaid(tree, monkeypatch):
    """What the host has mounted in the directory is not shown: such a directory is not copied, or mode `copy` is E2008."""
    monkeypatch.setattr(secrets, "_has_mounts", lambda *_: True)
    assert "overlay" == used(run("true", tree))
    error = run("true", tree, mode="copy").error
    assert ("E2008", True) == (error.code, "mounted beneath" in error.message)


def test_input_files_and_binds_in_a_copied_workspace_are_shown(tree):
    """An input file replaces the host's file, a bind covers the host's directory, and neither is a change."""
    data = tree.parent / "data"
    data.mkdir()
    (data / "inner").write_text("bound")
    (tree / "a" / "data").mkdir()
    (tree / "a" / "data" / "hidden").write_text("h")
    binds = [{"source": str(data), "destination": "/workspace/a/data"}]
    script = "cat a/plain a/data/inner; ls a; rm a/plain"
    result = run(script, tree, isolation={"binds": binds}, files={"a/plain": "given "})
    assert ("copy", "given boundb\ndata\nplain\ntool\n", {"a/plain": "deleted"}) == (
        used(result),
        result.stdout,
        listed(result),
    )
