"""Everyday programs under the defaults: the calls that each is known to need, made by itself and by the program."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from inside import printed

SYSTEM = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
INITDB = next(iter(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), reverse=True)), "/usr/bin/initdb")

PIPELINE = "for i in 1 2 3 4; do printf 'one\\ntwo\\n' | grep one > /dev/null; echo $?; done"
REDIS = """
cd /tmp
redis-server --port 0 --unixsocket /tmp/r.sock --save '' > log 2>&1 &
for i in $(seq 100); do redis-cli -s /tmp/r.sock ping 2>/dev/null && break; sleep 0.1; done
redis-cli -s /tmp/r.sock shutdown nosave 2>/dev/null
wait
"""
WATCH = """
cd /tmp
node -e 'const fs = require("fs"); fs.watch(".", () => { console.log("seen"); process.exit(0) }); fs.writeFileSync("x", "")'
"""
# Name: the program that it needs, a shell line, and its output.
PROGRAMS = {
    "a pipeline to /dev/null": ("grep", PIPELINE, "0 0 0 0"),
    "script": ("script", "script -qec 'echo hi' /dev/null < /dev/null", "hi"),
    "redis-server": ("redis-server", REDIS, "PONG"),
    "initdb": (INITDB, f"{INITDB} -D /tmp/d -A trust -U me --no-locale -E UTF8 > /tmp/log 2>&1 && echo made", "made"),
    "ruby": ("ruby", "ruby -e 'print `echo x`; Thread.new{1}.join; puts :ok'", "x ok"),
    "shellcheck": (
        "shellcheck",
        "printf '#!/bin/sh\\necho hi\\n' > /tmp/s && shellcheck /tmp/s && echo clean",
        "clean",
    ),
    "pandoc": ("pandoc", "echo '*T*' | pandoc", "<p><em>T</em></p>"),
    "a watch of node": ("node", WATCH, "seen"),
    "make": ("make", "cd /tmp; printf 'all:\\n\\t@echo built\\n' > Makefile; make -j2", "built"),
    "setarch and others": ("chrt", "setarch -R chrt -i 0 taskset -c 0 ionice -c 3 echo ran", "ran"),
}


@pytest.mark.limit(120)
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_runs_under_the_defaults(inside, needs, name):
    """The program does its work with no option given, and no call of it is denied but for huge pages."""
    program, script, expected = PROGRAMS[name]
    needs("corpus", present=shutil.which(program, path=SYSTEM) is not None)
    response = inside(["sh", "-c", script], environment={"PATH": SYSTEM}, timeout_ms=100_000)
    denied = {each["syscall"] for each in response.get("denied", [])} - {"mmap"}
    assert (expected, set()) == (" ".join(printed(response).split()), denied)


# What a program asks and sets for itself; a call that fails is printed.
CALLS = """
import ctypes, errno, fcntl, mmap, os, resource, select, signal, socket, struct, tempfile, time
libc = ctypes.CDLL(None, use_errno=True)
def done(name, result):
    if result == -1:
        print(name, errno.errorcode[ctypes.get_errno()])
for name, arguments in (
    ("epoll_create", (1,)), ("timerfd_create", (1, 0)), ("inotify_init1", (0,)), ("getsid", (0,)), ("sched_getscheduler", (0,)),
    ("setfsuid", (1000,)), ("munlockall", ()),
):
    done(name, getattr(libc, name)(*arguments))
mask = (ctypes.c_ulong * 16)()
done("signalfd", libc.signalfd(-1, mask, 0))
timer = ctypes.c_void_p()
done("timer_create", ctypes.CDLL("librt.so.1").timer_create(1, None, ctypes.byref(timer)))
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
done("capget", libc.capget(header, sets))
done("capset", libc.capset(header, sets))
number = {"x86_64": 252, "aarch64": 31}[os.uname().machine]
done("ioprio_get", libc.syscall(number, 1, 0))
os.getresuid(), os.getresgid(), os.sched_setaffinity(0, os.sched_getaffinity(0)), os.sched_getparam(0)
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)), os.sched_setparam(0, os.sched_param(0)), os.sched_rr_get_interval(0)
time.clock_getres(time.CLOCK_MONOTONIC), signal.getitimer(signal.ITIMER_REAL), signal.sigpending()
resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, (100, 100)), resource.setrlimit(resource.RLIMIT_CPU, (50, 50))
with tempfile.NamedTemporaryFile() as file:
    os.truncate(file.name, 4096), os.posix_fadvise(file.fileno(), 0, 0, 0), os.posix_fallocate(file.fileno(), 0, 8192)
    os.pwritev(file.fileno(), [b"text"], 0), os.preadv(file.fileno(), [bytearray(4)], 0)
    reading, writing = os.pipe()
    assert 4 == os.splice(file.fileno(), writing, 4, offset_src=0), "splice"
    other = os.pipe()
    assert 4 == libc.tee(reading, other[1], 4, 0), "tee"
    page = ctypes.create_string_buffer(b"page")
    done("vmsplice", libc.vmsplice(writing, (ctypes.c_size_t * 2)(ctypes.addressof(page), 4), 1, 0))
    assert b"textpage" == os.read(reading, 8)
    copy = tempfile.TemporaryFile()
    assert 4 == os.sendfile(copy.fileno(), file.fileno(), 0, 4), "sendfile"
    os.copy_file_range(file.fileno(), copy.fileno(), 4, 0, 0)
child = os.fork() or signal.pause()
signal.pidfd_send_signal(os.pidfd_open(child), signal.SIGKILL)
assert -9 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
for call in (libc.shmget(0, 4096, 0o600), libc.semget(0, 1, 0o600), libc.msgget(0, 0o600)):
    done("System V", call)
"""


def test_calls_for_oneself_work_under_the_defaults(inside):
    """Timers, watches, descriptors, scheduling, ids and limits of the caller work, and nothing is denied."""
    response = inside.python(CALLS)
    assert ("", []) == (printed(response), response.get("denied", []))


@pytest.mark.parametrize("profile", ["build", "default+watch", "default+sched+timers"])
def test_calls_for_oneself_work_under_older_names(inside_as_caller, profile):
    """Profiles that a request of an older version names have the same calls."""
    response = inside_as_caller.python(CALLS, profile=profile)
    assert ("", []) == (printed(response), response.get("denied", []))
