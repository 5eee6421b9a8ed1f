"""What the command sees of the machine: the system read-only, a few private places, and nothing of the caller's."""

from __future__ import annotations

import os
import pwd
import sys
import uuid
from pathlib import Path

import pytest

CANARY = f"capsule-canary-{os.getpid()}-{uuid.uuid4().hex}"


def _mounts(inside):
    return [line.split() for line in inside.says(["cat", "/proc/self/mountinfo"]).splitlines()]


@pytest.fixture
def canaries():
    """Secrets in the places where people keep them, readable by everybody on the host."""
    made = []
    for folder in (
        "/tmp",
        "/var/tmp",
        "/dev/shm",
        "/srv",
        "/opt",
        "/mnt",
        "/run",
        "/etc",
        "/root",
        "/home",
        "/var/lib",
        os.path.expanduser("~"),
    ):
        path = Path(folder, CANARY + str(len(made)))
        try:
            path.write_text(CANARY)
            path.chmod(0o644)
            made.append(path)
        except OSError:
            continue
    yield made
    for path in made:
        path.unlink()


def test_host_secrets_are_invisible(inside, canaries):
    """Files in home, /tmp, /var/tmp, /dev/shm, /srv, /run, /etc and elsewhere are not there, by any path."""
    assert canaries
    code = """
import os, sys
for path in sys.argv[1:]:
    for prefix in ("", "/proc/self/root", "/proc/self/cwd/..", "/proc/thread-self/root", "/usr/.."):
        if os.path.lexists(prefix + path):
            print(prefix + path)
"""
    assert "" == inside.says(["/usr/bin/python3", "-I", "-S", "-c", code, *canaries])


def test_host_secrets_are_not_found_by_a_walk(inside, canaries):
    """A walk over the whole root finds no file with a planted secret's name."""
    assert "" == inside.says(
        [
            "sh",
            "-c",
            f"find / -xdev -name '{CANARY}*' 2>/dev/null; find /tmp /dev /var /run /etc -name '{CANARY}*' 2>/dev/null; true",
        ]
    )


@pytest.mark.parametrize(
    "folder",
    ["/srv", "/mnt", "/media", "/boot", "/sys", "/opt", "/var/log", "/var/lib/dpkg", "/run/user", "/lost+found"],
)
def test_host_directories_are_absent(inside, folder):
    """/srv, /mnt, /sys, /var/log and their like do not exist inside."""
    # our interpreter is shown where it lies
    shown = any(
        os.path.commonpath([folder, os.path.realpath(each)]) == folder for each in (sys.prefix, sys.base_prefix)
    )
    assert ("yes" if shown else "no") == inside.says(["sh", "-c", f"test -e {folder} && echo yes || echo no"])


def test_host_homes_are_absent(inside):
    """/home holds the sandbox's own HOME alone, which is empty."""
    interpreter = {Path(prefix).resolve().parts[:3] for prefix in (sys.prefix, sys.base_prefix)}
    shown = {parts[2] for parts in interpreter if parts[1] == "home"}
    assert {"user"} | shown == set(inside.says(["ls", "-A", "/home", "/home/user"]).split()) - {"/home:", "/home/user:"}


def test_root_directory_has_nothing_unexpected(inside):
    """The root holds the system's directories, /etc, /dev, /proc, /tmp, /var, /run, /home and /workspace."""
    interpreter = {Path(prefix).resolve().parts[1] for prefix in (sys.prefix, sys.base_prefix)}
    allowed = {
        "bin",
        "dev",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "proc",
        "run",
        "sbin",
        "tmp",
        "usr",
        "var",
        "workspace",
        *interpreter,
    }
    assert set(inside.says(["ls", "-A", "/"]).split()) <= allowed


def test_mount_flags_are_nosuid_and_nodev(inside):
    """Every mount is nosuid, and nodev but for the devices themselves and /dev/pts."""
    for mount in _mounts(inside):
        assert "nosuid" in mount[5], mount
        assert "nodev" in mount[5] or mount[4].startswith("/dev/"), mount


def test_mounts_writable_are_the_private_places_only(inside):
    """Writable mounts are /tmp, /dev/shm, /workspace, HOME, the devices, and /proc for what is a process's own.

    /var/tmp is a link to /tmp, and a private directory of its own only where our interpreter lies in the host's.
    """
    writable = {mount[4] for mount in _mounts(inside) if "ro" not in mount[5].split(",")}
    assert {place for place in writable if not place.startswith("/dev/")} - {"/var/tmp"} == {
        "/tmp",
        "/workspace",
        "/home/user",
        "/proc",
    }
    assert {"/", "/usr", "/proc/sys"} <= {mount[4] for mount in _mounts(inside)} - writable


def test_mount_propagation_with_the_host_is_off(inside):
    """No mount inside is in a peer group: nothing mounted on the host later appears, nor the other way."""
    assert [] == [
        mount
        for mount in _mounts(inside)
        if any(word.startswith(("shared:", "master:")) for word in mount[6 : mount.index("-")])
    ]


