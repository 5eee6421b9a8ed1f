"""Records for tests, made of lines as the launcher writes them."""

from __future__ import annotations

from capsule_run.result.report import parse_record


def record(*lines):
    """Parse a record of these lines, each a list of words."""
    return parse_record("".join(f"{' '.join(line)}\n" for line in lines).encode())
