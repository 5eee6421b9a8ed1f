"""The order in which the tests run, what `-m quick` selects, and what the header says of it. Used by conftest.py alone.

A tier is a folder of tests/. The fast ones come first, so that the first minute already says whether the decisions are right.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
FAST = ("unit", "tables", "project")
ORDER = (
    *FAST,
    "core",
    "contexts",
    "sandbox",
    "escape",
    "docs",
    "interfaces",
    "frameworks",
    "packaging",
    "faults",
    "vm",
    "compat",
)
# Processor time (user and system, children included) as root on x86_64: of everything in the summary of `.ci/run`, part
# tests_root; of `-m quick` with `time`. Tests also wait, so that the clock shows more than this divided by the processors.
PROCESSOR_SECONDS, QUICK_PROCESSOR_SECONDS = 355, 60
QUICK_SECONDS = 60
# One real sandbox for each main promise: promise -> (file, function).
QUICK_RUNS = {
    "run": ("sandbox/test_command_line.py", "test_exit_code_is_the_commands"),
    "limit": ("sandbox/test_limits.py", "test_open_files_are_limited"),
    "output limit": ("sandbox/test_limits.py", "test_output_of_exactly_the_limit_is_whole"),
    "timeout": ("sandbox/test_limits.py", "test_timeout_ends_the_run_and_keeps_output"),
    "denied call": ("sandbox/test_denied_syscalls.py", "test_denied_syscall_is_listed"),
    "files in and out": ("sandbox/test_files_in.py", "test_input_file_belongs_to_the_command"),
    "workspace": ("sandbox/test_view.py", "test_workspace_in_command_mode_is_a_private_copy"),
    "secrets": ("escape/test_secrets.py", "test_secret_of_the_list_is_unreadable_in_a_workspace"),
    "no network": ("escape/test_network.py", "test_network_has_only_loopback"),
}


def tier(path: str | Path) -> str:
    """The tier of a file, by its folder beneath tests/; "" for what lies elsewhere."""
    path = Path(path)
    return path.relative_to(HERE).parts[0] if HERE in path.parents else ""


def rank(path: str | Path) -> int:
    """The place of a file's tier in the order; an unknown tier is last."""
    name = tier(path)
    return ORDER.index(name) if name in ORDER else len(ORDER)


def is_quick(path: str | Path, function: str, slow: bool) -> bool:
    """Whether `-m quick` selects the test."""
    name = str(Path(path).relative_to(HERE)) if HERE in Path(path).parents else ""
    return (tier(path) in FAST and not slow) or (name, function) in QUICK_RUNS.values()


def holds_no_quick_test(path: Path) -> bool:
    """Whether `-m quick` need not even import the file or folder."""
    if HERE not in path.parents:
        return False
    name = str(path.relative_to(HERE))
    if path.is_dir():
        return name not in FAST and not any(file.startswith(f"{name}/") for file, _ in QUICK_RUNS.values())
    return (
        path.name.startswith("test_")
        and tier(path) not in FAST
        and name not in {file for file, _ in QUICK_RUNS.values()}
    )


def in_order(items: list, workers: int, rank_of) -> list:
    """Sort items by rank and deal them, so that each of xdist's workers begins with its share of the lowest rank.

    `--dist worksteal` cuts the list into one piece for each worker, the larger ones last, and hands them out at the start.
    """
    ranks: dict[int, list] = {}
    for item in items:
        ranks.setdefault(rank_of(item), []).append(item)
    pieces, rest = [[] for _ in range(workers)], []
    for _, equal in sorted(ranks.items()):
        share = len(equal) // workers
        for number in range(workers):
            pieces[number] += equal[number * share : (number + 1) * share]
        rest += equal[workers * share :]
    left = len(items)
    for number in range(workers):
        missing = left // (workers - number) - len(pieces[number])
        pieces[number] += rest[:missing]
        del rest[:missing]
        left -= len(pieces[number])
    return [item for piece in pieces for item in piece]


def functions(name: str) -> int:
    """How many test functions a tier has; each may run for many cases."""
    files = (HERE / name).rglob("test_*.py")
    return sum(len(re.findall(r"^(?:async )?def test_", file.read_text(), re.MULTILINE)) for file in files)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def header(paths: list[Path], selection: str) -> list[str]:
    """What will run, and how long it takes. `paths`: what was asked for; `selection`: the expression after `-m`."""
    if selection == "quick":
        runs = ", ".join(QUICK_RUNS)
        return [
            f"quick: {', '.join(FAST)}, and one real sandbox each for: {runs}",
            f"quick: {QUICK_PROCESSOR_SECONDS} s of processor time, at most {QUICK_SECONDS} s on two idle processors",
        ]
    names = [name for name in ORDER if any(_holds(path, name) for path in paths)]
    if not names:
        return []
    said = ["tiers, in this order (test functions): " + ", ".join(f"{name} {functions(name)}" for name in names)]
    if {*ORDER} == {*names}:
        minutes = -(-PROCESSOR_SECONDS // (60 * processors()))
        said.append(
            f"everything takes {PROCESSOR_SECONDS} s of processor time: at least {minutes} min on {processors()} processors; "
            f"`-m quick` takes at most {QUICK_SECONDS} s"
        )
    return said


def _holds(path: Path, name: str) -> bool:
    """Whether a path that was asked for holds the whole tier."""
    return path in (HERE / name, HERE, HERE.parent)
