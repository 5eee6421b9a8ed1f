"""The syscall policy: rules in small groups, each with its reason, and the profiles made of groups.

Data; may decide nothing. Written in the words of `seccomp.rule`, read by `seccomp.check`, `compiler` and `explain`.
A call that no group of a profile names is answered ENOSYS, which is what programs know how to fall back from.
"""

from __future__ import annotations

from errno import EAFNOSUPPORT, EINVAL, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM, EPROTONOSUPPORT

from capsule_run.seccomp.rule import (
    ALLOW,
    PRETEND,
    VIOLATION,
    Action,
    Case,
    Rule,
    case,
    case_shared,
    has_any,
    is_null,
    lacks,
    one_of,
    quiet,
    refuse,
    suspect,
)
from capsule_run.seccomp.tables import arguments as a

X86_64, AARCH64 = "x86_64", "aarch64"


def _each(names: str, reason: str, *cases: Case, otherwise: Action = ALLOW, only: str = "") -> tuple[Rule, ...]:
    return tuple(Rule(name=name, reason=reason, cases=cases, otherwise=otherwise, only=only) for name in names.split())


def _refused_set_id(mode_argument: int) -> Case:
    return case(refuse(EPERM), has_any(mode_argument, "mode", a.SET_ID_BITS))


def _refused_set_id_if_creating(flags_argument: int) -> Case:
    """Not where nothing of the host's is writable: an open whose arguments are looked at is the dearer for it by 50 ns."""
    creates = has_any(flags_argument, "flags", a.OPEN_CREATES)
    return case_shared(refuse(EPERM), creates, has_any(flags_argument + 1, "mode", a.SET_ID_BITS))


def _plain_node(mode_argument: int) -> tuple[Case, Case]:
    plain = one_of(mode_argument, "file type", a.PLAIN_NODES, mask=a.NODE_TYPE_MASK)
    return _refused_set_id(mode_argument), case(ALLOW, plain)


_NO_SET_ID = "files are the workspace's; a set-user-ID or set-group-ID file would outlive the sandbox"
_OWN_TREE = "acts on what the mounts show and the account may write"
_OWN_SELF = "tells or sets something of the calling process only"
_BARE_LEGACY = "older form that static and musl programs still call"

_INET_SOCKETS = (
    case(
        ALLOW,
        one_of(0, "domain", a.AF_INET),
        one_of(1, "type", a.SOCK_STREAM, mask=a.SOCKET_TYPE_MASK),
        one_of(2, "protocol", a.TCP),
    ),
    case(
        ALLOW,
        one_of(0, "domain", a.AF_INET),
        one_of(1, "type", a.SOCK_DGRAM, mask=a.SOCKET_TYPE_MASK),
        one_of(2, "protocol", a.UDP),
    ),
    case(suspect(EPERM), one_of(0, "domain", a.AF_INET), one_of(1, "type", a.SOCK_RAW, mask=a.SOCKET_TYPE_MASK)),
    case(refuse(EPROTONOSUPPORT), one_of(0, "domain", a.AF_INET)),
)
_UNIX_SOCKETS = case(ALLOW, one_of(0, "domain", a.AF_UNIX), one_of(1, "type", a.UNIX_TYPES, mask=a.SOCKET_TYPE_MASK))
_ROUTE_SOCKETS = case(
    ALLOW,
    one_of(0, "domain", a.AF_NETLINK),
    one_of(1, "type", a.NETLINK_TYPES, mask=a.SOCKET_TYPE_MASK),
    one_of(2, "protocol", a.NETLINK_ROUTE),
)

