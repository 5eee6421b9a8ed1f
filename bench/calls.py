"""What running inside costs: a computation and the everyday system calls, inside against outside."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Row, absent, judged, percentile
from start import cli_path

if TYPE_CHECKING:
    from collections.abc import Iterator

# Any filter adds some 40 ns to every call. The cheapest calls do nothing else; the others do something.
CHEAPEST = 1.35
LIMITS: dict[str, float | None] = {
    "cpu": 1.01,
    "getppid": CHEAPEST,
    "write-null": CHEAPEST,
    "write-4K": 1.07,
    "stat": 1.07,
    "open": 1.07,
    "open+fcntl": None,
    "pipe": None,  # allocates in the kernel, which a memory group counts: see COUNTED
    "pipe-byte": None,  # two calls that do next to nothing: any filter at all is 10 % of them
}
# Where a target is missed, this says how much of it is ours and how much is what any filter at all costs.
OVER_BWRAP = {"getppid": 1.05, "open": 1.05, "pipe-byte": 1.02}
# Against outside in a memory group of its own: what counting costs there is no doing of the wall's.
COUNTED = {"pipe": 1.07}
# bubblewrap with a filter of one instruction, on a view of one mount.
SMALLEST_BWRAP = "bwrap --ro-bind / / --dev /dev --tmpfs /dev/shm --unshare-all --seccomp 9"
NAMES = {"outside": "outside", "counted": "outside, memory counted", "bwrap": "smallest bwrap"}
HERE = Path(__file__).resolve().parent


def figures(argv: list[str], folder: str) -> dict[str, float]:
    text = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout
    return {kind: float(ns) for kind, ns in map(str.split, text.splitlines())}


@contextlib.contextmanager
def memory_group() -> Iterator[str | None]:
    """The directory of a memory group such as a run's, where this account can make one and a run has one, too."""
    from capsule_run import cgroup, groups

    place = next((one for one in cgroup.find().places if groups.MEMORY in one.controllers), None)
    if place is None:
        yield None
        return
    group = Path(place.path, f"capsule-bench-{os.getpid()}")
    group.mkdir()
    try:
        Path(group, "memory.max" if place.version == 2 else "memory.limit_in_bytes").write_text(str(256 << 20))
        yield str(group)
    finally:
        group.rmdir()


def rows(rounds: int) -> list[Row]:
    """Ratios of low percentiles over many short runs in turn: two long runs differ by half for no reason at all."""
    cli = cli_path()
    if cli is None:
        return [absent("system calls", "capsule-run is not installed")]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, memory_group() as group:
        sys.path.insert(0, str(HERE.parent / "core"))
        import build

        # the core's own toolchain; the optimiser may not remove what is measured, which is volatile
        build.build(Path(folder, "loops"), source=HERE)
        # the current directory is what a sandbox shows at /workspace
        sides = {"outside": ["./loops"], "inside": [cli, "--", "./loops"]}
        if group:
            sides["counted"] = ["sh", "-c", f'echo $$ >"{group}/cgroup.procs" && exec ./loops']
        if shutil.which("bwrap"):
            sides["bwrap"] = ["sh", "-c", f"exec {SMALLEST_BWRAP} ./loops 9<allow"]
            Path(folder, "allow").write_bytes(bytes((6, 0, 0, 0, 0, 0, 0xFF, 0x7F)))
        samples: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, argv in sides.items():
                samples[side].append(figures(argv, folder))
    low = {
        side: {kind: percentile([run[kind] for run in runs], 0.25) for kind in LIMITS} for side, runs in samples.items()
    }
    return [
        *(_ratio(kind, "outside", low, limit) for kind, limit in LIMITS.items()),
        # without a group outside, a run has none, either
        *(_ratio(kind, "counted" if "counted" in low else "outside", low, limit) for kind, limit in COUNTED.items()),
        *(_ratio(kind, "bwrap", low, limit) for kind, limit in OVER_BWRAP.items() if "bwrap" in low),
    ]


def _ratio(kind: str, against: str, low: dict[str, dict[str, float]], limit: float | None) -> Row:
    inside, other = low["inside"][kind], low[against][kind]
    name = f"{kind}, inside / {NAMES[against]}"
    note = f"{inside:.0f} ns against {other:.0f} ns"
    return (
        Row(name, inside / other, "×", note=note)
        if limit is None
        else judged(name, inside / other, "×", limit, note=note)
    )
