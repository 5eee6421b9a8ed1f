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
    libc.syscall(16, 0, ctypes.c_long(0x5412 | 1 << 40), b"x")
    os._exit(0)
os.wait()
print("lived on")
"""


def test_terminal_of_the_caller_takes_no_input():
    """With a terminal on all three streams, the payload has none, opens none, and TIOCSTI, by a child too, ends the run."""
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
    assert ["no tty 0", "no tty 1", "no tty 2", "own session"] == [
        word for word in words if word and "hint" not in word and "capsule-run" not in word
    ]
    assert 137 == program.returncode
