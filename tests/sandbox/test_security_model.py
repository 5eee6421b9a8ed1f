"""docs/security-model.md against the tests: a promise without a test that exists is not one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TEST = re.compile(r"`tests/(\w+/\w+\.py)::(\w+)`")


def _lines(section):
    text = REPOSITORY.joinpath("docs", "security-model.md").read_text()
    return re.findall(r"^\d+\. .*$", text.split(f"\n## {section}\n")[1].split("\n## ")[0], re.MULTILINE)


def _functions(file):
    return {
        node.name
        for node in ast.parse(REPOSITORY.joinpath("tests", file).read_text()).body
        if isinstance(node, ast.FunctionDef)
    }


def test_security_page_promises_name_existing_tests():
    """Each numbered promise names at least one test function, and each that it names is there."""
    for line in _lines("Promises"):
        named = TEST.findall(line)
        assert named, line
        assert [] == [f"{file}::{name}" for file, name in named if name not in _functions(file)], line


def test_security_page_promises_and_non_promises_are_numbered():
    """Numbers count from 1 without a gap, and the non-promises are no footnote."""
    for section in ("Promises", "Non-promises"):
        assert list(range(1, len(_lines(section)) + 1)) == [int(line.partition(".")[0]) for line in _lines(section)]
    assert len(_lines("Non-promises")) >= 10


def test_security_page_layers_say_what_happens_if_they_fail():
    """The table of layers has no empty cell."""
    text = REPOSITORY.joinpath("docs", "security-model.md").read_text()
    rows = [line for line in text.split("\n## Layers\n")[1].split("\n## ")[0].splitlines() if line.startswith("| ")]
    assert len(rows) >= 10
    assert [] == [row for row in rows if any(not cell.strip() for cell in row.strip("|").split("|"))]
