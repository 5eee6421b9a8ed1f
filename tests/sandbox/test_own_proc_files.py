"""What a process may write of its own in /proc."""

from __future__ import annotations

import pytest

NAMES = """
import ctypes, threading
set_name = ctypes.CDLL(None).pthread_setname_np
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
print(*[set_name(ctypes.c_ulong(ident), b"abc") for ident in (thread.ident, threading.get_ident())])
print(open(f"/proc/self/task/{thread.native_id}/comm").read().strip())
stop.set()
"""
WRITES = {
    "oom_score_adj": "1000",
    "coredump_filter": "0x33",
    "timerslack_ns": "60000",
    "clear_refs": "1",
    "comm": "named",
}


def test_thread_can_be_named_by_another(inside):
    """pthread_setname_np(3) names the calling thread and another one, through /proc/self/task/N/comm."""
    assert ["0 0", "abc"] == inside.python_says(NAMES).splitlines()


@pytest.mark.parametrize("file", WRITES)
def test_own_file_of_proc_can_be_written(inside, file):
    """A process sets what is its own, as outside."""
    assert "" == inside.says(["sh", "-c", f"echo {WRITES[file]} > /proc/self/{file}"])


def test_own_file_of_proc_can_be_written_beside_a_writable_share(inside, place):
    """So it does where Landlock denies changes outside the writable places."""
    shared = {"workspace": {"source": str(place), "mode": "rw"}}
    assert "" == inside.says(["sh", "-c", "echo named > /proc/self/comm"], isolation=shared)
