"""Two sandboxes do not meet: no memory, queue, key, process, file or lock of one is there for the other."""

from __future__ import annotations

import ctypes
import threading

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


IPC_OBJECTS = """
import ctypes
libc, librt = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("librt.so.1")
MADE = (
    lambda flags: libc.shmget(42, 4096, flags | 0o666),
    lambda flags: libc.msgget(42, flags | 0o666),
    lambda flags: libc.semget(42, 1, flags | 0o666),
    lambda flags: librt.mq_open(b"/mark", 2 | (0o100 if flags else 0), 0o666, None),
)
print([make(0) >= 0 for make in MADE], [make(0o1000) >= 0 for make in MADE], flush=True)
"""


def test_ipc_objects_of_another_sandbox_are_not_there(inside):
    """SysV and POSIX objects with a known key are the sandbox's own: no later and no concurrent run has them."""
    without, made = str([False] * 4), str([True] * 4)
    for _ in range(2):
        assert f"{without} {made}" == inside.python_says(IPC_OBJECTS)
    threads_said = []
    wait = IPC_OBJECTS + "import time; time.sleep(0.6)\n"
    other = threading.Thread(target=lambda: threads_said.append(inside.python_says(wait)))
    other.start()
    mine = inside.python_says("import time; time.sleep(0.2)\n" + IPC_OBJECTS)
    other.join()
    assert [f"{without} {made}"] * 2 == [mine, *threads_said]


def test_ipc_objects_of_the_host_are_not_there(inside):
    """A segment of the host's with a known key is not there inside, and one made inside is not there on the host."""
    libc = ctypes.CDLL(None, use_errno=True)
    segment = libc.shmget(42, 4096, 0o1600)
    try:
        assert f"{[False] * 4} {[True] * 4}" == inside.python_says(IPC_OBJECTS)
        assert segment == libc.shmget(42, 4096, 0) >= 0
        assert -1 == libc.msgget(42, 0)
    finally:
        libc.shmctl(segment, 0, None)


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
