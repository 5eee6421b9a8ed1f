"""What running inside costs: a computation and the everyday system calls, inside against outside."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Row, absent, judged
from start import cli_path

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
    "pipe": 1.07,
    "pipe-byte": None,  # two calls that do next to nothing: any filter at all is 10 % of them
}
# Where a target is missed, this says how much of it is ours and how much is what any filter at all costs.
OVER_BWRAP = {"getppid": 1.05, "open": 1.05, "pipe-byte": 1.02}
# bubblewrap with a filter of one instruction, on a view of one mount.
SMALLEST_BWRAP = "bwrap --ro-bind / / --dev /dev --tmpfs /dev/shm --unshare-all --seccomp 9"
HERE = Path(__file__).resolve().parent


def figures(argv: list[str], folder: str) -> dict[str, float]:
    text = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout
    return {kind: float(ns) for kind, ns in map(str.split, text.splitlines())}


def rows(rounds: int) -> list[Row]:
    """Ratios of the fastest of many short runs in turn. All else is noise, which only adds.

    What allocates in the kernel (pipe) takes up to a third longer in one process than in the next, inside and outside.
    """
    cli = cli_path()
    if cli is None:
        return [absent("system calls", "capsule-run is not installed")]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        sys.path.insert(0, str(HERE.parent / "core"))
        import build

        # the core's own toolchain; the optimiser may not remove what is measured, which is volatile
        build.build(Path(folder, "loops"), source=HERE)
        # the current directory is what a sandbox shows at /workspace
        sides = {"outside": ["./loops"], "inside": [cli, "--", "./loops"]}
        if shutil.which("bwrap"):
            sides["bwrap"] = ["sh", "-c", f"exec {SMALLEST_BWRAP} ./loops 9<allow"]
            Path(folder, "allow").write_bytes(bytes((6, 0, 0, 0, 0, 0, 0xFF, 0x7F)))
        samples: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, argv in sides.items():
                samples[side].append(figures(argv, folder))
    low = {side: {kind: min(run[kind] for run in runs) for kind in LIMITS} for side, runs in samples.items()}
    return [
        *(_ratio(kind, "outside", low, limit) for kind, limit in LIMITS.items()),
        *(_ratio(kind, "bwrap", low, limit) for kind, limit in OVER_BWRAP.items() if "bwrap" in low),
    ]


def _ratio(kind: str, against: str, low: dict[str, dict[str, float]], limit: float | None) -> Row:
    inside, other = low["inside"][kind], low[against][kind]
    name = f"{kind}, inside / {'smallest bwrap' if against == 'bwrap' else against}"
    note = f"{inside:.0f} ns against {other:.0f} ns"
    return (
        Row(name, inside / other, "×", note=note)
        if limit is None
        else judged(name, inside / other, "×", limit, note=note)
    )
