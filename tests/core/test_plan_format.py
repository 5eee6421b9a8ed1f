"""docs/plan-format.md says what the core says, and Python's words have a row for each verb."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from handwritten_plans import verbs

from capsule_run.plan import describe
from capsule_run.result import report

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "plan-format.md"


def table(heading):
    """The rows of the first table below a heading, without its head."""
    text = DOCUMENT.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


def test_plan_page_has_every_verb_of_the_core(core_path):
    """Half, phase, rank, how often and fields of each verb stand in the document as in the core, in the same order."""
    said = [
        [
            f"`{verb.name}`",
            verb.half,
            verb.phase,
            str(verb.rank),
            f"{verb.least} or more" if verb.many else "1" if verb.least else "0 or 1",
            f"`{verb.kinds}`" if verb.kinds else "",
        ]
        for verb in verbs(core_path)
    ]
    assert said == [row[:6] for row in table("Verbs")]


def test_plan_page_explains_every_field_kind(core_path):
    """Each letter that a verb uses is explained once, and none that no verb uses."""
    used = {kind for verb in verbs(core_path) for kind in verb.kinds}
    explained = [row[0].strip("`") for row in table("Fields")]
    assert sorted(used) == sorted(explained)


def test_plan_verb_has_a_description(core_path):
    """`--dry-run` and errors have a sentence for each verb, with as many gaps as there are fields at the most."""
    language = {verb.name: verb for verb in verbs(core_path)}
    assert sorted(language) == sorted(describe._WORDS)
    samples = {kind: "1" for verb in language.values() for kind in verb.kinds} | {"b": "ro", "r": "4"}
    for name, verb in language.items():
        source = ("source", "/usr", "1", "2")
        plan = type("Plan", (), {"room": (source, source), "payload": ()})
        assert describe.describe((name, *(samples[kind] for kind in verb.kinds)), plan)


@pytest.mark.parametrize("row", [row[0].strip("`").split()[0] for row in table("Report")])
def test_report_lines_on_the_page_are_parsed(row):
    """What the document says of the report, the parser knows by name."""
    source = Path(report.__file__).read_text()
    name = row.removesuffix("-room").removesuffix("-payload")
    assert f'"{name}' in source


def test_record_lines_are_explained_on_the_page():
    """What the core writes down stands in the document, and nothing else does."""
    core = Path(__file__).resolve().parents[2] / "core"
    written = {name for file in core.glob("*.c") for name in re.findall(r'record_line\("([a-z-]+)"', file.read_text())}
    explained = [word.split()[0] for row in table("Record") for word in row[0].split("`")[1::2]]
    assert sorted(written) == sorted(explained)
