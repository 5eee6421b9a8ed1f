"""How fast a command's output comes out: 1 GiB through stdout, against a plain pipe."""

from __future__ import annotations

import subprocess

from measure import Row, absent, interleaved, judged, median, milliseconds, percentile
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
    command = ["head", "-c", f"{size_mib}M", "/dev/zero"]
    cases = {
        "plain pipe": milliseconds(lambda: drained(command)),
        "capsule-run": milliseconds(lambda: drained([cli, "--max-output", "2G", "--", *command])),
    }
    samples = interleaved(cases, rounds, warm_up=1)
    speed = {name: [size_mib / 1024 / (ms / 1000) for ms in figures] for name, figures in samples.items()}
    table = [Row(name, median(s), "GiB/s", percentile(s, 0.25)) for name, s in speed.items()]
    share = median(speed["capsule-run"]) / median(speed["plain pipe"])
    return [
        *table,
        judged("output, share of a plain pipe", share, "×", SHARE_OF_PLAIN, at_least=True, note="start included"),
    ]
