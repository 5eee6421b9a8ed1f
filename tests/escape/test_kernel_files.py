"""Files through which the kernel takes orders or tells secrets: none opens for writing, the telling ones not at all."""

# ruff: noqa: E501 - tables and programs, one entry a line
from __future__ import annotations

from pathlib import Path

import pytest

ORDERS = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/hostname", "/proc/sys/kernel/randomize_va_space", "/proc/sys/kernel/yama/ptrace_scope",
    "/proc/sys/kernel/unprivileged_bpf_disabled", "/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/panic",
    "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/drop_caches", "/proc/sys/vm/panic_on_oom", "/proc/sys/fs/file-max",
    "/proc/sys/fs/suid_dumpable", "/proc/sys/fs/protected_symlinks", "/proc/sys/fs/binfmt_misc/register", "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/user/max_user_namespaces", "/proc/sysrq-trigger", "/proc/1/oom_score_adj", "/proc/1/comm", "/proc/1/mem",
    "/proc/1/clear_refs", "/proc/self/setgroups", "/proc/mtrr", "/proc/irq/default_smp_affinity", "/proc/bus/pci/00/00.0",
    "/proc/acpi/wakeup", "/proc/scsi/scsi", "/proc/fs/nfsd/filehandle", "/proc/pressure/memory", "/proc/self/ns/user",
    "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/cgroup.procs",
    "/sys/kernel/security/lockdown", "/sys/kernel/debug/tracing/trace", "/sys/module/kernel/parameters/panic",
    "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/vda", "/dev/sda", "/dev/loop0",
    "/dev/loop-control", "/dev/mapper/control", "/dev/uinput", "/dev/userfaultfd", "/dev/vhost-net", "/dev/vsock", "/dev/console",
    "/dev/tty0", "/dev/tty1", "/dev/ttyS0", "/dev/hpet", "/dev/cpu/0/msr", "/dev/btrfs-control", "/dev/autofs", "/dev/rfkill", "/dev/watchdog",
)  # fmt: skip
# Of a process itself: the kernel opens them for it, and takes from it what is harmless.
OWN = (
    "/proc/self/oom_score_adj", "/proc/self/oom_adj", "/proc/self/mem", "/proc/self/comm", "/proc/self/attr/current", "/proc/self/coredump_filter",
    "/proc/self/timerslack_ns", "/proc/self/clear_refs", "/proc/self/loginuid", "/proc/self/make-it-fail", "/proc/self/uid_map",
)  # fmt: skip
SECRETS = (
    "/proc/kcore", "/proc/kallsyms", "/proc/keys", "/proc/key-users", "/proc/kmsg", "/proc/cmdline", "/proc/iomem",
    "/proc/ioports", "/proc/interrupts", "/proc/timer_list", "/proc/timer_stats", "/proc/slabinfo", "/proc/vmallocinfo", "/proc/kpagecount",
    "/proc/kpageflags", "/proc/kpagecgroup", "/proc/sched_debug", "/proc/latency_stats", "/proc/modules", "/proc/asound/cards", "/proc/acpi",
    "/proc/scsi/scsi", "/proc/self/stack", "/proc/vmcore", "/proc/pagetypeinfo", "/etc/shadow", "/etc/machine-id", "/etc/sudoers",
    "/etc/ssh", "/sys/class", "/sys/kernel/notes", "/sys/kernel/btf/vmlinux", "/sys/fs/cgroup", "/boot", "/root/.ssh", "/var/log",
    "/run/docker.sock", "/run/containerd", "/var/run/docker.sock", "/lost+found", "/.dockerenv",
)  # fmt: skip

OPENS = """
import os, sys
for path in sys.argv[1:]:
    for flags in (os.O_WRONLY, os.O_RDWR):
        try:
            os.open(path, flags | os.O_NONBLOCK)
            print(path)
        except OSError:
            pass
"""
TELLS = """
import os, sys
for path in sys.argv[1:]:
    try:
        shown = os.listdir(path) if os.path.isdir(path) else os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 64)
        if shown:
            print(path, shown)
    except OSError:
        pass
"""


@pytest.mark.parametrize("user", ["1000", "0"])
def test_kernel_settings_cannot_be_written(inside, user):
    """core_pattern, modprobe, sysrq, release_agent, raw devices and their like do not open for writing (CVE-2022-0492)."""
    assert "" == inside.says(["/usr/bin/python3", "-I", "-S", "-c", OPENS, *ORDERS], options=("--user", user))


