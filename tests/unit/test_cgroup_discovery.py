"""When looking for control groups can wait."""

from __future__ import annotations

import pytest

from capsule_run.cgroup import discover
from capsule_run.model.request import Request, Resources


@pytest.fixture
def nothing_known(monkeypatch):
    """As in a process that begins, on a host where memory is version 1's."""
    monkeypatch.setattr(discover, "_found", {})
    monkeypatch.setattr(discover, "exists", lambda path: path == "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@pytest.mark.parametrize(
    ("fields", "can_be_deferred"),
    [
        ({}, True),
        ({"resources": Resources(memory_bytes=1 << 28, cpu_shares=2, cpu_time_ms=5)}, True),
        ({"resources": Resources(cpu_quota=0.5)}, False),
        ({"resources": Resources(io_read_bps=1 << 20)}, False),
        ({"require": ("cgroup1",)}, False),
    ],
)
def test_cgroup_search_is_deferred_if_another_mechanism_would_do(nothing_known, fields, can_be_deferred):
    """What only a group holds is refused before anything is begun."""
    assert can_be_deferred == discover.can_be_deferred(Request(command=("true",), **fields))


def test_cgroup_search_without_memory_hierarchy_v1_is_not_deferred(nothing_known, monkeypatch):
    """Nor has a host that has no memory hierarchy of version 1 anything to put off."""
    monkeypatch.setattr(discover, "exists", lambda _path: False)
    assert not discover.can_be_deferred(Request(command=("true",)))
    monkeypatch.setattr(discover, "exists", lambda _path: True)
    discover.find()
    assert not discover.can_be_deferred(Request(command=("true",)))
