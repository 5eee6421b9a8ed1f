"""What of a program's output reaches the caller's terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_run.cli.terminal_filter import TerminalFilter


def passed(text, *, utf8=True):
    return TerminalFilter(utf8=utf8).feed(text)


PASSED = {
    "text": "plain, ümläut, 日本, \N{GRINNING FACE}\r\n\t\b\a".encode(),
    "colours": b"\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3m\x1b[4:3m",
    "cursor and erasing": b"\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[3A\x1b7\x1b8\x1bM\x1b[1;24r\x1b[5P\x1b[2 q\x1b[!p",
    "modes": b"\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[?1000;1006h\x1b[4h\x1b=\x1b>",
    "line drawing": b"\x1b(0lqk\x1b(B\x0e\x0f\x1b#8",
    "queries with harmless answers": b"\x1b[c\x1b[6n\x1b[>c\x1b[>q\x1b[?2026$p\x1b[18t\x1b]11;?\x07",
}
DROPPED = {
    "clipboard": b"\x1b]52;c;aGk=\x07",
    "clipboard with ST": b"\x1b]52;c;aGk=\x1b\\",
    "report of the title": b"\x1b[21t",
    "report of the icon's title": b"\x1b[20t",
    "moving the window": b"\x1b[3;0;0t\x1b[8;1;1t\x1b[2t",
    "answerback": b"\x05",
    "request of a setting": b'\x1bP$q"p\x1b\\',
    "user-defined keys": b"\x1bP0;1|17/6C730A\x1b\\",
    "graphics that name files": b"\x1b_Gf=24,t=f;L2V0Yy9wYXNzd2Q=\x1b\\",
    "passing through tmux": b"\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\"[:6] + b"x\x1b\\",
    "iTerm2": b"\x1b]1337;File=name=eA==:aGk=\x07",
    "working directory, notification, link": b"\x1b]7;file:///\x07\x1b]9;hello\x07\x1b]8;;http://a\x07",
    "checksum of the screen": b"\x1b[1;1;1;1;24;80*y",
    "report of tabs and cursor": b"\x1b[1$w\x1b[2$u",
    "printer": b"\x1b[5i\x1b[?5i",
    "locked keyboard": b"\x1b[2h",
    "titles in hexadecimal": b"\x1b[>1;3t",
    "leaving UTF-8": b"\x1b%@",
    "C1 in UTF-8": "\x9d52;c;aGk=\x9c".encode()[:2],
    "memory lock": b"\x1bl\x1bm",
}


@pytest.mark.parametrize("name", PASSED)
def test_terminal_filter_passes_what_programs_draw_with(name):
    """Text, colours, cursor, modes and harmless queries pass unchanged, also in pieces of one byte."""
    assert PASSED[name] == passed(PASSED[name])
    filtered = TerminalFilter(utf8=True)
    assert PASSED[name] == b"".join([filtered.feed(bytes([byte])) for byte in PASSED[name]])


@pytest.mark.parametrize("name", DROPPED)
def test_terminal_filter_drops_what_could_harm(name):
    """Nothing is left of it, whole or in pieces of one byte, and what stands around it passes."""
    assert b"ab" == passed(b"a" + DROPPED[name] + b"b")
    filtered = TerminalFilter(utf8=True)
    assert b"ab" == b"".join([filtered.feed(bytes([byte])) for byte in b"a" + DROPPED[name] + b"b"])


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (b"\x1b[5\nn", b"[5\nn"),  # terminals obey a newline within a sequence
        (b"\x1b\x1b[21t", b""),
        (b"\x1b[" + b"1" * 100 + b"\x1b[21tx", b"[" + b"1" * 100 + b"x"),
        (b"\x1b]2;a\x1b[21tb", b"b"),  # ESC ends a string
        (b"\x1b]2;a\x18b", b"b"),
        (b"\x1b]52;c;" + b"a" * 5000 + b"\x07b", b"b"),
        (b"\x9b21t", b"21t"),
        (b"\xe2\x9b[21t", "\N{REPLACEMENT CHARACTER}[21t".encode()),
        (b"\xff", "\N{REPLACEMENT CHARACTER}".encode()),
    ],
)  # fmt: skip
def test_terminal_filter_reads_sequences_as_strictly_as_no_terminal(given, left):
    """What is not exactly a listed sequence loses its ESC and is text, or is dropped."""
    assert left == passed(given)


def test_terminal_filter_without_utf8_drops_all_c1():
    """In a terminal of single bytes, 0x80 to 0x9f are controls."""
    assert b"\xe452;c\xfc" == passed(b"\xe4\x9d52;c\x9c\xfc", utf8=False)


DANGEROUS = (b"\x05", b"\x1b]5", b"\x1bP", b"\x1b_", b"\x1b^", b"\x1bX", b"\x1b[21t", b"\x1b[20t", b"$q", b"\x1b[>1t")
PIECES = st.lists(
    st.sampled_from([b"\x1b", b"[", b"]", b"P", b"2", b"1", b"t", b"5", b";", b"\x07", b"\\", b"?", b"\xc2", b"\x9b", b"\x9d",
                     b"\x05", b"\x18", b"\n", b"$", b"q", b"_", b"^", b"X", b">", b"\xe2", b"a"]),
    max_size=40,
)  # fmt: skip


@given(PIECES)
def test_terminal_filter_lets_nothing_dangerous_through(pieces):
    """However it is cut, no introducer of a dropped string, no answerback and no lone C1 control passes."""
    filtered = TerminalFilter(utf8=True)
    shown = b"".join([filtered.feed(piece) for piece in pieces])
    assert [] == [each for each in DANGEROUS[:6] if each in shown]
    assert b"\x1b[21t" not in shown
    shown.decode()  # whole characters only
    assert not any(0x80 <= ord(character) < 0xA0 for character in shown.decode())


def test_terminal_filter_undoes_what_was_changed():
    """At the end modes, colours, keypad, title and screen are as before, and nothing is written if nothing was changed."""
    filtered = TerminalFilter(utf8=True)
    assert b"\x1b[22;0t\x1b]2;evil\x07" == filtered.feed(b"\x1b]2;evil\x1b\\")
    filtered.feed(b"\x1b[?1049h\x1b[?25l\x1b[?1000h\x1b[?1000l\x1b[?7h\x1b[4h\x1b[1m\x1b=\x1b]11;#000\x07\x1b[3")
    undone = filtered.undo()
    for part in (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[4l", b"\x1b[0m", b"\x1b>", b"\x1b]111\x07", b"\x1b[23;0t"):
        assert part in undone
    assert b"1000" not in undone
    assert b"?7" not in undone
    assert b"" == filtered.undo()
    plain = TerminalFilter(utf8=True)
    plain.feed(b"text\r\n")
    assert b"" == plain.undo()


def test_terminal_filter_counts_what_is_answered():
    """A query that passes is counted, since its answer may come after the end."""
    filtered = TerminalFilter(utf8=True)
    filtered.feed(b"\x1b[1mtext\x1b[21t\x1bP$qm\x1b\\")
    assert 0 == filtered.queries
    filtered.feed(b"\x1b[6n\x1b]11;?\x07\x1b[>q")
    assert 3 == filtered.queries
