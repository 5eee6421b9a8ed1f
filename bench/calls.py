"""What running inside costs: a computation and the everyday system calls, inside against outside."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Row, absent, judged, percentile
from start import cli_path

# Any filter adds some 40 ns to every call. The cheapest calls do nothing else; the others do something.
CHEAPEST = 1.35
LIMITS = {
    "cpu": 1.01,
    "getppid": CHEAPEST,
    "write-null": CHEAPEST,
    "write-4K": 1.10,
    "stat": 1.10,
    "open": 1.10,
    "pipe": 1.10,
}
OVER_BWRAP = 1.05
# bubblewrap with a filter of one instruction: what any filter at all costs.
SMALLEST_BWRAP = "bwrap --ro-bind / / --dev /dev --tmpfs /dev/shm --unshare-all --seccomp 9"
HERE = Path(__file__).resolve().parent


def figures(argv: list[str], folder: str) -> dict[str, float]:
    text = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout
    return {kind: float(ns) for kind, ns in map(str.split, text.splitlines())}


def rows(rounds: int) -> list[Row]:
    """Ratios of low percentiles over many short runs in turn: two long runs differ by half for no reason at all."""
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
    table = []
    for kind, limit in LIMITS.items():
        low = {side: percentile([run[kind] for run in runs], 0.25) for side, runs in samples.items()}
        note = f"{low['inside']:.0f} ns against {low['outside']:.0f} ns"
        table.append(judged(f"{kind}, inside / outside", low["inside"] / low["outside"], "×", limit, note=note))
    if "bwrap" in samples:
        low = {side: percentile([run["getppid"] for run in samples[side]], 0.25) for side in ("inside", "bwrap")}
        note = f"{low['inside']:.0f} ns against {low['bwrap']:.0f} ns"
        table.append(
            judged("getppid, inside / smallest bwrap", low["inside"] / low["bwrap"], "×", OVER_BWRAP, note=note)
        )
    return table
