"""Metrics, against what the kernel tells the command about itself."""

from __future__ import annotations

import json

import pytest

from capsule_run.cgroup import discover
from capsule_run.engine import fallbacks
from capsule_run.engine.execute import execute, perform
from capsule_run.host import survey
from capsule_run.model.request import Request, Resources

BURN = """
import json, os, resource, time
for _ in range(2):
    if os.fork() == 0:
        until = time.process_time() + 0.3
        while time.process_time() < until: pass
        os._exit(0)
for _ in range(2): os.wait()
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([sum(u.ru_utime + u.ru_stime for u in used) * 1000, sum(u.ru_minflt for u in used)]))
"""


def test_metrics_cpu_time_equals_getrusage(inside):
    """Within 5 % of what the command sees of itself and its children, set-up not included."""
    response = inside.python(BURN)
    seen_ms, seen_faults = json.loads(response["stdout"])
    assert seen_ms == pytest.approx(response["metrics"]["cpu_ms"], rel=0.05)
    assert seen_faults <= response["metrics"]["minor_page_faults"]


TOUCH = """
import time
held = bytearray(100 << 20)
for at in range(0, len(held), 4096): held[at] = 1
time.sleep({})
"""


def test_metrics_peak_memory_is_what_was_touched(inside):
    """Exactly 100 MiB, held for a moment, are reported within 5 %, the interpreter's own included, and the source is named."""
    metrics = inside.python(TOUCH.format(0.3))["metrics"]
    assert 100 << 20 <= metrics["max_memory_bytes"] <= 105 << 20
    assert metrics["memory_source"] in ("watch", "cgroup")


def test_metrics_peak_memory_of_an_instant_is_seen(inside):
    """100 MiB that are there for an instant are reported within 5 %, too: the kernel's peak stands in for a look."""
    metrics = inside.python(TOUCH.format(0))["metrics"]
    assert 100 << 20 <= metrics["max_memory_bytes"] <= 105 << 20
    assert metrics["memory_source"] in ("process", "watch", "cgroup")


def test_metrics_disk_bytes_count_files_at_the_end(inside):
    """`disk_bytes` is what lies in the private places at the end."""
    empty = inside(["true"])["metrics"]["disk_bytes"]
    written = inside(["sh", "-c", "head -c 3145728 /dev/zero > /tmp/f"])["metrics"]["disk_bytes"]
    assert 3 << 20 == written - empty


def test_metrics_peak_processes_are_counted(inside):
    """Seven that live long enough for a look are seen together."""
    response = inside(["sh", "-c", "for i in 1 2 3 4 5 6; do sleep 0.6 & done; wait"])
    assert 7 == response["metrics"]["max_processes"]


def test_metrics_measurement_is_of_long_runs_only(inside):
    """A long run has a `measurement`, a short one none."""
    block = inside(["sleep", "0.2"])["measurement"]
    assert block["trustworthy"] is (block["doubts"] == [])
    assert 0 < block["observed_ms"]


@pytest.mark.parametrize(
    ("command", "quiet"),
    [
        ("true", True),
        ("exit 3", False),
        ("kill -9 $$", False),
        ("head -c 3000000 /dev/zero", False),
        ("python3 -c 'import ctypes; ctypes.CDLL(None).mount(0, 0, 0, 0, 0)' || true", False),
    ],
)
def test_metrics_unseen_are_not_computed(command, quiet):
    """Command mode, which says nothing of a quiet good end, does not pay for accounts of it; every other end has them."""
    short, whole = (perform(Request(command=("sh", "-c", command)), short=short) for short in (True, False))
    assert (short.status, short.exit_code, short.signal) == (whole.status, whole.exit_code, whole.signal)
    assert (short.metrics is None) is quiet
    assert whole.metrics is not None
    assert short.isolation["attested"]["no_new_privs"] is True


def test_isolation_of_the_first_run_equals_later_ones(monkeypatch):
    """Limits, mechanisms and what was in force are the same, whether the groups were looked for early or late."""
    seen = []
    for can_be_deferred in (False, True):
        monkeypatch.setattr(
            discover, "can_be_deferred", lambda _request, now=can_be_deferred: now and not discover._found
        )
        monkeypatch.setattr(fallbacks, "unsupported", set())
        discover.forget()
        survey.forget()
        result = execute(Request(command=("true",), resources=Resources(cpu_shares=512)))
        attested = result.isolation["attested"]
        seen.append((result.ok, result.isolation["limits"], attested["cgroups"], result.metrics.memory_source))
    assert seen[0] == seen[1]


def test_metrics_memory_complete_follows_the_cgroup(inside):
    """`memory_complete` is true where a control group counted, and false where the watch did, which cannot see all memory."""
    response = inside(["true"])
    assert (response["isolation"]["limits"]["memory"] != "watch") is response["metrics"]["memory_complete"]
