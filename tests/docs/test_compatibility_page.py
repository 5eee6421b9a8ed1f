"""docs/compatibility.md names every program of the corpus, and every exception with its reason."""

from __future__ import annotations

import sys

from documents import DOCS, REPOSITORY, table_rows

sys.path.append(str(REPOSITORY / "tests" / "compat"))

from corpus import NOT_THERE, PROGRAMS
from cpython import ENDING, EXCEPTIONS
from project_report import SAME, pinned
from projects import DIFFERENCES, NOT_TRIED, PROJECTS

ROWS = table_rows((DOCS / "compatibility.md").read_text())


def test_compatibility_page_has_every_program():
    """What CI tries is what the page lists, and nothing on it differs."""
    assert [program.name for program in PROGRAMS] == [
        row[0] for row in ROWS if row[-1] in ("the same", "DIFFERS") and len(row) == 3
    ][: len(PROGRAMS)]
    assert [] == [row for row in ROWS if "DIFFERS" in row]


def test_compatibility_page_exceptions_have_reasons():
    """The page lists what does not run inside, and why."""
    reasons = {row[0]: row[1] for row in ROWS if len(row) == 2}
    assert {**NOT_THERE, **NOT_TRIED, **ENDING, **EXCEPTIONS} == reasons


def _project_rows():
    return {row[0]: row for row in ROWS if len(row) == 5 and row[2] in ("CI", "full")}


def test_compatibility_page_has_the_projects_of_ci_with_their_versions():
    """What CI runs is on the page, in the order of the table, with the versions that the table pins."""
    rows = _project_rows()
    shown = [project for project in PROJECTS if project.is_cheap or project.name in rows]
    assert [project.name for project in shown] == list(rows)
    assert [] == [project.name for project in shown if pinned(project) not in rows[project.name][1]]
    assert ["CI" if project.is_cheap else "full" for project in shown] == [row[2] for row in rows.values()]


def test_compatibility_page_projects_that_differ_have_reasons():
    """A project that differs has its reason on the page, and the sentence above the table counts the others."""
    rows = _project_rows()
    different = {name: row[4] for name, row in rows.items() if row[4] != SAME}
    assert {*DIFFERENCES} == {*different}
    assert [] == [name for name, cell in different.items() if not cell.endswith(DIFFERENCES[name].why)]
    text = (DOCS / "compatibility.md").read_text()
    assert f"{len(rows) - len(different)} of {len(rows)} projects that were measured" in text
