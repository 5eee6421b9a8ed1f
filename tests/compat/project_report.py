"""Run projects and write their rows into docs/compatibility.md: `project_report.py [--print] [NAME...]`.

Rows of projects that are not named stay as they are; with `--print` nothing is written. Not a test: `test_projects.py`
runs the same comparison, and `tests/docs/test_compatibility_page.py` compares the page with the table.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from project_runs import REQUIREMENTS, MissingError, both, work_tree
from projects import DIFFERENCES, PROJECTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
SAME = "the same"


def pinned(project):
    """The versions that the table pins: of an sdist, of npm's packages, of the packages that the project is named for."""
    if project.sdist:
        return project.sdist.replace("==", " ")
    npm = re.findall(r"([\w-]+)@([\d.]+)", project.setup)
    if npm:
        return ", ".join(map(" ".join, npm))
    wanted = (
        dict(
            re.findall(r"^(\S+)==(\S+)$", REQUIREMENTS.joinpath(f"{project.environment}.txt").read_text(), re.MULTILINE)
        )
        if project.environment
        else {}
    )
    names = re.findall(r"[\w-]+", project.name.lower())
    return ", ".join(f"{name} {wanted[name]}" for name in names if name in wanted)


def versions(project):
    """All versions: what the table pins, the source package, what Debian has."""
    found = [pinned(project)]
    if project.source:
        control = next(work_tree(project).parent.glob("*.dsc")).read_text()
        found.append(f"{project.source} " + re.search(r"^Version: (.*)$", control, re.MULTILINE)[1])
    elif not project.sdist and not found[0]:
        query = ["dpkg-query", "-W", "-f", "${Package} ${Version}, ", *project.packages.split()[:1]]
        found.append(subprocess.run(query, capture_output=True, text=True).stdout.strip(", "))
    return ", ".join(filter(None, found))


def _words(end, project):
    said = (
        f"{len(end.said)} lines, exit code {end.code}"
        if project.is_job
        else "; ".join(end.said[-6:]) or f"exit code {end.code}"
    )
    return re.sub(r"\s+", " ", said).replace("|", "\\|")


def row(project, there, here):
    """The project's row of the page."""
    why = DIFFERENCES[project.name].why if project.name in DIFFERENCES else "NO REASON"
    inner = SAME if there.equals(here) else f"{_words(here, project)}: {why}"
    tier = "CI" if project.is_cheap else "full"
    return f"| {project.name} | {versions(project)} | {tier} | {_words(there, project)} | {inner} |"


def write(rows):
    """Put rows into the page, in the order of the table."""
    text = PAGE.read_text()
    start = text.index("| project | version |")
    end = text.index("\n\n", start)
    head, rule, *old = text[start:end].split("\n")
    known = {line.split(" | ")[0].removeprefix("| "): line for line in old} | rows
    lines = [known[project.name] for project in PROJECTS if project.name in known]
    PAGE.write_text(text[:start] + "\n".join((head, rule, *lines)) + text[end:])


def tell(project, there, here, seconds):
    """Print how both sides ended, and if they differ, in what."""
    outcome = "SAME" if there.equals(here) else "DIFFERS"
    print(f"{project.name}: {outcome} {seconds:.0f} s: {there.code} {' / '.join(there.said)[-300:]}", flush=True)
    if there.said and there.equals(here):
        return
    print(f"   inside: {here.code} {' / '.join(here.said)[-300:]}")
    print("   only inside:", [name for name in here.failed if name not in there.failed][:20])
    print("   only outside:", [name for name in there.failed if name not in here.failed][:20])
    print("   " + (here.why if there.said else there.why)[-2000:].replace("\n", "\n   "), flush=True)


def main(names):
    """Run the named projects, or all."""
    is_printed, rows = "--print" in names, {}
    known = {project.name: project for project in PROJECTS}
    wanted = [name for name in names if name != "--print"]
    for project in [known[name] for name in wanted or known]:
        start = time.monotonic()
        try:
            there, here = both(project)
        except MissingError as error:
            print(f"{project.name}: MISSING {error}", flush=True)
            continue
        tell(project, there, here, time.monotonic() - start)
        rows[project.name] = row(project, there, here)
        print(rows[project.name], flush=True)
        if not is_printed:
            write(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
