"""Kernel objects of System V and POSIX message queues, which hold memory that no process shows: what all of them can hold."""

from __future__ import annotations

MIB = 1 << 20
BEGINNING = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
"""


def says(inside, code):
    return inside.python_says(BEGINNING + code, profile="build", resources={"memory_bytes": 128 * MIB})


def test_shared_memory_segments_end_at_a_quarter_of_the_memory_limit(inside):
    """Segments that are filled and then mapped by nobody hold 32 MiB of a limit of 128 MiB in all, and one cannot hold more."""
    code = """
held = 0
while held < 96 << 20 and (segment := libc.shmget(0, 4 << 20, 0o600)) >= 0:
    at = libc.shmat(segment, None, 0)
    ctypes.memset(at, 1, 4 << 20)
    libc.shmdt(ctypes.c_void_p(at))
    held += 4 << 20
print(held >> 20, libc.shmget(0, (32 << 20) + 4096, 0o600))
"""
    assert "32 -1" == says(inside, code)


def test_shared_memory_segments_are_few(inside):
    """However small the segments are, there are at most 256."""
    code = """
made = 0
while made < 5000 and libc.shmget(0, 1, 0o600) >= 0:
    made += 1
print(made)
"""
    assert "256" == says(inside, code)


def test_semaphores_are_bounded(inside):
    """In sets as large as they may be, or as small, there are at most 4,096 semaphores in 64 sets."""
    code = """
for size in (32000, 65, 64, 1):
    sets = []
    while len(sets) < 200 and (one := libc.semget(0, size, 0o600)) >= 0:
        sets.append(one)
    print(len(sets))
    for one in sets:
        libc.semctl(one, 0, 0)
"""
    assert ["0", "0", "64", "64"] == says(inside, code).split()


def test_messages_are_bounded(inside):
    """16 queues hold 8 KiB each, in one message or in 8,192 empty ones, and no queue may be given more."""
    code = """
import struct
queues = []
while len(queues) < 200 and (one := libc.msgget(0, 0o600)) >= 0:
    queues.append(one)
message = struct.pack("l", 1) + bytes(65536)
print(len(queues))
for size in (65536, 8192, 0):
    sent = 0
    queue = queues.pop()
    while sent < 20000 and libc.msgsnd(queue, message, size, 0o4000) == 0:
        sent += 1
    print(sent)
# IPC_STAT, then IPC_SET with a larger msg_qbytes: behind permissions (48 bytes), times (24), and two numbers of 8 bytes
state = ctypes.create_string_buffer(256)
libc.msgctl(queue, 2, state)
struct.pack_into("L", state, 88, 1 << 20)
print(libc.msgctl(queue, 1, state))
"""
    assert ["16", "0", "1", "8192", "-1"] == says(inside, code).split()


def test_posix_message_queues_are_bounded(inside):
    """Queues of POSIX hold 800 KiB in all, which the kernel takes off when they are made."""
    code = """
import struct
librt = ctypes.CDLL("librt.so.1")
held = 0
limits = struct.pack("4l32x", 0, 10, 8192, 0)
while held < 64 << 20 and librt.mq_open(b"/q%d" % held, 0o102, 0o600, limits) >= 0:
    held += 10 * 8192
print(0 < held <= 800 << 10)
"""
    assert "True" == says(inside, code)


def test_limits_of_objects_cannot_be_changed_inside(inside):
    """The files that hold these limits are read-only, as root inside too."""
    code = """
for name in ("shmall", "shmmax", "shmmni", "sem", "msgmni", "msgmnb", "msgmax"):
    try:
        open(f"/proc/sys/kernel/{name}", "w")
        print(name)
    except OSError as error:
        assert error.strerror in ("Read-only file system", "Permission denied")
"""
    for user in ("1000", "0"):
        response = inside.python(code, profile="build", options=("--user", user))
        assert ("success", "") == (response["status"], response["stdout"]), response


def test_objects_serve_fakeroot_and_a_database(inside):
    """Two queues with a message each way, eight sets of 17 semaphores and a segment of 16 MiB can be had."""
    code = """
import struct
message = struct.pack("l", 1) + bytes(2000)
print(all(libc.msgsnd(libc.msgget(0, 0o600), message, 2000, 0o4000) == 0 for _ in range(2)))
print(all(libc.semget(0, 17, 0o600) >= 0 for _ in range(8)))
print(libc.shmget(0, 16 << 20, 0o600) >= 0)
"""
    assert ["True"] * 3 == says(inside, code).split()
