"""Samples, their statistics and the table. Everything is interleaved: a machine changes its speed.

Each round has its own order. The kernel clears away behind a sandbox for milliseconds, and who always comes next pays for it.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Row(NamedTuple):
    """One line of the report. A figure that could not be taken is absent, and `note` says why."""

    name: str
    value: float | None
    unit: str
    p25: float | None = None
    note: str = ""
    target: str = ""
    met: bool | None = None


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample below which `share` of all lie."""
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def median(samples: Sequence[float]) -> float:
    return percentile(samples, 0.5)


def interleaved(cases: dict[str, Callable[[], float]], rounds: int, *, warm_up: int = 2) -> dict[str, list[float]]:
    """Each case once a round, in an order that each round draws anew. A case returns its own figure."""
    samples: dict[str, list[float]] = {name: [] for name in cases}
    order, draw = list(cases), random.Random(1)  # the same orders each time
    for number in range(rounds + warm_up):
        draw.shuffle(order)
        for name in order:
            figure = cases[name]()
            if number >= warm_up:
                samples[name].append(figure)
    return samples


def milliseconds(action: Callable[[], object]) -> Callable[[], float]:
    """A case that takes the wall time of `action`."""

    def timed() -> float:
        start = time.perf_counter_ns()
        action()
        return (time.perf_counter_ns() - start) / 1e6

    return timed


def judged(name: str, value: float, unit: str, limit: float, *, at_least: bool = False, note: str = "") -> Row:
    """A row with a target: at most `limit`, or at least."""
    met = value >= limit if at_least else value <= limit
    return Row(name, value, unit, note=note, target=f"{'≥' if at_least else '≤'} {limit:.4g} {unit}".strip(), met=met)


def absent(name: str, why: str) -> Row:
    return Row(name, None, "", note=why)


def show(group: str, rows: Sequence[Row]) -> None:
    print(f"\n{group}")
    for row in rows:
        value = "absent" if row.value is None else f"{row.value:.3f} {row.unit}"
        p25 = "" if row.p25 is None else f"p25 {row.p25:.3f}"
        verdict = {None: "", True: "pass", False: "MISS"}[row.met]
        print(f"  {row.name:44} {value:>14}  {p25:12} {row.target:14} {verdict:5} {row.note}".rstrip())
