"""How fast a command's output comes out: 1 GiB through stdout, against a plain pipe."""

from __future__ import annotations

import subprocess

from measure import Row, absent, interleaved, judged, median, milliseconds
from start import cli_path

SHARE_OF_PLAIN = 0.8


def drained(argv: list[str]) -> None:
    """`argv | cat >/dev/null`, to the end of both."""
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE) as source,
        subprocess.Popen(["cat"], stdin=source.stdout, stdout=subprocess.DEVNULL) as reader,
    ):
        source.stdout.close()
        if reader.wait() != 0 or source.wait() != 0:
            raise RuntimeError(f"{argv} ended with {source.returncode}")


def rows(rounds: int, size_mib: int) -> list[Row]:
    cli = cli_path()
    if cli is None:
        return [absent("output", "capsule-run is not installed")]
    # in pieces of 64 KiB, as cp, cat and tar write, and of 4 KiB, where each page that is passed on costs a new one
    writers = {
        "64 KiB": ["dd", "if=/dev/zero", "bs=64K", f"count={size_mib * 16}", "status=none"],
        "4 KiB": ["head", "-c", f"{size_mib}M", "/dev/zero"],
    }
    cases = {}
    for pieces, command in writers.items():
        inside = [cli, "--max-output", "2G", "--", *command]
        cases[f"plain pipe, {pieces}"] = milliseconds(lambda command=command: drained(command))
        cases[f"capsule-run, {pieces}"] = milliseconds(lambda inside=inside: drained(inside))
    samples = interleaved(cases, rounds, warm_up=1)
    speed = {name: median([size_mib / 1024 / (ms / 1000) for ms in figures]) for name, figures in samples.items()}
    share = {pieces: speed[f"capsule-run, {pieces}"] / speed[f"plain pipe, {pieces}"] for pieces in writers}
    return [
        *(Row(name, value, "GiB/s") for name, value in speed.items()),
        judged(
            "output, share of a plain pipe",
            share["64 KiB"],
            "×",
            SHARE_OF_PLAIN,
            at_least=True,
            note="64 KiB, start included",
        ),
        Row("output in pieces of 4 KiB, share of a plain pipe", share["4 KiB"], "×"),
    ]
