"""Calls that only an attack makes, or that reach kernel code a sandbox has no use for: none gets past its number.

The arguments are harmless or bad pointers: a call that reached the kernel would say EFAULT, EBADF or succeed.
"""

from __future__ import annotations

import pytest
from inside import outcome

ENDED, REFUSED, UNKNOWN = "E5001", "EPERM", "ENOSYS"

# What the attacker sees, the call with its arguments, and its story.
CALLS = (
    (ENDED, "mount bad bad bad 0 0", "mounts over what hides something"),
    (ENDED, "mount =none =/ 0 0x44000 0", "CVE-2021-30465: propagation made shared again"),
    (ENDED, "umount2 =/proc/keys 2", "unmasks what was masked"),
    (ENDED, "umount2 =/ 2", "takes the root away, to see what it lay on"),
    (ENDED, "pivot_root =/tmp =/tmp", "a second pivot, back to the host's root"),
    (REFUSED, "chroot =/tmp", "chroot, then `..` upwards: the classic break-out"),
    (ENDED, "open_tree -100 =/ 0x8001", "CVE-2021-41133: the mount calls that a blocklist did not know"),
    (ENDED, "move_mount -1 = -1 = 0x44", "CVE-2021-41133, the same"),
    (ENDED, "fsopen =cgroup 0", "CVE-2022-0185: legacy_parse_param, through fsconfig"),
    (ENDED, "fsconfig -1 1 bad bad 0", "CVE-2022-0185, the same"),
    (ENDED, "fsmount -1 0 0", "CVE-2021-41133, the same"),
    (ENDED, "fspick -100 =/proc 0", "reconfigures a mount by path"),
    (ENDED, "mount_setattr -100 =/usr 0 bad 32", "clears read-only on a whole tree"),
    (ENDED, "open_tree_attr -100 =/ 1 bad 32", "the same in one call, new in 6.15"),
    (UNKNOWN, "statmount bad bad 0 0", "tells the host's mounts by id"),
    (UNKNOWN, "listmount bad bad 0 0", "lists the host's mounts"),
    (ENDED, "setns 0 0", "enters a namespace through a leaked descriptor"),
    (REFUSED, "unshare 0x10000000", "CVE-2022-0185 and many more: root of a new user namespace"),
    (UNKNOWN, "clone3 bad 88", "CVE-2021-41133: flags in memory that no filter reads"),
    (ENDED, "open_by_handle_at -100 bad 0", "shocker: the host's root inode by its number"),
    (REFUSED, "name_to_handle_at -100 =/ bad bad 0", "the other half of shocker"),
    (ENDED, "bpf 5 bad 120", "CVE-2020-8835, CVE-2021-3490: the verifier"),
    (ENDED, "init_module bad 1 bad", "loads a kernel module"),
    (ENDED, "finit_module 0 bad 0", "loads a kernel module from a descriptor"),
    (ENDED, "delete_module bad 0", "unloads one"),
    (ENDED, "kexec_load 0 0 bad 0", "boots another kernel"),
    (ENDED, "reboot 0 0 0", "stops the machine"),
    (REFUSED, "swapon bad 0", "brings memory of others to a file"),
    (REFUSED, "acct bad", "writes records of every process on the host"),
    (REFUSED, "quotactl 0 bad 0 bad", "administration of file systems"),
    (REFUSED, "quotactl_fd 0 0 0 bad", "its newer form"),
    (REFUSED, "settimeofday bad 0", "the clock that all share"),
    (REFUSED, "clock_settime 0 bad", "the same clock"),
    (REFUSED, "adjtimex bad", "bends the same clock"),
    (REFUSED, "clock_adjtime 0 bad", "the same"),
    (REFUSED, "ptrace 16 1 0 0", "CVE-2020-5291: the first process taken over while it has privileges"),
    (REFUSED, "process_vm_readv 1 bad 1 bad 1 0", "reads the first process"),
    (REFUSED, "process_vm_writev 1 bad 1 bad 1 0", "writes it"),
    (REFUSED, "pidfd_getfd 0 0 0", "takes descriptors out of it"),
    (REFUSED, "kcmp 1 1 0 0 0", "compares kernel pointers of processes"),
    (REFUSED, "process_madvise 0 bad 1 4 0", "pages out memory of others"),
    (REFUSED, "add_key bad bad bad 1 -3", "CVE-2016-0728: the session key ring"),
    (REFUSED, "keyctl 0 -3 0", "the same: its number"),
    (REFUSED, "keyctl 11 bad bad 1", "reads a key"),
    (REFUSED, "request_key bad bad bad -3", "asks the host's key helper"),
    (REFUSED, "userfaultfd 1", "holds the kernel at a chosen access, the aid of CVE-2016-6187 and others"),
    (REFUSED, "perf_event_open bad 0 -1 -1 0", "CVE-2013-2094, CVE-2022-1729"),
    (UNKNOWN, "io_uring_setup 1 bad", "CVE-2022-29582 and dozens more; works past any filter"),
    (UNKNOWN, "io_uring_enter 0 0 0 0 0 0", "the same"),
    (UNKNOWN, "io_uring_register 0 0 bad 0", "the same"),
    (REFUSED, "fanotify_init 0 0", "sees files past the mounts"),
    (REFUSED, "syslog 3 bad 10", "kernel messages tell addresses"),
    (REFUSED, "vhangup", "hangs up a terminal"),
    (REFUSED, "sethostname =evil 4", "renames the room"),
    (REFUSED, "execveat -1 = bad bad 0x1000", "runs a file without a name"),
    (REFUSED, "memfd_create =x 4", "huge pages, which are the host's reserve"),
    (UNKNOWN, "memfd_secret 0", "memory that nobody can see or reclaim"),
    (REFUSED, "shmget 0 4096 04600", "huge pages, which are the host's reserve"),
    (REFUSED, "personality 0x0400000", "READ_IMPLIES_EXEC and the old layouts"),
    (REFUSED, "move_pages 1 1 bad bad bad 0", "moves memory of others"),
    (REFUSED, "migrate_pages 1 1 bad bad", "the same"),
    (REFUSED, "setgroups 0 0", "CVE-2014-8989: drops a group that denies something"),
    (REFUSED, "setuid 0", "becomes somebody else"),
    (REFUSED, "setgid 0", "the same"),
    (REFUSED, "setreuid -1 0", "the same"),
    (REFUSED, "setresgid -1 -1 0", "the same"),
    (REFUSED, "fchownat -100 =/workspace 0 -1 0", "gives a file to root"),
    (REFUSED, "prlimit64 1 7 buf 0", "process 1 without descriptors"),
    (REFUSED, "sched_setaffinity 1 8 buf", "process 1 on one processor, beside who spins there"),
    (REFUSED, "sched_setscheduler 1 5 buf", "process 1 made idle"),
    (REFUSED, "sched_setparam 1 buf", "the same"),
    (REFUSED, "ioprio_set 1 1 0x6000", "the same, for its disk"),
    ("EINVAL", "prctl 8 1", "PR_SET_KEEPCAPS"),
    ("EINVAL", "prctl 28 0", "PR_SET_SECUREBITS"),
    ("EINVAL", "prctl 35 13 bad 0 0", "PR_SET_MM: /proc/self/exe names another file"),
    ("EINVAL", "prctl 47 2 21 0 0", "PR_CAP_AMBIENT_RAISE: CAP_SYS_ADMIN"),
    ("EOPNOTSUPP", "setxattr =/workspace =security.capability bad 20 0", "a file that gives capabilities to who runs it"),
    ("EOPNOTSUPP", "setxattrat -100 =/workspace 0 =security.capability bad 16", "its newest form"),
    (REFUSED, "fchmodat2 -100 =/workspace 04755 0", "the chmod that a filter of 2022 does not know"),
    (UNKNOWN, "file_setattr -100 =/workspace bad 24 0", "new in 6.17"),
    (REFUSED, "sched_setscheduler 0 1 bad", "a real-time process starves the host"),
    (REFUSED, "sched_setattr 0 bad 0", "the same; the policy is in memory"),
    ("EINVAL", "renameat2 -100 =/workspace -100 =/tmp 4", "a whiteout, which is a device node: it would hide a file"),
    (UNKNOWN, "io_setup 1 bad", "CVE-2016-10044; and the number of such requests is the whole host's"),
    (UNKNOWN, "futex_waitv bad 1 0 bad 0", "newer code with few users"),
    (UNKNOWN, "cachestat 0 bad bad 0", "tells which pages of the host's files others have read"),
    (UNKNOWN, "remap_file_pages bad 0 0 0 0", "removed, and a hole when it was there"),
    (UNKNOWN, "lookup_dcookie 0 bad 0", "removed"),
    (UNKNOWN, "599", "a number of the future"),
    (UNKNOWN, "100000", "a number of nobody"),
)  # fmt: skip
X86_CALLS = (
    (REFUSED, "iopl 3", "touches hardware"),
    (REFUSED, "ioperm 0 1 1", "touches hardware"),
    (ENDED, "kexec_file_load -1 -1 0 bad 0", "boots another kernel"),
    (UNKNOWN, "modify_ldt 0 bad 0", "CVE-2015-5157, CVE-2017-17053"),
    (UNKNOWN, "_sysctl bad", "removed"),
    (REFUSED, "mknod =/workspace/d 0x2180 0x101", "a device node: /dev/mem"),
)


