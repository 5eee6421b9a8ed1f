"""When the launcher starts the watcher: before the payload for a limit, and only for a run that lasts if it just records."""

from __future__ import annotations

import shutil

import pytest
from handwritten_plans import Talk, compiled

from capsule_run.plan.payload import RECORD_ONLY_MS

ATTEMPTS = 20  # a crowded machine can make any one run last until the first sample


@pytest.fixture
def clones_of(core_path, tmp_path):
    """How many processes the launcher itself makes for one run of `true` with such a CPU watch."""
    log, wrapper = tmp_path / "log", tmp_path / "core"
    (tmp_path / "capsule-core").symlink_to(core_path)  # the core looks at the name that it is called by
    strace = f"{shutil.which('strace')} -qq -o {log} -e trace=clone,clone3"
    wrapper.write_text(f"#!/bin/sh\nPATH={tmp_path} exec {strace} capsule-core\n")
    wrapper.chmod(0o755)

    def count(limit_ms):
        plan = compiled("true")
        steps = [step for step in plan.payload if step[0] not in ("cpu-watch", "memory-watch")]
        last = next(index for index, step in enumerate(steps) if step[0] in ("postmortem", "record"))
        steps.insert(last, ("cpu-watch", str(limit_ms), "2"))
        with Talk(str(wrapper)) as talk:
            talk.room(plan.room)
            talk.payload(tuple(steps))
            assert 0 == talk.report().exited
        return log.read_text().count("clone")

    return count


@pytest.mark.needs("strace")
def test_watcher_that_only_records_is_not_started_for_a_short_run(clones_of):
    """A run that is over before its first sample has no process that would take it; one with a limit always has."""
    enforcing = {clones_of(60_000) for _ in range(3)}
    assert 1 == len(enforcing)
    assert enforcing.pop() - 1 in (clones_of(RECORD_ONLY_MS) for _ in range(ATTEMPTS))
