"""What the caller had open stays outside: descriptors and the working directory are the oldest way out (CVE-2024-21626)."""

# ruff: noqa: E501 - tables and programs, one entry a line
from __future__ import annotations

import os
import socket

import pytest


@pytest.mark.parametrize("kind", ["folder", "file", "writable", "socket", "path"])
def test_descriptor_leaked_by_the_caller_does_not_get_in(inside, place, kind):
    """An inheritable descriptor of the caller is closed in every process inside (CVE-2016-9962, CVE-2024-21626)."""
    place.joinpath("secret").write_text("TOP")
    held = None
    if kind == "socket":
        held = socket.socket(socket.AF_UNIX)
        fd = held.fileno()
    else:
        flags = {"folder": os.O_RDONLY, "file": os.O_RDONLY, "writable": os.O_RDWR, "path": os.O_PATH}[kind]
        fd = os.open(place if kind in ("folder", "path") else place / "secret", flags)
    try:
        code = f"import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1], os.path.exists('/proc/self/fd/{fd}/secret'))"
        assert "[0, 1, 2] False" == inside.python_says(code, process={"pass_fds": (fd,)})
    finally:
        if held is None:
            os.close(fd)
        else:
            held.close()


def test_descriptors_leaked_by_the_hundred_do_not_get_in(inside):
    """Two hundred of them are closed as one is."""
    fds = [os.open("/", os.O_RDONLY) for _ in range(200)]
    try:
        code = "import os; print(len(os.listdir('/proc/self/fd')))"
        assert "4" == inside.python_says(code, process={"pass_fds": fds})  # 0, 1, 2 and the listing's own
    finally:
        for fd in fds:
            os.close(fd)


def test_working_directory_is_that_of_the_sandbox(inside, place):
    """Whatever the caller's directory is, /proc/self/cwd is the sandbox's."""
    place.joinpath("secret").write_text("TOP")
    seen = inside.says(["sh", "-c", "readlink /proc/self/cwd; ls"], process={"cwd": place})
    assert "/workspace" == seen


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_standard_stream_names_no_file_of_the_host(inside, stream):
    """/proc/self/fd/{0,1,2} are pipes or /dev/null of the sandbox, never a file of the host."""
    name = inside.python_says(f"import os; print(os.readlink('/proc/self/fd/{stream}'))", stdin="x")
    assert name.startswith("pipe:")


def test_standard_input_reopened_does_not_write_the_host_file(place, inside):
    """In command mode a file given as standard input cannot be changed through /proc/self/fd/0."""
    target = place / "input"
    target.write_text("precious")
    target.chmod(0o666)
    code = """
import os
try:
    os.write(os.open("/proc/self/fd/0", os.O_WRONLY), b"gone")
except OSError:
    pass
print(os.readlink("/proc/self/fd/0")[:5])
"""
    with target.open("rb") as file:
        done = inside.cli("--", "/usr/bin/python3", "-I", "-S", "-c", code, stdin=file)
    assert b"pipe:\n" == done.stdout
    assert "precious" == target.read_text()


def test_standard_output_reopened_does_not_read_the_host_file(place, inside):
    """A file given as standard output cannot be read or truncated from inside."""
    target = place / "output"
    target.write_text("kept: ")
    target.chmod(0o666)
    code = """
import os, sys
for flags in (os.O_RDONLY, os.O_WRONLY | os.O_TRUNC):
    try:
        fd = os.open("/proc/self/fd/1", flags | os.O_NONBLOCK)
        os.read(fd, 10)
        print("read")
    except OSError:
        pass
print("end")
"""
    with target.open("ab") as file:
        inside.cli("--", "/usr/bin/python3", "-I", "-S", "-c", code, stdout=file, stderr=None, capture_output=False)
    assert "kept: end\n" == target.read_text()
