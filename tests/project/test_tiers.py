"""The order of the tests, `-m quick`, and what the header says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tiers

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = {path.parent.name for path in (REPOSITORY / "tests").glob("*/test_*.py")}


def pytest_says(*arguments):
    """What pytest prints, in one process, of a collection."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n0", "--collect-only", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def test_tier_order_has_every_folder_and_begins_with_the_fast_ones():
    """Each folder of tests has a place in the order, and the fast ones have the first."""
    assert FOLDERS == set(tiers.ORDER)
    assert tiers.FAST == tiers.ORDER[: len(tiers.FAST)]
    assert tiers.QUICK_PROCESSOR_SECONDS < 2 * tiers.QUICK_SECONDS


@pytest.mark.parametrize("workers", [1, 2, 4, 7])
def test_tier_order_every_worker_begins_with_the_fast_tiers(workers):
    """Cut as xdist's worksteal does, each worker's piece begins with its share of the first tier, and no test is lost."""
    items = [(rank, number) for rank, count in ((2, 31), (0, 50), (1, 17)) for number in range(count)]
    ordered = tiers.in_order(items, workers, lambda item: item[0])
    assert sorted(items) == sorted(ordered)
    start = 0
    for number in range(workers):
        size = (len(items) - start) // (workers - number)
        piece = [rank for rank, _ in ordered[start : start + size]]
        whole = sum(count // workers for count in (50, 17, 31))
        assert sorted(piece[:whole]) == piece[:whole]
        assert [0] * (50 // workers) == piece[: 50 // workers]
        start += size


@pytest.mark.limit(300)  # a pytest of its own, which imports the tests
def test_tier_order_is_that_of_the_collection():
    """What pytest collects of two tiers comes in the order of tiers, whichever was named first."""
    said = pytest_says("-q", "tests/project/test_tiers.py", "tests/unit/test_value.py")
    assert ["unit", "project"] == list(dict.fromkeys(re.findall(r"^tests/(\w+)/", said, re.MULTILINE)))


@pytest.mark.limit(300)  # a pytest of its own, which imports the tests
def test_quick_selects_the_fast_tiers_and_one_run_for_each_promise():
    """`-m quick` has tests of every fast tier, each test of the table, and nothing else."""
    said = pytest_says("-q", "-m", "quick")
    names = re.findall(r"^tests/([\w/.]+)::(\w+)", said, re.MULTILINE)
    assert set(tiers.FAST) == {file.partition("/")[0] for file, _ in names} - {"sandbox", "escape"}
    assert set(tiers.QUICK_RUNS.values()) == {name for name in names if not name[0].startswith(tiers.FAST)}


@pytest.mark.limit(300)  # a pytest of its own, which imports the tests
def test_header_says_what_runs_and_how_long():
    """The header has each tier that was asked for with its number of tests, and the time for this number of processors."""
    said = "\n".join(tiers.header([REPOSITORY / "tests"], ""))
    assert [] == [name for name in tiers.ORDER if f"{name} {tiers.functions(name)}" not in said]
    assert re.search(rf"at least \d+ min on {tiers.processors()} processors", said)
    only_unit = pytest_says("tests/unit").partition("collected")[0]
    assert "tiers, in this order" in only_unit
    assert "escape" not in only_unit


def test_header_of_quick_names_its_promises():
    """With `-m quick` the header names the promises that a real sandbox is started for, and the minute that it takes."""
    said = "\n".join(tiers.header([REPOSITORY / "tests"], "quick"))
    assert [] == [promise for promise in tiers.QUICK_RUNS if promise not in said]
    assert f"{tiers.QUICK_SECONDS} s" in said
