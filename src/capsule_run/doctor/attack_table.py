"""The attempts of `capsule-run doctor --attack`: small programs that would escape or do harm without the sandbox.

Each is harmless even if it succeeds: it reads a decoy, passes invalid pointers, or writes what is already there. A row:
name, the first layer that should stop it, what it would achieve, the outcomes that count as stopped, and the program.
"""

# ruff: noqa: E501, ISC004 - a table, one entry a line
from __future__ import annotations

# The helpers of every program: `call(NUMBER, ...)`, `write(PATH)`, `read(PATH)`; the names in `DECOYS` are defined too.
DECOYS = ("secret", "port", "abstract", "host_pid", "variable")
PREFIX = """\
import ctypes, errno, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *values):
    result = libc.syscall(number, *(v if isinstance(v, bytes) else ctypes.c_long(v) for v in values))
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result
def read(path):
    return os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 64)
def write(path, text=b"0"):
    return os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK), text)
"""

ENDED = "ended"  # the run was ended for it: E5001
FILTER = (ENDED, "EPERM", "ENOSYS")
NOT_THERE = ("ENOENT", "EACCES", "EPERM", "ENXIO", "ENOTDIR")
NOT_WRITABLE = ("EROFS", "EACCES", "EPERM", "ENOENT", "ETXTBSY", "EISDIR")

BAD = 8  # an invalid pointer: a call that the kernel executes fails with EFAULT


def _call(name: str, *values: int | str) -> str:
    words = [f"call(N[{name!r}]"] + [repr(v.encode()) if isinstance(v, str) else str(v) for v in values]
    return ", ".join(words) + ")"


