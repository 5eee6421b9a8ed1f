"""What the host did while a run lasted, and what of it casts doubt on the run's figures."""

from __future__ import annotations

import pytest

from capsule_run.host.load import sample
from capsule_run.model.report_details import Sample
from capsule_run.model.result_parts import Metrics
from capsule_run.result.metrics import measurement

BEFORE = Sample(at_ns=0, processors=2, steal_ticks=100, waited_us={"cpu_some": 0, "memory_some": 0, "io_full": 0})


def after(*, steal=0, **waited):
    names = {"cpu_some": 0, "memory_some": 0, "io_full": 0, **waited}
    return Sample(at_ns=1_000_000_000, processors=2, steal_ticks=100 + steal, waited_us=names)


def metrics(switches=0, cpu_ms=900.0):
    return Metrics(wall_ms=1000.0, user_ms=cpu_ms, system_ms=0.0, cpu_ms=cpu_ms, involuntary_context_switches=switches)


DOUBTS = {
    "a quiet host": (after(steal=3, cpu_some=50_000), metrics(50), []),
    "steal": (after(steal=5), metrics(), ["steal"]),
    "others wait for the processors": (after(cpu_some=200_000), metrics(), ["cpu_pressure"]),
    "memory is short": (after(memory_some=60_000), metrics(), ["memory_pressure"]),
    "disks are slow": (after(io_full=200_000), metrics(), ["io_pressure"]),
    "it was made to wait": (after(), metrics(500), ["forced_switches"]),
    "too short to tell": (after(), metrics(9, cpu_ms=5.0), []),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_measurement_disturbance_beyond_threshold_is_named(name):
    """Each disturbance beyond its threshold is named, and only then the timing is not to be trusted."""
    later, measured, expected = DOUBTS[name]
    found = measurement(BEFORE, later, measured)
    assert (expected, not expected) == (found["doubts"], found["trustworthy"])


def test_measurement_figures_are_differences_of_two_samples():
    """Between the samples: milliseconds of steal and of waiting, and nothing that only one of them has."""
    found = measurement(BEFORE, after(steal=7, cpu_some=1500, cpu_full=3), metrics(4))
    expected = {
        "trustworthy": False, "doubts": ["steal"], "observed_ms": 1000.0, "steal_ms": 70,
        "waited_ms": {"cpu_some": 1.5, "memory_some": 0.0, "io_full": 0.0}, "forced_switches": 4,
    }  # fmt: skip
    assert expected == found


def test_host_load_sample_can_be_taken():
    """The host's own counters can be read, and time goes on between two samples."""
    first, second = sample(), sample()
    assert first.processors >= 1
    assert (True, True) == (first.at_ns < second.at_ns, first.steal_ticks <= second.steal_ticks)
