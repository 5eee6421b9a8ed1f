"""A plot that a real library makes inside comes out as it was made."""

from __future__ import annotations

import hashlib

import pytest

import capsule_run

PLOT = """
import hashlib, matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
plt.plot([1, 4, 9, 16])
plt.savefig("plot.png")
print(hashlib.sha256(open("plot.png", "rb").read()).hexdigest())
"""


@pytest.mark.sandbox
@pytest.mark.needs("matplotlib")
def test_collect_plot_is_byte_for_byte():
    """What matplotlib wrote inside is what the caller has, to the last byte."""
    result = capsule_run.run(
        ["python", "plot.py"], files={"plot.py": PLOT}, collect=["*.png"], memory="1G", timeout_ms=60_000
    )
    plot = bytes(result.files["plot.png"])
    assert (b"\x89PNG\r\n\x1a\n", result.stdout.strip()) == (plot[:8], hashlib.sha256(plot).hexdigest()), result.stderr
