"""docs/configuration.md, against the code: presets, keys and examples."""

from __future__ import annotations

import tomllib

from documents import DOCS, blocks

from capsule_run.engine import configuration, toml_file
from capsule_run.request import config_file
from capsule_run.request.parse import request_from_mapping
from capsule_run.request.presets import SHIPPED_PRESETS, known_presets

PAGE = (DOCS / "configuration.md").read_text()


def test_configuration_page_has_the_shipped_presets():
    """The page lists the shipped presets with their descriptions, and each is a valid request without network."""
    for preset in SHIPPED_PRESETS:
        assert f"| `{preset.name}` | {preset.about} |" in PAGE
        found = configuration.settings([], preset.name, given={})
        assert False is found["isolation.network"].value
        assert request_from_mapping({"command": ["true"], **configuration._mapping(found.values())})
    assert {"agent", "judge", "build", "data-science", "strict"} == known_presets([]).keys()


def test_configuration_page_examples_are_valid():
    """The TOML blocks of the page are valid files."""
    found = {block.marker: block for block in blocks(DOCS / "configuration.md") if block.language == "toml"}
    assert {"configuration: user", "configuration: system"} == found.keys()
    for marker, block in found.items():
        kind, lines = marker.partition(": ")[2], toml_file.lines_of(block.text)
        assert config_file.read_layer(kind, "/x.toml", tomllib.loads(block.text), lines)


def test_configuration_page_has_every_ceiling():
    """The table of ceilings has every key, and no other."""
    rows = PAGE.partition("## Ceilings")[2].partition("### ")[0].splitlines()
    cells = [row.split("|")[1] for row in rows if row.startswith("| `")]
    keys = [name for cell in cells for name in cell.replace("`", "").replace(" ", "").split(",")]
    assert sorted(config_file.CEILING_KEYS) == sorted(keys)
