"""The page on the order of operations, against the core's own list of verbs."""

from __future__ import annotations

import re
import subprocess

import pytest
from documents import DOCS

from capsule_run.model.plan import Plan
from capsule_run.plan import describe

PAGE = (DOCS / "order-of-operations.md").read_text()


@pytest.fixture(scope="module")
def verbs(core_path):
    """The core's verbs, in its order: half, phase, rank, name, kinds of fields."""
    lines = subprocess.run([core_path, "--verbs"], capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split() for line in lines]
    return [(half, phase, int(rank), name, kinds) for half, phase, rank, _least, _most, name, kinds in rows]


def test_order_page_has_every_verb_in_order(verbs):
    """Each verb has a line in the lists of the page, and the lists stand in the order of the core's table."""
    listed = re.findall(r"^- `([a-z-]+)`", PAGE, re.MULTILINE)
    assert [name for _half, _phase, _rank, name, _kinds in verbs] == listed


def test_order_page_ranks_are_the_cores(verbs):
    """Where a line gives the rank, it is the core's."""
    said = dict(re.findall(r"^- `([a-z-]+)` \((?:rank )?(\d+)\)", PAGE, re.MULTILINE))
    assert {name: str(rank) for _half, _phase, rank, name, _kinds in verbs} == said


def test_order_page_verbs_have_words(verbs):
    """`--dry-run` and error messages have a sentence for each verb, and for none that does not exist."""
    examples = {
        "p": "/p",
        "n": "1",
        "r": "1",
        "l": "2",
        "i": "1000",
        "o": "0755",
        "t": "text",
        "c": "name",
        "h": "0" * 16,
        "f": "0",
        "s": "0",
    }
    examples |= {"w": "net", "j": "net", "y": "sem", "b": "ro", "a": "kill", "e": "A=b", "-": ""}
    plan = Plan(room=(("source", "/s", "1", "2"),), payload=())
    for _half, _phase, _rank, name, kinds in verbs:
        fields = [examples[kind] for kind in kinds if kind != "-"]
        assert "{" not in describe.describe((name, *fields), plan)
    assert {name for _half, _phase, _rank, name, _kinds in verbs} == set(describe._WORDS)


def test_order_page_drain_is_right():
    """The page's figure for the drain is the one in force."""
    from capsule_run.policy.resolve import DRAIN_MS

    assert f"at most {DRAIN_MS} ms" in PAGE
    assert f"at most {DRAIN_MS} ms" in (DOCS / "decisions" / "output-drain.md").read_text()
