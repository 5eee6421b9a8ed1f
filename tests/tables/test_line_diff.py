"""Hunks of a unified diff: applied to the old lines they give the new ones, and take bounded time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_run.workspace.line_diff import Budget, hunks

HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@\n")
LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"d\n"]), max_size=40)


def applied(before, text):
    """The lines after the hunks, as patch(1) applies them, with every count and context line checked."""
    lines, after, at = text.splitlines(keepends=True), [], 0
    while lines:
        old_start, old_count, new_start, new_count = (
            None if field is None else int(field) for field in HUNK.fullmatch(lines.pop(0)).groups()
        )
        old_count, new_count = (1 if count is None else count for count in (old_count, new_count))
        begin = old_start - 1 if old_count else old_start
        after += before[at:begin]
        at = begin
        assert len(after) == (new_start - 1 if new_count else new_start)
        olds = news = 0
        while olds < old_count or news < new_count or (lines and lines[0].startswith(b"\\")):
            line = lines.pop(0)
            if lines and lines[0].startswith(b"\\"):
                lines.pop(0)
                line = line[:-1]
            kind, content = line[:1], line[1:]
            if kind in b" -":
                assert before[at] == content
                at, olds = at + 1, olds + 1
            if kind in b" +":
                after.append(content)
                news += 1
    return after + before[at:]


@given(LINES, LINES, st.sampled_from([0, 5, 50, 10**6]), st.booleans())
def test_line_diff_applied_gives_the_new_lines(before, after, steps, newline):
    """With any budget, and without a newline at the end."""
    if after and not newline:
        after = [*after[:-1], after[-1][:-1]]
    assert after == applied(before, b"".join(hunks(before, after, Budget(steps))))


def test_line_diff_is_the_shortest():
    """Lines that stay are kept, with three lines of context, in one hunk for changes that are near."""
    before = [b"%d\n" % number for number in range(20)]
    after = [*before[:5], b"new\n", *before[5:8], *before[9:]]
    expected = b"@@ -3,10 +3,10 @@\n 2\n 3\n 4\n+new\n 5\n 6\n 7\n-8\n 9\n 10\n 11\n"
    assert expected == b"".join(hunks(before, after, Budget(10**6)))
    assert b"" == b"".join(hunks(before, before, Budget(0)))


def test_line_diff_budget_bounds_the_steps():
    """Lines that have nothing in common take no more steps than the budget, and are shown as replaced."""
    before, after = [b"a%d\n" % n for n in range(3000)], [b"b%d\n" % n for n in range(3000)]
    budget = Budget(1000)
    text = b"".join(hunks(before, after, budget))
    assert -100 < budget.steps < 0
    assert (3000, 3000) == (text.count(b"\n-"), text.count(b"\n+"))


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ([], [b"x\n"], b"@@ -0,0 +1 @@\n+x\n"),
        ([b"x"], [], b"@@ -1 +0,0 @@\n-x\n\\ No newline at end of file\n"),
        ([b"x"], [b"x\n"], b"@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x\n"),
    ],
)
def test_line_diff_of_empty_files_is_what_git_writes(before, after, text):
    """Ranges of no lines begin at 0, and a missing newline is said."""
    assert text == b"".join(hunks(before, after, Budget(100)))
