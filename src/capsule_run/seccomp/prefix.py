"""Instructions before a filter that notify the launcher of a few calls, which then continue.

Pure. Two kinds: the ledger's calls, which are recorded, and the calls that an overlay needs help with. The first must be
calls that every profile allows for any arguments, because the filter after these instructions does not see them. For the
second the launcher evaluates the filter that follows.
"""

from __future__ import annotations

from struct import pack

from capsule_run.seccomp.compiler import ARCH_OFFSET, NUMBER_OFFSET
from capsule_run.seccomp.ruleset import audit_arch_of, numbers_of

NOTIFIED = ("exit_group", "execve")
HELPED = ("rename", "renameat", "renameat2", "link", "linkat")
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
# The launcher takes its answer from the low half: core/seccomp_notify.c.
NOTIFY_AND_CONTINUE = 0x7FC00000 | 0xFFFE
NOTIFY_AND_HELP = 0x7FC00000 | 0xFFFD


def notify_prefix(architecture: str, names: tuple[str, ...] = NOTIFIED, answer: int = NOTIFY_AND_CONTINUE) -> str:
    """Return the instructions to put before a filter, in hexadecimal."""
    numbers = numbers_of(architecture)
    known = [numbers[name] for name in names if name in numbers]
    count = len(known)
    program = [
        (LOAD, 0, 0, ARCH_OFFSET),
        (IF_EQUAL, 0, count + 2, audit_arch_of(architecture)),
        (LOAD, 0, 0, NUMBER_OFFSET),
    ]
    program += [(IF_EQUAL, count - 1 - at, 0 if at < count - 1 else 1, number) for at, number in enumerate(known)]
    program.append((RETURN, 0, 0, answer))
    return b"".join(pack("<HBBI", *instruction) for instruction in program).hex()


def help_prefix(architecture: str) -> str:
    """Return the instructions that ask for help with what an overlay cannot do alone (core/overlay_calls.c)."""
    return notify_prefix(architecture, HELPED, NOTIFY_AND_HELP)
