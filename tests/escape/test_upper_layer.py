"""A workspace's layer on the host's disk: whatever a command leaves in it goes, and nothing else does."""

from __future__ import annotations

import os

import pytest

from capsule_run.workspace.remove_tree import remove, sweep

SECRET = "the host's own"
# Whiteouts, an opaque directory, links, a deep tree, what nobody may read, a FIFO, a socket and odd names.
PLANTING = """
import os, socket, sys
host = sys.argv[1]
os.unlink("gone"); os.unlink("opaque/file"); os.rmdir("opaque"); os.mkdir("opaque")
os.symlink(host + "/secret", "link"); os.symlink(host, "opaque/host"); os.symlink("..", "up")
os.mkfifo("fifo"); socket.socket(socket.AF_UNIX).bind("socket")
open(b"\\xff\\n -rf", "w"); os.mkdir(b"\\xfe\\n"); os.link("kept", "opaque/again")
os.mkdir("locked"); open("locked/file", "w"); os.chmod("locked/file", 0); os.chmod("locked", 0)
os.mkdir("deep"); os.chdir("deep")
for _ in range(3000):
    os.mkdir("d" * 200); os.chdir("d" * 200); os.chmod("..", 0o300)
os.symlink(host, "host"); os.mkdir("last"); os.chmod(".", 0)
"""


@pytest.fixture
def host(inside, place):
    """A tree to share, a directory for the layer, and a secret beside them that keeps its mode."""
    for path in (place / "tree" / "opaque", place / "disk", place / "outside"):
        path.mkdir(parents=True, mode=0o755)
    for name in ("tree/gone", "tree/kept", "tree/opaque/file"):
        (place / name).write_text(name)
    (place / "outside" / "secret").write_text(SECRET)
    (place / "outside").chmod(0o711)
    for path in place.glob("**/*"):
        os.chown(path, inside.uid, -1)
    return place


def outside(host):
    place = host / "outside"
    return oct(place.stat().st_mode & 0o777), place.joinpath("secret").read_text(), sorted(os.listdir(place))


@pytest.mark.sandbox
def test_upper_layer_hostile_is_removed_without_following(inside, host):
    """Whiteouts, links, deep trees and what nobody may read all go; what they lead to keeps its content and its mode."""
    before = outside(host)
    isolation = {"workspace": str(host / "tree"), "workspace_upper": str(host / "disk")}
    response = inside(["/usr/bin/python3", "-c", PLANTING, str(host / "outside")], isolation=isolation)
    assert "success" == response["status"], response
    assert ([], before) == (os.listdir(host / "disk"), outside(host))
    assert ["gone", "kept", "opaque"] == sorted(os.listdir(host / "tree"))


@pytest.mark.sandbox
def test_upper_layer_cannot_be_reached_by_name(inside, host):
    """What is written has the workspace's path and no other, the layer's directory has none, and no set-id bit gets into it."""
    script = (
        f"touch only-here; find / -path /proc -prune -o -name only-here -print; ls {host / 'disk'}; "
        "cp /bin/sh s; chmod 4755 s; chmod 2755 s; stat -c %a s"
    )
    isolation = {"workspace": str(host / "tree"), "workspace_upper": str(host / "disk")}
    response = inside(["sh", "-c", script], isolation=isolation)
    *paths, mode = response["stdout"].split()
    assert ("755", 1) == (mode, response["stderr"].count("No such file or directory")), response
    assert "/workspace/only-here" in paths
    assert {"/workspace/only-here", f"{host}/tree/only-here"} >= {*paths}


ATTRIBUTES = """
import errno, os, stat, sys
host = sys.argv[1]
seen = []
def attempt(action, *words):
    try:
        action(*words)
        seen.append(f"{action.__name__} {words} worked")
    except OSError as error:
        pass
os.mkdir("made"); open("made/new", "w").write("n"); open("kept", "a").write("more")
for space in ("user.overlay.", "trusted.overlay.", "user.overlay.overlay.", "security."):
    for name in ("opaque", "redirect", "metacopy", "origin", "whiteout", "impure", "nlink", "upper", "uuid", "capability"):
        for path in ("made", "opaque", "kept", "made/new", "."):
            for value in (b"y", b"x", b"/../../outside", host.encode(), b""):
                attempt(os.setxattr, path, space + name, value)
for path in ("gone2", "opaque/gone2"):
    attempt(os.mknod, path, stat.S_IFCHR, os.makedev(0, 0))
    attempt(os.mknod, path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
print(*seen, sep="\\n")
"""


@pytest.mark.sandbox
@pytest.mark.parametrize("on_disk", [True, False])
def test_upper_layer_attributes_cannot_be_planted(inside, host, on_disk):
    """No attribute or device by which overlayfs says what is gone or elsewhere can be made, and the changes are the true ones."""
    isolation = {"workspace": str(host / "tree")}
    if on_disk:
        isolation["workspace_upper"] = str(host / "disk")
    before = outside(host)
    command = ["/usr/bin/python3", "-c", ATTRIBUTES, str(host / "outside")]
    response = inside(command, isolation=isolation, apply_changes=True)
    assert ("success", "") == (response["status"], response["stdout"].strip()), response
    assert ["kept", "made", "made/new"] == [one["path"] for one in response["changes"]]
    assert (before, "not_applied" in response) == (outside(host), False)
    assert ["gone", "kept", "made", "opaque"] == sorted(os.listdir(host / "tree"))
    assert ["file"] == os.listdir(host / "tree" / "opaque")


@pytest.mark.sandbox
def test_upper_layer_deleted_open_file_is_freed(inside, host):
    """A file that is deleted and kept open takes the disk's space only until the run is over."""
    code = "import os; f = open('x', 'wb', 0); os.unlink('x'); f.write(bytes(1 << 20)); print(os.fstat(f.fileno()).st_nlink)"
    isolation = {"workspace_upper": {"directory": str(host / "disk"), "bytes": 4 << 20}}
    assert "0" == inside.python_says(code, isolation=isolation)
    assert [] == os.listdir(host / "disk")


def test_upper_layer_planted_directory_is_not_swept(tmp_path):
    """A link by the name of a dead run's directory is left, and what it leads to is; so is a name that is not ours."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text(SECRET)
    namespace = "".join(letter for letter in os.readlink("/proc/self/ns/pid") if letter.isdigit())
    dead = f"capsule-{namespace}-4194999-1-00000000"
    (tmp_path / dead).symlink_to(tmp_path / "secret")
    (tmp_path / f"capsule-1-{os.getpid()}-1-00000000").mkdir()
    (tmp_path / f"{dead}1").mkdir()
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert [f"{dead}1"] == sweep(directory)
    finally:
        os.close(directory)
    assert SECRET == (tmp_path / "secret" / "file").read_text()


def test_upper_layer_replaced_by_a_link_is_not_followed(tmp_path):
    """What is to be removed has become a link: it is refused, and what it leads to stays."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text(SECRET)
    (tmp_path / "layer").symlink_to(tmp_path / "secret")
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError):
            remove("layer", directory)
    finally:
        os.close(directory)
    assert SECRET == (tmp_path / "secret" / "file").read_text()
