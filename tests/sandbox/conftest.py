"""For the sandbox tests: `inside`, once as the caller and once as an ordinary user, and places that both may read."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from inside import Inside


def start(argv, **options):
    """subprocess.run as the caller, with the settings of the `as_user` runner."""
    settings = {
        "capture_output": True,
        "timeout": 60,
        "cwd": "/",
        "check": False,
        "env": {"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
    }
    return subprocess.run([str(word) for word in argv], **{**settings, **options})


@pytest.fixture(params=["caller", "user"])
def inside(request):
    """Runs things inside, as the account that runs the tests and as an ordinary user."""
    return Inside(start if request.param == "caller" else request.getfixturevalue("as_user"))


@pytest.fixture
def inside_as_caller():
    """Runs things inside, as the account that runs the tests alone: for what does not depend on who calls."""
    return Inside(start)


@pytest.fixture
def place():
    """A folder of the host that every account may read and write."""
    path = Path(tempfile.mkdtemp(prefix="place-", dir="/var/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)
