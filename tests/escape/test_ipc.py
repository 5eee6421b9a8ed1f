"""Two sandboxes do not meet: no memory, queue, key, process, file or lock of one is there for the other."""

from __future__ import annotations

import threading

import pytest

LEAVE = """
import os, time
for folder in ("/dev/shm", "/tmp", "/var/tmp", "/workspace"):
    open(f"{folder}/mark", "w").write("mine")
import socket
sock = socket.socket(socket.AF_UNIX)
sock.bind(b"\\0mark")
sock.listen()
print("ready", flush=True)
time.sleep(0.6)
"""
LOOK = """
import os, socket, time
time.sleep(0.2)
for folder in ("/dev/shm", "/tmp", "/var/tmp", "/workspace"):
    print("mark" in os.listdir(folder))
print(sorted(int(name) for name in os.listdir("/proc") if name.isdigit())[0], sum(name.isdigit() for name in os.listdir("/proc")))
print(socket.socket(socket.AF_UNIX).connect_ex(b"\\0mark") != 0)
"""


def test_sandboxes_at_once_do_not_see_each_other(inside):
    """Files in every writable place, processes and abstract sockets of one are not there for another that runs beside it."""
    seen = []
    other = threading.Thread(target=lambda: seen.append(inside.python(LEAVE)))
    other.start()
    lines = inside.python_says(LOOK).splitlines()
    other.join()
    assert ["ready\n"] == [response["stdout"] for response in seen]
    assert ["False", "False", "False", "False", "1 2", "True"] == lines


CARRY = """
import os
places = ("/tmp", "/dev/shm", "/workspace")
print(*[os.path.exists(f"{place}/x") for place in places])
for place in places:
    open(f"{place}/x", "w").close()
"""


def test_sandbox_leaves_nothing_for_the_next(inside):
    """Five runs after another see the same empty world."""
    for _ in range(5):
        assert "False False False" == inside.python_says(CARRY)


@pytest.mark.parametrize(
    "call",
    [
        "shmget(42, 4096, 0o1666)",
        "msgget(42, 0o1666)",
        "semget(42, 1, 0o1666)",
        "mq_open(b'/mark', 0o102, 0o666, None)",
    ],
)
def test_ipc_objects_that_outlive_processes_are_refused(inside, call):
    """SysV and POSIX objects are refused; were they not, they would lie in the sandbox's own namespace."""
    code = f"""
import ctypes
for library in (None, "librt.so.1"):
    try:
        print(ctypes.CDLL(library).{call})
        break
    except AttributeError:
        pass
"""
    assert "-1" == inside.python_says(code)


def test_key_ring_of_the_caller_is_out_of_reach(inside):
    """No key call is answered at all, and /proc/keys is masked."""
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print([libc.syscall(250, operation, -3, 0, 0, 0) for operation in (0, 1, 6, 11)])
try:
    print(open("/proc/keys").read())
except OSError as error:
    print(error.strerror)
"""
    assert ["[-1, -1, -1, -1]", "Permission denied"] == inside.python_says(code).splitlines()


def test_host_processes_are_invisible(inside):
    """/proc holds process 1 and the payload; no host process is there to signal, trace or read."""
    assert ["1"] == inside.says(
        ["sh", "-c", "for p in /proc/[0-9]*; do case $p in /proc/$$) ;; *) echo ${p#/proc/};; esac; done"]
    ).split()


def test_host_pids_cannot_be_signalled(inside):
    """kill(2) of every number that is not inside answers "no such process"; the host's are unharmed."""
    code = """
import os
hit = [pid for pid in range(2, 70000) if pid != os.getpid() and not _refused(pid)]
print(hit)
"""
    refused = """
def _refused(pid):
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return True
    return False
"""
    assert "[]" == inside.python_says("import os\n" + refused + code)
