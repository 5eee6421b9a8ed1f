"""Gather the facts about this host that `capsule-run doctor` judges. Changes nothing.

What does not exist is an empty string or None, never a guess.
"""

from __future__ import annotations

import posix
import sys

from capsule_run._base.value import Value
from capsule_run.host import path_resolution
from capsule_run.host.system import kernel_version, read_whole
from capsule_run.launcher import FILE as CORE_PATH

GVISOR_BUILD = "Sun Jan 10 15:06:54 PST 2016"  # the kernel version that gVisor reports


class Facts(Value):
    """Facts about this host and this process."""

    python: tuple[int, int]
    kernel: str
    version_of_kernel: tuple[int, int]
    architecture: str
    uid: int
    core: str
    core_exists: bool
    core_runs: bool  # its mode and its mount let this account execute it
    max_user_namespaces: int | None
    userns_clone: int | None  # Debian's sysctl; None if the kernel has none
    apparmor_userns: int | None  # Ubuntu's sysctl; 1 restricts
    apparmor: bool  # the kernel enforces its profiles
    seccomp_actions: tuple[str, ...]
    container: str  # docker, podman, buildah, kubernetes, wsl, gvisor, a name of systemd's, or an empty string
    proc_masks: tuple[str, ...]  # mounts beneath /proc
    cgroup2: str  # where it is mounted, or an empty string
    cgroup1: tuple[str, ...]  # controllers mounted as version 1
    overlay: bool  # loaded, or built into the kernel


def _number(path: str) -> int | None:
    text = read_whole(path).strip()
    return int(text) if text.isdigit() else None


def container_kind(*, named: str, docker: bool, podman: bool, buildah: bool, kubernetes: bool, version: str) -> str:
    """Name the container that we run in, or return "". `named` is what systemd or the engine calls it."""
    if GVISOR_BUILD in version:
        return "gvisor"
    if kubernetes:
        return "kubernetes"
    if named:
        return named
    if podman:
        return "buildah" if buildah else "podman"
    if docker:
        return "docker"
    return "wsl" if "microsoft" in version.lower() else ""


def _container() -> str:
    mark = "/run/.containerenv"  # of both podman and buildah
    return container_kind(
        named=read_whole("/run/systemd/container").strip() or path_resolution.environment("container"),
        docker=path_resolution.exists("/.dockerenv"),
        podman=path_resolution.exists(mark),
        buildah='engine="buildah' in read_whole(mark),
        kubernetes=bool(path_resolution.environment("KUBERNETES_SERVICE_HOST")),
        version=read_whole("/proc/version"),
    )


def mounts(text: str) -> list[tuple[str, str, str]]:
    """Parse the mount point, type and file system options of each line of /proc/self/mountinfo."""
    found = []
    for line in text.splitlines():
        left, _dash, right = line.partition(" - ")
        places, types = left.split(), right.split()
        if len(places) > 4 and types:
            found.append((places[4], types[0], types[-1]))
    return found


def gather_facts(*, core_path: str = CORE_PATH) -> Facts:
    """Gather the facts."""
    uname = posix.uname()
    mounted = mounts(read_whole("/proc/self/mountinfo"))
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
        apparmor=read_whole("/sys/module/apparmor/parameters/enabled").strip() == "Y",
        seccomp_actions=tuple(read_whole("/proc/sys/kernel/seccomp/actions_avail").split()),
        container=_container(),
        proc_masks=tuple(place for place, _kind, _options in mounted if place.startswith("/proc/")),
        cgroup2=next((place for place, kind, _options in mounted if kind == "cgroup2"), ""),
        cgroup1=tuple(options for _place, kind, options in mounted if kind == "cgroup"),
        overlay="\toverlay\n" in read_whole("/proc/filesystems"),
    )
