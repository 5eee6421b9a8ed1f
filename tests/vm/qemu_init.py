#!/usr/bin/python3 -IS
"""Process 1 of the guest that `qemu.py` boots: mounts, the command with its output on the serial line, power off."""

import json
import os
import sys
import termios
import threading

sys.path.insert(0, "/guest")
import guest_init
from guest_init import libc, mount

MOVE, BIND_ALL = 0x2000, 0x1000 | 0x4000


def leave_rootfs():
    """The first root of all cannot be pivoted from (pivot_root(2)): a mount of it over itself can."""
    os.makedirs("/root-mount", exist_ok=True)
    mount("", "/root-mount", BIND_ALL, source="/")
    os.chdir("/root-mount")
    if libc.mount(b".", b"/", None, MOVE, None):
        raise OSError("the root could not be moved")
    os.chroot(".")
    os.chdir("/")


def delegate():
    """A subtree of version 2 that belongs to the user, as a service manager gives a session; we enter it."""
    top = "/sys/fs/cgroup"
    with open(f"{top}/cgroup.subtree_control", "w") as file:
        file.write("+memory +pids +cpu +io")
    for place in (f"{top}/user", f"{top}/user/session"):
        os.mkdir(place)
        for path in (place, *(f"{place}/cgroup.{name}" for name in ("procs", "subtree_control", "threads"))):
            os.chown(path, 1000, 1000)
    return f"{top}/user/session/cgroup.procs"


def become_user(group):
    with open(group, "w") as file:
        file.write("0")
    os.chown("/dev/shm", 0, 0)
    os.initgroups("guest", 1000)
    os.setgid(1000)
    os.setuid(1000)


def run(job):
    """The exit code of the command, whose output goes through a pipe, so that it sees no terminal."""
    out = guest_init.console("/dev/console")
    read_end, write_end = os.pipe()
    group = delegate() if job["user"] else ""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(write_end, 1)
            os.dup2(write_end, 2)
            os.closerange(3, 64)
            if group:
                become_user(group)
            os.chdir(job["cwd"])
            os.execvpe(job["cmd"][0], job["cmd"], job["env"])
        except BaseException as error:  # noqa: BLE001
            os.write(2, f"guest: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(127)
    os.close(write_end)
    copier = threading.Thread(target=guest_init.copy, args=(read_end, out), daemon=True)
    copier.start()
    while True:  # orphans, too
        ended, status = os.wait()
        if ended == pid:
            break
    copier.join(5)
    code = os.waitstatus_to_exitcode(status)
    os.write(out, b"guest: exit %d\n" % (code if code >= 0 else 128 - code))
    termios.tcdrain(out)


def main():
    guest_init.base()
    leave_rootfs()
    os.chmod("/tmp", 0o1777)
    with open("/guest/job.json") as text:
        job = json.load(text)
    for name in job["modules"]:
        guest_init.load_module(f"/guest/modules/{name}.ko")
    os.environ["PATH"] = job["env"]["PATH"]
    run(job)


if __name__ == "__main__":
    guest_init.as_process_one(main)
