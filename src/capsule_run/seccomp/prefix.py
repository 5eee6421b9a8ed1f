"""Instructions before a filter that notify the launcher of a few calls, which it records and then lets continue.

Pure. Only for calls that every profile allows for any arguments, because the filter after these instructions does not see
them.
"""

from __future__ import annotations

from struct import pack

from capsule_run.seccomp.compiler import ARCH_OFFSET, NUMBER_OFFSET
from capsule_run.seccomp.ruleset import numbers_of

NOTIFIED = ("exit_group", "execve")
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NOTIFY_AND_CONTINUE = 0x7FC00000 | 0xFFFE  # the launcher takes its answer from the low half: core/seccomp_notify.c


def notify_prefix(architecture: str) -> str:
    """Return the instructions to put before a filter, in hexadecimal."""
    if architecture == "x86_64":
        from capsule_run.seccomp.tables.syscalls_x86_64 import AUDIT_ARCH  # noqa: PLC0415  # one of two
    else:
        from capsule_run.seccomp.tables.syscalls_aarch64 import AUDIT_ARCH  # noqa: PLC0415  # one of two
    numbers = numbers_of(architecture)
    count = len(NOTIFIED)
    program = [(LOAD, 0, 0, ARCH_OFFSET), (IF_EQUAL, 0, count + 2, AUDIT_ARCH), (LOAD, 0, 0, NUMBER_OFFSET)]
    program += [
        (IF_EQUAL, count - 1 - at, 0 if at < count - 1 else 1, numbers[name]) for at, name in enumerate(NOTIFIED)
    ]
    program.append((RETURN, 0, 0, NOTIFY_AND_CONTINUE))
    return b"".join(pack("<HBBI", *instruction) for instruction in program).hex()
