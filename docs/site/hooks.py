"""What the site has beyond the pages in docs/: the navigation, generated pages, and copies of what pages link to outside docs/.

MkDocs calls the functions by their names (https://www.mkdocs.org/dev-guide/plugins/#events).
The navigation is docs/README.md: each second-level heading is a section, and each link in it a page, in that order.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

import generated_pages
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
# Pages of the site that lie elsewhere in the repository: their place in the site.
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "examples/README.md": "examples.md",
    "README.md": "readme.md",
    "LICENSE": "license.txt",
}


def navigation() -> list[dict[str, object]]:
    """Read the sections of docs/README.md, and add the generated pages to the reference."""
    sections: list[dict[str, object]] = [{"Home": "README.md"}]
    text = (REPOSITORY / "docs" / "README.md").read_text()
    for part in text.split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        pages: list[object] = []
        inner = pages
        for line in body.splitlines():
            if line.startswith("### "):
                inner = []
                pages.append({line.removeprefix("### "): inner})
            for title, target in re.findall(r"\[([^\]]+)\]\(([^)#\s]+\.md)\)", line):
                inner.append({title.replace("`", ""): _in_site(_path("README.md", target))})
        if heading == "Reference":
            pages += [{title: path} for path, (title, _) in generated_pages.PAGES.items()]
        sections.append({heading: pages})
    return sections


def _path(page: str, target: str) -> str:
    """The path in the repository that a link of a page in docs/ names."""
    return posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))


def _in_site(path: str) -> str:
    """The place in the site of a path in the repository."""
    if path in ELSEWHERE:
        return ELSEWHERE[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (REPOSITORY / path).is_dir():
        return ELSEWHERE.get(f"{path}/README.md", f"files/{path}.txt")
    # as text: a browser would run a page and download a program
    return f"files/{path}.txt"


def _source(place: str) -> str:
    """The path in the repository of a page, from its place in the site."""
    return next((path for path, there in ELSEWHERE.items() if there == place), f"docs/{place}")


def _links(text: str, source: str) -> set[str]:
    """The paths in the repository, outside docs/, that a page links to."""
    targets = {match[1] for match in LINK.finditer(text) if not re.match(r"[a-z]+:", match[1])}
    paths = {posixpath.normpath(posixpath.join(posixpath.dirname(source), target)) for target in targets}
    return {
        path
        for path in paths
        if not path.startswith("docs/") and path not in ELSEWHERE and (REPOSITORY / path).exists()
    }


def _text(path: str) -> str:
    """A file as text; a directory as the list of its files."""
    place = REPOSITORY / path
    return "".join(f"{file.name}\n" for file in sorted(place.iterdir())) if place.is_dir() else place.read_text()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the navigation."""
    config.nav = navigation()
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, the pages from elsewhere, and what any page links to."""
    for place, (_, make) in generated_pages.PAGES.items():
        files.append(File.generated(config, place, content=make()))
    for path, place in ELSEWHERE.items():
        files.append(File.generated(config, place, content=(REPOSITORY / path).read_text()))
    linked: set[str] = set()
    for file in files.documentation_pages():
        linked |= _links(file.content_string, _source(file.src_uri))
    for path in sorted(linked):
        if not (REPOSITORY / path).is_dir() or f"{path}/README.md" not in ELSEWHERE:
            files.append(File.generated(config, _in_site(path), content=_text(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links that leave docs/, and all links of pages from elsewhere, to their places in the site."""
    del config, files
    place, source = page.file.src_uri, _source(page.file.src_uri)

    def replaced(match: re.Match[str]) -> str:
        if re.match(r"[a-z]+:", match[1]):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        if path.startswith("docs/") and source.startswith("docs/"):
            return match[0]
        return posixpath.relpath(_in_site(path), posixpath.dirname(place) or ".") + (match[2] or "")

    return LINK.sub(replaced, markdown)
