"""Measure capsule-run against bubblewrap and against nothing: `python bench/run.py [--quick] [--json FILE] [GROUP...]`.

Use the interpreter of the environment where the project is installed. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import calls
import cgroups
import files
import interfaces
import memory
import output
import start
from measure import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from measure import Row

GROUPS: dict[str, Callable[[bool], list[Row]]] = {
    "start": lambda quick: start.rows(15 if quick else 150),
    "memory": lambda quick: memory.rows(2 if quick else 7),
    "output": lambda quick: output.rows(2 if quick else 7, 256 if quick else 1024),
    "files": lambda quick: files.rows(15 if quick else 100),
    "cgroup": lambda quick: cgroups.rows(15 if quick else 120),
    "interfaces": lambda quick: interfaces.rows(5 if quick else 40),
    "calls": lambda quick: calls.rows(4 if quick else 30),
}


def machine() -> str:
    return f"Linux {platform.release()} {platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} CPUs"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the samples: does it work, not what does it cost"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"only these: {', '.join(GROUPS)}")
    options = parser.parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    load = f"load {os.getloadavg()[0]:.1f}"
    print(f"{machine()}, {load}")
    report: dict[str, list[Row]] = {}
    for name in options.groups or GROUPS:
        try:
            report[name] = GROUPS[name](options.quick)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            print(f"\n{name}: {error}", file=sys.stderr)
            report[name] = []
        show(name, report[name])
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            table = {name: [row._asdict() for row in rows] for name, rows in report.items()}
            json.dump({"machine": machine(), "load": load, "groups": table}, file, indent=2, ensure_ascii=False)
    judged = [row for rows in report.values() for row in rows if row.met is not None]
    missed = [row.name for row in judged if not row.met]
    print(
        f"\n{len(judged) - len(missed)} of {len(judged)} targets met"
        + (f"; missed: {'; '.join(missed)}" if missed else "")
    )
    return 1 if missed or not all(report.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
