"""Boot one of Debian's kernels in qemu, with a root in memory made of Debian's packages and this project, and run a command.

    qemu.py [--arch arm64|amd64] [--kernel SUITE] [--package NAME]... [--add FROM:TO]... [--module NAME]... [--append WORDS]
            [--user] [--memory MIB] [--timeout SECONDS] [--prepare] -- COMMAND [ARG...]

The command runs in /project, a copy of the work tree without what git ignores, with the core compiled for the architecture;
pytest is there, and `capsule-run`. All output comes out here as one stream, and the exit code is the command's; 124 is the time
limit, 125 a guest that died. Nothing is installed on this machine; it needs qemu-system-arm or qemu-system-x86, and for arm64
gcc-aarch64-linux-gnu.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import debian

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
USERLAND = "bookworm"  # its Python is the oldest that is supported
PACKAGES = (
    "base-passwd", "bash", "coreutils", "dash", "diffutils", "findutils", "grep", "gzip", "hostname", "mount", "ncurses-bin",
    "procps", "python3", "sed", "tar", "util-linux",
)  # fmt: skip
# What no test reads: every byte of the image is memory of the guest.
LEFT_OUT = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/perl",
    "usr/share/info",
    "boot",
    "var/cache",
)
MODULES = ("overlay",)
WORDS = "quiet loglevel=3 panic=-1 rdinit=/guest/qemu_init.py"
MACHINES = {
    # a processor without pointer authentication, which costs an emulator much
    "arm64": (["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72"], "ttyAMA0", "aarch64", "arm64"),
    "amd64": (["qemu-system-x86_64", "-M", "q35", "-cpu", "Nehalem"], "ttyS0", "x86_64", "amd64"),
}
EXIT = re.compile(rb"guest: exit (\d+)\s*$")


class Archive:
    """An initramfs: a cpio archive in the form `newc`, uncompressed, since unpacking is slow under emulation."""

    def __init__(self, file):
        self._file, self._number = file, 0

    def add(self, name, mode, content=b"", *, device=(0, 0)):
        """One member, which belongs to root."""
        self._number += 1
        encoded = os.fsencode(name) + b"\0"
        fields = (self._number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
        self._file.write(header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4))

    def add_tree(self, top, into=""):
        """A directory with all that is in it, links as links."""
        top = Path(top)
        for folder, names, files in os.walk(top):
            names.sort()
            here = os.path.relpath(folder, top)
            if here in LEFT_OUT:
                names.clear()
                continue
            for name in ["", *sorted([*files, *(one for one in names if Path(folder, one).is_symlink())])]:
                path = Path(folder, name)
                place = os.path.normpath(os.path.join(into, here, name))
                if place != ".":
                    self._add_path(path, place)

    def _add_path(self, path, place):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            self.add(place, mode, os.fsencode(path.readlink()))
        else:
            self.add(place, mode, path.read_bytes() if stat.S_ISREG(mode) else b"")

    def end(self):
        self.add("TRAILER!!!", 0)


def userland(architecture, packages):
    """The directory with the packages, made once for each set of them."""
    wanted = sorted({*PACKAGES, *packages})
    key = hashlib.sha256("\0".join([USERLAND, architecture, *wanted]).encode()).hexdigest()[:16]
    place = debian.CACHE / f"userland-{key}"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        debian.Suite(USERLAND, architecture).unpack(place / "root", wanted)
        finish(place / "root")
        (place / "complete").touch()
    return place / "root"


def finish(root):
    """What the packages' own scripts would have done, as far as tests need it."""
    for name in ("passwd", "group"):
        text = (root / f"usr/share/base-passwd/{name}.master").read_text().replace(":*:", ":x:")
        extra = {"passwd": "guest:x:1000:1000::/home/guest:/bin/bash\n", "group": "guest:x:1000:\n"}[name]
        (root / "etc" / name).write_text(text + extra)
    for name in ("subuid", "subgid"):
        (root / "etc" / name).write_text("guest:100000:65536\n")
    (root / "home/guest").mkdir(parents=True, exist_ok=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    for link, target in (("awk", "mawk"), ("which", "which.debianutils"), ("python", "python3")):
        if not (root / "usr/bin" / link).exists() and (root / "usr/bin" / target).exists():
            (root / "usr/bin" / link).symlink_to(target)


def kernel(suite, architecture, wanted):
    """The kernel's file and its modules, unpacked, in the order of `wanted`: (name, content)."""
    source = debian.Suite(suite, architecture)
    meta = f"linux-image-{MACHINES[architecture][3]}"
    package = next(name for name in source.depends(meta) if name.startswith("linux-image-"))
    place = debian.CACHE / f"kernel-{suite}-{architecture}" / package
    if not (place / "complete").exists():
        source.unpack(place, [package], alone=True)
        (place / "complete").touch()
    modules = []
    for name in wanted:
        path = next(place.glob(f"**/{name}.ko*"), None)
        if path is None:
            sys.exit(f"qemu.py: no module `{name}` in {package}")
        content = path.read_bytes()
        modules.append((name, lzma.decompress(content) if path.suffix == ".xz" else content))
    return next(place.glob("boot/vmlinuz-*")), modules


def pytest_packages():
    """The directory with pytest and what our tests need of others, all pure Python."""
    place = debian.CACHE / "guest-pytest"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", place, "--python-version", "3.11"]
        subprocess.run([*pip, "--only-binary", ":all:", "--platform", "any", "pytest", "pytest-xdist"], check=True)
        (place / "complete").touch()
    return place


def project(folder, machine):
    """A copy of the work tree, with the core compiled for the machine's architecture."""
    listed = subprocess.run(
        ["git", "-C", REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split(b"\0")):
        source, target = REPOSITORY / os.fsdecode(name), folder / os.fsdecode(name)
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    build = [sys.executable, folder / "core/build.py", folder / "src/capsule_run/_core"]
    subprocess.run([*build, *(["--arch", machine] if os.uname().machine != machine else [])], check=True)


COMMAND = '#!/bin/sh\nPYTHONPATH=/project/src exec python3 -m capsule_run "$@"\n'


def image(file, options, folder):
    """Write the guest's root into the file."""
    project(folder / "project", MACHINES[options.arch][2])
    job = {"cmd": options.command, "cwd": "/project", "user": options.user, "modules": [*MODULES, *options.module]}
    job["env"] = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/home/guest" if options.user else "/root",
        "PYTHONPATH": "/project/src:/guest/packages", "CAPSULE_TEST_PATIENCE": "5", "LC_ALL": "C.UTF-8", "TERM": "dumb",
        **dict(one.split("=", 1) for one in options.env),
    }  # fmt: skip
    archive = Archive(file)
    archive.add_tree(userland(options.arch, options.package))
    archive.add_tree(folder / "project", "project")
    for place in ("guest", "guest/modules", "usr/local", "usr/local/bin"):
        archive.add(place, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))  # what process 1 is started with
    archive.add_tree(pytest_packages(), "guest/packages")
    for one in options.add:
        source, _colon, target = one.partition(":")
        if Path(source).is_dir():
            archive.add_tree(source, target.strip("/"))
        else:
            for place in reversed(Path(target.strip("/")).parents[:-1]):
                archive.add(str(place), stat.S_IFDIR | 0o755)
            archive.add(target.strip("/"), stat.S_IFREG | 0o755, Path(source).read_bytes())
    archive.add("usr/local/bin/capsule-run", stat.S_IFREG | 0o755, COMMAND.encode())
    for name in ("guest_init.py", "qemu_init.py"):
        archive.add(f"guest/{name}", stat.S_IFREG | 0o755, (HERE / name).read_bytes())
    archive.add("guest/job.json", stat.S_IFREG | 0o644, json.dumps(job).encode())
    path, modules = kernel(options.kernel, options.arch, job["modules"])
    for name, content in modules:
        archive.add(f"guest/modules/{name}.ko", stat.S_IFREG | 0o644, content)
    archive.end()
    file.flush()
    return path


