"""Other ways into the kernel: a filter that compares numbers of one architecture is passed through the gate of another."""

from __future__ import annotations

import pytest
from inside import outcome

# i386 numbers; each of them would be harmless here if it reached the kernel.
BY_INT80 = (
    ("getpid", "20"), ("chmod 04777", "15 =/workspace 04777"), ("mount", "21 bad bad bad"), ("chroot", "61 =/"),
    ("unshare a user namespace", "310 0x10000000"), ("clone a user namespace", "120 0x10000011 0"), ("ptrace", "26 16 1 0"),
    ("setns", "346 0 0"), ("open_by_handle_at", "342 -100 bad 0"), ("keyctl", "288 0 -3 0"), ("clone3", "435 bad 88"),
    ("socketcall", "102 1 bad"),
)  # fmt: skip


@pytest.mark.parametrize("words", [words for _name, words in BY_INT80], ids=[name for name, _words in BY_INT80])
def test_syscall_by_int80_ends_the_run(attack, x86_64, words):
    """`int 0x80` from a 64-bit program reaches no call at all (every allow-list that looks at numbers alone)."""
    assert "SIGSYS" == outcome(attack("int80", *words.split()))


@pytest.mark.parametrize("words", ["39", "56 0x10000011", "165 bad bad bad", "520 bad bad bad", "101 16 1 0 0"])
def test_syscall_with_the_x32_bit_ends_the_run(attack, x86_64, words):
    """Numbers with the x32 bit (0x40000000) reach no call at all."""
    assert "SIGSYS" == outcome(attack("x32", *words.split()))


@pytest.mark.parametrize("request_number", ["0x5412", "0x541c", "0x541d"], ids=["TIOCSTI", "TIOCLINUX", "TIOCCONS"])
@pytest.mark.parametrize("high", [0, 0x1, 0x8000_0000, 0xFFFF_FFFF], ids=hex)
def test_ioctl_tiocsti_with_any_high_bits_is_refused(attack, request_number, high):
    """TIOCSTI and its like are EPERM with any high bits, and end a `strict` run (CVE-2017-5226, CVE-2019-10063)."""
    words = ("sys", "ioctl", "0", str(high << 32 | int(request_number, 0)), "bad")
    assert ["EPERM", "E5001"] == [outcome(attack(*words)), outcome(attack(*words, profile="strict"))]


@pytest.mark.parametrize("domain", [1, 2, 16])
def test_socket_family_with_high_bits_is_still_refused(attack, domain):
    """A family with garbage in the high half is judged by the 32 bits that the kernel reads."""
    plain = outcome(attack("sys", "socket", str(domain), "3", "255"))
    assert not plain.startswith("ok")
    assert plain == outcome(attack("sys", "socket", str(1 << 32 | domain), "3", "255"))


def test_clone_namespace_flag_with_high_bits_is_still_refused(attack):
    """clone(CLONE_NEWUSER) is refused with garbage above, too."""
    assert "EPERM" == outcome(attack("sys", "clone", str(0xDEAD_0000_0000_0000 | 0x10000011), "0", "0", "0", "0"))
