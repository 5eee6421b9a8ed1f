"""Every program of the corpus ends inside as it ends outside, with the same words."""

from __future__ import annotations

import shutil

import pytest
from corpus import PROGRAMS
from host_vs_sandbox import inside, outside


@pytest.mark.limit(300)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name.partition(":")[0].replace(" ", "-"))
def test_program(program, needs):
    """The program runs unchanged under the default profile."""
    for tool in program.tools.split():
        needs("corpus", present=shutil.which(tool) is not None)
    command = ["/bin/bash", "-c", program.script]
    expected = outside(command)
    assert expected.said, f"the program itself is wrong: {expected.why}"
    seen = inside(command, memory_mib=program.memory_mib, max_pids=program.max_pids)
    assert (expected.code, expected.said) == (seen.code, seen.said), seen.why
