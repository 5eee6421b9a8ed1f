"""Compare two lists of lines, in bounded time (Myers, "An O(ND) difference algorithm"). Pure.

`difflib` takes quadratic time and more for lines that a hostile program can choose. Here every step counts against a budget
that all files of one run share; when it is used up, a file is shown as replaced whole.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Edit = tuple[str, bytes]  # " ", "-" or "+", and the line

CONTEXT = 3  # lines around a change
_NO_NEWLINE = b"\n\\ No newline at end of file\n"


class Budget:
    """The steps that may still be spent."""

    def __init__(self, steps: int) -> None:
        self.steps = steps


def hunks(before: Sequence[bytes], after: Sequence[bytes], budget: Budget) -> Iterator[bytes]:
    """Yield the hunks of a unified diff. Lines end with a newline, except perhaps the last."""
    edits = _edits(before, after, budget)
    changed = [index for index, (kind, _line) in enumerate(edits) if kind != " "]
    start = 0
    old = new = 1  # line numbers at `start`
    while changed:
        first = last = changed.pop(0)
        while changed and changed[0] - last <= 2 * CONTEXT:
            last = changed.pop(0)
        begin, end = max(first - CONTEXT, start), min(last + CONTEXT + 1, len(edits))
        old += begin - start  # everything between two hunks is unchanged
        new += begin - start
        part = edits[begin:end]
        olds = sum([kind != "+" for kind, _line in part])
        news = sum([kind != "-" for kind, _line in part])
        yield b"@@ -%s +%s @@\n" % (_range(old, olds), _range(new, news))
        for kind, line in part:
            yield kind.encode() + (line if line.endswith(b"\n") else line + _NO_NEWLINE)
        old, new, start = old + olds, new + news, end


def _range(first: int, lines: int) -> bytes:
    if lines == 1:
        return b"%d" % first
    return b"%d,%d" % (first if lines else first - 1, lines)


def _edits(before: Sequence[bytes], after: Sequence[bytes], budget: Budget) -> list[Edit]:
    top = 0
    while top < min(len(before), len(after)) and before[top] == after[top]:
        top += 1
    end = 0
    while end < min(len(before), len(after)) - top and before[-1 - end] == after[-1 - end]:
        end += 1
    middle_before, middle_after = before[top : len(before) - end], after[top : len(after) - end]
    pairs = _common(middle_before, middle_after, budget)
    edits: list[Edit] = [(" ", line) for line in before[:top]]
    at = to = 0
    for left, right in (*pairs, (len(middle_before), len(middle_after))):
        edits += [("-", line) for line in middle_before[at:left]]
        edits += [("+", line) for line in middle_after[to:right]]
        if left < len(middle_before):
            edits.append((" ", middle_before[left]))
        at, to = left + 1, right + 1
    return edits + [(" ", line) for line in before[len(before) - end :]]


def _common(before: Sequence[bytes], after: Sequence[bytes], budget: Budget) -> list[tuple[int, int]]:
    """Return the pairs of lines that a shortest edit keeps; none if the budget is used up.

    `trace` has, for each number of edits, the furthest place in `before` on each diagonal that so many edits can end on:
    diagonals -D, -D+2, ..., D of (place in `before`) - (place in `after`).
    """
    numbers: dict[bytes, int] = {}
    left = [numbers.setdefault(line, len(numbers)) for line in before]
    right = [numbers.setdefault(line, len(numbers)) for line in after]
    trace: list[list[int]] = []
    for edits in range(len(left) + len(right) + 1):
        budget.steps -= edits + 1
        row: list[int] = []
        for index in range(edits + 1):
            diagonal = 2 * index - edits
            begun = at = _begin(trace, edits, index)
            while at < len(left) and at - diagonal < len(right) and left[at] == right[at - diagonal]:
                at += 1
            budget.steps -= at - begun
            row.append(at)
            if at >= len(left) and at - diagonal >= len(right):
                return _pairs([*trace, row], len(left), len(right))
        if budget.steps < 0:
            return []
        trace.append(row)
    return []


def _inserts(row: list[int], index: int) -> bool:
    """Return whether the furthest path comes onto a diagonal by an insertion, from the row with one edit less."""
    return index == 0 or (index < len(row) and row[index - 1] < row[index])


def _begin(trace: list[list[int]], edits: int, index: int) -> int:
    if not edits:
        return 0
    row = trace[edits - 1]
    return row[index] if _inserts(row, index) else row[index - 1] + 1


def _pairs(trace: list[list[int]], at: int, to: int) -> list[tuple[int, int]]:
    """Walk back from the end, and return the pairs of equal lines on the way."""
    pairs = []
    for edits in range(len(trace) - 1, -1, -1):
        index = (at - to + edits) // 2
        begun = _begin(trace, edits, index)
        while at > begun:
            at, to = at - 1, to - 1
            pairs.append((at, to))
        if edits:
            at, to = (at, to - 1) if _inserts(trace[edits - 1], index) else (at - 1, to)
    return pairs[::-1]
