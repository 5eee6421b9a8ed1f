"""What control groups cost a run: on the machine in milliseconds, and of version 2 in the virtual machine of `tests/vm`.

As a script (`cgroups.py SRC ROUNDS`) it takes the samples where it is started, and prints them as JSON: for the guest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from measure import Row, absent, interleaved, judged, median, percentile

ADDS_MS = 0.5
# A system call costs twenty times as much in the guest, so it is judged by the share that half a millisecond is of a run here.
GUEST_RATIO = 1.08
MORE_ROUNDS = 5  # than other figures: a tenth of a run is looked for, and neighbours differ by as much
GUEST = Path(__file__).resolve().parents[1] / "tests" / "vm" / "guest.py"
GUEST_HIDES = ("/tmp/", "/run/", "/dev/", "/var/tmp/")  # the guest has its own there
WITH, WITHOUT = "with groups", "without groups"


def samples(rounds: int) -> tuple[str, dict[str, list[float]]]:
    """What the memory limit stands on, and the milliseconds of runs with groups and without, in turns, in this process."""
    from time import perf_counter_ns

    from capsule_run import run
    from capsule_run.cgroup import create, discover

    def one(*, none: bool) -> tuple[float, str]:
        discover.forget(none=none)
        discover.find()  # once a process, as is the clearing up behind the dead: not what is measured
        create.sweep_discovered()
        start = perf_counter_ns()
        result = run(["true"])
        spent = (perf_counter_ns() - start) / 1e6
        if result.status != "success":
            raise RuntimeError(f"capsule_run.run: {result}")
        return spent, result.isolation["limits"]["memory"]

    mechanism = one(none=False)[1]
    if mechanism == "watch":
        return mechanism, {}
    taken = interleaved({WITHOUT: lambda: one(none=True)[0], WITH: lambda: one(none=False)[0]}, rounds)
    discover.forget()
    return mechanism, taken


def added(taken: dict[str, list[float]]) -> float:
    """Of neighbours: the machine's pace changes more between rounds than within one."""
    return median([after - before for before, after in zip(taken[WITHOUT], taken[WITH], strict=True)])


def lines(where: str, taken: dict[str, list[float]]) -> list[Row]:
    return [Row(f"{where}, {name}", median(ms), "ms", percentile(ms, 0.25)) for name, ms in taken.items()]


def in_guest(rounds: int) -> tuple[str, dict[str, list[float]]] | str:
    """The same, measured in the guest; or why it cannot be."""
    if not GUEST.exists():
        return "needs tests/vm/guest.py"
    if not (os.environ.get("CAPSULE_UML_KERNEL") or shutil.which("linux.uml")):
        return "needs user-mode-linux, or a kernel in CAPSULE_UML_KERNEL"
    import capsule_run

    here, source = Path(__file__).resolve(), Path(capsule_run.__file__).resolve().parents[1]
    seen = [str(place) for place in {here.parent, source} if f"{place}/".startswith(GUEST_HIDES)]
    python = [str(Path(sys.executable).resolve()), "-E", "-S"]
    argv = [sys.executable, str(GUEST), "--timeout", "600", *(word for place in seen for word in ("--cow", place))]
    ended = subprocess.run(
        [*argv, "--", *python, str(here), str(source), str(rounds)],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    if ended.returncode != 0:
        return f"the guest ended with {ended.returncode}: {ended.stderr.strip()[-200:]}"
    mechanism, taken = json.loads(ended.stdout)
    return mechanism, taken


def rows(rounds: int) -> list[Row]:
    try:
        mechanism, here = samples(MORE_ROUNDS * rounds)
    except ImportError as error:
        return [absent("capsule_run", str(error))]
    table = lines(mechanism, here)
    if here:
        table.append(judged(f"{mechanism}: a run's groups add", added(here), "ms", ADDS_MS))
    else:
        table.append(absent("a run's groups add", "this account can make no control groups here"))
    found = in_guest(rounds)
    if isinstance(found, str):
        return [*table, absent("cgroup2, guest: with over without", found)]
    name, there = found
    ratio, line = 1 + added(there) / median(there[WITHOUT]), f"{name}, guest: with over without"
    table += lines(f"{name}, guest", there)
    return [*table, judged(line, ratio, "×", GUEST_RATIO)]


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    print(json.dumps(samples(int(sys.argv[2]))))
