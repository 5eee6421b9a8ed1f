#!/usr/bin/python3 -IS
"""Process 1 of the guest that `guest.py` boots: mounts, the command on plain pipes, its exit code, power off."""

import ctypes
import fcntl
import json
import os
import socket
import sys
import termios
import threading

libc = ctypes.CDLL(None, use_errno=True)
FOLDER = os.environ.get("GUEST_FOLDER", "")
RDONLY, PLAIN = 1, 2 | 4 | 8  # nosuid, nodev, noexec
FINIT_MODULE, POWER_OFF = 273 if os.uname().machine == "aarch64" else 313, 0x4321FEDC


def mount(kind, place, flags=0, options="", source="none"):
    os.makedirs(place, exist_ok=True)
    if libc.mount(source.encode(), place.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {kind} on {place}")


def base():
    mount("proc", "/proc", PLAIN)
    mount("sysfs", "/sys", PLAIN)
    with open("/proc/mounts") as mounts:
        if " /dev devtmpfs " not in mounts.read():
            mount("devtmpfs", "/dev", 2)
    mount("devpts", "/dev/pts", 2 | 8, "gid=5,mode=620,ptmxmode=666")
    for place in ("/dev/shm", "/tmp", "/run"):
        mount("tmpfs", place, 2 | 4, "mode=1777")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if not os.path.lexists(f"/dev/{name}"):
            os.symlink(f"/proc/self/fd/{number}", f"/dev/{name}")
    if os.path.exists("/sys/kernel/security"):
        mount("securityfs", "/sys/kernel/security", PLAIN)
    mount("cgroup2", "/sys/fs/cgroup", PLAIN, "nsdelegate,memory_recursiveprot")
    with socket.socket() as sock:  # loopback up
        fcntl.ioctl(sock, 0x8914, b"lo".ljust(16, b"\0") + b"\x41\0".ljust(16, b"\0"))


def load_module(path):
    with open(path, "rb") as file:
        libc.syscall(FINIT_MODULE, file.fileno(), b"", 0)


def copy_on_write(path, number):
    place = f"/run/cow/{number}"
    mount("hostfs", f"{place}/lower", RDONLY, path)
    mount("tmpfs", f"{place}/rw")
    os.mkdir(f"{place}/rw/up")
    os.mkdir(f"{place}/rw/work")
    mount("overlay", path, 0, f"lowerdir={place}/lower,upperdir={place}/rw/up,workdir={place}/rw/work")


def console(path):
    """A console as a pipe of bytes: no echo, no translation."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    settings = termios.tcgetattr(fd)
    settings[0] = settings[1] = settings[3] = 0
    termios.tcsetattr(fd, termios.TCSANOW, settings)
    return fd


def copy(source, sink):
    while data := os.read(source, 1 << 16):
        while data:
            data = data[os.write(sink, data) :]
    termios.tcdrain(sink)


def run(job):
    """The exit code of the command, run on pipes so that it sees no terminal."""
    threads, ends = [], []
    for path in ("/dev/tty1", "/dev/tty2"):
        read_end, write_end = os.pipe()
        ends.append(write_end)
        threads.append(threading.Thread(target=copy, args=(read_end, console(path)), daemon=True))
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(ends[0], 1)
            os.dup2(ends[1], 2)
            os.closerange(3, 64)
            os.chdir(job["cwd"])
            os.execvpe(job["cmd"][0], job["cmd"], job["env"])
        finally:
            os._exit(127)
    for fd in ends:
        os.close(fd)
    for thread in threads:
        thread.start()
    while True:  # orphans, too
        ended, status = os.wait()
        if ended == pid:
            break
    for thread in threads:
        thread.join(5)
    return os.waitstatus_to_exitcode(status)


def main():
    base()
    with open(f"{FOLDER}/job.json") as text:
        job = json.load(text)
    for place in job["fresh"]:
        mount("tmpfs", place, 2 | 4, "mode=1777")
    mount("hostfs", FOLDER, 0, FOLDER)  # the one place of the host's that can be written
    for name in os.listdir(FOLDER):
        if name.endswith(".ko"):
            load_module(f"{FOLDER}/{name}")
    for number, path in enumerate(job["cow"]):
        copy_on_write(path, number)
    code = run(job)
    with open(f"{FOLDER}/status", "w") as status:
        status.write(str(code if code >= 0 else 128 - code))


def as_process_one(main):
    """Process 1 must not return: say why, power off."""
    try:
        main()
    except BaseException as error:  # noqa: BLE001
        print(f"guest: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        if os.isatty(2):
            termios.tcdrain(2)
    os.sync()
    libc.reboot(POWER_OFF)


if __name__ == "__main__":
    as_process_one(main)
