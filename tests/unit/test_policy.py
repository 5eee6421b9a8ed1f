"""Decisions of the policy and the plan that only mutants had noticed missing (docs/decisions/mutants.md)."""

from __future__ import annotations

import pytest

from capsule_run._base.errors import CapsuleError
from capsule_run.engine.prepare import prepare
from capsule_run.host import survey
from capsule_run.model.host import NONE, Cgroups, Place
from capsule_run.model.request import Bind, Isolation, Request, Resources, Workspace
from capsule_run.plan.payload import payload_steps
from capsule_run.plan.room import steps_after_preamble
from capsule_run.policy.resolve import resolve

NPROC = "6"  # the number of RLIMIT_NPROC


@pytest.fixture(autouse=True)
def nothing_kept():
    """Each test surveys the host anew."""
    survey.forget()


def policy_of(**fields):
    return prepare(Request(command=("true",), **fields))[1]


@pytest.mark.parametrize(("shares", "nice"), [(1024, 0), (1100, 0), (512, 3), (15, 19), (2, 19)])
def test_nice_is_nearest_to_the_shares_without_cgroup(shares, nice):
    """Without a cgroup the shares become the nearest nice value: never negative, and 19 at most."""
    request = Request(command=("true",), resources=Resources(cpu_shares=shares))
    assert nice == resolve(request, prepare(request)[0]).nice


@pytest.mark.parametrize(
    ("bound", "workspace", "is_error"), [("rw", "ro", True), ("ro", "rw", True), ("ro", "cow", False)]
)
def test_workspace_bound_in_a_contradicting_mode_is_e1009(tmp_path, bound, workspace, is_error):
    """A directory that is the workspace and a shared path cannot be writable as one and not as the other."""
    shared = {"readonly_paths" if bound == "ro" else "writable_paths": (str(tmp_path),)}
    isolation = Isolation(workspace=Workspace(source=str(tmp_path), mode=workspace), **shared)
    if is_error:
        with pytest.raises(CapsuleError) as invalid:
            policy_of(isolation=isolation)
        assert ("E1009", True) == (invalid.value.code, f":{bound}" in invalid.value.hint)
    else:
        policy_of(isolation=isolation)


def test_secret_in_a_bind_within_a_bind_is_guarded_in_the_inner_one(tmp_path):
    """A mask is watched in the directory that shows it, which is that of the innermost bind."""
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    (outer / "sub").mkdir(parents=True)
    inner.mkdir()
    (inner / ".env").write_text("SECRET=1")
    binds = (
        Bind(source=str(outer), destination="/data", mode="rw"),
        Bind(source=str(inner), destination="/data/sub", mode="rw"),
    )
    guards = {guard.place: guard for guard in policy_of(isolation=Isolation(binds=binds)).cover.guards}
    guard = guards["/data/sub/.env"]
    assert (str(inner), "/.env") == (guard.source.path, guard.path)
    assert (str(outer), "/sub") == (guards["/data/sub"].source.path, guards["/data/sub"].path)


def inodes(disk_bytes):
    steps = steps_after_preamble(policy_of(resources=Resources(disk_bytes=disk_bytes)))
    return next(int(step[2]) for step in steps if step[0] == "root")


def test_small_disk_has_room_for_a_thousand_files():
    """A disk has an inode for each 4 KiB, and at least 1,024 of them, however small it is."""
    assert inodes(4 << 20) == inodes(1 << 20) == inodes(64 << 10)
    assert 1024 == inodes(8 << 20) - inodes(4 << 20)


def resolved(cgroups=NONE, **fields):
    request = Request(command=("true",), **fields)
    return resolve(request, prepare(request)[0], cgroups=cgroups)


def test_process_limit_is_the_rlimit_unless_a_cgroup_holds_it():
    """Without a cgroup RLIMIT_NPROC is the limit itself; with one it is above it, so that the cgroup counts denied forks."""
    place = Place(version=2, path="/two", controllers=("memory", "pids", "cpu"))
    limits = Resources(max_pids=77)
    bare, held = (
        next(step[2] for step in payload_steps(resolved(cgroups, resources=limits)) if step[:2] == ("rlimit", NPROC))
        for cgroups in (NONE, Cgroups(places=(place,)))
    )
    assert (77, True) == (int(bare), int(held) > 77)


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_landlock_denies_changes_elsewhere_if_a_share_is_writable(tmp_path, mode):
    """The newest Landlock rules handle file rights as soon as a directory of the host is writable, and only then."""
    policy = resolved(isolation=Isolation(binds=(Bind(source=str(tmp_path), destination="/data", mode=mode),)))
    rights = [int(step[2]) for step in payload_steps(policy) if step[0] == "landlock"]
    assert (mode == "rw", True) == (rights[0] != 0, rights[1] != 0)