def _rows(table):
    return [
        pytest.param(expected, call, id=call.replace(" ", "_").replace("/", "-")) for expected, call, _story in table
    ]


def _check(attack, expected, call):
    response = attack("sys", *call.split())
    assert expected == outcome(response)
    if expected == ENDED:
        assert ("killed", 137, "E5001") == (response["status"], response["exit_code"], response["error"]["code"])


@pytest.mark.parametrize(("expected", "call"), _rows(CALLS))
def test_syscall_of_the_table_is_stopped(attack, expected, call):
    """A system call of the table ends the run or is refused before its arguments are looked at."""
    _check(attack, expected, call)


@pytest.mark.parametrize(("expected", "call"), _rows(X86_CALLS))
def test_syscall_of_x86_64_only_is_stopped(attack, expected, call, x86_64):
    """The same for calls that only x86_64 has."""
    _check(attack, expected, call)


OWN_FILTER = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 165, "aarch64": 40}[os.uname().machine]
rows = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, ACTION), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rows), ctypes.addressof(code)))
print(libc.prctl(22, 2, program), libc.syscall(number, 0, 0, 0, 0, 0), ctypes.get_errno())
"""


@pytest.mark.parametrize(("action", "errno"), [(0x7FC00000, 38), (0x00050001, 1)])
def test_syscall_filter_of_the_command_can_only_refuse(inside, action, errno):
    """A filter that the command adds can answer `mount` before ours does, by an errno or by asking: it is not made."""
    assert f"0 -1 {errno}" == inside.python_says(OWN_FILTER.replace("ACTION", str(action)))


CALLS_THAT_CANNOT_SUCCEED = (
    "ioctl 0 0x5412 bad",
    "ioctl 0 0x541c bad",
    "ioctl 0 0x541d bad",
    "clock_settime 0 bad",
    "settimeofday bad 0",
    "swapon bad 0",
    "acct bad",
    "quotactl 0 bad 0 bad",
)


@pytest.mark.parametrize("call", CALLS_THAT_CANNOT_SUCCEED)
def test_syscall_that_cannot_succeed_is_refused_and_recorded(attack, call):
    """A forbidden call that cannot succeed is EPERM and in `denied`; in `strict` and with `kill` it ends the run."""
    response = attack("sys", *call.split())
    assert ("EPERM", [(call.split()[0], "EPERM", 1)]) == (
        outcome(response),
        [(each["syscall"], each["errno"], each["count"]) for each in response["denied"]],
    )
    assert ENDED == outcome(attack("sys", *call.split(), on_violation="kill"))
    assert ENDED == outcome(attack("sys", *call.split(), profile="strict"))


CAPABILITIES = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def capset(*words):
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    print(libc.capset(header, (ctypes.c_uint32 * 6)(*words)), os.strerror(ctypes.get_errno()))
capset(0, 0, 0, 0, 0, 0)
capset(0, 1 << 21)
capset(1 << 21, 1 << 21)
capset(0, 0, 1 << 21)
print(open("/proc/self/status").read().count("0000000000000000"))
"""


