"""CPython's own tests: what passes outside does not fail inside."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from cpython import EXCEPTIONS, FOLDER, MODULES, reason, run


@pytest.fixture(scope="module")
def ends():
    """The cases of both sides, by name."""
    if not FOLDER.joinpath("test", "test_os.py").exists():
        pytest.skip("needs corpus")
    with ThreadPoolExecutor(2) as pool:
        sides = [pool.submit(run, MODULES, is_inside=is_inside) for is_inside in (False, True)]
        return [side.result() for side in sides]


@pytest.mark.limit(900)
def test_cpython_cases_that_pass_outside_pass_inside(ends):
    """Of thousands of cases those alone fail inside that are listed, each with its reason."""
    outside, inside = ends
    passed = [name for name, state in outside.items() if state == "passed"]
    worse = [name for name in passed if inside.get(name, "missing") in ("failed", "missing")]
    same = sum(inside.get(name) == "passed" for name in passed)
    print(
        f"cases that pass outside: {len(passed)}, inside too: {same}, skipped inside: {len(passed) - same - len(worse)}"
    )
    assert [] == [name for name in worse if reason(name) is None]


def test_cpython_comparison_is_of_thousands_of_cases(ends):
    """The comparison is of thousands of cases; a runner that ran nothing would find no difference."""
    assert all(sum(state == "passed" for state in side.values()) > 3000 for side in ends)


def test_cpython_exceptions_have_reasons():
    """An exception without a word of why is none."""
    assert all(len(why) > 10 for why in EXCEPTIONS.values())
    assert os.environ["CAPSULE_COMPAT"]
