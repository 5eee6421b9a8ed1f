#!/usr/bin/python3 -IS
"""A container as an engine makes one: `container.py GROUP KIND UID COMMAND [ARG...]`.

Namespaces of its own for mounts, processes and control groups, a root that it has pivoted into, /proc and /sys of its own,
cgroup2 mounted where a container finds it. KIND: `writable`, `readonly` (engines' default), `host` (the host's cgroup
namespace and its mount, writable). The engine's own process is outside, the command is process 1.
"""

import ctypes
import os
import sys

NEWNS, NEWCGROUP, NEWPID = 0x20000, 0x2000000, 0x20000000
RDONLY, PLAIN, BIND_ALL, PRIVATE, DETACH, PIVOT_ROOT = 1, 2 | 4 | 8, 0x1000 | 0x4000, 1 << 18 | 0x4000, 2, 155
libc = ctypes.CDLL(None, use_errno=True)


def must(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(source, place, kind, flags):
    kind = kind and kind.encode()
    must(libc.mount(source.encode(), place.encode(), kind, ctypes.c_ulong(flags), None))


def become_process_one(kind):
    root = "/run/container"
    os.makedirs(root, exist_ok=True)
    if kind != "host":
        must(libc.unshare(NEWCGROUP))
    mount("none", "/", None, PRIVATE)
    mount("/", root, None, BIND_ALL)
    os.chdir(root)
    must(libc.syscall(PIVOT_ROOT, b".", b"."))
    must(libc.umount2(b".", DETACH))
    os.chdir("/")
    mount("proc", "/proc", "proc", PLAIN)
    if kind != "host":
        must(libc.umount2(b"/sys", DETACH))
        mount("sysfs", "/sys", "sysfs", PLAIN | RDONLY)
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2", PLAIN)
        if kind == "readonly":  # of this mount alone
            mount("none", "/sys/fs/cgroup", None, PLAIN | RDONLY | 0x20 | 0x1000)


def main():
    group, kind, uid, *command = sys.argv[1:]
    must(libc.unshare(NEWNS | NEWPID))
    pid = os.fork()
    if pid:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
    with open(f"{group}/cgroup.procs", "w") as members:
        members.write("0")
    become_process_one(kind)
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
    os.execv(command[0], command)


main()
