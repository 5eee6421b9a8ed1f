"""For the tests of what is released: the static file that `.ci/run static` has built."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def static_file():
    """The static file that CAPSULE_TEST_FILE names."""
    if "CAPSULE_TEST_FILE" not in os.environ:
        pytest.skip("needs static-file")
    return Path(os.environ["CAPSULE_TEST_FILE"])


@pytest.fixture
def place():
    """A folder of the host that every account may read and write."""
    path = Path(tempfile.mkdtemp(prefix="place-", dir="/var/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)
