"""Which group speaks of a call, and which profile would let it through.

Pure, and only on the path of who asks: a run that was refused something, `policy show` and `policy learn`.
"""

from __future__ import annotations

from capsule_run.seccomp.tables.profiles import PROFILES
from capsule_run.seccomp.tables.rules import GROUPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from capsule_run.seccomp.rule import Rule

# What no profile of a user's may allow either: it ends a run, or it does the work of other calls past their rules.
CLOSED_GROUPS = ("escape",)
CLOSED_CALLS = (
    *("clone3", "openat2", "io_uring_setup", "io_uring_enter", "io_uring_register", "execveat", "unshare", "chroot"),
    *("setxattr", "lsetxattr", "fsetxattr", "setxattrat", "add_key", "request_key", "keyctl", "name_to_handle_at"),
    *("adjtimex", "clock_adjtime", "syslog", "sched_setattr", "move_pages", "migrate_pages"),
)
# How far an addition opens the kernel or the neighbours, for `policy learn`; what is not here is low.
RISKS = {
    "high": (
        "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp userfaultfd perf_event_open seccomp personality "
        "memfd_create fanotify_init bpf"
    ).split(),
    "medium": (
        "socket socketpair shmget semget msgget mq_open splice tee vmsplice landlock_create_ruleset mbind "
        "pkey_alloc membarrier process_madvise mlock mknod mknodat"
    ).split(),
}


def lets_through(rule: Rule) -> bool:
    """Whether the rule allows its call, for some arguments at least."""
    return any(action.kind == "allow" for action in (rule.otherwise, *(case.action for case in rule.cases)))


def group_of(call: str) -> str:
    """The first group that allows the call, else the first that refuses it, else an empty string."""
    refusing = ""
    for group, rules in GROUPS.items():
        for rule in rules:
            if rule.name == call and lets_through(rule):
                return group
            if rule.name == call:
                refusing = refusing or group
    return refusing


def is_closed(call: str) -> bool:
    """Whether not even a profile of the user's may allow the call."""
    return call in CLOSED_CALLS or any(rule.name == call for group in CLOSED_GROUPS for rule in GROUPS[group])


def risk(call: str) -> str:
    """`low`, `medium` or `high`."""
    return next((grade for grade, calls in RISKS.items() if call in calls), "low")


def allowing(call: str, profile: str) -> tuple[str, str]:
    """The group that refuses the call in this profile (empty: none does), and the smallest profile that allows it."""
    base = profile.partition("+")[0]
    known = PROFILES.get(base)
    refusing = ""
    groups = (*known.groups, *known.offline) if known else ()
    for group in groups:
        refusing = next((group for rule in GROUPS[group] if rule.name == call), refusing)
    if is_closed(call):
        return refusing or "probed", ""
    if base == "strict" and _allowed_by(call, PROFILES["default"].groups):
        return refusing, "default"
    more = [group for group in GROUPS if group not in groups and _allowed_by(call, (group,))]
    if not more or _allowed_by(call, groups):  # then it was its arguments that were refused
        return refusing, ""
    return refusing, f"{profile if known else 'default'}+{more[0]}"


def _allowed_by(call: str, groups: Iterable[str]) -> bool:
    return any(rule.name == call and lets_through(rule) for group in groups for rule in GROUPS[group])
