"""The instructions that notify the ledger of two calls, before the filter that judges all others."""

from __future__ import annotations

import pytest
from bpf_simulator import ALLOW, Filter, call

from capsule_run.seccomp.filters import ask_for_help, program_hex, without_listener
from capsule_run.seccomp.prefix import (
    HELPED,
    NOTIFIED,
    NOTIFY_AND_CONTINUE,
    NOTIFY_AND_HELP,
    help_prefix,
    notify_prefix,
)
from capsule_run.seccomp.tables import syscalls_aarch64, syscalls_x86_64

TABLES = {"x86_64": syscalls_x86_64, "aarch64": syscalls_aarch64}
PROFILES = ("strict", "default")
ODD = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def plain(architecture, profile="default"):
    return program_hex(profile, architecture=architecture, network=False)


@pytest.mark.parametrize("architecture", TABLES)
@pytest.mark.parametrize("profile", PROFILES)
def test_seccomp_prefix_notified_syscalls_are_unconditionally_allowed(architecture, profile):
    """Nobody judges a call that goes on, so only calls that no profile judges may be among them."""
    table, program = TABLES[architecture], Filter(bytes.fromhex(plain(architecture, profile)))
    for name in NOTIFIED:
        for argument in ODD:
            data = call(table.AUDIT_ARCH, table.NUMBERS[name], *[argument] * 6)
            assert (name, argument, ALLOW) == (name, argument, program.run(data))


@pytest.mark.parametrize("architecture", TABLES)
def test_seccomp_prefix_leaves_other_syscalls_to_the_filter(architecture):
    """The instructions before the filter answer for the notified calls alone, and for no foreign architecture."""
    table = TABLES[architecture]
    before = Filter(bytes.fromhex(plain(architecture)))
    after = Filter(bytes.fromhex(notify_prefix(architecture) + plain(architecture)))
    notified = {table.NUMBERS[name] for name in NOTIFIED}
    for number in range(600):
        for arch in (table.AUDIT_ARCH, 0x40000003):
            data = call(arch, number, 0x10000000)
            native = arch == table.AUDIT_ARCH
            expected = NOTIFY_AND_CONTINUE if native and number in notified else before.run(data)
            assert (number, arch, expected) == (number, arch, after.run(data))


@pytest.mark.parametrize("architecture", TABLES)
def test_seccomp_prefix_asks_for_help_with_the_calls_of_an_overlay(architecture):
    """The program text that a run puts before its filter asks about these calls alone, and is what the tables say."""
    table = TABLES[architecture]
    before = Filter(bytes.fromhex(plain(architecture)))
    program = ask_for_help(plain(architecture), architecture)
    after = Filter(bytes.fromhex(program))
    assert help_prefix(architecture) + plain(architecture) == program
    helped = {table.NUMBERS[name] for name in HELPED if name in table.NUMBERS}
    for number in range(600):
        for arch in (table.AUDIT_ARCH, 0x40000003):
            data = call(arch, number, 0x10000000)
            expected = NOTIFY_AND_HELP if arch == table.AUDIT_ARCH and number in helped else before.run(data)
            assert (number, arch, expected) == (number, arch, after.run(data))


@pytest.mark.parametrize("architecture", TABLES)
def test_seccomp_prefix_without_a_listener_leaves_helped_calls_to_the_filter(architecture):
    """Where nobody can be asked, the filter answers as it does without the instructions before it."""
    table = TABLES[architecture]
    alone = Filter(bytes.fromhex(without_listener(plain(architecture))))
    after = Filter(bytes.fromhex(without_listener(ask_for_help(plain(architecture), architecture))))
    for name in HELPED:
        for argument in ODD if name in table.NUMBERS else ():
            data = call(table.AUDIT_ARCH, table.NUMBERS[name], *[argument] * 6)
            assert alone.run(data) == after.run(data)
