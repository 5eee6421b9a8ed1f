"""When looking for control groups can wait, and which are taken and written."""

from __future__ import annotations

from errno import ENAMETOOLONG

import pytest

from capsule_run.cgroup import create, discover, v2
from capsule_run.model.policy import Group, Setting
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


def test_cgroup_outside_the_namespace_is_not_taken(monkeypatch):
    """A cgroup of version 2 that lies outside the caller's cgroup namespace is no place for ours."""
    monkeypatch.setattr(discover, "read_whole", lambda _path: "cpu memory pids")
    monkeypatch.setattr(v2, "nearest", lambda path, _top, _name: path)
    mounts = [("cgroup2", "/", "/sys/fs/cgroup", [])]
    assert "/sys/fs/cgroup/own" == discover._version2(mounts, {"": "/own"})
    assert discover._version2(mounts, {"": "/../other"}) is None


def test_cgroup_v1_that_is_not_writable_is_not_taken(tmp_path):
    """In version 1, the caller's own cgroup is a parent only if the caller can write to it."""
    mounts = [("cgroup", "/", str(tmp_path / name), [name]) for name in ("memory", "pids")]
    (tmp_path / "memory" / "own").mkdir(parents=True)
    places = discover._version1(mounts, {"memory": "/own", "pids": "/own"})
    assert [(f"{tmp_path}/memory/own", ("memory",))] == [(place.path, place.controllers) for place in places]


def test_cgroup_v2_above_a_limit_is_not_taken(tmp_path):
    """A cgroup beside ours would escape a limit of ours: the search for a place does not go beyond it."""
    own = tmp_path / "above" / "own"
    own.mkdir(parents=True)
    for directory, enabled in ((own, ""), (own.parent, "memory pids cpu io")):
        for file, text in {"procs": "", "type": "domain", "controllers": "", "subtree_control": enabled}.items():
            (directory / f"cgroup.{file}").write_text(text)
    (own / "memory.max").write_text("max\n")
    assert str(own.parent) == v2.nearest(str(own), str(tmp_path), lambda: "capsule-test").path
    (own / "memory.max").write_text("1048576\n")
    assert v2.nearest(str(own), str(tmp_path), lambda: "capsule-test") is None


def test_cgroup_setting_that_fails_is_an_error_unless_the_kernel_lacks_its_file(tmp_path):
    """An optional setting may have no file; any other failure of it is one of the run."""
    with create.ControlGroups() as made:
        made.make(
            [
                Group(
                    version=2,
                    parent=str(tmp_path),
                    settings=(Setting(file="absent", text="0", optional=True),),
                    files=(),
                )
            ]
        )
        assert tmp_path.joinpath(made.name).is_dir()
    with create.ControlGroups() as made, pytest.raises(OSError) as failed:
        made.make(
            [
                Group(
                    version=2,
                    parent=str(tmp_path),
                    settings=(Setting(file="x" * 256, text="0", optional=True),),
                    files=(),
                )
            ]
        )
    assert ENAMETOOLONG == failed.value.errno
