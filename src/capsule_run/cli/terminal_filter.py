"""Pass on what a sandboxed program writes to the caller's terminal, without what could harm the terminal or its user.

Pure. What passes is listed, and everything else is dropped; docs/decisions/terminal.md has the reasons. Called by `terminal`.
"""

from __future__ import annotations

import re

_HELD_BYTES = 64  # of a sequence that has not ended: more is no sequence
_TEXT_BYTES = 1024  # of a title or a colour
_REPLACEMENT = "\ufffd".encode()  # by number: the static file has no table of names
_CONTROLS = rb"\x00-\x04\x06-\x1a\x1c-\x7f"  # but ENQ, which the terminal answers, and ESC
# What is passed on without a look: in a terminal of UTF-8, whole characters but the C1 controls.
_PLAIN_UTF8 = re.compile(
    rb"(?:["
    + _CONTROLS
    + rb"]|\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})*+"
)
_PLAIN_BYTES = re.compile(rb"[" + _CONTROLS + rb"\xa0-\xff]*+")
_CUT_UTF8 = re.compile(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")
_SEQUENCE = re.compile(
    rb"\x1b(?:\[([<=>?]?)([0-9:;]*)([\x20-\x2f]*)([\x40-\x7e])|([\x20-\x2f]*)([\x30-\x5a\x5c\x60-\x7e]))"
)
_CUT_SEQUENCE = re.compile(rb"\x1b(?:\[[\x30-\x3f]*[\x20-\x2f]*|[\x20-\x2f]*)\Z")
_STRING = re.compile(rb"\x1b([]PX^_])")  # OSC, DCS, SOS, PM, APC
_STRING_END = re.compile(rb"[\x07\x18\x1a\x1b]|\xc2\x9c")
_HARMLESS_TEXT = re.compile(rb"(?:[\x20-\x7e]|\xc2[\xa0-\xbf]|[\xc3-\xf4][\x80-\xbf]+)*")

# Final bytes of control sequences, by the byte before the parameters.
_CSI = {
    b"": b"@ABCDEFGHIJKLMPSTXZ`abcdefghlmnrsu",
    b"?": b"hlnrsuJKcW",
    b">": b"cqmn",
    b"=": b"c",
    b"<": b"",
}
_WITH_INTERMEDIATES = (b"!p", b" q", b"$p", b'"q', b"$r", b"$t", b"$v", b"$x", b"$z", b"${")
_ESC = b"78=>DEHMNOZcno|}~"
_CHARACTER_SETS, _LINE_SIZES = b"()*+-./", b"#"
_SIZE_QUERIES, _TITLE_STACK = (b"14", b"16", b"18", b"19"), (b"22", b"23")
_TITLES, _COLOURS = (b"0", b"1", b"2"), (b"4", b"10", b"11", b"12", b"104", b"110", b"111", b"112")
_KEYBOARD_LOCK = b"2"
_ON_BY_DEFAULT = (b"7", b"8", b"25")  # wrap, repeat, cursor


# How to undo what has no mode.
_UNDO = {
    "title": b"\x1b[23;0t",
    "region": b"\x1b7\x1b[r\x1b8",
    "keypad": b"\x1b>",
    "cursor": b"\x1b[0 q",
    "keys": b"\x1b[>4m",
    "colours": b"\x1b]104\x07\x1b]110\x07\x1b]111\x07\x1b]112\x07",
    "look": b"\x1b[0m\x1b(B\x0f",
}


class TerminalFilter:
    """The filter of one run. `queries` counts what was passed that the terminal answers."""

    def __init__(self, *, utf8: bool) -> None:
        self._utf8 = utf8
        self._plain = _PLAIN_UTF8 if utf8 else _PLAIN_BYTES
        self._held = b""
        self._string: bytearray | None = None  # the text of a string that has not ended
        self._string_kind = b""
        self._modes: dict[bytes, bytes] = {}  # prefix and number → `h` or `l`
        self._changed: dict[str, bool] = {}
        self.queries = 0

    def feed(self, piece: bytes) -> bytes:
        """Return what may be written to the terminal now."""
        given, self._held = self._held + piece, b""
        passed: list[bytes] = []
        at = 0
        while at < len(given):
            at = self._take_string(given, at, passed) if self._string is not None else self._take(given, at, passed)
        return b"".join(passed)

    def _take(self, given: bytes, at: int, passed: list[bytes]) -> int:
        plain = self._plain.match(given, at)
        if plain is not None and plain.end() > at:
            passed.append(plain[0])
            return plain.end()
        if given[at] == 0x1B:
            return self._take_escape(given, at, passed)
        if self._utf8 and _CUT_UTF8.match(given, at):
            self._held = given[at:]
            return len(given)
        if self._utf8 and given[at] == 0xC2 and 0x80 <= given[at + 1] < 0xA0:
            return at + 2
        if self._utf8 and given[at] >= 0xA0:
            passed.append(_REPLACEMENT)
        return at + 1

    def _take_escape(self, given: bytes, at: int, passed: list[bytes]) -> int:
        if string := _STRING.match(given, at):
            self._string, self._string_kind = bytearray(), string[1]
            return string.end()
        if found := _SEQUENCE.match(given, at):
            if found[4] is not None:
                allowed = self._allows_csi(found[1], found[2], found[3], found[4])
            else:
                allowed = self._allows_escape(found[5], found[6])
            if allowed:
                passed.append(found[0])
            return found.end()
        if len(given) - at <= _HELD_BYTES and _CUT_SEQUENCE.match(given, at):
            self._held = given[at:]
            return len(given)
        return at + 1  # what follows is text, then

    # --- strings ---

    def _take_string(self, given: bytes, at: int, passed: list[bytes]) -> int:
        assert self._string is not None
        end = _STRING_END.search(given, at)
        while end is not None and end[0] == b"\x07" and self._string_kind != b"]":
            end = _STRING_END.search(given, end.end())
        stop = len(given) if end is None else end.start()
        if len(self._string) <= _TEXT_BYTES:
            self._string += given[at:stop]
        if end is None:
            return stop
        if end[0] == b"\x1b":
            if stop + 1 == len(given):  # the next byte says whether it is the end
                self._held = b"\x1b"
                return len(given)
            is_end = given[stop + 1 : stop + 2] == b"\\"
            after = stop + 2 if is_end else stop
        else:
            is_end, after = end[0] != b"\x18" and end[0] != b"\x1a", end.end()
        if is_end:
            passed.append(self._allowed_string(bytes(self._string)))
        self._string = None
        return after

    def _allowed_string(self, text: bytes) -> bytes:
        number, _semicolon, content = text.partition(b";")
        if self._string_kind != b"]" or len(text) > _TEXT_BYTES or not _HARMLESS_TEXT.fullmatch(text):
            return b""
        whole = b"\x1b]%s\x07" % text
        if number in _TITLES:
            if "title" in self._changed:
                return whole
            self._changed["title"] = True
            return b"\x1b[22;0t" + whole  # the caller's title, for the end
        if number not in _COLOURS:
            return b""
        if b"?" in content:
            self.queries += 1
        else:
            self._changed["colours"] = True
        return whole

    # --- sequences ---

    def _allows_escape(self, intermediates: bytes, final: bytes) -> bool:
        if intermediates:
            self._changed["look"] = True
            return len(intermediates) == 1 and intermediates in _CHARACTER_SETS + _LINE_SIZES
        self.queries += final == b"Z"
        if final == b"=":
            self._changed["keypad"] = True
        return final in _ESC

    def _allows_csi(self, prefix: bytes, parameters: bytes, intermediates: bytes, final: bytes) -> bool:
        if intermediates:
            self.queries += intermediates + final == b"$p"
            if intermediates + final == b" q":
                self._changed["cursor"] = True
            return intermediates + final in _WITH_INTERMEDIATES
        if final == b"t" and not prefix:
            first = parameters.partition(b";")[0]
            self.queries += first in _SIZE_QUERIES
            return first in _SIZE_QUERIES + _TITLE_STACK
        if final not in _CSI[prefix]:
            return False
        if final in b"hl" and prefix in (b"", b"?"):
            return self._set_modes(prefix, parameters, final)
        if final in b"cn" or (final == b"q" and prefix == b">") or (final == b"u" and prefix == b"?"):
            self.queries += 1
        if final == b"m":
            self._changed["keys" if prefix else "look"] = True
        if final == b"r" and not prefix:
            self._changed["region"] = True
        return True

    def _set_modes(self, prefix: bytes, parameters: bytes, final: bytes) -> bool:
        modes = parameters.split(b";")
        if not prefix and _KEYBOARD_LOCK in modes:
            return False
        for mode in modes:
            if len(self._modes) < _TEXT_BYTES:
                self._modes[prefix + mode] = final
        return True

    def undo(self) -> bytes:
        """Return what sets the terminal as it was before, as far as sequences have changed it."""
        self._held, self._string = b"", None
        parts = []
        for mode, final in self._modes.items():
            usual = b"h" if mode.startswith(b"?") and mode[1:] in _ON_BY_DEFAULT else b"l"
            if final != usual:
                parts.append(b"\x1b[" + mode + usual)
        parts += [undo for name, undo in _UNDO.items() if name in self._changed]
        self._modes.clear()
        self._changed.clear()
        return b"".join(parts)
