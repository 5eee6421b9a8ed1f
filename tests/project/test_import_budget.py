"""The import budget of the hot path (design section 4): what a run imports is listed, and nothing else gets in."""

from __future__ import annotations

import ast
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
    "from capsule_run import run": 38,
    "from capsule_run.cli.command import main": 35,
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


def lazy_modules() -> dict[str, str]:
    """Each lazy module of the packages' tables → when it is needed."""
    found = {}
    for face in PACKAGE.rglob("__init__.py"):
        package = ".".join(face.relative_to(PACKAGE.parent).parent.parts)
        for node in ast.walk(ast.parse(face.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "loaded_when_used":
                modules = ast.literal_eval(node.args[1])
                found.update({f"{package}.{name}": when for name, when in modules.items()})
    return found


# What is true of `capsule_run.run(["true"])`, and what depends on who runs it.
IN_EVERY_RUN = {
    "a request did not come from the command line",
    "the room is being built",
    "the filter is built, while the launcher builds the room",
    "the command runs",
    "the command has ended",
    "the result says what was in force",
    "a result has streams, files or measurements",
}
IN_SOME_PLACES = {
    "the caller is root",
    "the host has cgroups of version 2",
    "the report or the record has what only some runs have",  # a run of more than 5 ms is sampled
}


def test_lazy_modules_are_absent_until_their_condition_is_true() -> None:
    """An import of the package loads no lazy module, and a simple run exactly those whose condition is true of it."""
    lazy = lazy_modules()
    assert len(lazy) > 50
    assert set(lazy.values()) >= IN_EVERY_RUN | IN_SOME_PLACES
    script = (
        "import sys, capsule_run; before = [*sys.modules]; "
        "assert capsule_run.run(['true']).ok; print(*before, '/', *sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    before, after = (set(part.split()) & {*lazy} for part in said.split("/"))
    assert set() == before
    expected = {name for name, when in lazy.items() if when in IN_EVERY_RUN}
    assert expected == {name for name in after if lazy[name] not in IN_SOME_PLACES}