@pytest.mark.parametrize("user", ["1000", "0"])
def test_syscall_capset_regains_no_capability(inside, user):
    """capset(2) of nothing succeeds; any set with CAP_SYS_ADMIN is EPERM, as root inside too (CVE-2022-0492 begins so)."""
    lines = inside.python(CAPABILITIES, options=("--user", user))["stdout"].splitlines()
    assert ["0 Success", *["-1 Operation not permitted"] * 3] == lines[:4]


LANDLOCKED = """
import ctypes, errno, os, struct
libc = ctypes.CDLL(None, use_errno=True)
rights = ctypes.create_string_buffer(struct.pack("Q", 1 << 1))
layers = 0
while layers < 20:
    ruleset = libc.syscall(444, rights, 8, 0)
    if ruleset < 0 or libc.syscall(446, ruleset, 0):
        break
    layers += 1
    os.close(ruleset)
print(layers, errno.errorcode[ctypes.get_errno()])
for path in ("/workspace/x", "/tmp/x", "/usr/x"):
    try:
        os.open(path, os.O_WRONLY | os.O_CREAT)
        print("opened")
    except OSError as error:
        print(errno.errorcode[error.errno])
try:
    os.kill(1, 0)
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_syscall_landlock_inside_only_restricts(inside, needs):
    """A program may add layers of its own until the kernel's sixteen are used; each only takes away, and ours stays."""
    response = inside.python(LANDLOCKED)
    needs("landlock", present=response["isolation"]["landlock_abi"] > 0)
    layers, *rest = response["stdout"].splitlines()
    assert "E2BIG" == layers.split()[1]
    assert 12 <= int(layers.split()[0]) <= 16
    assert ["EACCES", "EACCES"] == rest[:2]
    assert rest[2] in ("EACCES", "EROFS")


def test_syscall_pidfd_reaches_no_host_process(inside):
    """A descriptor of a process exists for processes inside only, so a signal through it cannot leave."""
    code = """
import os, signal
reached = []
for pid in range(2, 40000):
    if pid != os.getpid():
        try:
            reached.append(signal.pidfd_send_signal(os.pidfd_open(pid), 0))
        except OSError:
            pass
print(reached)
"""
    assert "[]" == inside.python_says(code)


@pytest.mark.parametrize("policy", [1, 2, 6])
def test_syscall_scheduling_gives_no_real_time(inside, policy):
    """Neither FIFO, round robin nor deadline can be had, also not by the priority of a class that is had."""
    code = f"""
import os
for attempt in (
    lambda: os.sched_setscheduler(0, {policy}, os.sched_param(1)),
    lambda: os.sched_setparam(0, os.sched_param(1)),
):
    try:
        attempt()
        print("set")
    except OSError:
        pass
print(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)
"""
    assert "0 0" == inside.python_says(code)