class Console(threading.Thread):
    """Copies what the guest says, and keeps the line with its exit code from those who read it."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self._stream, self.status = stream, None

    def run(self):
        for line in self._stream:
            found = EXIT.search(line)
            if found:
                self.status = int(found[1])
                line = line[: found.start()]  # noqa: PLW2901  # what came before it on the same line
            sys.stdout.buffer.write(line.replace(b"\r\n", b"\n"))
            sys.stdout.buffer.flush()


def boot(options):
    """The exit code of the command, or None where the guest ended without one."""
    argv, console, _machine, _flavour = MACHINES[options.arch]
    if not shutil.which(argv[0]):
        sys.exit(f"qemu.py: needs {argv[0]}: install qemu-system-{'arm' if options.arch == 'arm64' else 'x86'}")
    with tempfile.TemporaryDirectory(prefix="guest-", dir="/var/tmp") as place:
        folder = Path(place)
        with (folder / "image").open("wb") as file:
            path = image(file, options, folder)
        words = f"console={console} {WORDS} {options.append}".strip()
        argv = [*argv, "-m", str(options.memory), "-smp", "1", "-nodefaults", "-display", "none", "-serial", "stdio"]
        argv += ["-no-reboot", "-kernel", path, "-initrd", folder / "image", "-append", words]
        if options.prepare:
            print(*map(str, argv))
            return 0
        guest = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        reader = Console(guest.stdout)
        reader.start()
        try:
            guest.wait(options.timeout)
        except subprocess.TimeoutExpired:
            return 124
        finally:
            guest.kill()
            guest.wait()
            reader.join()
        return reader.status


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=MACHINES, default="arm64")
    parser.add_argument(
        "--kernel", default=USERLAND, metavar="SUITE", help="whose kernel: bullseye has 5.10, trixie 6.12"
    )
    parser.add_argument("--package", action="append", default=[], help="one more package in the guest")
    parser.add_argument(
        "--add", action="append", default=[], metavar="FROM:TO", help="a file or directory in the guest"
    )
    parser.add_argument(
        "--module", action="append", default=[], help="one more of the kernel's modules, loaded in this order"
    )
    parser.add_argument("--append", default="", help="words for the kernel")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--user", action="store_true", help="as an ordinary user with a delegated group of version 2")
    parser.add_argument("--memory", type=int, default=2048, help="of the guest, in MiB")
    parser.add_argument("--timeout", type=float, default=3600)
    parser.add_argument(
        "--prepare", action="store_true", help="fetch and build all, say how qemu would be started, and end"
    )
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def main():
    try:
        code = boot(arguments())
    except debian.DebianError as error:
        sys.exit(f"qemu.py: {error}")
    return 125 if code is None else code


if __name__ == "__main__":
    sys.exit(main())
