"""After many runs of every kind with files, the host is as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import capsule_run

RUNS = 500
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/sys/fs/cgroup")


def host_state():
    """Names in the places where programs leave things, the mount table, and this process's descriptors."""
    # the doctor's decoys, which it makes and removes, may be another test's beside this one
    ours = {place: [name for name in os.listdir(place) if "capsule" in name] for place in PLACES}
    names = {
        place: sorted(name for name in found if not name.startswith("capsule-doctor")) for place, found in ours.items()
    }
    mounts = sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return names, mounts, sorted(os.listdir("/proc/self/fd"))


@pytest.mark.sandbox
@pytest.mark.slow
def test_cleanup_after_500_runs_is_complete(tmp_path):
    """500 runs in a row, with files in, files out, changes, a refusal and a timeout among them, leave the host as it was."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "kept").write_text("k")
    kinds = [
        {"command": ["true"]},
        {"command": ["sh", "-c", "echo x > f; cat in"], "files": {"in": b"x" * 5000}, "collect": ["**"]},
        {"command": ["sh", "-c", "rm kept; mkfifo p; echo y > n"], "workspace": str(tree)},
        {"command": ["sh", "-c", "echo y > out"], "workspace": str(tree), "save_changes": str(tmp_path / "saved")},
        {"command": ["no-such-command"], "files": {"in": "x"}, "collect": ["in"]},
        {"command": ["true"], "files": {"in": {"source": str(tree / "missing")}}},
        {"command": ["sleep", "9"], "timeout_ms": 20, "workspace": str(tree), "apply_changes": True},
        {"command": ["true"], "files": {"in": b"x" * 900_000}, "disk": 1 << 20, "collect": ["in"], "collect_bytes": 10},
    ]
    for kind in kinds:
        capsule_run.run(**kind)
    before = host_state()
    for number in range(RUNS):
        capsule_run.run(**kinds[number % len(kinds)])
    assert before == host_state()
    assert (["kept"], "k") == (os.listdir(tree), (tree / "kept").read_text())
