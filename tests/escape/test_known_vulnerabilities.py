"""Holes that were in the news, tried in earnest against decoys of ours, and small ones that few sandboxes think of."""

# ruff: noqa: E501 - programs
from __future__ import annotations

import threading

import pytest

TEXT = "a file of the host that may only be read, and is a page long in the cache\n" * 100


@pytest.fixture
def decoy(place):
    """A file of the host, shown read-only at the same path: name, and the fields of a request that show it."""
    file = place / "decoy"
    file.write_text(TEXT)
    return file, {"isolation": {"binds": [{"source": str(place), "destination": "/decoys"}]}}


DIRTY_PIPE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open("/decoys/decoy", os.O_RDONLY)
read, write = os.pipe()
size = 65536
os.write(write, bytes(size))
os.read(read, size)  # every slot of the pipe has been merged into once
offset = ctypes.c_long(0)
print(libc.splice(fd, ctypes.byref(offset), write, None, 1, 0))
os.write(write, b"OVERWRITTEN")
print(open("/decoys/decoy").read(24))
"""


def test_dirty_pipe_does_not_write_a_read_only_file(inside, decoy):
    """CVE-2022-0847: a page of a read-only file spliced into a pipe is not written through the pipe; the host's file stays."""
    file, fields = decoy
    inside.python(DIRTY_PIPE, **fields)
    assert TEXT == file.read_text()


DIRTY_COW = """
import ctypes, mmap, os, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
fd = os.open("/decoys/decoy", os.O_RDONLY)
at = libc.mmap(None, ctypes.c_size_t(4096), 1, 2, fd, ctypes.c_long(0))  # PROT_READ, MAP_PRIVATE
end = time.monotonic() + 0.5
def discard():
    while time.monotonic() < end:
        libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(4096), 4)
threading.Thread(target=discard).start()
try:
    memory = os.open("/proc/self/mem", os.O_RDWR)
    print("opened")
    while time.monotonic() < end:
        os.pwrite(memory, b"OVERWRITTEN", at)
except OSError as error:
    print(error.strerror)
"""


def test_dirty_cow_does_not_write_a_read_only_file(inside, decoy):
    """CVE-2016-5195: through /proc/self/mem a process writes its private mapping, and never the file under it."""
    file, fields = decoy
    assert "opened" == inside.python_says(DIRTY_COW, **fields)
    assert TEXT == file.read_text()


def test_dirty_cow_has_no_way_in_with_strict(inside, decoy):
    """CVE-2016-5195: in `strict` /proc/self/mem does not open for writing at all."""
    file, fields = decoy
    inside.python(DIRTY_COW.replace("threading.Thread(target=discard).start()", ""), profile="strict", **fields)
    assert TEXT == file.read_text()


def test_page_zero_cannot_be_mapped(inside):
    """CVE-2009-2692 and every NULL dereference of the kernel: nothing is mapped at address 0 for it to find."""
    code = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_long
print(libc.mmap(None, ctypes.c_size_t(4096), 7, 0x32, -1, ctypes.c_long(0)) == -1)  # MAP_FIXED
"""
    assert "True" == inside.python_says(code)


def test_fcntl_owner_signals_reach_nobody(inside):
    """F_SETOWN and F_SETSIG make the kernel send signals for the payload: process 1 gets none that ends it, nobody else is there."""
    code = """
import fcntl, os, signal, socket
ours, theirs = socket.socketpair()
for owner in (1, -1, 2, 3):
    try:
        fcntl.fcntl(ours, fcntl.F_SETOWN, owner)
        fcntl.fcntl(ours, 10, 9)  # F_SETSIG: SIGKILL
        fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        if owner == 1:
            theirs.send(b"x")
    except OSError:
        pass
    fcntl.fcntl(ours, fcntl.F_SETFL, 0)
print("alive", flush=True)
"""
    response = inside.python(code)
    assert ("success", "alive\n") == (response["status"], response["stdout"])


def test_cgroup_path_of_the_host_is_hidden(inside):
    """/proc/self/cgroup names the sandbox's own root: neither the host's slices nor its container are shown (CVE-2022-0492 begins with them)."""
    code = "print({line.rstrip().split(':', 2)[2] for line in open('/proc/self/cgroup')} or {'/'})"
    assert "{'/'}" == inside.python_says(code)


SHARE = """
from multiprocessing import shared_memory
import _multiprocessing, time
try:
    there = shared_memory.SharedMemory(name="capsule-mark")
    print("found another's memory", bytes(there.buf[:4]))
except FileNotFoundError:
    mine = shared_memory.SharedMemory(name="capsule-mark", create=True, size=64)
    mine.buf[:4] = b"mine"
    lock = _multiprocessing.SemLock(1, 1, 1, "/capsule-mark", False)
    print("made it", flush=True)
    time.sleep(0.6)
    mine.unlink()
"""


def test_posix_shared_memory_is_private_to_a_sandbox(inside):
    """Memory and semaphores by a POSIX name (/dev/shm) are each sandbox's own: two that run at a time both make the same name."""
    seen = []
    runs = [threading.Thread(target=lambda: seen.append(inside(["/usr/bin/python3", "-c", SHARE]))) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert ["made it\n"] * 2 == [response["stdout"] for response in seen], seen


FILL = """
import os, sys
total, files = 0, []
for folder in ("/workspace", "/tmp", "/dev/shm", "/var/tmp"):
    try:
        for number in range(64):
            file = os.open(f"{folder}/fill{number}", os.O_WRONLY | os.O_CREAT)
            while True:
                total += os.write(file, bytes(1 << 16))
    except OSError:
        pass
print(total >> 20)
"""


def test_disk_limit_bounds_all_private_places_together(inside):
    """Every writable file system filled in turn: together they hold no more than the one limit, and the run ends cleanly."""
    filled = inside.python_says(FILL, resources={"disk_bytes": 16 << 20, "max_file_bytes": 4 << 20})
    assert 12 <= int(filled) <= 16


def test_whiteout_cannot_be_forged(inside_as_caller, place):
    """A character device 0:0 hides a file of the layer below in overlayfs: the payload can make none (CVE-2021-3493 began with overlay's trust)."""
    place.joinpath("file").write_text("seen")
    code = """
import os
for make in (lambda: os.mknod("/workspace/x", 0o20000, 0), lambda: os.setxattr("/workspace", "trusted.overlay.opaque", b"y"),
             lambda: os.setxattr("/workspace/file", "security.capability", bytes(20))):
    try:
        make()
        print("made")
    except OSError:
        pass
print(open("/workspace/file").read())
"""
    assert "seen" == inside_as_caller.python_says(code, isolation={"workspace": str(place)})
    assert ["file"] == [path.name for path in place.iterdir()]
