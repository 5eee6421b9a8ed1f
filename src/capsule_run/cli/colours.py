"""Colours of our messages: on a terminal only, and never if NO_COLOR is set, unless `--color` says otherwise.

No text depends on them. Other lines drawn on a terminal ask here, too, whether it knows control sequences, and how wide it
is. Loaded when a message is printed.
"""

from __future__ import annotations

import posix

from capsule_run.host.path_resolution import environment
from capsule_run.request.fast_path import ALWAYS, AUTO, NEVER

ERASE = "\r\033[K"  # of the line
RESET, DIM = "\033[0m", "\033[2m"
_USUAL_COLUMNS = 80  # of a terminal that does not say
BOLD, RED, GREEN, YELLOW, CYAN = ("\033[1m", "\033[31m", "\033[32m", "\033[33m", "\033[36m")


class _Choice:
    """The value of `--color`."""

    when = AUTO


choice = _Choice()


def obeys_controls(fd: int) -> bool:
    """Return whether a descriptor is a terminal that knows control sequences."""
    return posix.isatty(fd) and environment("TERM") not in ("", "dumb")


def columns_of(fd: int) -> int:
    """Return the width of a terminal."""
    try:
        return posix.get_terminal_size(fd).columns or _USUAL_COLUMNS
    except OSError:
        return _USUAL_COLUMNS


def wanted(fd: int) -> bool:
    """Return whether text written to a descriptor is to be coloured."""
    if choice.when in (ALWAYS, NEVER):
        return choice.when == ALWAYS
    return obeys_controls(fd) and not environment("NO_COLOR")


def paint(text: str, colour: str, fd: int) -> str:
    """Return the text in a colour if text written to the descriptor is to be coloured."""
    return f"{colour}{text}{RESET}" if text and wanted(fd) else text