def test_mount_of_the_old_root_is_gone(inside):
    """No mount of the host's root, and no building place, is left in the tree."""
    places = {mount[4] for mount in _mounts(inside)}
    ours = tuple(os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix))
    assert not [place for place in places if "capsule" in place and not place.startswith(("/run/capsule", *ours))]
    assert not [
        mount
        for mount in _mounts(inside)
        if mount[3] == "/"
        and mount[mount.index("-") + 1] in ("ext4", "xfs", "btrfs", "overlay")
        and mount[4] != "/workspace"
    ]


def test_dev_is_minimal(inside):
    """/dev has null, zero, full, random, urandom, tty, ptmx, pts, shm and the links to the own descriptors."""
    assert {
        "fd",
        "full",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
    } == set(inside.says(["ls", "-A", "/dev"]).split())


def test_dev_devices_work(inside):
    """null swallows, zero and full give zeros, full takes nothing, random gives bytes."""
    code = """
import errno
open("/dev/null", "wb").write(b"x")
print(open("/dev/null", "rb").read(1), open("/dev/zero", "rb").read(2), len(open("/dev/urandom", "rb").read(9)))
with open("/dev/full", "wb", buffering=0) as full:
    try:
        full.write(b"x")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
    assert ["b'' b'\\x00\\x00' 9", "ENOSPC"] == inside.python_says(code).splitlines()


def test_dev_pseudo_terminals_work(inside):
    """A program can open a terminal pair of its own (script, expect, pexpect)."""
    code = """
import os, pty
pid, master = pty.fork()
if pid == 0:
    os.execv("/bin/sh", ["sh", "-c", "tty; test -t 0 && echo terminal"])
out = b""
try:
    while part := os.read(master, 100):
        out += part
except OSError:
    pass
print(out.decode().split())
"""
    assert "['/dev/pts/0', 'terminal']" == inside.python_says(code)


def test_workspace_of_a_json_request_is_empty(inside, place):
    """In JSON mode /workspace starts empty, writable, and is the working directory."""
    assert ["/workspace"] == inside.says(["sh", "-c", "ls -A; pwd; echo x > x"], process={"cwd": place}).split()


def test_workspace_in_command_mode_is_a_private_copy(inside, place):
    """In command mode the current directory is shown at /workspace; what the command does to it is not done to the host's."""
    place.joinpath("keep").write_text("as it was")
    place.joinpath("gone").write_text("still here")
    place.joinpath("folder").mkdir()
    place.joinpath("folder", "deep").write_text("deep")
    if os.geteuid() == 0 and inside.uid:
        for path in (place, *place.rglob("*")):
            os.chown(path, inside.uid, pwd.getpwuid(inside.uid).pw_gid)
    script = "cat keep; echo changed > keep; rm gone; rm -r folder; mkdir new; mv keep moved; ls"
    done = inside.cli("--", "sh", "-c", script, cwd=place)
    assert (b"as it wasmoved\nnew\n", 0) == (done.stdout, done.returncode), done.stderr
    assert ["deep", "folder", "gone", "keep"] == sorted(path.name for path in place.rglob("*"))
    assert ("as it was", "still here") == (place.joinpath("keep").read_text(), place.joinpath("gone").read_text())


@pytest.mark.parametrize(("mode", "outcome"), [("ro", "refused"), ("rw", "written"), ("cow", "private")])
def test_workspace_mode_is_respected(inside, place, mode, outcome):
    """`ro` refuses to write, `rw` writes to the host's folder, `cow` writes to a copy."""
    place.joinpath("seen").write_text("seen")
    response = inside(
        ["sh", "-c", "cat seen && echo x > new"], isolation={"workspace": {"source": str(place), "mode": mode}}
    )
    assert response["stdout"].startswith("seen")
    assert (outcome != "refused") == (response["status"] == "success")
    assert (outcome == "written") == place.joinpath("new").exists()


@pytest.mark.parametrize("directory", ["/", "/etc", "/usr", "/proc", "/root", "/home"])
def test_workspace_in_a_system_directory_is_empty(inside_as_caller, directory):
    """Started in `/`, a home or the system's directories, the workspace is empty and stderr says so."""
    if not os.path.isdir(directory) or not os.access(directory, os.X_OK):
        directory = "/"
    done = inside_as_caller.cli(
        "--", "ls", "-A", "/workspace", cwd=directory, env={"PATH": "/usr/bin:/bin", "HOME": "/root"}
    )
    assert (0, b"") == (done.returncode, done.stdout)
    assert b"/workspace starts empty" in done.stderr


def test_bind_is_shown_at_its_destination(inside, place):
    """A bind is at its destination, read-only unless asked otherwise; a writable one reaches the host."""
    place.joinpath("file").write_text("data")
    binds = [
        {"source": str(place), "destination": "/data/in"},
        {"source": str(place), "destination": "/out", "mode": "rw"},
    ]
    response = inside(
        ["sh", "-c", "cat /data/in/file; echo x > /out/made; echo y > /data/in/no"], isolation={"binds": binds}
    )
    assert "data" == response["stdout"]
    assert ["file", "made"] == sorted(os.listdir(place))
