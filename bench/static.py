"""The static file (`packaging/build-static OUT`), which CAPSULE_TEST_FILE names: its start and what it keeps in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from measure import Row, absent, interleaved, judged, median, milliseconds, percentile
from start import bare, bwrap_argv, cli_path

START_OF_BWRAP = 2.0
MEMORY_BYTES = 6e6


def resident_bytes(file: str) -> float:
    """The resident memory of the file's own process while its command sleeps."""
    argv = [file, "--", "sh", "-c", "echo up; exec sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/") as run:
        run.stdout.readline()
        time.sleep(0.2)  # what it still imports while the command runs
        status = Path(f"/proc/{run.pid}/status").read_text()
        run.terminate()
        run.stdout.read()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def rows(rounds: int) -> list[Row]:
    file = os.environ.get("CAPSULE_TEST_FILE")
    names = ("static file, start", "static file, resident while a command runs")
    if file is None:
        return [absent(name, "CAPSULE_TEST_FILE names no static file") for name in names]
    if shutil.which("bwrap") is None:
        return [absent(names[0], "bubblewrap is not installed")]
    true = shutil.which("true") or "true"
    cases = {
        names[0]: [file, "--", "true"],
        "package, start": [cli_path() or file, "--", "true"],
        "barest bubblewrap": [shutil.which("bwrap"), *bwrap_argv()[1:], true],
        "bare interpreter": [sys.executable, "-I", "-S", "-c", "pass"],
    }
    figures = interleaved({name: milliseconds(lambda argv=argv: bare(argv)) for name, argv in cases.items()}, rounds)
    bwrap = median(figures["barest bubblewrap"])
    found = [
        judged(names[0], median(figures[names[0]]) / bwrap, "× bubblewrap", START_OF_BWRAP),
        *(Row(name, median(taken), "ms", percentile(taken, 0.25)) for name, taken in figures.items()),
    ]
    size = median([resident_bytes(file) for _ in range(max(3, rounds // 30))])
    return [*found, judged(names[1], size / 1e6, "MB", MEMORY_BYTES / 1e6)]
