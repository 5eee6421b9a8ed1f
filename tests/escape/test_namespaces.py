"""No new namespace, none entered, no id map rewritten: a new user namespace is where most kernel holes begin."""

# ruff: noqa: E501 - tables and programs, one entry a line
from __future__ import annotations

import pytest
from inside import outcome

FLAGS = {
    "time": 0x80, "mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000, "pid": 0x20000000,
    "net": 0x40000000,
}  # fmt: skip


@pytest.mark.parametrize("flag", FLAGS.values(), ids=FLAGS)
def test_namespace_by_unshare_is_refused(attack, flag):
    """unshare(2) makes no namespace of any kind (CVE-2022-0185, CVE-2023-0386, CVE-2024-1086 and many more)."""
    assert "EPERM" == outcome(attack("sys", "unshare", str(flag)))


@pytest.mark.parametrize(
    "flag", [flag for flag in FLAGS.values() if flag != 0x80], ids=[name for name in FLAGS if name != "time"]
)
def test_namespace_by_clone_is_refused(attack, flag):
    """clone(2) makes no namespace of any kind."""
    assert "EPERM" == outcome(attack("sys", "clone", str(flag | 17), "0", "0", "0", "0"))


@pytest.mark.parametrize("flag", FLAGS.values(), ids=FLAGS)
def test_namespace_by_clone3_is_refused(attack, flag):
    """clone3(2), whose flags no filter can read, is not there at all (CVE-2021-41133)."""
    assert "ENOSYS" == outcome(attack("clone3", str(flag)))


@pytest.mark.parametrize(
    "tool", ["unshare -U true", "unshare -r id", "unshare -m true", "unshare -p -f true", "unshare -n true"]
)
def test_namespace_by_the_unshare_tool_is_refused(inside, tool):
    """unshare(1) is refused like anybody else."""
    response = inside(tool.split())
    assert response["exit_code"] != 0
    assert "peration not permitted" in response["stderr"]


def test_namespace_of_process_1_cannot_be_opened(inside):
    """/proc/1/ns cannot be read, so setns(2) has nothing to enter."""
    code = """
import os
for name in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
    try:
        os.open(f"/proc/1/ns/{name}", os.O_RDONLY)
        print(name, "opened")
    except PermissionError:
        pass
"""
    assert "" == inside.python_says(code)


@pytest.mark.parametrize("file", ["uid_map", "gid_map", "setgroups", "projid_map"])
def test_id_map_cannot_be_rewritten(inside, file):
    """/proc/self/uid_map and its like, written once by us, take nothing more (CVE-2014-8989, CVE-2018-18955)."""
    code = f"""
import os
try:
    os.write(os.open("/proc/self/{file}", os.O_WRONLY), b"0 0 1")
    print("written")
except OSError as error:
    print(error.strerror)
"""
    assert inside.python_says(code) in ("Operation not permitted", "Permission denied")


def test_id_map_holds_one_id(inside):
    """One id each way: the sandbox can become nobody else, and setgroups is denied."""
    lines = inside.says(["cat", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups"]).splitlines()
    assert [["1000", "0", "1"], ["1000", "0", "1"], ["deny"]] == [line.split() for line in lines]


def test_namespace_and_mount_as_root_inside_are_refused(attack):
    """As user 0 inside, a new user namespace and a mount fail all the same."""
    assert "EPERM" == outcome(attack_as_root(attack, "sys", "unshare", "0x10000000"))
    assert "E5001" == outcome(attack_as_root(attack, "sys", "mount", "=none", "=/tmp", "=tmpfs", "0", "0"))


def attack_as_root(attack, *words):
    """The attack as user 0 inside."""
    return attack(*words, options=("--user", "0"))
