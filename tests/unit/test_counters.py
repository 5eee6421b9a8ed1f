"""The files of control groups, by version, to one name for each counter."""

from __future__ import annotations

from capsule_run.result.metrics import NONE, Counters, counters
from records import record


def lines(**files):
    """The files of a record that has them, escaped as the launcher does it."""
    names = {name.replace("__", "."): text for name, text in files.items()}
    rows = [[name, text.replace("\n", "%0a").replace(" ", "%20") or "%"] for name, text in names.items()]
    return record(*(["cgroup", *row] for row in rows)).cgroup_files


VERSION_2 = lines(
    memory__peak="104857600\n",
    memory__events="low 0\nhigh 0\nmax 41\noom 2\noom_kill 1\noom_group_kill 0\n",
    pids__events="max 12\n",
    pids__peak="21\n",
    cpu__stat="usage_usec 412345\nuser_usec 400000\nsystem_usec 12345\nnr_periods 10\nnr_throttled 4\nthrottled_usec 5500\n",
    io__stat="254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:0 rbytes=1 wbytes=1 rios=1 wios=1\n",
    cpu__pressure="some avg10=0.00 avg60=0.00 avg300=0.00 total=1500\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=20\n",
)
VERSION_1 = lines(
    memory__max_usage_in_bytes="104857600\n",
    memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    pids__events="max 12\n",
    cpuacct__usage="412345678\n",
    cpu__stat="nr_periods 10\nnr_throttled 4\nthrottled_time 5500000\n",
    blkio__throttle__io_service_bytes="254:0 Read 4096\n254:0 Write 8192\n254:0 Total 12288\nTotal 12288\n",
    blkio__throttle__io_serviced="254:0 Read 1\n254:0 Write 2\n254:0 Total 3\nTotal 3\n",
)


def test_counters_v2_are_all_read():
    """Every counter of version 2, sums over devices included."""
    expected = Counters(
        memory_peak_bytes=100 << 20, oom_kills=1, failed_forks=12, most_tasks=21, cpu_us=412345, throttled_us=5500,
        throttled_periods=4, read_bytes=4097, write_bytes=8193, read_operations=2, write_operations=3,
        pressure={"cpu": {"some_ms": 1.5, "full_ms": 0.02}},
    )  # fmt: skip
    assert expected == counters(VERSION_2)


def test_counters_v1_are_read_in_their_units():
    """The same of version 1, in its units; what it does not have is None."""
    expected = Counters(
        memory_peak_bytes=100 << 20, oom_kills=1, failed_forks=12, most_tasks=None, cpu_us=412345, throttled_us=5500,
        throttled_periods=4, read_bytes=4096, write_bytes=8192, read_operations=1, write_operations=2, pressure=None,
    )  # fmt: skip
    assert expected == counters(VERSION_1)


def test_counters_without_cgroups_are_absent():
    """No line of a group, no counter; a file that the kernel leaves empty is none either."""
    assert NONE == counters(record(["setup", "1", "2", "0"]).cgroup_files)
    assert Counters() == counters(lines(io__pressure="", memory__peak=""))
