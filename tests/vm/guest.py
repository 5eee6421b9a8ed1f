"""Run one command in a throw-away Linux of user-mode-linux, which has real control groups of version 2.

    guest.py [--cow DIR]... [--fresh DIR]... [--lsm apparmor] [--env NAME=VALUE]... [--disk MIB] [--timeout SECONDS]
             -- COMMAND [ARG...]

No root, no KVM: it is an ordinary process whose root is this machine's own `/`, read-only; --cow shows a directory with
changes that are thrown away, --fresh an empty one. Its streams come out here, its exit code is ours; 124 is the time limit, 125
a guest that died. The kernel is Debian's package `user-mode-linux`, or the one that CAPSULE_UML_KERNEL names (uml.py); its
modules are beside it, as the package has them, where it does not have overlayfs built in.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

INIT = Path(__file__).with_name("guest_init.py")
WANTED_MODULES = ("overlay",)
# Start-up work that no test needs: without it a boot takes half a second and not one and a half.
SKIPPED = "initcall_blacklist=raid6_select_algo,init_zswap,init_jfs_fs,init_btrfs_fs,init_xfs_fs"
KERNEL_WORDS = ("con=null", "quiet", "panic=-1", "pty.legacy_count=0", "cryptomgr.notests", SKIPPED)


def kernel():
    found = os.environ.get("CAPSULE_UML_KERNEL") or shutil.which("linux.uml")
    if not found:
        sys.exit("guest.py: no kernel: install user-mode-linux, or set CAPSULE_UML_KERNEL")
    return found


def fenced(argv, writable):
    """`/` read-only but for one folder, and everything dead with us: the guest's root acts with our rights on the host."""
    script = f"mount --make-rprivate / && mount --bind {shlex.quote(writable)} {shlex.quote(writable)} && "
    script += 'mount -o remount,bind,ro / && exec "$@"'
    user = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    return [*user, "setpriv", "--pdeathsig", "KILL", *namespaces, "sh", "-c", script, "fence", *argv]


def put_modules(folder):
    modules = Path(kernel()).resolve().parent.parent / "lib/uml/modules"
    for name in WANTED_MODULES:
        for path in modules.glob(f"**/{name}.ko*"):
            content = path.read_bytes()
            Path(folder, f"{name}.ko").write_bytes(lzma.decompress(content) if path.suffix == ".xz" else content)


def copy(source, sink):
    while data := os.read(source, 1 << 16):
        sink.write(data)
        sink.flush()
    os.close(source)


def preload(folder):
    """Compile fp_registers.c, which says what for, and return the library."""
    library = f"{folder}/fp_registers.so"
    source = Path(__file__).with_name("fp_registers.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, source, "-ldl"], check=True)
    return library


def boot(options, folder):
    """The exit code of the command, or None where the guest ended without one."""
    pipes = {name: os.pipe() for name in ("log", "out", "err")}
    job = {
        "cmd": options.command,
        "cow": options.cow,
        "cwd": os.getcwd(),
        "disk": options.disk > 0,
        "fresh": options.fresh,
    }
    job["env"] = {**os.environ, **dict(one.split("=", 1) for one in options.env)}
    Path(folder, "job.json").write_text(json.dumps(job))
    put_modules(folder)
    if options.disk:
        with Path(folder, "disk").open("wb") as disk:
            disk.truncate(options.disk << 20)
    consoles = [f"con{n}=null,fd:{pipes[name][1]}" for n, name in enumerate(("log", "out", "err"))]
    argv = [
        kernel(),
        "mem=1G",
        "umid=g",
        f"uml_dir={folder}/uml",
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
    ]
    argv += [f"init={INIT}", f"GUEST_FOLDER={folder}", *consoles, *KERNEL_WORDS]
    argv += [f"security={options.lsm}"]
    argv += [f"ubd0={folder}/disk"] if options.disk else []
    inner = tuple(write_end for _read_end, write_end in pipes.values())
    log = Path(folder, "log").open("wb")  # noqa: SIM115  # the thread that fills it outlives this function's blocks
    guest = subprocess.Popen(
        fenced(argv, folder), stdin=subprocess.DEVNULL, stdout=inner[0], stderr=inner[0], pass_fds=inner,
        env={**os.environ, "TMPDIR": "/dev/shm", "LD_PRELOAD": preload(folder)},  # where the guest's memory lies
    )  # fmt: skip
    sinks = {"log": log, "out": sys.stdout.buffer, "err": sys.stderr.buffer}
    threads = [threading.Thread(target=copy, args=(pipes[name][0], sinks[name])) for name in pipes]
    for fd in inner:
        os.close(fd)
    for thread in threads:
        thread.start()
    try:
        guest.wait(options.timeout)
    finally:
        guest.kill()
        guest.wait()
        for thread in threads:
            thread.join()
        log.close()
    status = Path(folder, "status")
    return int(status.read_text()) if status.exists() else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cow", action="append", default=[])
    parser.add_argument("--fresh", action="append", default=[])
    parser.add_argument("--lsm", default="none")
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--disk", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=900)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="guest-", dir="/var/tmp") as folder:
        try:
            code = boot(options, folder)
        except subprocess.TimeoutExpired:
            sys.stderr.write(Path(folder, "log").read_text(errors="replace")[-4000:])
            sys.exit(124)
        if code is None:
            sys.stderr.write(Path(folder, "log").read_text(errors="replace")[-4000:])
        return 125 if code is None else code


if __name__ == "__main__":
    sys.exit(main())
