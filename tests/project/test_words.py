"""Words that docs/glossary.md bans are in no file of ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
GLOSSARY = REPOSITORY / "docs" / "glossary.md"
PLACES = ("src", "core", "tests", "docs", "bench", "examples", ".ci")
PAGES = (
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "pyproject.toml",
    "hatch_build.py",
)  # the changelog has a history
SUFFIXES = {".py", ".c", ".h", ".md", ".toml", ".txt", ".json", ""}


def banned():
    """The words in the first column of the glossary's last table."""
    rows = GLOSSARY.read_text().split("| not | but |")[1].splitlines()
    return [word for row in rows if row.startswith("| ") for word in row.split("|")[1].strip().split(", ")]


PATTERN = re.compile(rf"(?<![A-Za-z])({'|'.join(banned())})(?![a-z])", re.IGNORECASE)


def files():
    """Every text file of ours but the glossary, this test and generated tables."""
    found = [path for place in PLACES for path in (REPOSITORY / place).rglob("*")]
    found += [REPOSITORY / name for name in PAGES]
    return [
        path
        for path in found
        if path.is_file()
        and path.suffix in SUFFIXES
        and path not in (GLOSSARY, Path(__file__))
        and not {"__pycache__", "node_modules"} & set(path.parts)
        and path.name != "_core"
        and "compiled" not in path.name
    ]


def test_banned_words_are_in_no_file():
    """No name, comment, message or page has a word that the glossary bans."""
    found = []
    for path in files():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if match := PATTERN.search(line):
                found.append(f"{path.relative_to(REPOSITORY)}:{number}: {match[1]}")
    assert [] == found


@pytest.mark.parametrize(
    ("text", "is_banned"),
    [("a_birth", True), ("MOST_KNOBS", True), ("Doors", True), ("outdoors", False), ("doored", False)],
)
def test_banned_word_is_found_in_names_and_as_a_whole_word(text, is_banned):
    """A word is found within a name, in either case, and not within another word."""
    assert is_banned == bool(PATTERN.search(text))