# name, layer, story, outcomes that are a stop, program
_FILTER_ROWS = (
    ("mount a file system", "what hides something is mounted over", _call("mount", BAD, BAD, BAD, 0, 0)),
    ("unmask /proc/keys", "a mask taken off", _call("umount2", "/proc/keys", 2)),
    ("pivot back to the host's root", "a second pivot_root", _call("pivot_root", "/tmp", "/tmp")),
    (
        "open_tree, the new mount calls",
        "CVE-2021-41133: calls that a blocklist did not know",
        _call("open_tree", -100, "/", 0x8001),
    ),
    ("fsopen a cgroup hierarchy", "CVE-2022-0492, CVE-2022-0185", _call("fsopen", "cgroup", 0)),
    (
        "mount_setattr: take read-only off /usr",
        "one call for a whole tree",
        _call("mount_setattr", -100, "/usr", 0, BAD, 32),
    ),
    ("enter a namespace by descriptor", "setns through a leaked descriptor", _call("setns", 0, 0)),
    (
        "root of a new user namespace",
        "CVE-2022-0185, CVE-2023-0386, CVE-2024-1086 begin here",
        _call("unshare", 0x10000000),
    ),
    ("a new user namespace by clone", "the same by another call", _call("clone", 0x10000011, 0, 0, 0, 0)),
    ("clone3, whose flags no filter sees", "CVE-2021-41133", _call("clone3", BAD, 88)),
    ("a file by its handle", "shocker: the host's root directory by number", _call("open_by_handle_at", -100, BAD, 0)),
    ("load a BPF program", "CVE-2020-8835, CVE-2021-3490: the verifier", _call("bpf", 5, BAD, 120)),
    ("load a kernel module", "code in the kernel", _call("init_module", BAD, 1, BAD)),
    ("boot another kernel", "kexec", _call("kexec_load", 0, 0, BAD, 0)),
    ("stop the machine", "reboot, with a wrong magic number", _call("reboot", 0, 0, 0)),
    ("swap to a file", "memory of others on a disk", _call("swapon", BAD, 0)),
    ("set the clock", "one clock for all", _call("settimeofday", BAD, 0)),
    ("trace process 1", "CVE-2020-5291: the first process taken over", _call("ptrace", 16, 1, 0, 0)),
    ("read memory of process 1", "process_vm_readv", _call("process_vm_readv", 1, BAD, 1, BAD, 1, 0)),
    ("take a descriptor out of process 1", "pidfd_getfd", _call("pidfd_getfd", 0, 0, 0)),
    ("io_uring", "CVE-2022-29582 and dozens more, past any filter", _call("io_uring_setup", 1, BAD)),
    ("userfaultfd", "holds the kernel at a chosen access", _call("userfaultfd", 1)),
    ("performance events", "CVE-2013-2094, CVE-2022-1729", _call("perf_event_open", BAD, 0, -1, -1, 0)),
    ("the session key ring", "CVE-2016-0728: key rings are not namespaced", _call("keyctl", 0, -3, 0)),
    ("type into the caller's terminal", "CVE-2017-5226: TIOCSTI", _call("ioctl", 0, 0x5412, BAD)),
    ("TIOCSTI with garbage in the high bits", "CVE-2019-10063", _call("ioctl", 0, 0x8000000000005412 - (1 << 64), BAD)),
    ("change the host name", "sethostname", _call("sethostname", "evil", 4)),
    ("become root", "setuid(0)", _call("setuid", 0)),
    ("drop a group that denies something", "CVE-2014-8989", _call("setgroups", 0, 0)),
)
_OTHER_ROWS = (
    ("make a set-user-ID file", "filter", "a trap for who runs it on the host", FILTER, "open('/tmp/x', 'w').close(); os.chmod('/tmp/x', 0o4755)"),
    ("make a device node", "filter", "/dev/mem by its number", FILTER, "os.mknod('/tmp/mem', 0o20666, os.makedev(1, 1))"),
    ("a crypto socket of the kernel", "filter", "AF_ALG: CVE-2019-8912 and others", (*FILTER, "EAFNOSUPPORT"), "socket.socket(38, 5)"),
    ("a raw packet socket", "filter", "CVE-2017-7308, CVE-2020-14386", (*FILTER, "EAFNOSUPPORT"), "socket.socket(17, 3)"),
    ("a socket to the hypervisor", "filter", "AF_VSOCK: out of the machine", (*FILTER, "EAFNOSUPPORT"), "socket.socket(40, 1)"),
    ("read a secret of the host", "mounts", "a decoy in a temporary directory", NOT_THERE, "read(secret)"),
    ("the same through process 1's root", "mounts", "/proc/1/root", NOT_THERE, "read('/proc/1/root' + secret)"),
    ("the same by climbing", "mounts", "`..` forty times", NOT_THERE, "read('/proc/self/cwd/' + '../' * 40 + secret)"),
    ("write into /usr", "mounts", "a program that others run later", NOT_WRITABLE, "os.close(os.open('/usr/x', os.O_WRONLY | os.O_CREAT))"),
    ("overwrite the program that runs", "mounts", "CVE-2019-5736: /proc/self/exe", NOT_WRITABLE, "os.open('/proc/self/exe', os.O_WRONLY)"),
    ("overwrite the launcher", "process 1", "CVE-2019-5736: /proc/1/exe", NOT_WRITABLE, "os.open('/proc/1/exe', os.O_WRONLY)"),
    ("read the environment of process 1", "process 1", "CVE-2016-10122: what the caller had there", NOT_THERE, "read('/proc/1/environ')"),
    ("write memory of process 1", "process 1", "/proc/1/mem", NOT_WRITABLE, "os.open('/proc/1/mem', os.O_RDWR)"),
    ("find a leaked descriptor", "descriptors", "CVE-2024-21626, CVE-2016-9962", ("EBADF",),
     "if len(os.listdir('/proc/self/fd')) == 4: raise OSError(errno.EBADF, '')"),
    ("read the caller's variables", "environment", "keys are kept there", ("KeyError",), "os.environ[variable]"),
    ("a program for crashes", "procfs", "core_pattern: the host's kernel runs it", NOT_WRITABLE, "os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY)"),
    ("a program for missing modules", "procfs", "modprobe, the same", NOT_WRITABLE, "os.open('/proc/sys/kernel/modprobe', os.O_WRONLY)"),
    ("the kernel's emergency keys", "procfs", "sysrq-trigger", NOT_WRITABLE, "os.open('/proc/sysrq-trigger', os.O_WRONLY)"),
    ("rewrite the id map", "procfs", "CVE-2018-18955's road", NOT_WRITABLE, "os.write(os.open('/proc/self/uid_map', os.O_WRONLY), b'0 0 1')"),
    ("escape the OOM killer", "procfs", "others die in its place", NOT_WRITABLE, "os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-1000')"),
    ("read the kernel's memory", "procfs", "kcore", NOT_THERE, "read('/proc/kcore')"),
    ("read kernel messages", "devices", "/dev/kmsg", NOT_THERE, "read('/dev/kmsg')"),
    ("read the machine's memory", "devices", "/dev/mem", NOT_THERE, "read('/dev/mem')"),
    ("a cgroup's release agent", "mounts", "CVE-2022-0492: the kernel runs it as root", NOT_WRITABLE,
     "os.open('/sys/fs/cgroup/release_agent', os.O_WRONLY)"),
    ("signal a process of the host", "pid namespace", "by its number", ("ESRCH", "EPERM"), "os.kill(host_pid, 0)"),
    ("reach a server on the host's loopback", "network namespace", "a local database, a debug port", ("ECONNREFUSED", "ENETUNREACH", "EPERM"),
     "socket.create_connection(('127.0.0.1', port), 1)"),
    ("reach an abstract socket of the host", "network namespace", "CVE-2020-15257", ("ECONNREFUSED", "EPERM"),
     "socket.socket(socket.AF_UNIX).connect(abstract)"),
    ("reach the metadata of a cloud", "network namespace", "169.254.169.254", ("ENETUNREACH", "EPERM"),
     "socket.create_connection(('169.254.169.254', 80), 1)"),
    ("the same with the host's network", "Landlock", "an abstract socket, with `--network`", ("EPERM",),
     "socket.socket(socket.AF_UNIX).connect(abstract)"),
    ("raise a limit", "limits", "open files", ("ValueError",),  # resource(3)'s word for EPERM
     "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))"),
    ("a thousand processes", "limits", "a fork bomb, small", ("EAGAIN", "E4002"),
     "[os._exit(signal.pause() or 0) for _ in range(1000) if os.fork() == 0]"),
    ("fill the private file system", "limits", "/tmp", ("ENOSPC", "EDQUOT", "EFBIG", "E4001", "E4005"),
     "f = open('/tmp/x', 'wb', 0); [f.write(bytes(1 << 20)) for _ in range(200)]"),
    ("take all memory", "limits", "until somebody else must go", ("E4001", "ENOMEM", "MemoryError"),
     "held = bytearray(b'x') * (1 << 30); import time; time.sleep(2)"),
    ("write without end", "limits", "a disk, or a model's context", ("E4003",), "while True: os.write(1, bytes(1 << 16))"),
    ("ignore every signal and stay", "clock", "a run that does not end", ("E3006",),
     "[signal.signal(n, signal.SIG_IGN) for n in range(1, 32) if n not in (9, 19)]\nwhile True: pass"),
)  # fmt: skip
X86_ROWS = (
    ("system calls by the 32-bit gate", "filter", "other numbers: the filter of 64 bits does not see them", (*FILTER, "SIGSEGV"),
     "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\n"
     "ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()"),
    ("system calls with the x32 bit", "filter", "CVE-2014-0038", FILTER, "call(0x40000000 | 39)"),
    ("touch hardware", "filter", "iopl", FILTER, "call(172, 3)"),
)  # fmt: skip

# name, layer, story, outcomes that are a stop, program; `N` is the table of syscall numbers
ROWS: tuple[tuple[str, str, str, tuple[str, ...], str], ...] = (
    *((name, "filter", story, FILTER, program) for name, story, program in _FILTER_ROWS),
    *_OTHER_ROWS,
)
