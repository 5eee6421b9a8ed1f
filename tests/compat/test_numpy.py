"""numpy inside: its own quick tests of linear algebra and Fourier transforms, and a smoke run."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest
from host_vs_sandbox import inside, outside

SMOKE = """
import numpy as np
a = np.random.default_rng(1).random((300, 300))
print(np.allclose(a @ np.linalg.inv(a), np.eye(300)), round(float(np.linalg.norm(np.fft.fft(a))), 6))
np.save("a.npy", a); print(np.array_equal(np.load("a.npy", mmap_mode="r"), a), np.sort(a.ravel())[:2].round(9))
"""
OWN = "python3 -m pytest -q -p no:cacheprovider -W ignore --pyargs numpy.linalg numpy.fft 2>&1 | tail -1"


@pytest.fixture
def numpy(needs):
    """Skips where numpy or pytest is not in the environment that runs us, which is the one that the sandbox shows."""
    needs("corpus", present=importlib.util.find_spec("numpy") is not None)


@pytest.mark.limit(120)
def test_numpy_results_equal_those_outside(numpy):
    """Matrices, transforms, files mapped into memory: the same numbers."""
    expected = outside([sys.executable, "-c", SMOKE])
    assert 0 == expected.code, expected.why
    seen = inside(["python3", "-c", SMOKE], memory_mib=1024)
    assert expected[:2] == seen[:2], seen.why


@pytest.mark.limit(600)
def test_numpy_own_tests_pass_as_outside(numpy):
    """As many of numpy's own tests pass, and as few fail."""

    def counts(end):
        return re.sub(r" in .*", "", end.said), end.code

    expected = counts(outside(["/bin/bash", "-c", OWN.replace("python3", sys.executable)], seconds=280))
    seen = inside(["/bin/bash", "-c", OWN], memory_mib=4096, seconds=280)
    assert "passed" in expected[0]
    assert expected == counts(seen), seen.why
