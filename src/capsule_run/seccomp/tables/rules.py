"""The syscall policy: rules in small groups, each with its reason, and the profiles made of groups.

Data; may decide nothing. Written in the words of `seccomp.rule`, read by `seccomp.check`, `compiler` and `explain`.
A call that no group of a profile names is answered ENOSYS, which is what programs know how to fall back from.
"""

from __future__ import annotations

from errno import EAFNOSUPPORT, EINVAL, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM, EPROTONOSUPPORT

from capsule_run.seccomp.rule import (
    ALLOW,
    ALLOW_COUNTED,
    ALLOW_IN_CGROUP,
    FUTILE,
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

_NO_WHITEOUT = f"{_OWN_TREE}; a whiteout is a device node, and hides a file of an overlay"


_MEMFD = "a file of the caller's without a name (browsers, Wayland, libffi); huge pages come out of the host's reserve"
_NO_HUGE_MEMFD = case(refuse(EPERM), has_any(1, "flags", a.MFD_HUGETLB))


def _root(argument: int) -> Case:
    """Only for a command that is not root inside: the kernel would answer EINVAL, for the id is not mapped."""
    return case(refuse(EPERM), one_of(argument, "id", a.ROOT))


def _init(pid_argument: int) -> Case:
    """Process 1 has the host id of the command, so the kernel would let the command act on it."""
    return case(refuse(EPERM), one_of(pid_argument, "pid", a.INIT))


def _refused_whiteout() -> Case:
    return case(refuse(EINVAL), has_any(4, "flags", a.RENAME_WHITEOUT))


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
            case(ALLOW, one_of(1, "request", a.IOCTL_ALLOWED)),
            case(FUTILE, one_of(1, "request", a.IOCTL_TERMINAL_TAKEOVER)),
            case(quiet(EOPNOTSUPP), one_of(1, "request", a.IOCTL_DRIVER_QUERIES)),
            case(refuse(EPERM), one_of(1, "request", a.IOCTL_NETWORK_CHANGES)),
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
            "reads own limits and lowers them; never those of init, which has the same id; that on cores stays at 1 byte",
            case(refuse(EPERM), one_of(0, "pid", a.INIT)),
            case(ALLOW, *is_null(2, "new limit")),
            # at 1 byte the kernel writes no core and starts no helper of the host's, which 0 would start: it is as low as it gets
            case(PRETEND, one_of(1, "resource", a.CORE_LIMIT), *is_null(3, "old limit")),
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
        *_each("setgroups", "drops a group that may deny something (CVE-2014-8989)", otherwise=refuse(EPERM)),
        *_each("setfsuid setfsgid", "ask for the id by setting it; the user namespace holds no other"),
        *_each("capget capset", "reads the capabilities, of which there are none; the kernel lets nobody add one"),
    ),
    "ids-user": (
        *_each(
            "setuid setgid",
            "ids that the caller has anyway; to become root is EPERM, as for an ordinary account",
            _root(0),
        ),
        *_each("setreuid setregid", "ids that the caller has anyway; root is EPERM", _root(0), _root(1)),
        *_each(
            "setresuid setresgid",
            "make's posix_spawn sets the id that it has; root is EPERM",
            _root(0),
            _root(1),
            _root(2),
        ),
    ),
    "ids-root": (
        *_each(
            "setuid setgid setreuid setregid setresuid setresgid",
            "ids that the caller has anyway; the user namespace holds no other",
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
        *_each("renameat2", _NO_WHITEOUT, _refused_whiteout(), only=AARCH64),
        *_each("dup pipe", _BARE_LEGACY),
        *_each("readv pwrite64 fsync fdatasync flock", "works on a descriptor already held"),
    ),
    "events-more": (*_each("poll ppoll select pselect6 epoll_wait", "waits for descriptors already held"),),
    "ownership": (
        *_each(
            "chown fchown lchown",
            "the kernel lets an owner name the own id only; to give a file to root is EPERM, as for an ordinary account",
            case(quiet(EPERM), one_of(1, "owner", a.ROOT)),
            case(quiet(EPERM), one_of(2, "group", a.ROOT)),
        ),
        *_each(
            "fchownat",
            "the kernel lets an owner name the own id only; to give a file to root is EPERM, as for an ordinary account",
            case(quiet(EPERM), one_of(2, "owner", a.ROOT)),
            case(quiet(EPERM), one_of(3, "group", a.ROOT)),
        ),
    ),
    "ownership-pretended": (
        *_each(
            "chown fchown lchown fchownat",
            "root inside holds one id: tar, npm and dpkg get success, and nothing changes",
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
        *_each(
            "splice tee sendfile",
            "only speed: EINVAL is what the kernel says of files that cannot; GNU grep takes ENOSYS for a read error",
            otherwise=quiet(EINVAL),
        ),
        *_each("sched_setparam", "sets real-time priorities", otherwise=refuse(EPERM)),
    ),
    "no-sockets": (*_each("socket socketpair", "this profile talks to nobody", otherwise=refuse(EPERM)),),
    "ipc": (
        *_each(
            "shmget",
            "fakeroot, databases; the ipc namespace is private; huge pages come out of the host's reserve",
            case(refuse(EPERM), has_any(2, "flags", a.SHM_HUGETLB)),
            otherwise=ALLOW_COUNTED,
        ),
        *_each("semget", "fakeroot, databases; the ipc namespace is private", otherwise=ALLOW_COUNTED),
        *_each("msgget", "fakeroot; the ipc namespace is private", otherwise=ALLOW_COUNTED),
        *_each("shmat shmdt shmctl", "fakeroot, databases; the ipc namespace is private"),
        *_each("semop semctl semtimedop", "fakeroot, databases; the ipc namespace is private"),
        *_each("msgsnd msgrcv msgctl", "fakeroot; the ipc namespace is private"),
        *_each(
            "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
            "message queues; the ipc namespace is private",
        ),
    ),
    "timers": (
        *_each("timer_create timer_settime timer_gettime timer_delete timer_getoverrun", "POSIX timers of the caller"),
        *_each("timerfd_create timerfd_settime timerfd_gettime", "timers of the caller as descriptors"),
        *_each("getitimer clock_getres", "reads timers and clocks of the caller"),
        *_each("gettimeofday time", "clocks of programs whose vDSO has no answer: static ones, and where it is slow"),
    ),
    "watch": (
        *_each("inotify_init1 inotify_add_watch inotify_rm_watch", "watches files that it may read (make, node, tail)"),
        *_each("signalfd4", "signals of the caller as a descriptor (script, initdb)"),
    ),
    "files-newer": (
        *_each("statx", _OWN_TREE, only=X86_64),
        *_each("renameat2", _NO_WHITEOUT, _refused_whiteout(), only=X86_64),
        *_each("faccessat2 truncate", _OWN_TREE),
        *_each("close_range copy_file_range sendfile", "works on descriptors already held"),
        *_each("set_robust_list", "locks that outlive their holder: a list in the caller's own memory"),
    ),
    "sched": (
        *_each("sched_getscheduler sched_getparam sched_getattr sched_rr_get_interval", _OWN_SELF),
        *_each("sched_setaffinity", "processors of the cpuset; never of init, which has the same id", _init(0)),
        *_each(
            "sched_setparam",
            "fair classes have one priority; a real-time one needs a limit that is 0; never of init",
            _init(0),
        ),
        *_each("getsid getresuid getresgid", "ids as the namespaces show them"),
    ),
    "pidfd": (*_each("pidfd_open pidfd_send_signal", "processes by descriptor; they reach the pid namespace only"),),
    "descriptors-more": (
        *_each("fallocate fadvise64 readahead recvmmsg", "works on descriptors already held"),
        *_each("preadv pwritev preadv2 pwritev2 sync_file_range syncfs", "works on descriptors already held"),
        *_each(
            "splice tee vmsplice", "moves pages between pipes, files and the caller's memory (grep, cat, web servers)"
        ),
    ),
    "memfd": (*_each("memfd_create", _MEMFD, _NO_HUGE_MEMFD),),
    "memfd-counted": (
        *_each("memfd_create", f"{_MEMFD}; with a memory cgroup", _NO_HUGE_MEMFD, otherwise=ALLOW_IN_CGROUP),
    ),
    "memory-more": (
        *_each("mincore mbind rseq", "pages and scheduling hints of the caller"),
        *_each(
            "mlock mlock2 munlock mlockall munlockall membarrier get_mempolicy set_mempolicy mseal",
            "pages and locks of the caller, within its limits",
        ),
        *_each("pkey_alloc pkey_free pkey_mprotect", "protection keys of the caller's pages"),
    ),
    "landlock": (
        *_each(
            "landlock_create_ruleset landlock_add_rule landlock_restrict_self",
            "programs that confine themselves further; a layer can only take away",
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
        *_each(
            "rt_sigqueueinfo rt_tgsigqueueinfo rt_sigpending", "signals with a value; they reach the pid namespace only"
        ),
        *_each(
            "sched_setscheduler",
            "fair classes only: a real-time process starves the host; never of init",
            _init(0),
            case(ALLOW, one_of(1, "policy", a.FAIR_POLICIES, mask=~a.SCHED_RESET_ON_FORK & 0xFFFFFFFF)),
            otherwise=refuse(EPERM),
        ),
        *_each(
            "personality",
            "the default, a fixed address layout (gdb, sbcl) and names (setarch); others bring back old kernel behaviour",
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
        *_each("setrlimit", _BARE_LEGACY, case(PRETEND, one_of(0, "resource", a.CORE_LIMIT))),
        *_each("utime utimes futimesat getdents epoll_create inotify_init eventfd signalfd", _BARE_LEGACY),
        *_each("epoll_pwait2", "waits for descriptors already held, with a finer clock"),
        *_each("sched_get_priority_max sched_get_priority_min getcpu get_robust_list", _OWN_SELF),
        *_each("ioprio_get", _OWN_SELF),
        *_each(
            "ioprio_set",
            "ionice(1); real-time classes need a capability that nobody holds; never of init",
            case(refuse(EPERM), one_of(0, "which", a.IOPRIO_WHO_PROCESS), one_of(1, "pid", a.INIT)),
        ),
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
        *_each("swapon swapoff acct quotactl quotactl_fd", "administration of the whole machine", otherwise=FUTILE),
        *_each("iopl ioperm", "touches hardware; libpci and hwclock(8) ask for it", otherwise=FUTILE),
        *_each("settimeofday clock_settime", "sets the clock that all share; test suites ask", otherwise=FUTILE),
        *_each("nfsservctl uselib", "removed administration calls that only exploits remember", otherwise=VIOLATION),
    ),
}
