"""What this host is: the files of the kernel and of the system that `capsule-run doctor` judges by.

Rank 2: looks, changes nothing, judges nothing. What was not there is an empty string or None, never a guess.
"""

from __future__ import annotations

import posix
import sys

from capsule_run._base.value import Value
from capsule_run.host import path_resolution
from capsule_run.host.system import kernel_version, read
from capsule_run.launcher import PATH as CORE_PATH

GVISOR_BUILD = "Sun Jan 10 15:06:54 PST 2016"  # the one kernel version that gVisor tells every program


class Facts(Value):
    """This host and this process, unjudged."""

    python: tuple[int, int]
    kernel: str
    version_of_kernel: tuple[int, int]
    architecture: str
    uid: int
    core: str
    core_exists: bool
    core_runs: bool  # its bits and its mount let this account execute it
    max_user_namespaces: int | None
    userns_clone: int | None  # Debian's switch; None where the kernel has none
    apparmor_userns: int | None  # Ubuntu's; 1 restricts
    seccomp_actions: tuple[str, ...]
    container: str  # docker, podman, kubernetes, wsl, gvisor, what systemd calls it, or an empty string
    proc_masks: tuple[str, ...]  # mounts beneath /proc
    cgroup2: str  # where it is mounted, or an empty string
    cgroup1: tuple[str, ...]  # controllers mounted the old way
    own_group: str  # the cgroup of version 2 that we are in
    overlay: bool  # the kernel has it loaded, or built in


def _number(path: str) -> int | None:
    text = read(path).strip()
    return int(text) if text.isdigit() else None


def container_kind(*, named: str, docker: bool, podman: bool, kubernetes: bool, version: str) -> str:
    """What we run in, from its marks: `named` is systemd's or the engine's own word for it."""
    if GVISOR_BUILD in version:
        return "gvisor"
    if kubernetes:
        return "kubernetes"
    if named:
        return named
    if podman:
        return "podman"
    if docker:
        return "docker"
    return "wsl" if "microsoft" in version.lower() else ""


def _container() -> str:
    return container_kind(
        named=read("/run/systemd/container").strip() or path_resolution.environment("container"),
        docker=path_resolution.exists("/.dockerenv"),
        podman=path_resolution.exists("/run/.containerenv"),
        kubernetes=bool(path_resolution.environment("KUBERNETES_SERVICE_HOST")),
        version=read("/proc/version"),
    )


def mounts(text: str) -> list[tuple[str, str, str]]:
    """Place, type and options of the file system of each line of /proc/self/mountinfo."""
    found = []
    for line in text.splitlines():
        left, _dash, right = line.partition(" - ")
        places, types = left.split(), right.split()
        if len(places) > 4 and types:
            found.append((places[4], types[0], types[-1]))
    return found


def look(*, core_path: str = CORE_PATH) -> Facts:
    """Look at this host, now."""
    uname = posix.uname()
    mounted = mounts(read("/proc/self/mountinfo", 1 << 20))
    groups = [line[3:] for line in read("/proc/self/cgroup").splitlines() if line.startswith("0::")]
    return Facts(
        python=sys.version_info[:2],
        kernel=uname.release,
        version_of_kernel=kernel_version(uname.release),
        architecture=uname.machine,
        uid=posix.geteuid(),
        core=core_path,
        core_exists=path_resolution.exists(core_path),
        core_runs=path_resolution.is_executable(core_path),
        max_user_namespaces=_number("/proc/sys/user/max_user_namespaces"),
        userns_clone=_number("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor_userns=_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        seccomp_actions=tuple(read("/proc/sys/kernel/seccomp/actions_avail").split()),
        container=_container(),
        proc_masks=tuple(place for place, _kind, _options in mounted if place.startswith("/proc/")),
        cgroup2=next((place for place, kind, _options in mounted if kind == "cgroup2"), ""),
        cgroup1=tuple(options for _place, kind, options in mounted if kind == "cgroup"),
        own_group=groups[0] if groups else "",
        overlay="\toverlay\n" in read("/proc/filesystems"),
    )
