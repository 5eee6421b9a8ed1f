"""Tests are named `test_<subject>_<condition>_<outcome>`, so that `pytest -k SUBJECT` finds them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
NO_SUBJECT = {
    "a",
    "an",
    "the",
    "it",
    "its",
    "one",
    "what",
    "who",
    "nobody",
    "nothing",
    "each",
    "every",
    "where",
    "there",
    "and",
}
FUNCTIONS = [
    (str(path.relative_to(TESTS)), node)
    for path in sorted(TESTS.glob("*/test_*.py"))
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
]


def begins_with_a_subject(name):
    """Whether the first word of a test's name could be a subject."""
    return name.split("_")[1] not in NO_SUBJECT


def test_test_names_begin_with_a_subject():
    """No test's name begins with an article, a pronoun or a quantifier."""
    assert [] == [f"{file}::{node.name}" for file, node in FUNCTIONS if not begins_with_a_subject(node.name)]


def test_test_docstrings_state_a_promise():
    """Each test has a docstring."""
    assert [] == [f"{file}::{node.name}" for file, node in FUNCTIONS if not ast.get_docstring(node)]


@pytest.mark.parametrize(("name", "expected"), [("test_the_clock", False), ("test_clock_ends_the_run", True)])
def test_test_name_rule_tells_the_two_apart(name, expected):
    """The rule above can fail."""
    assert expected == begins_with_a_subject(name)
