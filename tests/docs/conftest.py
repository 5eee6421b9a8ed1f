"""For the tests of documents: a directory and an environment as a reader of the README has them."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def reader(tmp_path, capsule_cli):
    """Settings of subprocess.run: `capsule-run` and this Python first on PATH, in a directory with a `script.py`."""
    (tmp_path / "script.py").write_text("print('from a script')\n")
    environment = {**os.environ, "PATH": f"{capsule_cli.parent}:{os.environ['PATH']}"}
    return {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 60}
