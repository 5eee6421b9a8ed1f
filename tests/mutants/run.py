"""Break one line at a time, run the tests that should notice, and report which test did. Not part of CI: takes half an hour.

    python tests/mutants/run.py [NUMBER...]      # in a clone of its own, whose `.venv` has the package installed editable

The mutants are the table of `docs/decisions/mutants.md`. Each line must occur once in its file; after the run the file is
restored, and the core rebuilt if it was broken. Exit code 1 if a mutant survived or its line was not found.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = REPOSITORY / "docs" / "decisions" / "mutants.md"
CORE = REPOSITORY / "src" / "capsule_run" / "_core"
TIMEOUT_S = 1200


class Mutant(NamedTuple):
    """A row of the table: `before` stands once in `file`; `after` replaces it; pytest gets the words of `tests`."""

    number: int
    file: str
    before: str
    after: str
    tests: str


def mutants() -> list[Mutant]:
    """Return the rows of the table. Cells are code in backticks, in which a vertical bar has a backslash."""
    found = []
    for line in TABLE.read_text().splitlines():
        cells = [cell.replace("\0", "|").strip().strip("`") for cell in line.replace("\\|", "\0").split("|")]
        if len(cells) > 6 and cells[1].isdigit():  # the row ends with the test that noticed
            number, file, before, after, tests = cells[1:6]
            found.append(Mutant(int(number), file, before, after, tests))
    return found


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository, with little priority."""
    return subprocess.run(
        ["nice", "-n19", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )


def build_core() -> str:
    """Build the core, and the command, which is the same file; return the compiler's errors."""
    built = run(sys.executable, "core/build.py", str(CORE))
    if built.returncode == 0:
        command = Path(sys.executable).with_name("capsule-run")
        command.unlink(missing_ok=True)
        command.write_bytes(CORE.read_bytes())
        command.chmod(0o755)
    return built.stderr if built.returncode else ""


def verdict(mutant: Mutant) -> str:
    """Return what noticed the mutant: a test, the compiler, or `SURVIVED`."""
    path = REPOSITORY / mutant.file
    text = path.read_text()
    if text.count(mutant.before) != 1:
        return f"NOT FOUND ({text.count(mutant.before)} times)"
    is_core = mutant.file.startswith("core/")
    path.write_text(text.replace(mutant.before, mutant.after))
    try:
        if is_core and (error := build_core()):
            return f"compiler: {error.strip().splitlines()[0]}"
        done = run(sys.executable, "-m", "pytest", "-x", "-q", "-n2", *mutant.tests.split())
        if done.returncode == 0:
            return "SURVIVED"
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        return failed[0].split()[1] if failed else f"pytest exited with {done.returncode}: {done.stdout[-300:]}"
    except subprocess.TimeoutExpired:
        return f"no end within {TIMEOUT_S} s"
    finally:
        path.write_text(text)
        if is_core:
            build_core()


def main() -> int:
    """Run all mutants, or those whose numbers are given."""
    chosen = {int(word) for word in sys.argv[1:]}
    bad = 0
    for mutant in mutants():
        if not chosen or mutant.number in chosen:
            noticed = verdict(mutant)
            bad += noticed.startswith(("SURVIVED", "NOT FOUND"))
            print(f"{mutant.number} {mutant.file}: {noticed}", flush=True)
    return bad > 0


if __name__ == "__main__":
    raise SystemExit(main())
