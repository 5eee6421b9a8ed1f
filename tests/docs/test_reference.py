"""The site's generated reference: every public name, option, field and key is in it; and its navigation has every page."""

from __future__ import annotations

import re
import sys

import pytest
from documents import DOCS, REPOSITORY

import capsule_run
from capsule_run.cli.subcommands import SUBCOMMANDS
from capsule_run.request.config_file import CEILING_KEYS, SETTABLE
from capsule_run.request.option_table import OPTIONS
from capsule_run.request.parse import FIELDS
from capsule_run.request.presets import SHIPPED_PRESETS

sys.path.insert(0, str(DOCS / "site"))

import generated_pages  # where the line above looks
import python_reference


@pytest.fixture(scope="module")
def page():
    """The text of a generated page, by its path; each is generated once."""
    texts = {}
    return lambda path: texts.setdefault(path, generated_pages.PAGES[path][1]())


def test_reference_public_names_are_documented():
    """Every public name, with its public methods and properties, has a docstring."""
    assert [] == python_reference.undocumented()


def test_reference_of_python_has_every_public_name(page):
    """What `capsule_run` and its public modules export is on the page, with an anchor of its own."""
    text = page("reference/python.md")
    named = [f"capsule_run.{name}" for name in capsule_run.__all__ if name != "__version__"]
    named += [
        f"{module}.{name}" for module in python_reference.MODULES for name in python_reference.public_names(module)
    ]
    assert [] == [name for name in named if f"{{ #{name} }}" not in text]


def test_reference_of_python_has_every_module_for_users():
    """Each integration, and each package that says `Public:` in its docstring, is a module of the page."""
    source = REPOSITORY / "src" / "capsule_run"
    public = {
        f"capsule_run.{path.parent.name}"
        for path in source.glob("*/__init__.py")
        if re.search(r"^Public: `from capsule_run", path.read_text(), re.MULTILINE)
    }
    public |= {f"capsule_run.integrations.{path.stem}" for path in (source / "integrations").glob("[a-z]*.py")}
    assert set() == public - set(python_reference.MODULES)


def test_reference_of_the_command_line_has_every_option_and_subcommand(page):
    """Each option of the table and the help of each subcommand is on the page."""
    text = page("reference/command-line.md")
    assert [] == [option.long for option in OPTIONS if f"{option.long}" not in text]
    assert [] == [name for name in SUBCOMMANDS if f"## capsule-run {name}" not in text]


def test_reference_of_json_has_every_field(page):
    """Each field of a request is on the page, and every field but those deep inside has a meaning."""
    text = page("reference/json.md")
    assert [] == [field for field in FIELDS if f"`{field}`" not in text]
    bare = [row[1:-1].split(" | ") for row in text.splitlines() if row.startswith("| `") and row.endswith("|  |")]
    assert {"error.category"} == {name.strip(" `") for name, *_ in bare if name.count(".") < 2} - {
        "postmortem.threads", "postmortem.complete",
    }  # fmt: skip


def test_reference_of_configuration_has_every_key(page):
    """Each key of a file, each ceiling and each preset is on the page."""
    text = page("reference/configuration.md")
    assert [] == [key for key in (*SETTABLE, *CEILING_KEYS) if f"`{key}`" not in text]
    assert [] == [preset.name for preset in SHIPPED_PRESETS if f"### {preset.name}" not in text]


def test_site_navigation_has_every_page_once():
    """Each page belongs to one section of docs/README.md, from which the site's navigation is made."""
    text = (DOCS / "README.md").read_text().partition("\n## ")[2]
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+\.md)\)", text, re.MULTILINE)
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"README.md"}
    assert sorted(listed) == sorted(set(listed))
    assert set() == pages - set(listed)
    assert ["Tutorial", "Guides", "Reference", "Explanation", "Project"] == re.findall(
        r"^## (.*)", f"## {text}", re.MULTILINE
    )
