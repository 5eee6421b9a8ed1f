"""Which mechanism each limit stands on, and what is written into a group: pure decisions, as tables."""

from __future__ import annotations

import pytest

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.model.host import Cgroups, Place
from capsule_run.model.request import Resources
from capsule_run.policy import limits

SECOND = Place(version=2, path="/two", controllers=("memory", "pids", "cpu", "io"))
OLD = replace(SECOND, has_peak=False)  # Linux before 5.19
SECOND_WITHOUT_CPU = Place(version=2, path="/two", controllers=("memory", "pids"))
FIRST = tuple(Place(version=1, path=f"/one/{name}", controllers=(name,)) for name in ("memory", "pids", "cpu", "io"))
LADDERS = [
    ((), ("watch", "rlimit", "nice")),
    ((SECOND,), ("cgroup2", "cgroup2", "cgroup2")),
    (FIRST, ("cgroup1", "cgroup1", "cgroup1")),
    ((*FIRST, SECOND), ("cgroup2", "cgroup2", "cgroup2")),
    ((SECOND_WITHOUT_CPU, *FIRST), ("cgroup2", "cgroup2", "cgroup1")),
    ((SECOND_WITHOUT_CPU,), ("cgroup2", "cgroup2", "nice")),
    (FIRST[:1], ("cgroup1", "rlimit", "nice")),
]


def decided(places, required=(), disks=(), **resources):
    offered = Cgroups(places=tuple(places), disks=disks, lacking=(("cgroup2", "do this"),))
    return limits.decide(limits.limits(Resources(**resources)), offered, required=required)


@pytest.mark.parametrize(("places", "expected"), LADDERS)
def test_limit_uses_the_best_mechanism_available(places, expected):
    """Version 2 before version 1 before what is left, for each limit by itself."""
    assert dict(zip(("memory", "processes", "cpu_shares"), expected, strict=True)) == dict(decided(places).mechanisms)


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262_144, 10_000)])
def test_cpu_shares_become_weights_on_the_usual_curve(shares, weight):
    """2 to 262144 shares are weights 1 to 10000, as with container engines."""
    assert weight == limits.weight(shares)


def test_cgroup_settings_without_limit_are_written_too():
    """Also what is not limited is written, so that nothing of before can linger."""
    (group,) = decided((SECOND,), memory_bytes=1 << 26, max_pids=10).groups
    assert {
        "memory.max": "67108864", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "11",
        "cpu.weight": "39", "cpu.max": "max 100000",
    } == {setting.file: setting.text for setting in group.settings}  # fmt: skip


def test_cgroup_v1_memory_limit_leaves_no_swap():
    """Memory and swap together have the limit of memory alone, and TCP buffers have it too."""
    (group,) = decided(FIRST[:1], memory_bytes=1 << 26).groups
    assert {
        "memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "67108864", "memory.swappiness": "0",
        "memory.kmem.tcp.limit_in_bytes": "67108864",
    } == {setting.file: setting.text for setting in group.settings}  # fmt: skip


@pytest.mark.parametrize(("quota", "quota_us"), [(0.001, "1000"), (0.01, "1000"), (0.25, "25000"), (2.0, "200000")])
def test_cpu_quota_is_never_less_than_the_kernel_accepts(quota, quota_us):
    """A quota is its share of the period of 100 ms, but at least 1 ms, in both versions."""
    (second,) = decided((SECOND,), cpu_quota=quota).groups
    first = decided(FIRST, cpu_quota=quota).groups
    settings = {setting.file: setting.text for group in (second, *first) for setting in group.settings}
    assert (f"{quota_us} 100000", quota_us) == (settings["cpu.max"], settings["cpu.cfs_quota_us"])


@pytest.mark.parametrize(("places", "has_peak"), [
    ((SECOND,), True), ((OLD,), False), ((OLD, *FIRST), False), ((), True), (FIRST, True),
])  # fmt: skip
def test_memory_peak_without_kernel_file_is_not_read(places, has_peak):
    """Where the group that holds the memory keeps no peak, its file is not read, and the launcher's looks stand in."""
    decision = decided(places)
    assert has_peak == decision.has_peak
    assert ("memory.peak" in {file for group in decision.groups for file in group.files}) == (
        has_peak and SECOND in places
    )


