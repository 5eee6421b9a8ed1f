"""The page of languages and the table in the program say the same."""

from __future__ import annotations

from documents import DOCS, table_rows

from capsule_run.request.languages import LANGUAGES


def cell(words):
    return ", ".join(f"`{word}`" for word in words)


def test_languages_page_has_every_language():
    """Names, other names, file, programs and packages are those of the table."""
    expected = []
    for row in LANGUAGES.values():
        ways = [
            " and ".join(f"`{name}`" for name in tools.programs) + (f" {tools.since}" if tools.since else "")
            for tools in row.toolchains
        ]
        install = f"`{row.install}`" if row.install else ""
        expected.append([f"`{row.name}`", cell(row.also), f"`{row.file}`", ", ".join(ways), install])
    found = [row for row in table_rows((DOCS / "languages.md").read_text()) if len(row) == 5]
    assert expected == found
