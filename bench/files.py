"""What files cost: a copy-on-write workspace of many files, a thousand files in and out, a large one in and out."""

from __future__ import annotations

import tempfile
from pathlib import Path

from measure import Row, absent, interleaved, judged, median, milliseconds, percentile

COW_ADDS_MS = 1.5
TREE_FILES, TREE_FOLDERS = 20_000, 200
MANY, LARGE_MIB = 1000, 256


def tree(place: Path) -> str:
    """A directory of 20,000 small files in 200 folders, with a secret to mask."""
    for folder in range(TREE_FOLDERS):
        (place / f"d{folder}").mkdir(parents=True)
        for number in range(TREE_FILES // TREE_FOLDERS):
            (place / f"d{folder}" / f"f{number}").write_text("x")
    (place / ".env").write_text("SECRET=1")
    return str(place)


def rows(rounds: int) -> list[Row]:
    try:
        from capsule_run import run
    except ImportError as error:
        return [absent("capsule_run", str(error))]
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
        shared = tree(Path(folder, "tree"))
        large = Path(folder, "large")
        large.write_bytes(b"x" * (LARGE_MIB << 20))
        many = {f"d{number % 10}/f{number}": b"x" * 100 for number in range(MANY)}
        one = {"large": {"source": str(large)}}

        def bring_large() -> None:
            result = run(["true"], files=one, collect=["large"], memory="2G", collect_bytes="1G")
            assert len(result.files["large"]) == LARGE_MIB << 20

        short = interleaved(
            {
                "empty workspace": milliseconds(lambda: run(["true"])),
                "20,000 files, read-only": milliseconds(
                    lambda: run(["true"], workspace={"source": shared, "mode": "ro"})  # type: ignore[arg-type]
                ),
                "20,000 files, copy-on-write": milliseconds(lambda: run(["true"], workspace=shared)),
            },
            rounds,
        )
        long = interleaved(
            {
                f"{MANY} files in and out": milliseconds(lambda: run(["true"], files=many, collect=["**"])),
                f"{LARGE_MIB} MiB in and out": milliseconds(bring_large),
            },
            max(rounds // 20, 2),
        )
    table = [Row(name, median(taken), "ms", percentile(taken, 0.25)) for name, taken in {**short, **long}.items()]
    # of neighbours: the machine's pace changes more between rounds than within one
    pairs = zip(short["empty workspace"], short["20,000 files, copy-on-write"], strict=True)
    added = median([after - before for before, after in pairs])
    return [*table, judged("copy-on-write workspace of 20,000 files adds", added, "ms", COW_ADDS_MS)]
