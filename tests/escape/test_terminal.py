"""The caller's terminal: what the payload does to it is print, nothing else (CVE-2017-5226, CVE-2016-9016)."""

from __future__ import annotations

import os
import pty
import select
import subprocess

from inside import COMMAND

CODE = """
import ctypes, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for fd in (0, 1, 2):
    print("tty" if os.isatty(fd) else "no tty", fd)
for path in ("/dev/tty", "/dev/console", "/dev/pts/0", "/dev/tty0"):
    try:
        os.open(path, os.O_RDWR)
        print("opened", path)
    except OSError:
        pass
print("own session" if os.getpgid(0) == os.getpid() else "shared session", flush=True)
if os.fork() == 0:
    number = {"x86_64": 16, "aarch64": 29}[os.uname().machine]
    for request in (0x5412, 0x5412 | 1 << 40):
        print([libc.syscall(number, fd, ctypes.c_long(request), b"x") for fd in range(3)], ctypes.get_errno(), flush=True)
    os._exit(0)
os.wait()
print("lived on", flush=True)
"""


def test_terminal_of_the_caller_takes_no_input():
    """With a terminal on all streams, the payload has none, opens none, and TIOCSTI, by a child too, types nothing."""
    master, slave = pty.openpty()
    program = subprocess.Popen(
        [*COMMAND, "--", "/usr/bin/python3", "-I", "-S", "-c", CODE],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd="/",
        start_new_session=True,
    )
    os.close(slave)
    seen = b""
    try:
        while select.select([master], [], [], 50)[0]:
            try:
                part = os.read(master, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
    finally:
        program.wait()
        os.close(master)
    words = seen.decode().split("\r\n")
    refused = ["[-1, -1, -1] 1"] * 2
    assert ["no tty 0", "no tty 1", "no tty 2", "own session", *refused, "lived on"] == [
        word for word in words if word and "hint" not in word and "capsule-run" not in word
    ]
    assert 0 == program.returncode


OWN_TERMINAL = """
import fcntl, os, termios
controller, terminal = os.openpty()
for request in (termios.TIOCSTI, 0x541C, termios.TIOCCONS):
    try:
        fcntl.ioctl(terminal, request, b"x")
        print("typed")
    except OSError as error:
        print(error.errno)
os.set_blocking(controller, False)
try:
    print(os.read(controller, 10))
except BlockingIOError:
    print("nothing")
"""


def test_terminal_of_its_own_takes_no_typing(inside):
    """A program that types into a terminal of its own gets EPERM each time, nothing is echoed, and it goes on."""
    response = inside.python(OWN_TERMINAL)
    assert ["1", "1", "1", "nothing"] == response["stdout"].split()
    assert [("ioctl", "EPERM", 3)] == [(each["syscall"], each["errno"], each["count"]) for each in response["denied"]]
