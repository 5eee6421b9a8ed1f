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
from typing import TYPE_CHECKING, NamedTuple

import calls
import cgroups
import files
import interfaces
import memory
import others
import output
import sessions
import start
import static
from measure import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from measure import Row


class Group(NamedTuple):
    """What is measured together: `rows` gets the numbers of rounds (and of MiB, for output), few or as usual."""

    rows: Callable[..., list[Row]]
    quick: tuple[int, ...]
    usual: tuple[int, ...]


GROUPS = {
    "start": Group(start.rows, (15,), (150,)),
    "memory": Group(memory.rows, (2,), (7,)),
    "output": Group(output.rows, (2, 256), (7, 1024)),
    "files": Group(files.rows, (15,), (100,)),
    "cgroup": Group(cgroups.rows, (15,), (120,)),
    "interfaces": Group(interfaces.rows, (5,), (40,)),
    "sessions": Group(sessions.rows, (10,), (150,)),
    "static": Group(static.rows, (15,), (150,)),
    "calls": Group(calls.rows, (4,), (30,)),
    "others": Group(others.rows, (5,), (60,)),
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
            report[name] = GROUPS[name].rows(*(GROUPS[name].quick if options.quick else GROUPS[name].usual))
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
