"""The processors that programs count with a quota: the quota, rounded up (docs/decisions/processor-count.md)."""

from __future__ import annotations

import pytest

from capsule_run.model.request import Request, Resources
from capsule_run.policy import resolve
from capsule_run.policy.resolve import PROCESSOR_COUNTS


def variables(quota, **environment):
    resources = Resources(cpu_quota=quota)
    request = Request(command=("true",), environment=tuple(environment.items()), resources=resources)
    return dict(resolve._environment(request, ("/usr/bin",), 1000, 512 << 20))


@pytest.mark.parametrize(("quota", "count"), [(1, "1"), (1.5, "2"), (2.0, "2"), (0.25, "1"), (64, "64")])
def test_cpu_quota_sets_processor_count_variables(quota, count):
    """Each of the variables is the quota, rounded up, and never none at all."""
    assert {count} == {variables(quota)[name] for name in PROCESSOR_COUNTS}


def test_cpu_quota_absent_sets_no_variables():
    """Without a quota none of the variables is there."""
    assert set() == set(PROCESSOR_COUNTS) & set(variables(None))


def test_cpu_quota_variables_of_the_request_win():
    """A variable that the request gives stays as it is."""
    assert "7" == variables(1, OMP_NUM_THREADS="7")["OMP_NUM_THREADS"]
