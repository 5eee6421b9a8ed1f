"""What became known of the kernel code behind each call that `default` has had since it is for everyday programs.

Data, for `policy show` and docs/kernel-surface.md; a run never loads it. An entry is a CVE of 2016 or later that a process
without capabilities reaches by these calls on some kernel, the worst first. It is a lower bound: what is not here was not
known to us when we counted.
"""

from __future__ import annotations

from capsule_run._base.value import Value

COUNTED_ON = "2026-12-01"
SOURCES = "the CVE entries of NVD and of the kernel's own numbering authority"


class Family(Value):
    """Calls that open the same kernel code. `elsewhere` are holes that also need what is refused here, with what that is."""

    name: str
    calls: str
    known: tuple[tuple[str, str], ...] = ()
    elsewhere: tuple[tuple[str, str], ...] = ()


FAMILIES = (
    Family(
        name="pages moved between pipes, files and memory",
        calls="splice tee vmsplice sendfile",
        known=(
            ("CVE-2022-0847", "Dirty Pipe: writes any file that can be read, Linux 5.8 to 5.16"),
            ("CVE-2020-29374", "copy on write: memory shared since a fork is read, before 5.7.3"),
            ("CVE-2019-11487", "the reference count of a page overflows, with 140 GiB of memory, before 5.1"),
        ),
        elsewhere=(
            ("CVE-2026-31431", "Copy Fail: AF_ALG sockets"),
            ("CVE-2026-43284", "Dirty Frag: ESP"),
            ("CVE-2026-43500", "Dirty Frag: RxRPC sockets"),
            ("CVE-2026-43503", "ESP and a rule of netfilter"),
            ("CVE-2026-31507", "SMC sockets"),
        ),
    ),
    Family(
        name="POSIX timers",
        calls="timer_create timer_settime timer_gettime timer_getoverrun timer_delete",
        known=(
            ("CVE-2025-38352", "a race of processor timers with the end of a process, used in attacks, before 6.16"),
            ("CVE-2017-18344", "reads kernel memory through /proc/PID/timers, before 4.14.8"),
            ("CVE-2018-12896", "the counter of overruns overflows, before 4.17.4"),
        ),
    ),
    Family(
        name="timers as descriptors",
        calls="timerfd_create timerfd_settime timerfd_gettime",
        known=(("CVE-2017-10661", "use after free by a race, before 4.10.15"),),
    ),
    Family(
        name="file watches",
        calls="inotify_init inotify_init1 inotify_add_watch inotify_rm_watch",
        known=(
            ("CVE-2017-7533", "memory corruption by a race with rename, before 4.12.5"),
            ("CVE-2026-46040", "failed watches use up the account's quota, a regression"),
            ("CVE-2019-9857", "a memory leak, 5.0"),
        ),
    ),
    Family(
        name="POSIX message queues",
        calls="mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
        known=(
            ("CVE-2017-11176", "mq_notify: use after free that gives root, before 4.11.10"),
            ("CVE-2021-47069", "a race reads a stack that is gone, before 5.13"),
        ),
    ),
    Family(
        name="System V objects",
        calls="shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl",
        known=(
            ("CVE-2021-47069", "a race reads a stack that is gone, before 5.13"),
            ("CVE-2021-3669", "very many segments make a reader of their sizes slow; the room has 256"),
        ),
    ),
    Family(
        name="memory policy",
        calls="mbind get_mempolicy set_mempolicy",
        known=(
            ("CVE-2018-10675", "use after free, before 4.12.9"),
            ("CVE-2023-4611", "mbind: use after free by a race, 6.4 and 6.5"),
            ("CVE-2026-23415", "mbind and futex: use after free that reads"),
        ),
    ),
    Family(
        name="locked memory",
        calls="mlock mlock2 munlock mlockall munlockall",
        known=(
            ("CVE-2018-1000200", "a crash when a large locked process ends for lack of memory, 4.14 to 4.16"),
            ("CVE-2017-18221", "wrong accounts of locked pages, before 4.11.4"),
        ),
    ),
    Family(
        name="residence of pages",
        calls="mincore",
        known=(("CVE-2019-5489", "tells which pages of shared files others have read, before 5.0"),),
    ),
    Family(
        name="barriers",
        calls="membarrier",
        known=(("CVE-2024-26602", "slows the machine when called in a loop, before 6.8"),),
    ),
    Family(
        name="messages in bulk",
        calls="sendmmsg recvmmsg",
        known=(("CVE-2016-7117", "recvmmsg: use after free on an error, before 4.5.2"),),
    ),
    Family(
        name="priority of input and output",
        calls="ioprio_get ioprio_set",
        known=(("CVE-2016-7911", "ioprio_get: use after free by a race, before 4.6.6"),),
    ),
    Family(
        name="Landlock",
        calls="landlock_create_ruleset landlock_add_rule landlock_restrict_self",
        elsewhere=(("CVE-2024-42318", "keyctl: a domain is lost"),),
    ),
    Family(
        name="files without a name",
        calls="memfd_create",
        elsewhere=(("CVE-2022-2590", "userfaultfd: shared memory that may only be read is written, 5.16 to 5.19"),),
    ),
    Family(name="a filter of its own", calls="seccomp"),
    Family(name="signals and events as descriptors", calls="signalfd signalfd4 eventfd epoll_create epoll_pwait2"),
    Family(name="processes as descriptors", calls="pidfd_open pidfd_send_signal"),
    Family(name="signals with a value", calls="rt_sigqueueinfo rt_tgsigqueueinfo rt_sigpending"),
    Family(
        name="scheduling of the caller",
        calls="sched_getscheduler sched_setscheduler sched_getparam sched_setparam sched_setaffinity sched_getattr "
        "sched_get_priority_max sched_get_priority_min sched_rr_get_interval getcpu",
    ),
    Family(
        name="identity",
        calls="setuid setgid setreuid setregid setfsuid setfsgid getresuid getresgid getsid capget capset fchown lchown",
    ),
    Family(name="clocks", calls="gettimeofday time clock_getres getitimer"),
    Family(name="limits and persona", calls="getrlimit setrlimit personality"),
    Family(name="threads", calls="rseq set_robust_list get_robust_list"),
    Family(name="protection of pages", calls="pkey_alloc pkey_free pkey_mprotect mseal"),
    Family(
        name="more forms of reading, writing and naming files",
        calls="statx faccessat2 renameat2 truncate fallocate fadvise64 readahead sync_file_range syncfs copy_file_range "
        "close_range preadv pwritev preadv2 pwritev2 getdents utime utimes futimesat mknod fchmodat2",
    ),
)


def family_of(call: str) -> Family | None:
    """Return the family of a call, None for one that `default` has always had."""
    return next((family for family in FAMILIES if call in family.calls.split()), None)


def summary(family: Family) -> str:
    """Return what is known of a family in a few words: count, and the worst."""
    known = (
        f"{len(family.known)} known, worst {family.known[0][0]} ({family.known[0][1]})"
        if family.known
        else "none known"
    )
    more = f"; {len(family.elsewhere)} more need what is refused here" if family.elsewhere else ""
    return f"holes since 2016: {known}{more}"


def table() -> str:
    """Return the table of docs/kernel-surface.md."""
    lines = ["| opens | calls | known, the worst first | also needs what is refused here |", "|---|---|---|---|"]
    for family in FAMILIES:
        calls = " ".join(f"`{call}`" for call in family.calls.split())
        known = "; ".join(f"{cve}: {words}" for cve, words in family.known)
        known = f"{len(family.known)}: {known}" if known else "0"
        elsewhere = "; ".join(f"{cve} ({words})" for cve, words in family.elsewhere)
        lines.append(f"| {family.name} | {calls} | {known} | {elsewhere or '–'} |")
    return "\n".join(lines) + "\n"
