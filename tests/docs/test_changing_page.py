"""docs/changing.md sends readers to files and names that are there."""

from __future__ import annotations

import ast
import re

import pytest
from documents import DOCS, REPOSITORY

SOURCE = REPOSITORY / "src" / "capsule_run"
ITEMS = (DOCS / "changing.md").read_text().replace("\n   ", " ").splitlines()
PATH = r"(?:[\w.-]+/)*[\w-]+\.(?:py|c|h|md|toml|txt)|(?:[\w.-]+/)+\w*"
PLAIN = {"default", "strict", "memory_bytes", "profile"}  # words of requests, which no file defines


def of_code(item):
    """The backticked words of a line that could name something: no commands."""
    return [word for word in re.findall(r"`([^`]+)`", item) if " " not in word]


def resolved(path):
    """What a path on the page means: a file or folder of the repository or, shortened, of the package."""
    return next((there for there in (REPOSITORY / path, SOURCE / path) if there.exists()), None)


def defined(path):
    """The names that a file of ours defines; every word of what is not Python."""
    text = resolved(path).read_text()
    if not path.endswith(".py"):
        return set(re.findall(r"\w+", text))
    nodes = list(ast.walk(ast.parse(text)))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {
        node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }


PATHS = sorted(
    {word.partition("::")[0] for item in ITEMS for word in of_code(item) if re.match(rf"({PATH})(::|$)", word)}
)
IN_FILE = {found for item in ITEMS for found in re.findall(rf"`(\w+)` (?:in|of) `({PATH})`", item)}
IN_FILE |= {(word.split("::")[1], word.split("::")[0]) for item in ITEMS for word in of_code(item) if "::" in word}
NAMES = sorted(
    {
        (name.removesuffix("[]").removesuffix("()").split(".")[-1], tuple(re.findall(rf"`({PATH})`", item)))
        for item in ITEMS
        for name in of_code(item)
        if re.fullmatch(r"[\w.]+(\[\]|\(\))?", name) and name not in PLAIN and not re.fullmatch(PATH, name)
    }
)


@pytest.mark.parametrize("path", PATHS)
def test_changing_page_path_exists(path):
    """Each path on the page is a file or folder of the repository or of the package."""
    assert resolved(path)


@pytest.mark.parametrize(("name", "path"), sorted(IN_FILE))
def test_changing_page_name_is_defined_where_it_says(name, path):
    """A name that the page puts into a file (`name` in `file`, `file::name`) is defined in that file."""
    assert name in defined(path)


@pytest.mark.parametrize(("name", "paths"), NAMES, ids=[name for name, _ in NAMES])
def test_changing_page_name_occurs_in_the_files_beside_it(name, paths):
    """Every other name stands in a file that the same item names, or in the package where it names none."""
    files = [resolved(path) for path in paths if path.endswith((".py", ".c", ".h"))] or SOURCE.rglob("*.py")
    assert any(re.search(rf"\b{name}\b", file.read_text()) for file in files)


def test_changing_page_checks_see_the_page():
    """The readers above find what is there to be checked."""
    assert len(PATHS) >= 30
    assert len(NAMES) >= 10
    assert ("isolation_in_force", "result/isolation.py") in IN_FILE
