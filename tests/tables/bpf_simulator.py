"""A strict interpreter of classic BPF as seccomp allows it, for tests of filters.

It knows nothing of the compiler. What the kernel would refuse at load time is refused here for the whole program,
also on paths that a call does not take; everything else follows the kernel's rules for `struct seccomp_data`.
"""

from __future__ import annotations

import struct

MAX_INSTRUCTIONS = 4096
DATA_BYTES = 64

LOAD, AND, RETURN, JUMP = 0x20, 0x54, 0x06, 0x05
IF_EQUAL, IF_GREATER, IF_AT_LEAST, IF_ANY_BIT = 0x15, 0x25, 0x35, 0x45
BRANCHES = (IF_EQUAL, IF_GREATER, IF_AT_LEAST, IF_ANY_BIT)

ALLOW, KILL_PROCESS, ERRNO, ASK = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000
END_OF_RUN = 0xFFFF


class BadProgramError(Exception):
    """The kernel would not load this program, or we do not want it."""


class Filter:
    """A loaded program."""

    def __init__(self, program: bytes) -> None:
        if len(program) % 8:
            raise BadProgramError(f"{len(program)} bytes are no whole number of instructions")
        self.instructions = list(struct.iter_unpack("<HBBI", program))
        self._check()

    def _check(self) -> None:
        count = len(self.instructions)
        if not 0 < count <= MAX_INSTRUCTIONS:
            raise BadProgramError(f"{count} instructions")
        for at, (code, yes, no, constant) in enumerate(self.instructions):
            if code in BRANCHES:
                targets = [at + 1 + yes, at + 1 + no]
            elif code == JUMP:
                targets = [at + 1 + constant]
            elif code == RETURN:
                targets = []
            elif code == LOAD:
                if constant % 4 or constant >= DATA_BYTES:
                    raise BadProgramError(f"instruction {at} loads from offset {constant}")
                targets = [at + 1]
            elif code == AND:
                targets = [at + 1]
            else:
                raise BadProgramError(f"instruction {at} has code {code:#x}")
            if code not in BRANCHES and (yes or no):
                raise BadProgramError(f"instruction {at} is no branch and has jump distances")
            if any(target >= count for target in targets):
                raise BadProgramError(f"instruction {at} leads past the end")

    def run(self, data: bytes) -> int:
        """The answer to one call."""
        return self.trace(data)[0]

    def trace(self, data: bytes) -> tuple[int, list[int]]:
        """The answer to one call, and the indexes of the instructions that led to it."""
        if len(data) != DATA_BYTES:
            raise BadProgramError(f"seccomp_data has {len(data)} bytes")
        at, word, path = 0, 0, []
        while True:
            code, yes, no, constant = self.instructions[at]
            path.append(at)
            at += 1
            if code == LOAD:
                word = int.from_bytes(data[constant : constant + 4], "little")
            elif code == AND:
                word &= constant
            elif code == JUMP:
                at += constant
            elif code == RETURN:
                return constant, path
            else:
                at += yes if _taken(code, word, constant) else no


def _taken(code: int, word: int, constant: int) -> bool:
    if code == IF_EQUAL:
        return word == constant
    if code == IF_GREATER:
        return word > constant
    if code == IF_AT_LEAST:
        return word >= constant
    return bool(word & constant)


def call(architecture: int, number: int, *arguments: int) -> bytes:
    """`struct seccomp_data` of one call; arguments that are not given are zero."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    return struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0x7F0000000000, *padded)


def words(answer: int) -> str:
    """The answer as tests spell it: `allow`, `kill`, or `errno N`, no matter who gives it: the filter or the launcher."""
    if answer & 0xFFFF0000 == ALLOW:  # the kernel ignores the low half
        return "allow"
    if answer in (KILL_PROCESS, ASK | END_OF_RUN):
        return "kill"
    if answer & 0xFFFF0000 in (ERRNO, ASK):
        return f"errno {answer & 0xFFFF}"
    raise BadProgramError(f"unexpected answer {answer:#x}")
