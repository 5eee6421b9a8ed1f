"""docs/compatibility.md names every program of the corpus, and every exception with its reason."""

from __future__ import annotations

import sys

from documents import DOCS, REPOSITORY, table_rows

sys.path.append(str(REPOSITORY / "tests" / "compat"))

from corpus import NOT_THERE, PROGRAMS
from cpython import ENDING, EXCEPTIONS

ROWS = table_rows((DOCS / "compatibility.md").read_text())


def test_compatibility_page_has_every_program():
    """What CI tries is what the page lists, and nothing on it differs."""
    assert [program.name for program in PROGRAMS] == [row[0] for row in ROWS if row[-1] in ("the same", "DIFFERS")][
        : len(PROGRAMS)
    ]
    assert [] == [row for row in ROWS if "DIFFERS" in row]


def test_compatibility_page_exceptions_have_reasons():
    """The page lists what does not run inside, and why."""
    reasons = {row[0]: row[1] for row in ROWS if len(row) == 2}
    assert {**NOT_THERE, **ENDING, **EXCEPTIONS} == reasons
