"""The lines of the ledger, read back; and the instructions that make two calls be told."""

from __future__ import annotations

import pytest
from bpf_simulator import ALLOW, Filter, call

from capsule_run.data import syscalls_aarch64, syscalls_x86_64
from capsule_run.ledger import _seen
from capsule_run.seccomp import program_hex
from capsule_run.seccomp.prefix import ASK_AND_GO_ON, TOLD, told_first

TABLES = {"x86_64": syscalls_x86_64, "aarch64": syscalls_aarch64}
PROFILES = ("strict", "default", "build")
ODD = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def plain(architecture, profile="default"):
    return program_hex(profile, architecture=architecture, network=False)


@pytest.mark.parametrize("architecture", TABLES)
@pytest.mark.parametrize("profile", PROFILES)
def test_told_calls_are_allowed_whatever_their_arguments(architecture, profile):
    """Nobody judges a call that goes on, so only calls that no profile judges may be among them."""
    table, program = TABLES[architecture], Filter(bytes.fromhex(plain(architecture, profile)))
    for name in TOLD:
        for argument in ODD:
            data = call(table.AUDIT_ARCH, table.NUMBERS[name], *[argument] * 6)
            assert (name, argument, ALLOW) == (name, argument, program.run(data))


@pytest.mark.parametrize("architecture", TABLES)
def test_every_other_call_is_judged_as_before(architecture):
    """The instructions before the filter answer for the told calls alone, and for no foreign architecture."""
    table = TABLES[architecture]
    before = Filter(bytes.fromhex(plain(architecture)))
    after = Filter(bytes.fromhex(told_first(architecture) + plain(architecture)))
    told = {table.NUMBERS[name] for name in TOLD}
    for number in range(600):
        for arch in (table.AUDIT_ARCH, 0x40000003):
            data = call(arch, number, 0x10000000)
            native = arch == table.AUDIT_ARCH
            expected = ASK_AND_GO_ON if native and number in told else before.run(data)
            assert (number, arch, expected) == (number, arch, after.run(data))


STATUS = (
    "Name:\tsh\nTgid:\t501\nNgid:\t0\nPid:\t502\nPPid:\t500\nNStgid:\t501\t4\nNSpid:\t502\t5\nVmHWM:\t    1500 kB\n"
)
STAT = "501 (a b) R) S 500 3 3 0 -1 0 100 0 0 0 25 7 0 0 20 0 1 0 4321 1000 100 0\n"


def escaped(text):
    return "".join(c if " " < c < "\x7f" and c != "%" else f"%{ord(c):02x}" for c in text)


def line(kind, code, words):
    return ["process", kind, "1000", "502", code, *map(escaped, (STAT, STATUS, words))]


def test_a_look_is_read_back():
    """A thread speaks for its process; a name with brackets, an empty word and blanks come back as they were."""
    key, found = _seen(line("1", "256", "sh\0-c\0\0a b\0"))
    expected = {
        "outside": 501, "pid": 4, "parent_outside": 500, "command": "a b) R", "argv": ["sh", "-c", "", "a b"],
        "argv_truncated": False, "ticks": 4321, "user_ms": 250.0, "system_ms": 70.0, "max_memory_bytes": 1500 << 10,
    }  # fmt: skip
    assert ((4, "4321"), expected) == (key, found)


def test_a_long_command_line_says_that_it_is_cut():
    """768 bytes are read, 64 words are kept."""
    assert _seen(line("1", "0", "x" * 768))[1]["argv_truncated"]
    many = _seen(line("1", "0", "w\0" * 70))[1]
    assert (64, True) == (len(many["argv"]), many["argv_truncated"])
