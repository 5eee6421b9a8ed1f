"""The table of promises × mechanisms at the end of a run of these tests: each cell tested, or named with the reason why not.

This machine has version 1 (root) and the memory watch (an ordinary user), the guest has version 2, so one run fills
some columns and says where the others are filled.
"""

from __future__ import annotations

import os
from collections import Counter

MECHANISMS = ("cgroup2", "cgroup1", "memory watch")
GUEST = os.environ.get("CAPSULE_GUEST") == "1"
WHY = {
    "memory cgroup": "no group there",
    "io cgroup": "refused",
    "memory watch": "a group holds it",
    "root": "needs root",
}
# Tests that ask no caller for a mechanism are about version 2, and run in the guest.
NOT_THERE = {"memory is never swapped": "no swap there"}
ELSEWHERE = "on the machine" if GUEST else "in the guest"


def _promise(nodeid):
    name = nodeid.rpartition("::")[2].removeprefix("test_")
    name, bracket, of = name.partition("[")
    words = [word for word in of.removesuffix("]").replace("root", "").replace("user", "").split("-") if word]
    return name.replace("_", " ") + (f" ({', '.join(words)})" if bracket and words else "")


def _state(report):
    if report.skipped:
        missing = str(report.longrepr[2]).removeprefix("Skipped: needs ")
        return "" if missing == "guest" else WHY.get(missing, f"needs {missing}")
    return "tested" if report.passed else "FAILED"


def _table(reports):
    """For each promise its cells, by mechanism. A promise to several accounts with one mechanism counts as its worst."""
    rows = {}
    for report in reports:
        if not report.nodeid.partition("tests/vm/")[2].startswith(("test_limit", "test_delegation")) or (
            report.when != "call" and report.passed
        ):
            continue
        promise, state = _promise(report.nodeid), _state(report)
        mechanism = dict(report.user_properties).get("mechanism", "cgroup2")
        cells = rows.setdefault(promise, {})
        if mechanism not in dict(report.user_properties).values():
            cells.update(dict.fromkeys(MECHANISMS[1:], NOT_THERE.get(promise, "version 2 only")))
        if state and cells.get(mechanism) != "FAILED":
            cells[mechanism] = state
    return rows


def pytest_terminal_summary(terminalreporter):
    stats = terminalreporter.stats
    rows = _table([one for key in ("passed", "failed", "error", "skipped") for one in stats.get(key, [])])
    if not rows:
        return
    terminalreporter.section("promises × mechanisms (docs/limits.md)")
    counts = {mechanism: Counter() for mechanism in MECHANISMS}
    for promise, cells in sorted(rows.items()):
        words = [cells.get(mechanism, ELSEWHERE) for mechanism in MECHANISMS]
        for mechanism, word in zip(MECHANISMS, words, strict=True):
            counts[mechanism][word] += 1
        terminalreporter.line(f"{promise[:58]:58}" + "".join(f"{word:>18}" for word in words))
    summary = "; ".join(
        f"{mechanism}: " + ", ".join(f"{n} {word}" for word, n in counts[mechanism].most_common())
        for mechanism in MECHANISMS
    )
    terminalreporter.line(f"{len(rows)} promises: {summary}")
