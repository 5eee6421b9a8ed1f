"""Nothing inside gains by a set-user-ID program, and none can be made for the host to trip over."""

# ruff: noqa: E501 - tables and programs, one entry a line
from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

MAKERS = {
    "chmod": "os.chmod('f', 0o4755)",
    "chmod, group": "os.chmod('f', 0o2755)",
    "chmod, both and sticky": "os.chmod('f', 0o7777)",
    "fchmod": "os.fchmod(os.open('f', os.O_RDONLY), 0o4755)",
    "fchmodat": "os.chmod('f', 0o4755, dir_fd=os.open('.', os.O_RDONLY))",
    "open": "os.open('g', os.O_CREAT | os.O_WRONLY, 0o4755)",
    "openat": "os.open('g', os.O_CREAT | os.O_WRONLY, 0o6755, dir_fd=os.open('.', os.O_RDONLY))",
    "tmpfile": "os.link('/proc/self/fd/%d' % os.open('.', os.O_TMPFILE | os.O_WRONLY, 0o4755), 'g')",
    "creat": "print(libc.syscall(85, b'g', 0o4755)); os.stat('g')",
    "mknod": "os.mknod('g', 0o104755)",
    "mkdir": "os.mkdir('d', 0o6777)",
    "chmod by int with high bits": "libc.syscall(90, b'f', ctypes.c_long(0x7fff00000000 | 0o4755))",
    "fchmodat2": "libc.syscall(452, -100, b'f', 0o4755, 0)",
    "setfattr": "os.setxattr('f', 'security.capability', bytes.fromhex('0000000200ffffff000000000000000000000000'))",
    "xattr trusted": "os.setxattr('f', 'trusted.overlay.opaque', b'y')",
    "copy of one with its mode": "import shutil; shutil.copy('/usr/bin/su', 'g')",
    "cp -a": "import subprocess; subprocess.run(['cp', '-a', '/usr/bin/su', 'g'], stderr=subprocess.DEVNULL)",
    "install": "import subprocess; subprocess.run(['install', '-m', '4755', 'f', 'g'], stderr=subprocess.DEVNULL)",
    "tar": "import subprocess; subprocess.run('tar -C /usr/bin -c su | tar -xp', shell=True, stderr=subprocess.DEVNULL)",
}


