"""Documents lead to each other, and to files that are there."""

from __future__ import annotations

import re

import pytest
from documents import DOCS, EVERY, REPOSITORY, anchors

SENTENCES = {
    "README.md", "changing.md", "json-api.md", "limits.md", "order-of-operations.md", "performance.md",
}  # fmt: skip
PAGES = [page.relative_to(REPOSITORY) for page in EVERY]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_link_targets_exist(page):
    """Every link between documents leads to a file, and to a heading where it names one."""
    path = REPOSITORY / page
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue  # the network is not ours to test
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert [] == broken


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_paths_in_pages_exist(page):
    """Every file of ours that a document names by path is there."""
    text = (REPOSITORY / page).read_text()
    named = re.findall(r"`((?:tests|src|docs|core|bench|examples)/[\w./-]+\.(?:py|c|h|md|sh))`", text)
    assert [] == [name for name in named if not (REPOSITORY / name).exists()]


def test_docs_index_has_every_page():
    """`docs/README.md` leads to every other document in the folder."""
    text = (DOCS / "README.md").read_text()
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"README.md"}
    assert set() == {page for page in pages if f"({page})" not in text}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name in SENTENCES or page.parent.name == "decisions"], ids=str
)
def test_prose_has_one_sentence_a_line(page):
    """A line of prose holds one sentence, so that a change of one is a change of one line."""
    prose = re.sub(r"^```.*?^```$", "", (REPOSITORY / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in prose.splitlines() if line and not line.startswith(("|", "#", "<!--"))]
    crowded = [
        line for line in lines if re.search(r"[a-z`)]\. [A-Z`]", re.sub(r"^(\d+\.|-|\*\*[^*]+\*\*) ", "", line.strip()))
    ]
    assert [] == crowded
