r"""Text that others chose, made harmless before a person, a model or a terminal reads it as part of a sentence of ours.

Rank 0: pure. Every name, path, command and line of output that a message quotes goes through `printable`: what could end
our line, move a cursor, hide or reorder words is written as an escape (`\n`, `\u202e`). Values of JSON stay exact; JSON
escapes them itself.
"""

from __future__ import annotations

MOST = 4096  # of a message
MOST_NAME = 256
# Not printable for Unicode, but part of ordinary writing: spaces that separate words.
_HARMLESS = frozenset("\u00a0\u202f\u3000")
# What reorders or hides text, or ends a line for some readers, in output that keeps its own lines.
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
    for code in range(0xE0000, 0xE0080)  # tags: letters that nobody sees
}


def printable(text: str, most: int = MOST) -> str:
    """The text on one line, at most `most` characters of it: nothing that controls, separates, hides or reorders is left."""
    if len(text) <= most and text.isprintable():
        return text
    shown = "".join([one if one.isprintable() or one in _HARMLESS else _escape(one) for one in text[: most + 1]])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def name(text: str) -> str:
    """A name or path from inside, on one line and short enough to stand in a list of them."""
    return printable(text, MOST_NAME)
