"""Run a command in an OCI container, as container engines start one: `crun` or `runc` with a root made of this machine's /usr.

    oci.py [--pod NAME] [--remedy NAME]... [--runtime PROGRAM] [--seccomp FILE] -- COMMAND [ARG...]

A pod is what an engine or a cluster sets (PODS below): Docker's defaults for root and for a user, Kubernetes' Pod Security
Standards `baseline` and `restricted`. A remedy takes back one part (REMEDIES). `capsule-run` is there, from the work tree.
The seccomp profile is Docker's, from a file in Docker's format; --seccomp names it (default: the one that Debian's package
golang-github-containers-common has, which podman and buildah use). No cgroup of this machine is touched.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

# installed, with its core; else the work tree, where it must have been built
FOUND = importlib.util.find_spec("capsule_run")
SOURCE = Path(FOUND.origin).parents[1] if FOUND else Path(__file__).resolve().parents[2] / "src"
PROFILE = Path("/usr/share/containers/seccomp.json")
# Docker's own list; Kubernetes' runtimes give the same or fewer.
FILES = "CHOWN DAC_OVERRIDE FOWNER FSETID MKNOD SETFCAP SYS_CHROOT"
OTHERS = "AUDIT_WRITE KILL NET_BIND_SERVICE NET_RAW SETGID SETPCAP SETUID"
DOCKER_CAPABILITIES = [f"CAP_{name}" for name in f"{FILES} {OTHERS}".split()]
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# name: (user, capabilities, no new privileges, the file that marks the container)
PODS = {
    "docker-root": (0, DOCKER_CAPABILITIES, False, ".dockerenv"),
    "docker-user": (1000, DOCKER_CAPABILITIES, False, ".dockerenv"),
    "baseline": (0, DOCKER_CAPABILITIES, False, ""),
    "restricted": (1000, [], True, ""),
}
REMEDIES = ("seccomp", "proc", "user-namespace")
# A runtime refuses a machine whose control groups are of both versions; it sees version 2 alone, in mounts of its own.
ONLY_VERSION_2 = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
KUBERNETES = {"baseline", "restricted"}
ARCHITECTURES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}


def seccomp(path, capabilities):
    """A profile in Docker's format as the runtime wants it: with the rules that these capabilities and this machine have."""
    profile = json.loads(Path(path).read_text())
    name, native = ARCHITECTURES[os.uname().machine]
    kernel = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2]))

    def applies(rule):
        wanted, unwanted = rule.get("includes") or {}, rule.get("excludes") or {}
        return (
            all(one in capabilities for one in wanted.get("caps") or ())
            and (not wanted.get("arches") or name in wanted["arches"])
            and (not wanted.get("minKernel") or kernel >= tuple(map(int, wanted["minKernel"].split(".")[:2])))
            and not any(one in capabilities for one in unwanted.get("caps") or ())
            and name not in (unwanted.get("arches") or ())
        )

    rules = []
    for rule in filter(applies, profile["syscalls"]):
        kept = {key: rule[key] for key in ("action", "errnoRet", "args") if rule.get(key)}
        names = rule.get("names") or [rule["name"]]
        rules.append({"names": names, **kept})
    found = {"defaultAction": profile["defaultAction"], "architectures": [native], "syscalls": rules}
    if profile.get("defaultErrnoRet") is not None:
        found["defaultErrnoRet"] = profile["defaultErrnoRet"]
    return found


def make_root(root):
    """A root of links and mount points, and what a base image has in /etc; readable by whomever the container maps."""
    for name in ("usr", "proc", "sys", "dev", "tmp", "etc", "run", "var/tmp", "opt/capsule", "work", "home/app"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\n")
    shutil.copy("/etc/ld.so.cache", root / "etc/ld.so.cache")
    os.chown(root / "home/app", 1000, 1000)


def mount(destination, kind, source, *options):
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def configuration(pod, remedies, command, profile, *, cgroup=""):
    """The container's config.json."""
    user, capabilities, no_new_privileges, _mark = PODS[pod]
    environment = ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/app", "PYTHONPATH=/opt/capsule", "LC_ALL=C.UTF-8"]
    if pod in KUBERNETES:
        environment.append("KUBERNETES_SERVICE_HOST=10.0.0.1")
    process = {
        "user": {"uid": user, "gid": user}, "cwd": "/work", "args": list(command), "env": environment,
        "noNewPrivileges": no_new_privileges,
        "capabilities": dict.fromkeys(("bounding", *(("effective", "permitted") if user == 0 else ())), capabilities),
    }  # fmt: skip
    mounts = [
        mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        mount("/usr", "bind", "/usr", "rbind", "ro"),
        mount("/opt/capsule", "bind", str(SOURCE), "bind", "ro"),
        mount("/tmp", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777"),
        mount("/var/tmp", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777"),
        mount("/work", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777"),
    ]
    namespaces = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")]
    linux = {"namespaces": namespaces, "maskedPaths": list(MASKED), "readonlyPaths": list(READ_ONLY)}
    if cgroup:
        linux["cgroupsPath"] = cgroup
        mounts.append(mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro"))
    linux["seccomp"] = seccomp(profile, capabilities)
    if "seccomp" in remedies:
        del linux["seccomp"]
    if "proc" in remedies:
        linux["maskedPaths"] = linux["readonlyPaths"] = []
    if "user-namespace" in remedies:
        namespaces.append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 200_000, "size": 65536}]
    return {
        "ociVersion": "1.0.2", "process": process, "root": {"path": "root", "readonly": False}, "hostname": "container",
        "mounts": mounts, "linux": copy.deepcopy(linux),
    }  # fmt: skip


def run(pod, command, *, remedies=(), runtime="crun", profile=PROFILE, **options):
    """Run a command in a container; what `subprocess.run` returns."""
    with tempfile.TemporaryDirectory(prefix="oci-", dir="/var/tmp") as place:
        folder = Path(place)
        folder.chmod(0o755)
        root = folder / "root"
        root.mkdir()
        make_root(root)
        if PODS[pod][3]:
            (root / PODS[pod][3]).touch()
        if "user-namespace" in remedies:
            shutil.chown(root, 200_000, 200_000)
        (folder / "config.json").write_text(json.dumps(configuration(pod, remedies, command, profile)))
        state = folder / "state"
        state.mkdir()
        argv = [runtime, "--root", state]
        # The machine's hierarchies stay as they are. `runc` has no such word, and makes groups of its own.
        argv += ["--cgroup-manager", "disabled"] if runtime == "crun" else []
        argv += ["run", "--bundle", folder, f"oci-{uuid.uuid4().hex[:12]}"]
        return subprocess.run(["unshare", "--mount", "sh", "-c", ONLY_VERSION_2, "oci", *argv], **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pod", choices=PODS, default="docker-user")
    parser.add_argument("--remedy", choices=REMEDIES, action="append", default=[])
    parser.add_argument("--runtime", default="crun")
    parser.add_argument("--seccomp", type=Path, default=PROFILE)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if not shutil.which(options.runtime) or not options.seccomp.exists():
        sys.exit(
            f"oci.py: needs {options.runtime} and {options.seccomp}: apt-get install crun golang-github-containers-common"
        )
    ended = run(options.pod, options.command, remedies=options.remedy, runtime=options.runtime, profile=options.seccomp)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
