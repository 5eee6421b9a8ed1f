"""docs/escape-tests.md is made of the tests, and there are as many attacks as promised."""

from __future__ import annotations

import importlib.util

from documents import DOCS, REPOSITORY

_SPEC = importlib.util.spec_from_file_location("escape_page", REPOSITORY / "tests" / "escape" / "page.py")
escape_page = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(escape_page)


def test_escape_page_is_up_to_date():
    """A test that came, went or changed its story is on the page: `python tests/escape/page.py` writes it."""
    assert escape_page.page() == (DOCS / "escape-tests.md").read_text()


def test_escape_page_has_sixty_attacks_and_more():
    """Tables of system calls not counted, at least 60 attacks have a test and a story of their own."""
    rows = list(escape_page.rows())
    assert len(rows) >= 60
    assert [] == [row for row in rows if len(row[2]) < 20 or not row[4]]


def test_escape_page_names_known_vulnerabilities():
    """Dozens of holes of others are named, each where its attack is."""
    text = (DOCS / "escape-tests.md").read_text()
    assert len(set(escape_page.re.findall(r"CVE-\d{4}-\d+", text))) >= 40
