"""Every project comes to the same inside, under the defaults, as outside."""

from __future__ import annotations

import os

import pytest
from project_runs import TIMED_OUT, End, MissingError, both, counts
from projects import DIFFERENCES, PROJECTS

CHOSEN = [project for project in PROJECTS if project.is_cheap or os.environ.get("CAPSULE_PROJECTS") == "all"]


@pytest.mark.limit(1200)
@pytest.mark.parametrize("project", CHOSEN, ids=lambda project: project.name.partition(":")[0].replace(" ", "-"))
def test_project_has_the_same_outcome_inside_and_outside(project):
    """As many tests pass and the same fail, or the same words are said; what is listed as different differs as it says."""
    try:
        there, here = both(project)
    except MissingError as error:
        pytest.skip(f"needs project: {error}")
    assert there.said, f"the project itself is wrong: {there.why}"
    if project.name not in DIFFERENCES:
        assert there[:3] == here[:3], here.why
        return
    expected = DIFFERENCES[project.name]
    assert not there.equals(here), f"{project.name} comes to the same now: its row in DIFFERENCES is to be removed"
    assert expected.ends != (here.code in TIMED_OUT), here.why
    if expected.ends:
        assert expected.counts == there.change_to(here), here.why


def test_project_difference_is_what_a_runner_counts_more_inside():
    """The difference of two runs is by kind; kinds of which both have as many are left out."""
    there, here = (
        End(0, said, (), "") for said in (("3 passed, 2 skipped in 1.2s",), ("1 failed, 2 passed, 2 skipped",))
    )
    assert {"failed": 1, "passed": -1} == there.change_to(here)
    assert {} == there.change_to(there)


def test_project_counts_have_no_times():
    """What runners count is compared without how long it took, and nothing else of it is lost."""
    text = "= 3 passed, 24 skipped, 1 xfailed, 7 warnings in 1.20s (0:00:01) =\n  12 passing (3s)\nok  \tnet\t1.2s\nother 5 s\n"
    assert ("3 passed, 24 skipped, 1 xfailed", "12 passing", "ok  \tnet") == counts(text)
