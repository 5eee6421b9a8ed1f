"""The doctor's judgement: from facts of a host to findings, each with its severity and its remedy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from capsule_run._base.value import replace
from capsule_run.doctor import apparmor
from capsule_run.doctor.diagnose import OK, PROBLEM, WARNING, Trial, diagnose, worst
from capsule_run.doctor.facts import Facts, container_kind, mounts
from capsule_run.host.system import kernel_version

GOOD = Facts(
    python=(3, 11),
    kernel="6.8.0-45-generic",
    version_of_kernel=(6, 8),
    architecture="x86_64",
    uid=1000,
    core="/opt/capsule/_core",
    core_exists=True,
    core_runs=True,
    max_user_namespaces=15000,
    userns_clone=None,
    apparmor_userns=None,
    apparmor=False,
    seccomp_actions=("kill_process", "errno", "user_notif"),
    container="",
    proc_masks=(),
    cgroup2="/sys/fs/cgroup",
    cgroup1=(),
    overlay=True,
)
ISOLATION = {"landlock_abi": 6, "workspace": {"kind": "cow"}, "limits": {"memory": "cgroup2"}}
RAN = Trial(code="", message="", hint="", milliseconds=5.0, isolation=ISOLATION)
REFUSED = Trial(code="E2001", message="namespaces: operation not permitted", hint="", milliseconds=1.0, isolation={})
DENIED = Trial(code="E2001", message="namespaces: permission denied", hint="", milliseconds=1.0, isolation={})
NO_PROC = Trial(code="E2002", message="/proc: operation not permitted", hint="unmask", milliseconds=1.0, isolation={})


def found(check, trial=RAN, **changes):
    """The finding of one check on the good host with some facts changed."""
    return next(one for one in diagnose(replace(GOOD, **changes), trial) if one.check == check)


def test_diagnose_good_host_has_no_remedies():
    """Every finding of a host that has everything is `ok`, and none has a remedy."""
    findings = diagnose(GOOD, RAN)
    assert OK == worst(findings)
    assert [] == [one for one in findings if one.remedy]


CASES = (
    # the check, its state, a part of the remedy, the trial, and what is different from the good host
    ("python", PROBLEM, "3.11", RAN, {"python": (3, 10)}),
    ("kernel", PROBLEM, "5.10", RAN, {"kernel": "5.4.0-190-generic", "version_of_kernel": (5, 4)}),
    ("kernel", PROBLEM, "aarch64", RAN, {"architecture": "riscv64"}),
    ("core", PROBLEM, "reinstall", RAN, {"core_exists": False, "core_runs": False}),
    ("core", PROBLEM, "noexec", RAN, {"core_runs": False}),
    ("user namespaces", PROBLEM, "user.max_user_namespaces", REFUSED, {"max_user_namespaces": 0}),
    ("user namespaces", PROBLEM, "unprivileged_userns_clone=1", REFUSED, {"userns_clone": 0}),
    ("user namespaces", PROBLEM, "doctor --apparmor | sudo tee /etc/apparmor.d/", REFUSED, {"apparmor_userns": 1}),
    ("user namespaces", PROBLEM, "hostUsers: false", REFUSED, {"container": "kubernetes"}),
    ("user namespaces", PROBLEM, "another runtime", REFUSED, {"container": "gvisor"}),
    ("user namespaces", PROBLEM, "the host's administrator", REFUSED, {}),
    ("user namespaces", OK, "", RAN, {"apparmor_userns": 1, "uid": 0}),
    ("proc", PROBLEM, "systempaths=unconfined", NO_PROC, {"proc_masks": ("/proc/kcore",), "container": "docker"}),
    ("user namespaces", PROBLEM, "doctor --apparmor", DENIED, {"apparmor": True}),
    ("user namespaces", PROBLEM, "administrator", REFUSED, {"apparmor": True}),
    ("proc", PROBLEM, "podman run", NO_PROC, {"proc_masks": ("/proc/kcore",), "container": "buildah"}),
    ("proc", PROBLEM, "unmask=ALL", NO_PROC, {"proc_masks": ("/proc/kcore",), "container": "podman"}),
    ("proc", OK, "", RAN, {"proc_masks": ("/proc/kcore",), "container": "docker"}),
    ("sandbox", PROBLEM, "unmask", NO_PROC, {}),
    ("sandbox", PROBLEM, "systempaths", NO_PROC, {"container": "docker"}),
    ("seccomp notification", WARNING, "CONFIG_SECCOMP_FILTER", RAN, {"seccomp_actions": ("errno",)}),
)


@pytest.mark.parametrize(("check", "state", "remedy", "trial", "changes"), CASES)
def test_diagnose_missing_feature_is_named_with_its_remedy(check, state, remedy, trial, changes):
    """What a host lacks has its severity, and the remedy names the very switch, flag or file."""
    finding = found(check, trial, **changes)
    assert state == finding.state
    assert remedy in finding.remedy
    assert (state == OK) == (finding.remedy == "")


WEAKER = (
    ("landlock", "lsm=landlock", {"landlock_abi": 0}, {}),
    ("overlay", "5.11", {"workspace": {"kind": "ro"}}, {"version_of_kernel": (5, 10)}),
    ("overlay", "ext4", {"workspace": {"kind": "copy"}}, {}),
    ("overlay", "modprobe overlay", {"workspace": {"kind": "ro"}}, {"overlay": False}),
    ("memory limit", "Delegate=cpu cpuset io memory pids", {"limits": {"memory": "watch"}}, {}),
    (
        "memory limit",
        "unified_cgroup_hierarchy",
        {"limits": {"memory": "watch"}},
        {"cgroup2": "", "cgroup1": ("memory",)},
    ),
    ("memory limit", "mount cgroups", {"limits": {"memory": "watch"}}, {"cgroup2": ""}),
    ("memory limit", "give the container a memory limit", {"limits": {"memory": "watch"}}, {"container": "docker"}),
)


@pytest.mark.parametrize(("check", "remedy", "isolation", "changes"), WEAKER)
def test_diagnose_missing_layer_is_a_warning(check, remedy, isolation, changes):
    """A run that works with a layer less is no problem, and no silence either."""
    finding = found(check, replace(RAN, isolation={**ISOLATION, **isolation}), **changes)
    assert WARNING == finding.state
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("marks", "kind"),
    [
        ({}, ""),
        ({"docker": True}, "docker"),
        ({"podman": True, "named": "podman"}, "podman"),
        ({"podman": True, "buildah": True}, "buildah"),
        ({"named": "lxc"}, "lxc"),
        ({"kubernetes": True, "named": "crio"}, "kubernetes"),
        ({"version": "Linux version 5.15.153.1-microsoft-standard-WSL2"}, "wsl"),
        ({"version": "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016", "docker": True}, "gvisor"),
    ],
)
def test_container_kind_is_recognised_by_its_marks(marks, kind):
    """Each kind of container has its mark, and what is inside of another wins."""
    given = {
        "named": "",
        "docker": False,
        "podman": False,
        "buildah": False,
        "kubernetes": False,
        "version": "Linux version 6.8.0",
    }
    assert kind == container_kind(**{**given, **marks})


@pytest.mark.parametrize(
    ("release", "version"), [("6.8.0-45-generic", (6, 8)), ("6.1-rc2", (6, 1)), ("5.10", (5, 10)), ("7", (7, 0))]
)
def test_kernel_release_in_any_spelling_is_parsed(release, version):
    """Distributions write releases in many ways."""
    assert version == kernel_version(release)


def test_mountinfo_lines_are_parsed():
    """Place, type and options of the file system, with optional fields between them or without."""
    text = (
        "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
        "31 22 0:5 /null /proc/kcore rw,nosuid master:2 - tmpfs tmpfs rw,size=65536k\n"
    )
    assert [("/proc", "proc", "rw"), ("/proc/kcore", "tmpfs", "rw,size=65536k")] == mounts(text)


def test_apparmor_profile_names_the_core_only():
    """The profile allows user namespaces to one path, whatever letters are in it."""
    assert '"/opt/my capsule/_core" flags=(unconfined) {\n  userns,' in apparmor.profile("/opt/my capsule/_core")
    assert '"/opt/a\\*b\\{c\\}/_core"' in apparmor.profile("/opt/a*b{c}/_core")


@pytest.mark.needs("apparmor_parser")
@pytest.mark.parametrize(
    "core",
    ["/opt/my capsule/_core", "/opt/a*b{c}/_core", '/opt/"a\\b"/_core', "/opt/@{HOME}^[x]?/_core", "/opt/a,b#c/_core"],
)
def test_apparmor_profile_is_accepted_by_the_parser(core):
    """AppArmor's own parser takes it, whatever letters are in the path; releases before 4.0 know neither `userns` nor its ABI."""
    text = apparmor.profile(core)
    if not Path("/etc/apparmor.d/abi/4.0").exists():
        text = text.replace("abi <abi/4.0>,\n", "").replace("  userns,\n", "")
    parser = ["/sbin/apparmor_parser", "--skip-kernel-load", "--skip-cache", "--names"]
    done = subprocess.run(parser, input=text, capture_output=True, text=True, check=False)
    assert (0, "capsule-run\n") == (done.returncode, done.stdout), done.stderr
