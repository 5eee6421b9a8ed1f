"""Turn facts about this host into findings: what it supports, how severe each lack is, and the remedy.

Pure. `cli.doctor` gathers the facts, runs a sandbox, and prints the findings.
"""

from __future__ import annotations

from capsule_run._base.value import Value
from capsule_run.doctor import apparmor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run.doctor.facts import Facts

OK, WARNING, PROBLEM = "ok", "warning", "problem"
SEVERITY = (OK, WARNING, PROBLEM)
EXITS = {OK: 0, WARNING: 1, PROBLEM: 125}

DELEGATE = (
    "let systemd delegate the controllers: put `[Service]` and `Delegate=cpu cpuset io memory pids` into "
    "/etc/systemd/system/user@.service.d/delegate.conf, then `sudo systemctl daemon-reload`, and log in again"
)
CONTAINER_FLAGS = {
    "docker": "start it with `--security-opt systempaths=unconfined --security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined`",
    "podman": "start it with `--security-opt unmask=ALL --security-opt seccomp=unconfined`",
    "buildah": "`buildah run` masks /proc and has no option against it: run the command in a container of "
    "`podman run --security-opt unmask=ALL --security-opt seccomp=unconfined`",
    "kubernetes": "give the pod `hostUsers: false`, and the container `procMount: Unmasked`, "
    "`seccompProfile: {type: Unconfined}` and `appArmorProfile: {type: Unconfined}`",
    "gvisor": "gVisor lacks namespaces and mount calls that the sandbox needs: use another runtime",
    "wsl": "use WSL 2, which has a Linux kernel: `wsl --set-version DISTRIBUTION 2`",
}


class Finding(Value):
    """One check. `remedy` is empty if there is nothing to do."""

    check: str
    state: str
    found: str
    remedy: str = ""


class Trial(Value):
    """The outcome of running a sandbox. `code` is empty if it ran; then `isolation` is the result's."""

    code: str
    message: str
    hint: str
    milliseconds: float
    isolation: Mapping[str, object]


def worst(findings: list[Finding]) -> str:
    """Return the most severe state of the findings."""
    return max((finding.state for finding in findings), key=SEVERITY.index)


def _python(facts: Facts) -> Finding:
    version = ".".join(map(str, facts.python))
    if facts.python < (3, 11):
        return Finding(check="python", state=PROBLEM, found=version, remedy="use Python 3.11 or newer")
    return Finding(check="python", state=OK, found=version)


def _kernel(facts: Facts) -> Finding:
    found = f"Linux {facts.kernel} on {facts.architecture}"
    if facts.architecture not in ("x86_64", "aarch64"):
        return Finding(check="kernel", state=PROBLEM, found=found, remedy="x86_64 and aarch64 have a syscall filter")
    if facts.version_of_kernel < (5, 10):
        return Finding(check="kernel", state=PROBLEM, found=found, remedy="Linux 5.10 or newer is required")
    return Finding(check="kernel", state=OK, found=found)


def _core(facts: Facts) -> Finding:
    if not facts.core_exists:
        remedy = "reinstall with a C compiler, or from a wheel for this platform"
        return Finding(check="core", state=PROBLEM, found=f"`{facts.core}` is missing", remedy=remedy)
    if not facts.core_runs:
        remedy = f"`chmod a+rx {facts.core}`, or install on a file system that is not mounted noexec"
        return Finding(check="core", state=PROBLEM, found=f"`{facts.core}` cannot be executed", remedy=remedy)
    return Finding(check="core", state=OK, found=facts.core)


def _container(facts: Facts) -> Finding:
    return Finding(check="container", state=OK, found=facts.container or "none")


def _user_namespaces(facts: Facts, trial: Trial) -> Finding:
    """Report whether this account may create them. A disabled sysctl matters only if the trial failed."""
    allowed = trial.code != "E2001"
    state = OK if allowed else PROBLEM
    for switch, is_disabled, remedy in (
        (
            "user.max_user_namespaces",
            facts.max_user_namespaces == 0,
            "`echo user.max_user_namespaces=15000 | sudo tee /etc/sysctl.d/60-capsule-run.conf && sudo sysctl --system`",
        ),
        (
            "kernel.unprivileged_userns_clone",
            facts.userns_clone == 0,
            "`echo kernel.unprivileged_userns_clone=1 | sudo tee /etc/sysctl.d/60-capsule-run.conf && sudo sysctl --system`",
        ),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            facts.apparmor_userns == 1,
            f"load our AppArmor profile, which applies to the core alone: `{apparmor.LOAD}`",
        ),
    ):
        if is_disabled and not allowed:
            return Finding(check="user namespaces", state=state, found=f"refused: `{switch}`", remedy=remedy)
        if is_disabled:
            return Finding(check="user namespaces", state=OK, found=f"`{switch}` does not stop this account")
    if allowed:
        return Finding(check="user namespaces", state=OK, found="allowed")
    remedy = CONTAINER_FLAGS.get(facts.container, "ask the host's administrator: `clone` with CLONE_NEWUSER is denied")
    if facts.apparmor and not facts.container and "permission denied" in trial.message:  # seccomp says "not permitted"
        remedy = f"load our AppArmor profile, which applies to the core alone: `{apparmor.LOAD}`"
    return Finding(check="user namespaces", state=state, found=f"refused: {trial.message}", remedy=remedy)


