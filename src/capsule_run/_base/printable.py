r"""Escape untrusted text before a message quotes it for a person, a model or a terminal.

Pure. Every name, path, command and line of output that a message quotes goes through `printable`: characters that could end
the line, move the cursor, hide or reorder text are escaped (`\n`, `\u202e`). Values in JSON stay exact; JSON escapes them
itself.
"""

from __future__ import annotations

MAX_MESSAGE = 4096  # characters
MAX_NAME = 256
# Not printable for Unicode, but part of ordinary text: spaces between words.
_HARMLESS = frozenset("\u00a0\u202f\u3000")
# Characters that reorder or hide text, or end a line for some readers. Also escaped in output with several lines.
_ACTING = (
    0x061C,
    0x200B,
    0x200E,
    0x200F,
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
)
REORDERING = {code: f"\\u{code:04x}" for code in _ACTING} | {
    code: f"\\U{code:08x}"
    for code in range(0xE0000, 0xE0080)  # tags: invisible letters
}


def printable(text: str, most: int = MAX_MESSAGE) -> str:
    """Return the text on one line, at most `most` characters, without characters that control, hide or reorder text."""
    if len(text) <= most and text.isprintable():
        return text
    shown = "".join([one if one.isprintable() or one in _HARMLESS else _escape(one) for one in text[: most + 1]])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def name(text: str) -> str:
    """Return a name or path from the sandbox, escaped and short enough for a list."""
    return printable(text, MAX_NAME)
