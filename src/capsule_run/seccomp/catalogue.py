"""Find the group of a syscall, and the profile that would allow it.

Pure. Loaded for a run with denied syscalls, `policy show` and `policy learn`.
"""

from __future__ import annotations

from capsule_run.model.request import PROFILE_ALIASES
from capsule_run.seccomp.tables.profiles import PROFILES
from capsule_run.seccomp.tables.rules import GROUPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from capsule_run.seccomp.rule import Rule
    from capsule_run.seccomp.tables.profiles import Profile

# What no custom profile may allow: it ends a run, or it does the work of other calls without their rules.
CLOSED_GROUPS = ("escape",)
CLOSED_CALLS = (
    *("clone3", "openat2", "io_uring_setup", "io_uring_enter", "io_uring_register", "execveat", "unshare", "chroot"),
    *("setxattr", "lsetxattr", "fsetxattr", "setxattrat", "add_key", "request_key", "keyctl", "name_to_handle_at"),
    *("adjtimex", "clock_adjtime", "syslog", "sched_setattr", "move_pages", "migrate_pages"),
)
# Calls that a profile allows where a memory cgroup counts what they make, and the group that allows them everywhere.
IN_CGROUP = {"memfd_create": "memfd"}
# How much attack surface a call adds, for `policy learn`; other calls are low.
RISKS = {
    "high": (
        "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp userfaultfd perf_event_open seccomp personality "
        "fanotify_init bpf"
    ).split(),
    "medium": (
        "socket socketpair shmget semget msgget mq_open splice tee vmsplice landlock_create_ruleset mbind "
        "pkey_alloc membarrier memfd_create process_madvise mlock mknod mknodat"
    ).split(),
}


def can_allow(rule: Rule) -> bool:
    """Return whether the rule allows its call for any arguments."""
    return any(action.kind == "allow" for action in (rule.otherwise, *(case.action for case in rule.cases)))


def group_of(call: str) -> str:
    """Return the first group that allows the call, else the first that denies it, else ""."""
    denying = ""
    for group, rules in GROUPS.items():
        for rule in rules:
            if rule.name == call and can_allow(rule):
                return group
            if rule.name == call:
                denying = denying or group
    return denying


def is_closed(call: str) -> bool:
    """Return whether no custom profile may allow the call."""
    return call in CLOSED_CALLS or any(rule.name == call for group in CLOSED_GROUPS for rule in GROUPS[group])


def risk(call: str) -> str:
    """Return the risk of allowing a call: `low`, `medium` or `high`."""
    return next((grade for grade, calls in RISKS.items() if call in calls), "low")


def allowing(call: str, profile: str) -> tuple[str, str]:
    """Return the group that denies the call in this profile, and the smallest profile that allows it; "" for none."""
    first = profile.partition("+")[0]
    base = PROFILE_ALIASES.get(first, first)
    known = PROFILES.get(base)
    denying = ""
    groups = _groups_of(known) if known else ()
    for group in groups:
        denying = next((group for rule in GROUPS[group] if rule.name == call), denying)
    if is_closed(call):
        return denying or "probed", ""
    if call in IN_CGROUP and known:
        return denying, f"{profile}+{IN_CGROUP[call]}"
    if base == "strict" and _any_allows(call, _groups_of(PROFILES["default"])):
        return denying, "default"
    more = [group for group in GROUPS if group not in groups and _any_allows(call, (group,))]
    if not more or _any_allows(call, groups):  # then its arguments were denied
        return denying, ""
    return denying, f"{profile if known else 'default'}+{more[0]}"


def _groups_of(profile: Profile) -> tuple[str, ...]:
    """Return every group that the profile has in some variant."""
    return (*profile.groups, *profile.offline, *profile.online, *profile.as_user, *profile.as_root)


def _any_allows(call: str, groups: Iterable[str]) -> bool:
    return any(rule.name == call and can_allow(rule) for group in groups for rule in GROUPS[group])
