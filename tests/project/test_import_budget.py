"""The import budget of the hot path (design section 4): what a run imports is listed, and nothing else gets in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import capsule_run

PACKAGE = Path(capsule_run.__file__).parent

# Standard modules that are built in, frozen, or a small shared object: each was measured to cost less than 0.2 ms.
FREE = {
    *(
        "posix",
        "sys",
        "builtins",
        "marshal",
        "time",
        "gc",
        "errno",
        "_stat",
        "_signal",
        "_socket",
        "fcntl",
        "binascii",
        "_json",
    ),
    *(
        "__future__",
        "__main__",
        "_io",
        "_abc",
        "abc",
        "io",
        "codecs",
        "_codecs",
        "zipimport",
        "_thread",
        "_weakref",
        "_warnings",
    ),
    *(
        "_imp",
        "_frozen_importlib",
        "_frozen_importlib_external",
        "encodings",
        "encodings.aliases",
        "encodings.utf_8",
        "winreg",
    ),
    *("encodings.ascii", "encodings.latin_1"),  # where the locale is no UTF-8 one
    "linecache",  # 3.13 takes it for `-c` itself
}
COUNT = "import sys; print(' '.join(sorted(sys.modules)), file=sys.stderr)"
CASES = {
    # what is done: modules of ours at the most, packages' faces aside, which hold a docstring and a table
    "import capsule_run": 2,
    "from capsule_run import run": 37,
    "from capsule_run.cli.command import main": 34,
}


def imported(statement: str) -> set[str]:
    """The modules in a fresh interpreter, isolated and without site, after the statement."""
    script = f"import sys; sys.path.append({str(PACKAGE.parent)!r}); {statement}; {COUNT}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(("statement", "most"), CASES.items())
def test_import_budget_of_the_hot_path_holds(statement: str, most: int) -> None:
    """The hot path imports only what is free, and a counted number of our own modules."""
    modules = imported(statement)
    ours = {name for name in modules if name.split(".")[0] == "capsule_run"}
    assert set() == modules - ours - FREE
    faces = {name for name in ours if (PACKAGE.parent / name.replace(".", "/")).is_dir() and name != "capsule_run"}
    assert len(ours - faces) <= most


def test_import_budget_notices_an_expensive_module() -> None:
    """The check can fail: a module that costs milliseconds is not on the list."""
    assert imported("import os") - FREE