def test_own_files_of_proc_cannot_be_written_in_strict(inside):
    """In `strict` all of /proc is read-only, what belongs to the process itself too."""
    assert "" == inside.says(["/usr/bin/python3", "-I", "-S", "-c", OPENS, *OWN], profile="strict")


ORDERS_OF_ITSELF = [
    ("loginuid", "12345"), ("attr/current", "unconfined"), ("../1/attr/current", "unconfined"), ("attr/exec", "unconfined"), ("make-it-fail", "1"), ("timens_offsets", "boottime 9 0"),
    ("autogroup", "-5"), ("oom_score_adj", "-1000"), ("oom_adj", "-17"),
]  # fmt: skip


@pytest.mark.parametrize("user", ["1000", "0"])
@pytest.mark.parametrize(("file", "text"), ORDERS_OF_ITSELF)
def test_own_file_of_proc_gives_no_privilege(inside, file, text, user):
    """What the kernel opens for a process of its own, it takes no order from that needs a capability."""
    code = f"""
import os
try:
    os.write(os.open("/proc/self/{file}", os.O_WRONLY), {text.encode()!r})
    print("taken")
except OSError:
    pass
"""
    assert "" == inside.python_says(code, options=("--user", user))


def test_top_of_proc_cannot_be_written(inside):
    """Nothing in /proc but the directories of processes opens for writing, whatever the kernel has there."""
    code = """
import os
for top, folders, files in os.walk("/proc"):
    if top == "/proc":
        folders[:] = [name for name in folders if not name.isdigit()]
    for name in files:
        try:
            os.close(os.open(f"{top}/{name}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
            if os.stat(f"{top}/{name}").st_rdev != os.stat("/dev/null").st_rdev:  # a mask takes what is written, and drops it
                print(f"{top}/{name}")
        except OSError:
            pass
"""
    assert "" == inside.python_says(code, timeout_ms=60000)


@pytest.mark.parametrize("user", ["1000", "0"])
def test_kernel_secrets_cannot_be_read(inside, user):
    """kcore, kallsyms, keys, the boot command line and their like are empty, masked or not there (CVE-2025-31133)."""
    assert "" == inside.says(["/usr/bin/python3", "-I", "-S", "-c", TELLS, *SECRETS], options=("--user", user))


def test_kernel_file_mask_cannot_be_removed(inside):
    """What masks /proc is a mount: it can be neither removed, renamed nor unlinked."""
    code = """
import os
for attempt in (os.unlink, os.rmdir, lambda path: os.rename(path, "/tmp/x"), lambda path: os.chmod(path, 0o666)):
    for path in ("/proc/keys", "/proc/kallsyms", "/proc/timer_list", "/proc/cmdline"):
        try:
            attempt(path)
            print("changed", path)
        except OSError:
            pass
"""
    assert "" == inside.python_says(code)


@pytest.mark.parametrize("command", ["mount -t proc proc /tmp", "mount -o remount,rw /proc", "mount -o remount,rw /usr",
                                     "mount --bind /usr /tmp", "umount /proc", "umount -l /proc/keys", "mount -t cgroup2 none /tmp",
                                     "mount -t cgroup -o memory none /tmp", "mount -t sysfs none /tmp", "mount -t overlay -o lowerdir=/,upperdir=/tmp,workdir=/tmp none /tmp",
                                     "swapon /tmp/x", "pivot_root /tmp /tmp", "dmesg", "losetup -f"])  # fmt: skip
def test_administrator_tools_fail(inside, command):
    """The shell one-liners of every cheat sheet end with an error, as root inside too."""
    for user in ("1000", "0"):
        assert inside(["sh", "-c", command], options=("--user", user))["exit_code"] not in (0, None)


CAP_SYS_RESOURCE = 24
LOWER_OOM_SCORE = """
for score in (-1000, -1, 0, 999):
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(score))
        break
    except OSError:
        pass
print(open("/proc/self/oom_score_adj").read().strip())
"""


def test_oom_score_cannot_be_lowered_below_the_callers(inside):
    """Every process inside is the first that the kernel ends when the host runs out of memory.

    Not prevented: it can take that back, to what the caller has itself, unless the caller has CAP_SYS_RESOURCE.
    """
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.partition("CapEff:")[2].split()[0], 16) if inside.uid == 0 else 0
    own = int(Path("/proc/self/oom_score_adj").read_text())
    least = 1000 if capabilities >> CAP_SYS_RESOURCE & 1 else own
    assert least <= int(inside.python_says(LOWER_OOM_SCORE))


def test_oom_score_cannot_be_lowered_in_strict(inside):
    """In `strict` it stays so for every caller."""
    assert "1000" == inside.python_says(LOWER_OOM_SCORE, profile="strict")
