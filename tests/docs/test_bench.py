"""`bench/`, which no other test runs: each group measures once. No figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from documents import REPOSITORY

BENCH = REPOSITORY / "bench"
GROUPS = ("calls", "cgroup", "files", "interfaces", "memory", "others", "output", "sessions", "start", "static")
ONCE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import files, run
files.TREE_FILES, files.TREE_FOLDERS = 200, 2  # enough to see whether it works
group = run.GROUPS[sys.argv[2]]
print(json.dumps([sorted(run.GROUPS), [[row.name, row.value, row.note] for row in group.rows(*[1 for _ in group.quick])]]))
"""


def measure_once(group):
    done = subprocess.run(
        [sys.executable, "-c", ONCE, str(BENCH), group], capture_output=True, text=True, check=False, timeout=300
    )
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("group", GROUPS)
def test_bench_group_measures_once(group):
    """Each group of `bench/run.py` runs with a single round, and each of its rows has a figure or says why not."""
    groups, rows = measure_once(group)
    assert [*GROUPS] == groups
    assert rows
    assert [] == [name for name, value, note in rows if value is None and not note]


def test_bench_modules_are_all_in_a_group():
    """A module of `bench/` that no group runs would rot unseen."""
    modules = {path.stem for path in BENCH.glob("*.py")} - {"run", "measure"}
    imported = {line.removeprefix("import ") for line in (BENCH / "run.py").read_text().splitlines()}
    assert set() == modules - imported
    assert len(modules) == len(GROUPS)
