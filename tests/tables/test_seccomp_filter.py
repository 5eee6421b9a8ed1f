"""What the compiled filters answer: every rule of every profile both ways, and a hand-written table of promises."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from bpf_simulator import Filter, call, words

from capsule_run.seccomp import filters, ruleset
from capsule_run.seccomp.ruleset import audit_arch_of, grouped_rules, numbers_of

if TYPE_CHECKING:
    from capsule_run.seccomp.rule import Action

PROFILES = ("strict", "default")
ARCHITECTURES = ("x86_64", "aarch64")
VARIANTS = [
    (profile, architecture, network, root_inside)
    for profile in PROFILES
    for architecture in ARCHITECTURES
    for network in (False, True)
    for root_inside in (False, True)
]
HIGH = 0xDEADBEEF << 32

EPERM, EINVAL, ENOTTY, ENOSYS = "errno 1", "errno 22", "errno 25", "errno 38"
EPROTONOSUPPORT, EOPNOTSUPP, EAFNOSUPPORT = "errno 93", "errno 95", "errno 97"

variants = pytest.mark.parametrize(("profile", "architecture", "network", "root_inside"), VARIANTS)
architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)


@functools.cache
def loaded(
    profile: str,
    architecture: str,
    *,
    network: bool = False,
    root_inside: bool = False,
    on_violation: str = "kill_attacks",
    shared: bool = True,
) -> Filter:
    return Filter(
        filters.compile_filter(
            profile,
            architecture=architecture,
            network=network,
            root_inside=root_inside,
            on_violation=on_violation,
            shared=shared,
        )
    )


def joined(halves: tuple[int, ...], rule, high: int) -> tuple[int, ...]:
    """Whole arguments of their halves. `high` goes into each high half that the rule does not look at."""
    looked_at = {test.argument for one in rule.cases for test in one.when}
    return tuple(halves[each] | (halves[each + 6] << 32 if each + 6 in looked_at else high) for each in range(6))


def answer(rules: Filter, architecture: str, name: str, *arguments: int) -> str:
    return words(rules.run(call(audit_arch_of(architecture), numbers_of(architecture)[name], *arguments)))


def meant(action: Action, profile: str) -> str:
    """The answer that an action of the data stands for, where attacks kill."""
    if action.kind in ("kill", "violation") or (action.kind in ("suspect", "futile") and profile == "strict"):
        return "kill"
    return "allow" if action.kind == "allow" else f"errno {action.errno}"


@variants
def test_seccomp_rule_matches_and_does_not_match(
    profile: str, architecture: str, network: bool, root_inside: bool
) -> None:
    """Each combination of tests that a rule makes gets its action, whatever the high halves of the arguments hold."""
    rules = loaded(profile, architecture, network=network, root_inside=root_inside)
    wrong = []
    for _, rule in grouped_rules(profile, architecture, network=network, root_inside=root_inside):
        for arguments in ruleset.distinguishing_calls(rule):
            expected = meant(ruleset.decide(rule.cases, rule.otherwise, arguments), profile)
            for high in (0, HIGH, 0xFFFFFFFF << 32):
                got = answer(rules, architecture, rule.name, *joined(arguments, rule, high))
                if got != expected:
                    wrong.append((rule.name, arguments, high, expected, got))

    assert [] == wrong


@variants
def test_seccomp_unnamed_number_is_enosys(profile: str, architecture: str, network: bool, root_inside: bool) -> None:
    """Numbers that the profile does not name, old, new and absurd, are answered ENOSYS."""
    rules = loaded(profile, architecture, network=network, root_inside=root_inside)
    arch = audit_arch_of(architecture)
    chosen = grouped_rules(profile, architecture, network=network, root_inside=root_inside)
    named = {numbers_of(architecture)[rule.name] for _, rule in chosen}
    others = [*(set(range(600)) - named), 1000, 0xFFFF, 0x3FFFFFFF, 0x80000000, 0xFFFFFFFF]

    assert {ENOSYS} == {words(rules.run(call(arch, number))) for number in others}


@variants
def test_seccomp_foreign_architecture_kills(profile: str, architecture: str, network: bool, root_inside: bool) -> None:
    """A call through any other architecture's entry kills, also when its number is a harmless one."""
    rules = loaded(profile, architecture, network=network, root_inside=root_inside)
    i386, arm, other = 0x40000003, 0x40000028, audit_arch_of("aarch64" if architecture == "x86_64" else "x86_64")

    assert {"kill"} == {
        words(rules.run(call(arch, number))) for arch in (i386, arm, other, 0, 0xFFFFFFFF) for number in (0, 1, 39, 172)
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_seccomp_x32_number_kills(profile: str) -> None:
    """On x86_64 a number with the x32 bit kills; only -1, which no table holds, does not exist."""
    rules = loaded(profile, "x86_64")
    arch = audit_arch_of("x86_64")

    answers = {words(rules.run(call(arch, 0x40000000 | number))) for number in (*range(600), 0x3FFFFFFE)}

    assert ({"kill"}, ENOSYS) == (answers, words(rules.run(call(arch, -1))))


# What each call must get in `default` and in `strict`, written by hand from the decisions, not from the data.
# A call that an architecture lacks is skipped there.
CLONE_OF_FORK, CLONE_OF_THREAD = 0x01200011, 0x003D0F00
PROMISES = [
    ("read", (0,), "allow", "allow"),
    ("clone", (CLONE_OF_THREAD,), "allow", "allow"),
    ("clone", (CLONE_OF_FORK,), "allow", EPERM),
    ("clone", (CLONE_OF_FORK | 0x1000,), "allow", EPERM),
    ("clone", (0x11 | 0x10000000,), EPERM, "kill"),
    ("clone", (HIGH | 0x11 | 0x10000000,), EPERM, "kill"),
    ("clone", (CLONE_OF_THREAD | 0x00020000,), EPERM, "kill"),
    ("clone", (0x11 | 0x02000000,), EPERM, "kill"),
    ("clone", (0x11 | 0x04000000,), EPERM, "kill"),
    ("clone", (0x11 | 0x08000000,), EPERM, "kill"),
    ("clone", (0x11 | 0x20000000,), EPERM, "kill"),
    ("clone", (0x11 | 0x40000000,), EPERM, "kill"),
    ("clone3", (), ENOSYS, ENOSYS),
    ("fork", (), "allow", EPERM),
    ("vfork", (), "allow", EPERM),
    ("unshare", (0x10000000,), EPERM, "kill"),
    ("ioctl", (0, 0x5401), "allow", "allow"),
    ("ioctl", (0, HIGH | 0x5401), "allow", "allow"),
    ("ioctl", (0, 0x540E), "allow", "allow"),
    ("ioctl", (0, 0x5412), EPERM, "kill"),
    ("ioctl", (0, HIGH | 0x5412), EPERM, "kill"),
    ("ioctl", (0, 0x1_0000_5412), EPERM, "kill"),
    ("ioctl", (0, 0x541C), EPERM, "kill"),
    ("ioctl", (0, 0x541D), EPERM, "kill"),
    ("ioctl", (0, 0x8946), EOPNOTSUPP, EOPNOTSUPP),
    ("ioctl", (0, 0x8914), EPERM, EPERM),
    ("ioctl", (0, 0x5423), ENOTTY, ENOTTY),
    ("ioctl", (0, 0xB701), ENOTTY, ENOTTY),
    ("prctl", (15,), "allow", ENOSYS),
    ("prctl", (35,), EINVAL, ENOSYS),
    ("prctl", (28,), EINVAL, ENOSYS),
    ("prctl", (47, 1), "allow", ENOSYS),
    ("prctl", (47, 2), EINVAL, ENOSYS),
    ("socket", (1, 1, 0), "allow", EPERM),
    ("socket", (2, 1 | 0o2000000, 0), "allow", EPERM),
    ("socket", (HIGH | 10, 2, 17), "allow", EPERM),
    ("socket", (2, 3, 1), EPERM, EPERM),
    ("socket", (2, 2, 1), EPROTONOSUPPORT, EPERM),
    ("socket", (2, 1, 262), EPROTONOSUPPORT, EPERM),
    ("socket", (2, 10, 0), EPROTONOSUPPORT, EPERM),
    ("socket", (16, 3, 0), "allow", EPERM),
    ("socket", (16, 3, 9), EAFNOSUPPORT, EPERM),
    ("socket", (17, 3, 0), EAFNOSUPPORT, EPERM),
    ("socket", (38, 5, 0), EAFNOSUPPORT, EPERM),
    ("socket", (40, 1, 0), EAFNOSUPPORT, EPERM),
    ("socketpair", (1, 1, 0), "allow", EPERM),
    ("socketpair", (2, 1, 0), EAFNOSUPPORT, EPERM),
    ("openat", (0, 0, 0, 0o4755), "allow", "allow"),
    ("openat", (0, 0, 0o101, 0o644), "allow", "allow"),
    ("openat", (0, 0, 0o101, 0o4755), EPERM, EPERM),
    ("openat", (0, 0, 0o101, HIGH | 0o2755), EPERM, EPERM),
    ("openat", (0, 0, HIGH | 0o20200002, 0o4755), EPERM, EPERM),
    ("open", (0, 0o101, 0o4755), EPERM, ENOSYS),
    ("open", (0, 0, 0o4755), "allow", ENOSYS),
    ("openat2", (), ENOSYS, ENOSYS),
    ("chmod", (0, 0o1777), "allow", ENOSYS),
    ("chmod", (0, 0o4755), EPERM, ENOSYS),
    ("fchmod", (0, HIGH | 0o2755), EPERM, ENOSYS),
    ("fchmodat", (0, 0, 0o4755), EPERM, ENOSYS),
    ("mknodat", (0, 0, 0o010644), "allow", ENOSYS),
    ("mknodat", (0, 0, 0o020666), EPERM, ENOSYS),
    ("mknodat", (0, 0, 0o060666), EPERM, ENOSYS),
    ("mknodat", (0, 0, 0o104755), EPERM, ENOSYS),
    ("fchownat", (0, 0, 1000, 1000), "allow", ENOSYS),
    ("fchownat", (0, 0, 0, 1000), EPERM, ENOSYS),
    ("fchownat", (0, 0, 1000, 0), EPERM, ENOSYS),
    ("fchown", (0, 1000, 0xFFFFFFFF), "allow", ENOSYS),
    ("fchown", (0, HIGH, 1000), EPERM, ENOSYS),
    ("setuid", (0,), EPERM, ENOSYS),
    ("setuid", (1000,), "allow", ENOSYS),
    ("setregid", (1000, HIGH), EPERM, ENOSYS),
    ("setresuid", (1000, 1000, 0), EPERM, ENOSYS),
    ("setgroups", (), EPERM, ENOSYS),
    ("capset", (), "allow", ENOSYS),
    ("prlimit64", (0, 7, 0, 1), "allow", ENOSYS),
    ("prlimit64", (2, 7, 8, 0), "allow", ENOSYS),
    ("prlimit64", (1, 7, 0, 8), EPERM, ENOSYS),
    ("prlimit64", (HIGH | 1, 7, 8, 0), EPERM, ENOSYS),
    ("sched_setaffinity", (0,), "allow", ENOSYS),
    ("sched_setaffinity", (1,), EPERM, ENOSYS),
    ("sched_setparam", (0,), "allow", EPERM),
    ("sched_setparam", (1,), EPERM, EPERM),
    ("sched_setscheduler", (0, 0), "allow", ENOSYS),
    ("sched_setscheduler", (0, 1), EPERM, ENOSYS),
    ("sched_setscheduler", (1, 0), EPERM, ENOSYS),
    ("ioprio_get", (), "allow", ENOSYS),
    ("ioprio_set", (1, 1), EPERM, ENOSYS),
    ("ioprio_set", (1, 0), "allow", ENOSYS),
    ("shmget", (0, 4096, 0o600), "allow", ENOSYS),
    ("shmget", (0, 4096, 0o4600), EPERM, ENOSYS),
    ("renameat2", (0, 0, 0, 0, 1), "allow", ENOSYS),
    ("renameat2", (0, 0, 0, 0, 4), EINVAL, ENOSYS),
    ("splice", (), "allow", EINVAL),
    ("tee", (), "allow", EINVAL),
    ("vmsplice", (), "allow", ENOSYS),
    ("epoll_create", (), "allow", ENOSYS),
    ("personality", (0x0040000,), "allow", ENOSYS),
    ("seccomp", (1, 8), EPERM, ENOSYS),
    ("seccomp", (1, 0), "allow", ENOSYS),
    ("fsetxattr", (), EOPNOTSUPP, EOPNOTSUPP),
    ("setxattrat", (), EOPNOTSUPP, EOPNOTSUPP),
    ("execve", (), "allow", "allow"),
    ("execveat", (), EPERM, EPERM),
    ("memfd_create", (0, 0x1), "allow", ENOSYS),
    ("memfd_create", (0, 0x4), EPERM, ENOSYS),
    ("io_uring_setup", (), ENOSYS, ENOSYS),
    ("personality", (0x0400000,), EPERM, ENOSYS),
    ("ptrace", (0,), EPERM, "kill"),
    ("process_vm_writev", (), EPERM, "kill"),
    ("pidfd_getfd", (), EPERM, "kill"),
    ("keyctl", (), EPERM, "kill"),
    ("userfaultfd", (), EPERM, "kill"),
    ("perf_event_open", (), EPERM, "kill"),
    ("chroot", (), EPERM, "kill"),
    ("adjtimex", (), EPERM, EPERM),
    ("clock_adjtime", (), EPERM, EPERM),
    ("sched_setattr", (), EPERM, EPERM),
    *(
        (name, (), "kill", "kill")
        for name in (
            "mount umount2 pivot_root move_mount open_tree open_tree_attr fsopen fsmount fsconfig fspick mount_setattr "
            "setns open_by_handle_at bpf init_module finit_module delete_module kexec_load kexec_file_load reboot"
        ).split()
    ),
    *(
        (name, (), EPERM, "kill")
        for name in "swapon swapoff acct quotactl quotactl_fd iopl ioperm settimeofday clock_settime".split()
    ),
]


@architectures
@pytest.mark.parametrize(("profile", "column"), [("default", 2), ("strict", 3)])
def test_seccomp_promised_answers_hold(architecture: str, profile: str, column: int) -> None:
    """The hand-written table of calls and answers holds on both architectures."""
    known = numbers_of(architecture)
    rows = [row for row in PROMISES if row[0] in known]
    rules = loaded(profile, architecture)

    assert [row[column] for row in rows] == [answer(rules, architecture, row[0], *row[1]) for row in rows]


# What ended a run before calls that cannot succeed were distinguished from attacks.
OLD_KILLS = (
    "mount umount2 pivot_root move_mount open_tree open_tree_attr fsopen fsmount fsconfig fspick mount_setattr setns "
    "open_by_handle_at bpf init_module finit_module delete_module create_module kexec_load kexec_file_load reboot swapon "
    "swapoff acct quotactl quotactl_fd iopl ioperm settimeofday clock_settime nfsservctl uselib"
).split()


@architectures
def test_seccomp_on_violation_kill_restores_the_old_list(architecture: str) -> None:
    """With `kill` exactly the calls of the old list end the run, and typing into a terminal does."""
    rules, known = loaded("default", architecture, on_violation="kill"), numbers_of(architecture)

    assert {name for name in OLD_KILLS if name in known} == {
        name for name in known if answer(rules, architecture, name) == "kill"
    }
    assert {"kill"} == {answer(rules, architecture, "ioctl", 0, request) for request in (0x5412, 0x541C, 0x541D)}


@architectures
@pytest.mark.parametrize("before_and_kind", [("kill_attacks", ("violation",)), ("kill", ("violation", "futile"))])
def test_seccomp_on_violation_refuse_turns_only_kills_into_eperm(
    architecture: str, before_and_kind: tuple[str, tuple[str, ...]]
) -> None:
    """`refuse` turns the kill of each forbidden call into EPERM, and changes nothing else."""
    profile, (on_violation, kinds) = "default", before_and_kind
    hard = loaded(profile, architecture, on_violation=on_violation)
    soft = loaded(profile, architecture, on_violation="refuse")
    changes = set()
    for _, rule in grouped_rules(profile, architecture, network=False, root_inside=False):
        for arguments in ruleset.distinguishing_calls(rule):
            before, after = (
                answer(each, architecture, rule.name, *joined(arguments, rule, 0)) for each in (hard, soft)
            )
            violation = ruleset.decide(rule.cases, rule.otherwise, arguments).kind in kinds
            changes.add((violation, before == after, after if violation else ""))

    assert {(False, True, ""), (True, False, EPERM)} == changes


@architectures
@pytest.mark.parametrize("profile", PROFILES)
def test_seccomp_without_writable_share_frees_only_the_mode_of_open(architecture: str, profile: str) -> None:
    """Where nothing of the host's is writable, `open` may name a set-ID mode, and every other answer is the same."""
    whole, private = loaded(profile, architecture), loaded(profile, architecture, shared=False)
    changes = set()
    for _, rule in grouped_rules(profile, architecture, network=False, root_inside=False):
        for arguments in ruleset.distinguishing_calls(rule):
            call_of = (architecture, rule.name, *joined(arguments, rule, 0))
            if answer(whole, *call_of) != answer(private, *call_of):
                changes.add((rule.name, answer(whole, *call_of), answer(private, *call_of)))

    older = {("open", EPERM, "allow")} if architecture == "x86_64" and profile != "strict" else set()
    assert {("openat", EPERM, "allow"), *older} == changes


@architectures
def test_seccomp_withheld_calls_are_enosys_and_recorded(architecture: str) -> None:
    """A filter from which the makers of uncounted objects are withheld denies these, and only these."""
    whole = filters.program_hex("default", architecture=architecture, network=False)
    rules, less = Filter(bytes.fromhex(whole)), Filter(bytes.fromhex(filters.withhold_sysv(whole)))
    before, after = (
        {name: answer(each, architecture, name, 1, 2, 3) for name in numbers_of(architecture)} for each in (rules, less)
    )

    assert dict.fromkeys(("shmget", "semget", "msgget"), ENOSYS) == {
        name: after[name] for name in before if before[name] != after[name]
    }
    assert less.run(call(audit_arch_of(architecture), numbers_of(architecture)["semget"])) == 0x7FC00000 | 38


@architectures
def test_seccomp_withheld_memfd_is_enosys_and_recorded(architecture: str) -> None:
    """A filter from which memory files are withheld denies these with ENOSYS, and nothing else changes."""
    whole = filters.program_hex("default", architecture=architecture, network=False)
    rules, less = Filter(bytes.fromhex(whole)), Filter(bytes.fromhex(filters.withhold_memfd(whole)))
    changed = {
        name
        for name in numbers_of(architecture)
        if answer(rules, architecture, name, 1, 2, 3) != answer(less, architecture, name, 1, 2, 3)
    }

    assert ({"memfd_create"}, ENOSYS) == (changed, answer(less, architecture, "memfd_create", 1, 2))


@pytest.mark.parametrize("profile", ["strict", "default"])
def test_seccomp_hot_calls_keep_their_length(profile: str) -> None:
    """The calls that the kernel cannot cache are decided in no more instructions than before `default` was widened."""
    most = {
        "strict": {"mmap": 15, "openat": 14, "fcntl": 15, "ioctl": 23, "clone": 17},
        "default": {
            "mmap": 15, "openat": 14, "open": 14, "fcntl": 16, "ioctl": 24, "clone": 15, "prctl": 19, "socket": 18, "chmod": 16,
        },
    }[profile]  # fmt: skip
    first = {"ioctl": (0, 0x5401), "socket": (1, 1), "prctl": (15,), "mmap": (0, 0, 0, 0x22), "fcntl": (0, 2)}
    numbers, arch = numbers_of("x86_64"), audit_arch_of("x86_64")
    longer = {}
    for shared in (False, True):
        rules = loaded(profile, "x86_64", shared=shared)
        for name, limit in most.items():
            arguments = first.get(name, (0x01200011,) if name == "clone" else ())
            length = len(rules.trace(call(arch, numbers[name], *arguments))[1])
            if length > limit:
                longer[name, shared] = (length, limit)

    assert {} == longer


@architectures
@pytest.mark.parametrize("profile", PROFILES)
def test_seccomp_chown_as_root_inside_answers_zero(architecture: str, profile: str) -> None:
    """With root inside the chown family is answered 0 and never reaches the kernel."""
    rules = loaded(profile, architecture, root_inside=True)
    family = [name for name in ("chown", "fchown", "lchown", "fchownat") if name in numbers_of(architecture)]

    assert {"errno 0"} == {answer(rules, architecture, name, 5, 0, 0) for name in family}


@pytest.mark.parametrize("profile", PROFILES)
@architectures
@pytest.mark.parametrize("shared", [False, True])
def test_seccomp_allowed_syscall_needs_no_argument_test(profile: str, architecture: str, shared: bool) -> None:
    """A call that is always allowed is decided from architecture and number alone, so that the kernel can cache it."""
    rules = loaded(profile, architecture, shared=shared)
    uncached = []
    for _, rule in grouped_rules(profile, architecture, network=False, root_inside=False, shared=shared):
        if rule.cases or rule.otherwise.kind != "allow":
            continue
        _, path = rules.trace(call(audit_arch_of(architecture), numbers_of(architecture)[rule.name]))
        if [rules.instructions[at][3] for at in path if rules.instructions[at][0] == 0x20] != [4, 0]:
            uncached.append(rule.name)

    assert [] == uncached


@pytest.mark.parametrize("profile", PROFILES)
def test_seccomp_frequent_refusals_are_not_notified(profile: str) -> None:
    """Calls of every start, thread or file copy are answered by the filter; anyone else who is refused, the launcher hears of."""
    rules = loaded(profile, "x86_64")
    numbers, arch = numbers_of("x86_64"), audit_arch_of("x86_64")

    def asks(name: str) -> bool:
        return rules.run(call(arch, numbers[name])) & 0xFFFF0000 == 0x7FC00000

    assert {False} == {asks(name) for name in ("clone3", "openat2", "getxattr", "fsetxattr")}
    assert {True} == {asks(name) for name in ("mount", "ptrace", "userfaultfd", "io_uring_setup", "modify_ldt")}


@pytest.mark.parametrize("profile", PROFILES)
def test_seccomp_without_listener_answers_the_same(profile: str) -> None:
    """What the core loads where nobody can be asked gives every answer itself, and the same one."""
    assert "060000000000ff7f" == filters.without_listener("06000000feffc07f")  # notified for the ledger, and continued
    asking = filters.program_hex(profile, architecture="x86_64", network=False)
    alone = Filter(bytes.fromhex(filters.without_listener(asking)))
    arch = audit_arch_of("x86_64")
    answers = [
        (words(each.run(call(arch, number))), each is alone and each.run(call(arch, number)) >> 16 == 0x7FC0)
        for each in (Filter(bytes.fromhex(asking)), alone)
        for number in range(600)
    ]

    assert [(answer, False) for answer, _ in answers[:600]] == answers[600:]
