"""The published price of `default`: every call that it was given has its history, and the page has what the table has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from capsule_run.seccomp import filters
from capsule_run.seccomp.ruleset import numbers_of
from capsule_run.seccomp.tables import history

PAGE = Path(__file__).parents[2] / "docs" / "kernel-surface.md"
# What `default` allowed before it was for everyday programs, on either architecture.
FORMER = """
accept accept4 access alarm arch_prctl bind brk chdir chmod chown clock_gettime clock_nanosleep clone close connect creat
dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 execve exit exit_group faccessat fchdir fchmod fchmodat
fchownat fcntl fdatasync flock fork fstat fstatfs fsync ftruncate futex getcwd getdents64 getegid geteuid getgid getgroups
getpeername getpgid getpgrp getpid getppid getpriority getrandom getrusage getsockname getsockopt gettid getuid ioctl kill
link linkat listen lseek lstat madvise mkdir mkdirat mknodat mmap mprotect mremap msync munmap nanosleep newfstatat open openat
pause pipe pipe2 poll ppoll prctl pread64 prlimit64 pselect6 pwrite64 read readlink readlinkat readv recvfrom recvmsg rename
renameat restart_syscall rmdir rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_getaffinity
sched_yield select sendmsg sendto set_tid_address setitimer setpgid setpriority setresgid setresuid setsid setsockopt shutdown
sigaltstack socket socketpair stat statfs symlink symlinkat sysinfo tgkill times tkill umask uname unlink unlinkat utimensat
vfork wait4 waitid write writev
""".split()


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_kernel_surface_has_the_history_of_every_added_call(architecture: str) -> None:
    """Each call of `default` is one of the former ones, or in exactly one family; no family has a call that is not allowed."""
    allowed = set(filters.allowed_calls("default", architecture))
    listed = [call for family in history.FAMILIES for call in family.calls.split()]

    assert len(set(listed)) == len(listed)
    assert set() == allowed - set(FORMER) - set(listed)
    assert set() == {call for call in listed if call in numbers_of(architecture)} - allowed


def test_kernel_surface_entries_are_cve_numbers_with_words() -> None:
    """Each entry is the number of a CVE of 2016 or later and a phrase."""
    entries = [entry for family in history.FAMILIES for entry in (*family.known, *family.elsewhere)]

    assert [] == [cve for cve, words in entries if not re.fullmatch(r"CVE-20(1[6-9]|2\d)-\d{4,}", cve) or not words]


def test_kernel_surface_page_has_the_table() -> None:
    """The page has the table of the data, with the date of the count."""
    text = PAGE.read_text()

    assert history.table() == text.partition("<!-- history -->\n\n")[2].partition("\n\n")[0] + "\n"
    assert f"counted by hand on {history.COUNTED_ON}" in text


def test_kernel_surface_page_counts_are_right() -> None:
    """The page says how many calls each profile allows."""
    text = PAGE.read_text()
    for profile in ("strict", "default"):
        counts = [str(len(filters.allowed_calls(profile, each))) for each in ("x86_64", "aarch64")]
        assert f"| `{profile}` | {counts[0]} | {counts[1]} |" in text