def _proc(facts: Facts, trial: Trial) -> Finding:
    """Report mounts on /proc: an unprivileged procfs can be mounted only if the caller's own is not masked."""
    if not facts.proc_masks:
        return Finding(check="proc", state=OK, found="unmasked")
    found = f"masked: {', '.join(facts.proc_masks[:4])}{' …' if len(facts.proc_masks) > 4 else ''}"
    if trial.code:
        flags = CONTAINER_FLAGS.get(facts.container, "unmount the mounts over /proc")
        return Finding(check="proc", state=PROBLEM, found=found, remedy=flags)
    return Finding(check="proc", state=OK, found=f"{found}, which does not prevent a sandbox")


def _sandbox(facts: Facts, trial: Trial) -> Finding:
    if not trial.code:
        return Finding(
            check="sandbox",
            state=OK,
            found=f"a command ran in {trial.milliseconds:.1f} ms, and the kernel attests the sandbox",
        )
    remedy = trial.hint
    if facts.container in CONTAINER_FLAGS and not trial.code.startswith("E6"):  # a shortage has its own remedy
        remedy = CONTAINER_FLAGS[facts.container]
    return Finding(check="sandbox", state=PROBLEM, found=f"{trial.code}: {trial.message}", remedy=remedy)


def _landlock(trial: Trial) -> Finding:
    abi = trial.isolation.get("landlock_abi", 0)
    if abi:
        return Finding(check="landlock", state=OK, found=f"rules of version {abi} are in force")
    remedy = "boot with `lsm=landlock,…` (the list in /sys/kernel/security/lsm, with landlock before it), on Linux 5.19 or newer"
    return Finding(
        check="landlock", state=WARNING, found="none: one layer less; the mounts protect without it", remedy=remedy
    )


def _overlay(facts: Facts, trial: Trial) -> Finding:
    """Report whether the trial got a copy-on-write workspace."""
    workspace = trial.isolation.get("workspace")
    kind = workspace.get("kind") if isinstance(workspace, dict) else None
    if kind == "cow":
        return Finding(check="overlay", state=OK, found="the current directory is shared copy-on-write")
    remedy = "Linux 5.11 or newer lets ordinary accounts mount it"
    if not facts.overlay:
        remedy = "`sudo modprobe overlay`"
    elif facts.version_of_kernel >= (5, 11):
        remedy = "share a directory of a file system that an overlay accepts, such as ext4, xfs or btrfs"
    found = "not for this account: the workspace is shared read-only"
    if kind == "copy":
        found = "not for this account: a workspace of up to 64 MiB and 2,000 names is copied, a larger one is read-only"
    return Finding(check="overlay", state=WARNING, found=found, remedy=remedy)


def _notification(facts: Facts) -> Finding:
    if "user_notif" in facts.seccomp_actions:
        return Finding(check="seccomp notification", state=OK, found="in this kernel")
    found, remedy = (
        "not in this kernel: denied calls are not reported by name",
        "Linux 5.10 or newer with CONFIG_SECCOMP_FILTER",
    )
    return Finding(check="seccomp notification", state=WARNING, found=found, remedy=remedy)


def _limits(facts: Facts, trial: Trial) -> Finding:
    """Report the mechanism of the memory limit; the others use the same one or need none."""
    limits = trial.isolation.get("limits")
    mechanism = limits.get("memory") if isinstance(limits, dict) else None
    if mechanism == "watch":
        found = "memory is sampled, not enforced by the kernel: this account can use no memory cgroup"
        if facts.cgroup2:
            remedy = DELEGATE
        elif facts.cgroup1:
            remedy = "boot with `systemd.unified_cgroup_hierarchy=1`, for cgroups of version 2"
        else:
            remedy = "mount cgroups of version 2 at /sys/fs/cgroup"
        if facts.container:
            remedy = f"give the container a memory limit; or, if you administer the host, {remedy}"
        return Finding(check="memory limit", state=WARNING, found=found, remedy=remedy)
    return Finding(check="memory limit", state=OK, found=f"enforced by {mechanism}")


def diagnose(facts: Facts, trial: Trial) -> list[Finding]:
    """Return every finding, in reading order."""
    findings = [_python(facts), _kernel(facts), _core(facts), _container(facts), _user_namespaces(facts, trial)]
    findings += [_proc(facts, trial), _notification(facts), _sandbox(facts, trial)]
    if not trial.code:
        findings += [_landlock(trial), _overlay(facts, trial), _limits(facts, trial)]
    return findings
