"""Instructions before a filter that make a few calls be told to the launcher, which then lets them go on.

Rank 1: pure. Only for calls that every profile allows whatever their arguments: behind these instructions nobody judges
them any more.
"""

from __future__ import annotations

from struct import pack

from capsule_run.seccomp.compiler import ARCH_OFFSET, NUMBER_OFFSET
from capsule_run.seccomp.ruleset import numbers_of

TOLD = ("exit_group", "execve")
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ASK_AND_GO_ON = 0x7FC00000 | 0xFFFE  # the low half tells the launcher what to answer, see core/seccomp_notify.c


def told_first(architecture: str) -> str:
    """The instructions, in hexadecimal, to stand before a filter."""
    if architecture == "x86_64":
        from capsule_run.seccomp.tables.syscalls_x86_64 import AUDIT_ARCH  # noqa: PLC0415  # one of two
    else:
        from capsule_run.seccomp.tables.syscalls_aarch64 import AUDIT_ARCH  # noqa: PLC0415  # one of two
    numbers = numbers_of(architecture)
    count = len(TOLD)
    program = [(LOAD, 0, 0, ARCH_OFFSET), (IF_EQUAL, 0, count + 2, AUDIT_ARCH), (LOAD, 0, 0, NUMBER_OFFSET)]
    program += [(IF_EQUAL, count - 1 - at, 0 if at < count - 1 else 1, numbers[name]) for at, name in enumerate(TOLD)]
    program.append((RETURN, 0, 0, ASK_AND_GO_ON))
    return b"".join(pack("<HBBI", *instruction) for instruction in program).hex()