@pytest.mark.parametrize("user", ["1000", "0"])
@pytest.mark.parametrize("maker", MAKERS)
def test_set_id_file_cannot_be_left_in_a_share(inside, place, maker, user):
    """A payload cannot leave a set-ID or file-capability file in a folder of the host (linPEAS; CVE-2021-4034's helper)."""
    code = f"import ctypes, os\nlibc = ctypes.CDLL(None)\nopen('f', 'w').close()\ntry:\n    {MAKERS[maker]}\nexcept Exception:\n    pass\n"
    workspace = {"source": str(place), "mode": "rw"}
    response = inside.python(code, isolation={"workspace": workspace, "user": int(user)})
    assert "success" == response["status"], response
    left = [path for path in place.iterdir() if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
    assert [] == left
    assert [] == [path for path in place.iterdir() if os.listxattr(path, follow_symlinks=False)]
    assert place.joinpath("f").exists()


@pytest.mark.parametrize("program", ["su", "mount", "passwd", "chsh", "newgrp", "gpasswd", "sudo", "pkexec", "umount"])
def test_set_id_program_of_the_host_gains_nothing(inside, program):
    """The host's set-user-ID programs run with the payload's own id, if at all (CVE-2021-4034, CVE-2021-3156)."""
    code = f"""
import os, shutil, subprocess
path = shutil.which("{program}", path="/usr/bin:/bin:/usr/sbin:/sbin")
if path:
    child = subprocess.Popen([path, "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        status = open(f"/proc/{{child.pid}}/status").read()
        print([line.split()[1:] for line in status.splitlines() if line.startswith("Uid")][0] == ["1000"] * 4)
    except (FileNotFoundError, IndexError):
        print(True)
    child.wait()
else:
    print(True)
"""
    assert "True" == inside.python_says(code)


def test_set_id_file_in_a_share_gains_nothing(inside_as_caller, place, needs):
    """A set-user-ID root copy of id(1) in a shared folder runs as the payload: nosuid holds on binds."""
    needs("root")
    place.joinpath("id").write_bytes(Path("/usr/bin/id").read_bytes())
    place.joinpath("id").chmod(0o6755)
    for mode in ("ro", "rw", "cow"):
        seen = inside_as_caller.says(["/workspace/id"], isolation={"workspace": {"source": str(place), "mode": mode}})
        assert "euid" not in seen
        assert "uid=1000(user) gid=1000(user)" in seen


@pytest.mark.parametrize("user", [1000, 0])
def test_set_id_file_in_a_private_place_gains_nothing(inside_as_caller, user):
    """Made by open(2) where nothing of the host's is writable, a set-ID file runs as what made it: nosuid, and there is one id."""
    code = """
import os, subprocess
for place in ("/workspace", "/tmp", "/dev/shm"):
    with open(f"{place}/id", "wb", opener=lambda path, flags: os.open(path, flags, 0o6755)) as copy, open("/usr/bin/id", "rb") as original:
        copy.write(original.read())
    print(subprocess.run([f"{place}/id"], capture_output=True, text=True).stdout.split()[:2], open("/proc/self/status").read().count("NoNewPrivs:\t1"))
"""
    name = "root" if user == 0 else "user"
    seen = inside_as_caller.python_says(code, isolation={"user": user})
    assert [str([f"uid={user}({name})", f"gid={user}({name})"]) + " 1"] * 3 == seen.splitlines()


@pytest.mark.parametrize("mode", ["0o60660", "0o20660"], ids=["block", "character"])
def test_device_node_cannot_be_made(inside, mode):
    """mknod(2) makes no device, as user 0 neither."""
    code = f"""
import os
for number in ((8, 0), (254, 0), (1, 1), (10, 229)):
    try:
        os.mknod("/tmp/node", {mode}, os.makedev(*number))
        print("made")
    except OSError as error:
        print(error.strerror)
"""
    for user in ("1000", "0"):
        assert {"Operation not permitted"} == set(inside.python_says(code, options=("--user", user)).splitlines())


def test_device_node_in_a_share_does_not_open(inside_as_caller, place, needs):
    """A device node in a folder of the host does not open inside: nodev holds on binds."""
    needs("root")
    os.mknod(place / "zero", 0o20666, os.makedev(1, 5))
    place.joinpath("zero").chmod(0o666)
    for mode in ("ro", "rw", "cow"):
        response = inside_as_caller(
            ["head", "-c1", "/workspace/zero"], isolation={"workspace": {"source": str(place), "mode": mode}}
        )
        assert "Permission denied" in response["stderr"]


def test_hard_link_out_of_a_read_only_mount_is_refused(inside, place):
    """A hard link from a read-only bind into a writable one of the same file system is refused."""
    place.joinpath("out").mkdir(mode=0o777)
    place.joinpath("out").chmod(0o777)
    place.joinpath("in").mkdir()
    place.joinpath("in", "file").write_text("fixed")
    place.joinpath("in", "file").chmod(0o666)
    code = """
import os
for attempt in (os.link, os.rename):
    try:
        attempt("/in/file", "/out/file")
        print("done")
    except OSError as error:
        print(error.strerror)
try:
    os.link("/usr/bin/env", "/workspace/env")
    print("done")
except OSError as error:
    print(error.strerror)
"""
    binds = [
        {"source": str(place / "in"), "destination": "/in"},
        {"source": str(place / "out"), "destination": "/out", "mode": "rw"},
    ]
    assert {"Invalid cross-device link"} == set(inside.python_says(code, isolation={"binds": binds}).splitlines())
    assert "fixed" == place.joinpath("in", "file").read_text()


def test_chroot_break_out_finds_no_chroot(inside):
    """chroot(2) is refused to root inside, so `mkdir x; chroot x; cd ../../..` does not begin."""
    code = """
import os
os.mkdir("/tmp/x")
try:
    os.chroot("/tmp/x")
    print("done")
except PermissionError:
    print("denied")
"""
    assert "denied" == inside.python_says(code, options=("--user", "0"))


def test_set_id_file_in_a_writable_share_loses_its_bits_on_write(inside, place):
    """What a payload writes into a set-ID file of the host runs with nobody's rights (docs: not what it writes to a mapping)."""
    program = place / "program"
    program.write_bytes(bytes(64))
    os.chown(program, inside.uid, -1)
    program.chmod(0o6755)
    response = inside.python(
        "with open('program', 'r+b') as file: file.write(b'x')",
        isolation={"workspace": {"source": str(place), "mode": "rw"}},
    )
    assert ("success", b"x", 0o755) == (
        response["status"],
        program.read_bytes()[:1],
        stat.S_IMODE(program.stat().st_mode),
    ), response


RIGHTS = {
    "set-user-ID": ["chmod", "u+s"],
    "set-group-ID": ["chmod", "g+s"],
    "file capabilities": ["setcap", "cap_dac_override,cap_setuid+ep"],
}


@pytest.mark.parametrize("name", ["capsule-run", "capsule-core"])
@pytest.mark.parametrize("rights", RIGHTS)
def test_set_id_copy_of_our_program_refuses_to_run(needs, core_path, place, rights, name):
    """Our command and core refuse to run set-ID or with file capabilities, which would open and write paths for anybody."""
    needs("root")
    if shutil.which(RIGHTS[rights][0]) is None:
        pytest.skip(f"needs {RIGHTS[rights][0]}")
    copy = place / name
    shutil.copy(core_path, copy)
    copy.chmod(0o755)
    subprocess.run([*RIGHTS[rights], copy], check=True)
    ended = subprocess.run(
        [copy], user=60321, group=60321, extra_groups=[], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert (125, True) == (ended.returncode, ended.stderr.startswith(b"capsule-run: refuses to run set-user-ID"))
