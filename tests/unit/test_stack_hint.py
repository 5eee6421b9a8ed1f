"""The hint for SIGSEGV: what the peak of memory says of the stack."""

from __future__ import annotations

import pytest
from test_verdict import USAGE, finished_run

from capsule_run._base.value import replace
from capsule_run.result.verdict import judge

MAY_BE_FULL = (
    "the stack may be full: it is limited to 8 MiB, and a process used 9 MiB; "
    "`--stack SIZE` (`resources.stack_bytes`) sets another limit"
)
ONLY_AN_ARRAY = (
    "no process used more than 4.8 MiB of memory: if an array that is larger lies on the stack, which is limited to 8 MiB, "
    "`--stack SIZE` (`resources.stack_bytes`) sets another limit"
)
PEAK = {**USAGE, "max_rss_kib": 9 << 10}
RUNS = {
    "recursion": (finished_run(signalled=11, usage=PEAK), MAY_BE_FULL),
    "little memory": (finished_run(signalled=11), ONLY_AN_ARRAY),
    "a child of a shell": (finished_run(exited=139, usage=PEAK), MAY_BE_FULL),
    "another signal": (finished_run(signalled=6, usage=PEAK), None),
}


@pytest.mark.parametrize("name", RUNS)
def test_segmentation_fault_names_the_stack(name):
    """Only memory that was used shows recursion; without it, an array is all that can be."""
    finished, hint = RUNS[name]
    failure = judge(finished)[3]
    assert hint == (failure.hint if failure.hint and "stack" in failure.hint else None)


def test_segmentation_fault_with_an_unlimited_stack_has_no_hint():
    """Where the stack is not limited, nothing is said of it."""
    finished = finished_run(signalled=11, usage=PEAK)
    unlimited = replace(finished, policy=replace(finished.policy, stack_bytes="unlimited"))
    assert "stack" not in (judge(unlimited)[3].hint or "")
