"""The documents as tests read them: code blocks with their markers and expected output, tables, links, headings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
EVERY = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md"), REPOSITORY / "examples" / "README.md"])


class Block(NamedTuple):
    """One fenced block. `marker` is the HTML comment right above it; `output` the block that follows an `output` marker."""

    path: Path
    line: int
    marker: str
    language: str
    text: str
    output: str | None

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(REPOSITORY)}:{self.line}"

    @property
    def file(self) -> str:
        """The path of a file that the block is the text of; "" for any other block."""
        return self.marker.removeprefix("file: ") if self.marker.startswith("file: ") else ""

    @property
    def is_example(self) -> bool:
        return self.marker.startswith("example: ")


def _fences(path: Path) -> list[Block]:
    found, lines, number = [], path.read_text().splitlines(), 0
    while number < len(lines):
        fence = re.fullmatch(r"(```+)(\w*)", lines[number])
        number += 1
        if not fence:
            continue
        end = lines.index(fence[1], number)
        marker = re.fullmatch(r"<!-- (.*) -->", lines[number - 2]) if number > 1 else None
        text = "".join(f"{line}\n" for line in lines[number:end])
        found.append(Block(path, number, marker[1] if marker else "", fence[2], text, None))
        number = end + 1
    return found


def blocks(path: Path) -> list[Block]:
    """The blocks of a document, each example with the output that is written behind it."""
    joined: list[Block] = []
    for block in _fences(path):
        if block.marker == "output":
            joined[-1] = joined[-1]._replace(output=block.text)
        else:
            joined.append(block)
    return joined


def table_rows(text: str) -> list[list[str]]:
    """The rows of every table, as cells, without their headings."""
    rows, lines = [], text.splitlines()
    for number, line in enumerate(lines):
        is_row = line.startswith("|") and not re.fullmatch(r"[|: -]+", line)
        is_heading = number + 1 < len(lines) and re.fullmatch(r"\|[|: -]+", lines[number + 1])
        if is_row and not is_heading:
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def anchors(path: Path) -> set[str]:
    """What `#...` may name in a document, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def matches(pattern: str, text: str) -> bool:
    """Whether `text` is the expected output; `…` stands for anything within a line."""
    parts = [re.escape(part) for part in pattern.strip().split("…")]
    return re.fullmatch("[^\n]*".join(parts), text.strip()) is not None