@pytest.mark.parametrize("resources", [{"cpu_quota": 0.5}, {"io_read_bps": 4096}])
def test_limit_that_needs_a_cgroup_without_one_is_e2007(resources):
    """A quota, or a limit of io, is E2007 where there is no group, with what the host's owner would have to do."""
    with pytest.raises(CapsuleError) as refused:
        decided((), disks=("8:0",), **resources)
    assert ("E2007", "do this") == (refused.value.code, refused.value.hint)


def test_io_limit_is_written_for_every_disk():
    """One line for each disk, with the rates that were asked for and no other."""
    (group,) = decided((SECOND,), disks=("8:0", "8:16"), io_read_bps=4096, io_write_iops=7).groups
    assert ["8:0 rbps=4096 wiops=7", "8:16 rbps=4096 wiops=7"] == [
        setting.text for setting in group.settings if setting.file == "io.max"
    ]


@pytest.mark.parametrize(("places", "name", "passes"), [
    ((SECOND,), "cgroup2", True), (FIRST, "cgroup1", True), (FIRST, "cgroup2", False),
    ((SECOND_WITHOUT_CPU,), "cgroup2", False), ((), "cgroup1", False),
])  # fmt: skip
def test_required_mechanism_is_in_force_or_e2007(places, name, passes):
    """`require` passes where every limit stands on it, and is E2007 else."""
    if passes:
        decided(places, required=(name,))
        return
    with pytest.raises(CapsuleError) as refused:
        decided(places, required=(name,))
    assert "E2007" == refused.value.code


@pytest.mark.parametrize(("places", "taken"), [(FIRST, True), ((SECOND,), False), ((), False)])
def test_memory_limit_v1_is_reduced_by_input_files(places, taken):
    """A group of version 1 is entered beside files that are memory: its limit is what they leave; others count them."""
    before = decided(places, memory_bytes=64 << 20)
    after = limits.subtract_brought_files(before, 64 << 20, 24 << 20)
    if not taken:
        assert before == after
        return
    (memory,) = [group for group in after.groups if group.gives_notice]
    assert {
        "memory.limit_in_bytes": 40 << 20,
        "memory.memsw.limit_in_bytes": 40 << 20,
        "memory.swappiness": 0,
        "memory.kmem.tcp.limit_in_bytes": 64 << 20,
    } == {setting.file: int(setting.text) for setting in memory.settings}
    assert 24 << 20 == after.uncounted_bytes


ACCOUNT = Place(version=1, path="/one/cpuacct", controllers=("cpuacct",))
TOGETHER = Place(version=1, path="/one/cpu,cpuacct", controllers=("cpu", "cpuacct"))


@pytest.mark.parametrize(("places", "counting"), [
    ((*FIRST, ACCOUNT), ["/one/cpuacct"]),
    ((*FIRST[:2], TOGETHER), ["/one/cpu,cpuacct"]),
    ((*FIRST, ACCOUNT, SECOND), []),
    (FIRST, []),
])  # fmt: skip
def test_cpu_time_limit_v1_uses_a_counting_cgroup(places, counting):
    """A hierarchy of version 1 for counting alone is used for a run with such a limit; version 2 counts by itself."""
    made = decided(places, cpu_time_ms=500).groups
    assert counting == [group.parent for group in made if "cpuacct.usage" in group.files and "cpuacct" in group.parent]
    assert all(len(set(group.files)) == len(group.files) for group in made)
    assert not [group for group in decided((*FIRST, ACCOUNT)).groups if group.parent == ACCOUNT.path]


@pytest.mark.parametrize(("controllers", "read"), [(("cpu",), False), (("cpu", "cpuacct"), True)])
def test_cpu_time_counter_v1_is_read_from_the_right_hierarchy(controllers, read):
    """Version 1 keeps it with the shares where both are one hierarchy; elsewhere the file is not there, and nobody looks."""
    place = Place(version=1, path="/one/cpu", controllers=controllers)
    made = decided((*FIRST[:2], place)).groups
    assert [read] == ["cpuacct.usage" in group.files for group in made if group.parent == "/one/cpu"]
