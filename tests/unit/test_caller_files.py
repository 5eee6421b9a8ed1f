"""Files of the host that are written: whole or not at all, with the right mode, and never at the cost of what was there."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys

import pytest

from capsule_run.host import caller_files
from capsule_run.host.caller_files import Place

# No write gets through: by the limit of a file's size, or since the disk is full.
NO_WRITE = {
    "EFBIG": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))",
    "ENOSPC": """
filler = os.open("filler", os.O_CREAT | os.O_WRONLY)
try:
    while True: os.write(filler, bytes(4096))
except OSError: pass
""",
}
WRITERS = """
import os, sys
from capsule_run.engine import audit as monitor
from capsule_run.workspace.export import save_files
from capsule_run._base.errors import CapsuleError
from capsule_run.host.caller_files import Place
from capsule_run.model.result import Result
from capsule_run.model.result_parts import CollectedFile
os.chdir(sys.argv[1])
def attempt(write, *words):
    try:
        found = write(*words)
        print(write.__name__, *[one.reason for one in found] if found else ["wrote"])
    except (OSError, CapsuleError) as error:
        print(write.__name__, type(error).__name__)
for name in ("log", "replaced", "saved"):
    open(name, "w").write("as it was")
NO_WRITE
attempt(monitor.append_line, "log", {"text": "x" * 20000})
attempt(monitor.append_line, "new", {"text": "x" * 20000})
attempt(Place("replaced").replace, b"x" * 20000)
here = os.open(".", os.O_RDONLY)
attempt(save_files, [CollectedFile(path="saved", data=b"x" * 20000, mode=0o644)], here)
print(*sorted({*os.listdir(".")} - {"filler"}), *(open(name).read() for name in ("log", "replaced", "saved")))
"""


@pytest.mark.parametrize("errno", NO_WRITE)
def test_write_fails_leaves_the_old_file(tmp_path, needs, errno):
    """Whatever stops a write, the file that was there keeps its content, and nothing new lies beside it."""
    script = WRITERS.replace("NO_WRITE", NO_WRITE[errno])
    words = [sys.executable, "-c", script, str(tmp_path)]
    if errno == "ENOSPC":
        needs("user-namespaces", present=shutil.which("unshare") is not None)
        mount = 'mount -t tmpfs -o size=64k none "$0" && exec "$@"'
        words = ["unshare", "-rm", "sh", "-c", mount, str(tmp_path), *words]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    *said, files = done.stdout.splitlines()
    assert ["append_line CapsuleError"] * 2 + ["replace OSError", "save_files unwritable"] == said
    assert "log new replaced saved as it was as it was as it was" == files


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_new_file_mode_respects_the_umask(tmp_path, umask):
    """What is made is as readable as any program would make it."""
    before = os.umask(umask)
    try:
        with Place(str(tmp_path / "new")) as place:
            place.replace(b"x", mode=0o644)
    finally:
        os.umask(before)
    assert 0o644 & ~umask == stat.S_IMODE((tmp_path / "new").stat().st_mode)


def test_replaced_file_keeps_mode_and_owner(tmp_path):
    """What is replaced stays as readable as it was, for whom it was."""
    (tmp_path / "old").write_text("before")
    (tmp_path / "old").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(tmp_path / "old", 60322, 60323)
    before = (tmp_path / "old").stat()
    with Place(str(tmp_path / "old")) as place:
        place.replace(b"after")
    after = (tmp_path / "old").stat()
    assert "after" == (tmp_path / "old").read_text()
    assert [before.st_mode, before.st_uid, before.st_gid] == [after.st_mode, after.st_uid, after.st_gid]
    assert ["old"] == os.listdir(tmp_path)


@pytest.mark.parametrize("path", ["/", ".", "missing/file", "file/file", "\udcff/x", "n" * 300, "d/" * 3000 + "x"])
def test_path_unusable_is_an_oserror(tmp_path, monkeypatch, path):
    """The root, a directory, what is beneath a file, and names that are too long: OSError, and nothing is made."""
    (tmp_path / "file").write_text("f")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError), Place(path) as place:
        place.replace(b"x")
    assert ["file"] == os.listdir(tmp_path)


@pytest.mark.parametrize("path", ["a/b/c", "a//b/./c/", "../{here}/a/b/c", "{here}/../a/b/c"])
def test_output_directory_missing_is_made_with_parents(tmp_path, monkeypatch, path):
    """A directory to write to is made where it is missing, however it is spelled."""
    monkeypatch.chdir(tmp_path)
    os.close(caller_files.open_directory(path.format(here=tmp_path.name), make=True))
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_link_loop_is_an_error(tmp_path):
    """Links that lead to each other are an error, not a loop."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError):
        caller_files.read(str(tmp_path / "a"), 10)