GROUPS: dict[str, tuple[Rule, ...]] = {
    "base": (
        *_each("execve", "the command itself is started by it, already under the filter; no_new_privs holds"),
        *_each("exit exit_group", "ends the caller"),
        *_each(
            "brk munmap mprotect mremap madvise",
            "memory of the caller; executable pages are what linkers and JITs make",
        ),
        *_each(
            "mmap",
            "memory of the caller; huge pages come out of the host's reserve, which no limit of ours counts",
            case(refuse(EPERM), has_any(3, "flags", a.MAP_HUGETLB)),
        ),
        *_each("arch_prctl", "thread pointer of x86_64, set by every start of a program"),
        *_each("set_tid_address", "every start of a program; its answer is the thread id that libc remembers"),
        *_each("futex", "locks, between threads of shared memory only"),
        *_each("getrandom", "seeds hashes and stack protection of every program"),
        *_each("clock_gettime", "clocks for which the vDSO has no answer, CPU time among them"),
        *_each("clock_nanosleep", "sleeping; the run's clock is not the payload's"),
        *_each("getpid getuid geteuid getgid getegid", "ids as the namespaces show them"),
        *_each("uname", "host name and kernel version; the name is the sandbox's own"),
    ),
    "signals": (*_each("rt_sigaction rt_sigprocmask rt_sigreturn", "handlers and masks of the caller"),),
    "files-read": (
        *_each("read write pread64 writev lseek close fstat", "works on a descriptor already held"),
        *_each("openat", _NO_SET_ID, _refused_set_id_if_creating(2)),
        *_each("newfstatat getdents64 getcwd chdir", _OWN_TREE),
        *_each("statx", "aarch64 has room for it", only=AARCH64),
        *_each("access faccessat readlink", _OWN_TREE),
        *_each("readlinkat", "aarch64 has no older form of it", only=AARCH64),
        *_each(
            "fcntl",
            "flags and locks of a descriptor already held; leases and notices would reach what the host does to the same file",
            case(refuse(EINVAL), one_of(1, "command", a.FCNTL_HOST)),
        ),
        *_each("dup2", "redirection in every shell"),
        *_each("dup3", "aarch64 has no older form of it", only=AARCH64),
        *_each("pipe2", "wakes event loops, joins pipelines"),
        *_each(
            "ioctl",
            "terminal, descriptor and interface queries; drivers are reached through it, so the requests are listed",
            case(VIOLATION, one_of(1, "request", a.IOCTL_TERMINAL_TAKEOVER)),
            case(ALLOW, one_of(1, "request", a.IOCTL_ALLOWED)),
            otherwise=refuse(ENOTTY),
        ),
    ),
    "files-write": (
        *_each("ftruncate", "works on a descriptor already held"),
        *_each("unlinkat", _OWN_TREE),
        *_each("rename mkdir rmdir unlink", _OWN_TREE),
        *_each("renameat mkdirat", "aarch64 has no older form of it", only=AARCH64),
    ),
    "start": (
        *_each(
            "sendmsg",
            "how a start hands over the listener for refused calls, already filtered; without sockets there is no other use",
            case(ALLOW, one_of(0, "descriptor", a.LISTENER_SOCKET)),
            otherwise=refuse(ENOSYS),
        ),
    ),
    "events": (*_each("epoll_create1 epoll_ctl epoll_pwait eventfd2", "event loops (node, asyncio)"),),
    "threads": (
        *_each(
            "clone",
            "threads; a process of its own is not for this profile",
            case(suspect(EPERM), has_any(0, "flags", a.CLONE_NAMESPACES)),
            case(refuse(EPERM), lacks(0, "flags", a.CLONE_THREAD)),
        ),
        *_each("fork vfork", "makes a process, which this profile does not allow", otherwise=refuse(EPERM)),
    ),
    "process": (
        *_each(
            "clone",
            "processes and threads in the namespaces that there are (a new user namespace opens kernel code to root in it)",
            case(suspect(EPERM), has_any(0, "flags", a.CLONE_NAMESPACES)),
        ),
        *_each("fork vfork", "clone without a choice of flags; the process limit bounds it"),
        *_each("wait4 waitid", "reaps own children"),
        *_each("getppid getpgid setpgid setsid getpgrp", "job control inside the pid namespace"),
        *_each("kill", "reaches the pid namespace only"),
        *_each(
            "tgkill tkill gettid", "abort(3) and raise(3), the older one that of musl; reaches the pid namespace only"
        ),
        *_each(
            "prlimit64",
            "reads own limits and lowers them; never those of init, which has the same id, nor the one that keeps cores in",
            case(refuse(EPERM), has_any(0, "pid", a.ANOTHER_PROCESS)),
            case(ALLOW, *is_null(2, "new limit")),
            case(refuse(EPERM), one_of(1, "resource", a.CORE_LIMIT)),
        ),
        *_each("getrusage times sysinfo", "usage figures"),
        *_each("umask", _OWN_SELF),
        *_each("getpriority setpriority", "nice(1); only ever downwards without a capability"),
        *_each("sched_yield sched_getaffinity", "thread pools count the processors of the cpuset"),
        *_each("restart_syscall", "made by the kernel itself, for a call that a signal interrupted"),
    ),
    "ids": (
        *_each("getgroups", "groups of the caller"),
        *_each(
            "setresuid setresgid",
            "make's posix_spawn sets the id that it has; the user namespace holds no other",
        ),
        *_each(
            "setgroups setfsuid setfsgid capset",
            "changes credentials, of which there is one set",
            otherwise=refuse(EPERM),
        ),
    ),
    "self": (
        *_each(
            "prctl",
            "options that name or restrict the caller; the others reach memory maps, securebits and hardware state",
            case(ALLOW, one_of(0, "option", a.PRCTL_OPTIONS)),
            case(ALLOW, one_of(0, "option", a.PRCTL_CAP_AMBIENT), one_of(1, "argument", a.AMBIENT_HARMLESS)),
            otherwise=refuse(EINVAL),
        ),
    ),
    "signals-more": (
        *_each("sigaltstack rt_sigsuspend rt_sigtimedwait", "handlers, masks and queue of the caller"),
        *_each("pause alarm", _BARE_LEGACY),
        *_each("setitimer", "timers of the caller"),
        *_each("nanosleep", _BARE_LEGACY),
    ),
    "memory": (*_each("msync", "advice about the caller's own pages"),),
    "files-more": (
        *_each("open", _NO_SET_ID, _refused_set_id_if_creating(1)),
        *_each("creat", _NO_SET_ID, _refused_set_id(1)),
        *_each("chmod fchmod", _NO_SET_ID, _refused_set_id(1)),
        *_each("fchmodat", _NO_SET_ID, _refused_set_id(2)),
        *_each(
            "mknodat",
            "plain files, fifos and sockets; device nodes are for the build",
            *_plain_node(2),
            otherwise=refuse(EPERM),
        ),
        *_each("stat lstat", _BARE_LEGACY),
        *_each("statfs fstatfs fchdir", _OWN_TREE),
        *_each("link linkat symlink symlinkat utimensat", _OWN_TREE),
        *_each("renameat readlinkat mkdirat", _OWN_TREE, only=X86_64),
        *_each("dup3", "Go starts every process with it", only=X86_64),
        *_each("renameat2", _OWN_TREE, only=AARCH64),
        *_each("dup pipe", _BARE_LEGACY),
        *_each("readv pwrite64 fsync fdatasync flock", "works on a descriptor already held"),
    ),
    "events-more": (*_each("poll ppoll select pselect6 epoll_wait", "waits for descriptors already held"),),
    "ownership": (
        *_each("chown fchownat", "the kernel itself answers EPERM or EINVAL for any id but the own one"),
        *_each(
            "fchown lchown",
            "what the kernel answers to all but the owner that the file has; copying programs expect it",
            otherwise=quiet(EPERM),
        ),
    ),
    "ownership-pretended": (
        *_each(
            "chown fchown lchown fchownat",
            "root inside holds one id: tar, npm and dpkg are told yes, and nothing changes",
            otherwise=PRETEND,
        ),
    ),
    "sockets": (
        *_each(
            "socket",
            "local, TCP and UDP; without --network the namespace has its own loopback only. NETLINK_ROUTE is getifaddrs(3)",
            _UNIX_SOCKETS,
            *_INET_SOCKETS,
            _ROUTE_SOCKETS,
            otherwise=refuse(EAFNOSUPPORT),
        ),
        *_each(
            "socketpair",
            "local pairs; no other family has them in use",
            _UNIX_SOCKETS,
            otherwise=refuse(EAFNOSUPPORT),
        ),
        *_each(
            "bind connect listen accept accept4 shutdown", "works on a socket that the rule for `socket` let through"
        ),
        *_each("getsockname getpeername getsockopt", "works on a socket that the rule for `socket` let through"),
        *_each(
            "setsockopt",
            "works on a socket that the rule for `socket` let through; programs and protocols of the kernel's stay out of it",
            case(refuse(EPERM), one_of(1, "level", a.SOL_SOCKET), one_of(2, "option", a.SOCKET_PROGRAMS)),
            case(refuse(EPERM), one_of(1, "level", a.SOL_TCP), one_of(2, "option", a.TCP_ULP)),
        ),
        *_each("sendto recvfrom sendmsg recvmsg", "works on a socket that the rule for `socket` let through"),
    ),
    "net": (*_each("sendmmsg", "libc asks a name server for both address families at once"),),
    "spared": (
        *_each(
            "memfd_create",
            "a file without a name can be run without one; libffi, JVMs and browsers fall back to /dev/shm or /tmp",
            otherwise=refuse(ENOSYS),
        ),
        *_each(
            "fallocate",
            "preallocation is only speed; libc writes zeros when the file system has none",
            otherwise=quiet(EOPNOTSUPP),
        ),
        *_each(
            "sendfile",
            "only speed: EINVAL is what the kernel says of files that cannot, and callers read and write instead",
            otherwise=quiet(EINVAL),
            only=X86_64,
        ),
        *_each(
            "statx renameat2 faccessat2 close_range copy_file_range set_robust_list",
            "libc and everybody else fall back to an older call, or do without",
            otherwise=quiet(ENOSYS),
            only=X86_64,
        ),
        *_each(
            "rseq fadvise64 getrlimit capget pkey_alloc",
            "asked by programs or libc as a matter of course, who do without",
            otherwise=quiet(ENOSYS),
        ),
        *_each(
            "setuid setgid setreuid setregid personality sched_setscheduler",
            "of the build profile; not needed elsewhere",
            otherwise=refuse(EPERM),
        ),
    ),
    "spared-strict": (
        *_each(
            "statx",
            "libc and everybody else fall back to newfstatat",
            otherwise=quiet(ENOSYS),
            only=X86_64,
        ),
        *_each(
            "rseq set_robust_list prlimit64",
            "libc asks at every start of a program or thread, and does without",
            otherwise=quiet(ENOSYS),
        ),
        *_each(
            "getrlimit faccessat2 close_range gettid sysinfo",
            "asked as a matter of course; callers do without",
            otherwise=quiet(ENOSYS),
        ),
    ),
    "no-sockets": (*_each("socket socketpair", "this profile talks to nobody", otherwise=refuse(EPERM)),),
    "ipc": (
        *_each("shmget shmat shmdt shmctl", "fakeroot, databases; the ipc namespace is private"),
        *_each("semget semop semctl semtimedop", "fakeroot, databases; the ipc namespace is private"),
        *_each("msgget msgsnd msgrcv msgctl", "fakeroot; the ipc namespace is private"),
        *_each(
            "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
            "message queues; the ipc namespace is private",
        ),
    ),
    "timers": (
        *_each("timer_create timer_settime timer_gettime timer_delete timer_getoverrun", "POSIX timers of the caller"),
        *_each("timerfd_create timerfd_settime timerfd_gettime", "timers of the caller as descriptors"),
        *_each("getitimer clock_getres", "reads timers and clocks of the caller"),
    ),
    "watch": (
        *_each("inotify_init1 inotify_add_watch inotify_rm_watch", "watches files that it may read (make, node, tail)"),
        *_each("signalfd4", "signals of the caller as a descriptor (script)"),
    ),
    "files-newer": (
        *_each("statx renameat2", _OWN_TREE, only=X86_64),
        *_each("faccessat2 truncate", _OWN_TREE),
        *_each("close_range copy_file_range sendfile", "works on descriptors already held"),
        *_each("set_robust_list", "locks that outlive their holder: a list in the caller's own memory"),
    ),
    "sched": (
        *_each("sched_getscheduler sched_getparam sched_setaffinity", _OWN_SELF),
        *_each("getsid getresuid getresgid", "ids as the namespaces show them"),
    ),
    "pidfd": (*_each("pidfd_open pidfd_send_signal", "processes by descriptor; they reach the pid namespace only"),),
    "descriptors-more": (
        *_each("fallocate fadvise64 recvmmsg", "works on descriptors already held"),
        *_each(
            "preadv pwritev preadv2 pwritev2 splice tee sync_file_range syncfs", "works on descriptors already held"
        ),
    ),
    "memfd": (
        *_each("memfd_create", "anonymous file, charged like memory; that /proc/self/fd runs it no filter can see"),
    ),
    "memory-more": (
        *_each("mincore mbind rseq", "pages and scheduling hints of the caller"),
        *_each(
            "mlock munlock membarrier get_mempolicy set_mempolicy", "pages and locks of the caller, within its limits"
        ),
        *_each("pkey_alloc pkey_free pkey_mprotect", "protection keys of the caller's pages"),
    ),
    "landlock": (
        *_each(
            "landlock_create_ruleset landlock_add_rule landlock_restrict_self",
            "build tools that confine their own steps",
        ),
    ),
    "build-more": (
        *_each("fchmodat2", _NO_SET_ID, _refused_set_id(2)),
        *_each(
            "mknod",
            "plain files, fifos and sockets; device nodes are for the build",
            *_plain_node(1),
            otherwise=refuse(EPERM),
        ),
        *_each("setuid setgid setreuid setregid capget", "ids that the caller has anyway"),
        *_each("rt_sigqueueinfo rt_sigpending", "signals; they reach the pid namespace only"),
        *_each(
            "sched_setscheduler",
            "fair classes only: a real-time process starves the host",
            case(ALLOW, one_of(1, "policy", a.FAIR_POLICIES, mask=~a.SCHED_RESET_ON_FORK & 0xFFFFFFFF)),
            otherwise=refuse(EPERM),
        ),
        *_each(
            "personality",
            "the default and a fixed address layout (gdb, sbcl); the others bring back old kernel behaviour",
            case(ALLOW, one_of(0, "persona", a.PERSONALITIES)),
            otherwise=refuse(EPERM),
        ),
        *_each(
            "seccomp",
            "a filter added can only take away; a listener would let the payload answer in our place",
            case(suspect(EPERM), has_any(1, "flags", a.SECCOMP_LISTENER)),
            case(ALLOW, one_of(0, "operation", a.SECCOMP_OPERATIONS)),
            otherwise=refuse(EINVAL),
        ),
        *_each("getrlimit", _BARE_LEGACY),
        *_each("setrlimit", _BARE_LEGACY, case(refuse(EPERM), one_of(0, "resource", a.CORE_LIMIT))),
        *_each("utime utimes futimesat getdents epoll_create inotify_init eventfd signalfd", _BARE_LEGACY),
        *_each("sched_get_priority_max sched_get_priority_min getcpu get_robust_list", _OWN_SELF),
        *_each("ioprio_get ioprio_set", "ionice(1); real-time classes need a capability that nobody holds"),
    ),
    "probed": (
        *_each(
            "clone3",
            "flags lie in memory that no filter can read; libc falls back to clone, which is filtered",
            otherwise=quiet(ENOSYS),
        ),
        *_each(
            "openat2",
            "mode and flags lie in memory that no filter can read; programs fall back to openat",
            otherwise=quiet(ENOSYS),
        ),
        *_each(
            "io_uring_setup io_uring_enter io_uring_register",
            "does the work of other calls past the filter; libuv and others probe and fall back",
            otherwise=refuse(ENOSYS),
        ),
        *_each(
            "setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr setxattrat removexattrat",
            "the name (security.capability) lies in memory that no filter reads; programs know file systems without attributes",
            otherwise=quiet(EOPNOTSUPP),
        ),
        *_each(
            "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr getxattrat listxattrat",
            "answers as setxattr does, so that copying programs see one file system without attributes",
            otherwise=quiet(EOPNOTSUPP),
        ),
        *_each(
            "execveat",
            "runs a file without a name; EPERM, because on ENOSYS libc goes through /proc/self/fd",
            otherwise=refuse(EPERM),
        ),
        *_each(
            "chroot", "needs a capability that nobody holds; a way out of a badly built root", otherwise=suspect(EPERM)
        ),
        *_each(
            "fanotify_init fanotify_mark name_to_handle_at",
            "sees files past the mounts; systemd and libc tools probe it",
            otherwise=refuse(EPERM),
        ),
        *_each(
            "sched_setattr",
            "policy lies in memory that no filter can read; could ask for real time",
            otherwise=refuse(EPERM),
        ),
        *_each("sched_setparam", "sets real-time priorities", otherwise=refuse(EPERM)),
        *_each(
            "move_pages migrate_pages process_madvise process_mrelease",
            "works on the memory of other processes",
            otherwise=refuse(EPERM),
        ),
        *_each(
            "adjtimex clock_adjtime",
            "reads and sets the one clock that all share; time daemons read it",
            otherwise=refuse(EPERM),
        ),
        *_each("syslog", "kernel messages tell addresses and other tenants; dmesg(1) copes", otherwise=refuse(EPERM)),
        *_each("sethostname setdomainname", "the name was set when the room was built", otherwise=refuse(EPERM)),
        *_each("vhangup sync", "acts on the whole machine", otherwise=refuse(EPERM)),
    ),
    "suspects": (
        *_each(
            "ptrace process_vm_readv process_vm_writev",
            "reads and drives other processes; debuggers try it",
            otherwise=suspect(EPERM),
        ),
        *_each("pidfd_getfd kcmp", "takes or compares descriptors of other processes", otherwise=suspect(EPERM)),
        *_each(
            "unshare", "makes namespaces, and kernel code reachable for the root of a new one", otherwise=suspect(EPERM)
        ),
        *_each(
            "add_key request_key keyctl",
            "key rings are not namespaced as a whole (CVE-2016-0728)",
            otherwise=suspect(EPERM),
        ),
        *_each(
            "userfaultfd",
            "stops the kernel at a chosen access, the usual aid of race exploits",
            otherwise=suspect(EPERM),
        ),
        *_each(
            "perf_event_open", "measures across processes and has a long history of holes", otherwise=suspect(EPERM)
        ),
    ),
    "escape": (
        *_each("mount umount2 pivot_root", "changes what the root shows", otherwise=VIOLATION),
        *_each(
            "move_mount open_tree open_tree_attr fsopen fsmount fsconfig fspick mount_setattr",
            "the newer mount calls (CVE-2021-41133, CVE-2022-0185)",
            otherwise=VIOLATION,
        ),
        *_each("setns", "enters a namespace of somebody else", otherwise=VIOLATION),
        *_each("open_by_handle_at", "opens any inode of a file system past every path (shocker)", otherwise=VIOLATION),
        *_each("bpf", "loads code into the kernel", otherwise=VIOLATION),
        *_each(
            "init_module finit_module delete_module create_module", "loads code into the kernel", otherwise=VIOLATION
        ),
        *_each("kexec_load kexec_file_load reboot", "replaces or stops the kernel", otherwise=VIOLATION),
        *_each("swapon swapoff acct quotactl quotactl_fd", "administration of the whole machine", otherwise=VIOLATION),
        *_each("iopl ioperm", "touches hardware", otherwise=VIOLATION),
        *_each("settimeofday clock_settime", "sets the clock that all share", otherwise=VIOLATION),
        *_each("nfsservctl uselib", "removed administration calls that only exploits remember", otherwise=VIOLATION),
    ),
}
