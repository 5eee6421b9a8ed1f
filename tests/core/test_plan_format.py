"""docs/plan-format.md says what the core says, and Python's words have a row for each verb."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from handwritten_plans import verbs

from capsule_run.model.report import Record
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


CORE = DOCUMENT.parents[1] / "core"
FACTS = re.search(r"enum fact \{(.*?)\}", CORE.joinpath("capsule-core.h").read_text(), re.DOTALL)[1]


def constants():
    """The numbers of `enum fact`, by name."""
    numbers, following = {}, 0
    for member in FACTS.split(","):
        name, _equals, given = member.partition("=")
        sums = [word.strip() for word in given.split("+") if word.strip()]
        number = sum(int(word) if word.isdigit() else numbers[word] for word in sums) if sums else following
        numbers[name.strip()], following = number, number + 1
    return numbers


def arguments(text):
    """The arguments of a C call, from behind its opening bracket."""
    found, depth = [""], 1
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0:
            return [argument.strip() for argument in found]
        if letter == "," and depth == 1:
            found.append("")
        else:
            found[-1] += letter
    raise AssertionError(text)


def written_lines():
    """What the core writes into the record: the name of each line, and its counts of numbers and of texts."""
    named = constants()
    for file in sorted(CORE.glob("*.c")):
        for call, rest in re.findall(
            r"\b(record_(?:line|numbers|texts))\((?!\s*const char)(.*?;)", file.read_text(), re.DOTALL
        ):
            name, *others = arguments(rest)
            if call == "record_numbers":
                numbers, texts = len(others), 0
            elif call == "record_texts":
                numbers, texts = len(others) - 2, int(others[1])
            else:
                numbers, texts = named.get(others[1]) or int(others[1]), int(others[3])
            yield name.strip('"'), numbers, texts


def test_record_lines_of_the_parser_have_the_columns_that_the_core_writes():
    """Name, numbers and texts of every line are those of the one call in the core that writes it."""
    parsed = []
    for name, (_field, row, _may_repeat) in report.RECORD_LINES.items():
        names, numbers = report.columns(report.row_type(row))
        parsed.append((name, numbers, len(names) - numbers))
    assert sorted(written_lines()) == sorted(parsed)


def test_record_lines_on_the_page_have_the_columns_that_the_core_writes():
    """Every line of the record is explained once, with its counts; where it names its columns they are as many."""
    explained = []
    for line, numbers, texts, _meaning in table("Record"):
        name, *columns = line.strip("`").split()
        explained.append((name, int(numbers), int(texts)))
        assert columns[-1:] in (["FACT…"], ["ID…"]) or int(numbers) + int(texts) == len(columns)
    assert sorted(written_lines()) == sorted(explained)


def test_record_lines_fill_every_field_of_the_record():
    """Each field of `Record` is filled by a line, and its value has its numbers before its texts, as the core writes them."""
    assert set(Record.__annotations__) == {field for field, _row, _may_repeat in report.RECORD_LINES.values()}
    for _field, row, _may_repeat in report.RECORD_LINES.values():
        kinds = [*getattr(report.row_type(row), "__annotations__", {}).values()]
        assert sorted(kinds) == kinds
        assert {"int", "str"} >= set(kinds)
