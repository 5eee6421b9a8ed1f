"""Does a rule make sense: refuses rules that contradict each other, and parts of rules that nothing could notice.

Pure; `selection` calls it before anything is compiled or shown.
"""

from __future__ import annotations

from .rule import ALL_BITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .rule import Action, Case, Condition, Rule


# Six arguments of 64 bits: their low halves are 0 to 5, their high halves 6 to 11.
HALVES = 12


class PolicyError(ValueError):
    """The rules contradict each other or say something without effect; the message names the rule."""


def names(chosen: Sequence[str], tables: Sequence[Mapping[str, int]]) -> None:
    """Every name is a syscall of some architecture, and none is listed twice."""
    seen: set[str] = set()
    for name in chosen:
        if not any(name in table for table in tables):
            raise PolicyError(f"`{name}` is no syscall of any architecture")
        if name in seen:
            raise PolicyError(f"`{name}` is listed twice")
        seen.add(name)


def sense(rule: Rule) -> None:
    """Every case of the rule decides something that would be decided otherwise without it, and a reason is given."""
    if not rule.reason:
        raise PolicyError(f"`{rule.name}` has no reason")
    for case in rule.cases:
        for test in case.when:
            _possible(rule, test)
    if not rule.cases:
        return
    calls = list(telling_calls(rule))
    for position in range(len(rule.cases)):
        without = rule.cases[:position] + rule.cases[position + 1 :]
        if not any(decide(rule.cases, rule.otherwise, call) != decide(without, rule.otherwise, call) for call in calls):
            raise PolicyError(f"`{rule.name}`: case {position + 1} is redundant, no call notices it")


def decide(cases: Sequence[Case], otherwise: Action, call: Sequence[int]) -> Action:
    """What the rules say about a call, given the halves of its arguments."""
    for case in cases:
        if all(holds(test, call[test.argument]) for test in case.when):
            return case.action
    return otherwise


def holds(test: Condition, argument: int) -> bool:
    """Does the test hold for this argument."""
    return ((argument & test.mask) in test.values) == test.inside


def telling_calls(rule: Rule) -> Iterator[tuple[int, ...]]:
    """Calls that between them make each test of the rule hold and fail, in every combination with the others."""
    by_argument: dict[int, list[Condition]] = {}
    for case in rule.cases:
        for test in case.when:
            by_argument.setdefault(test.argument, []).append(test)
    calls: list[tuple[int, ...]] = [(0,) * HALVES]
    for argument, tests in by_argument.items():
        values = _telling_values(tests)
        calls = [(*call[:argument], each, *call[argument + 1 :]) for call in calls for each in values]
    yield from calls


def _telling_values(tests: Sequence[Condition]) -> list[int]:
    """One value for each way in which the tests of one argument can come out together, as far as their values reach."""
    seeds = {0, ALL_BITS}
    for test in tests:
        seeds.update((test.mask, ALL_BITS ^ test.mask))
        seeds.update(1 << bit for bit in range(32) if test.mask != ALL_BITS and test.mask >> bit & 1)
        seeds.update(test.values)
        seeds.update(value | ALL_BITS ^ test.mask for value in test.values)
    telling: dict[tuple[bool, ...], int] = {}
    for seed in sorted(seeds):
        telling.setdefault(tuple(holds(test, seed) for test in tests), seed)
    return list(telling.values())


def _possible(rule: Rule, test: Condition) -> None:
    if not test.values or len(set(test.values)) != len(test.values):
        raise PolicyError(f"`{rule.name}`: `{test.words}` has no values or one twice")
    if not 0 <= test.argument < HALVES or not 0 < test.mask <= ALL_BITS:
        raise PolicyError(f"`{rule.name}`: `{test.words}` looks at no 32-bit argument")
    if any(value & ~test.mask for value in test.values):
        raise PolicyError(f"`{rule.name}`: `{test.words}` can never hold, a value has bits outside the mask")
