"""Compile rules to a filter: architecture, foreign ABIs, binary search over syscall numbers, argument tests.

Pure. Called if no shipped table has the combination, and by `generate`, which writes the tables.
"""

from __future__ import annotations

from errno import ENOSYS

from capsule_run.seccomp.assembler import IF_ANY_BIT, IF_AT_LEAST, IF_EQUAL, IF_GREATER, Graph, assemble
from capsule_run.seccomp.rule import ALL_BITS, refuse
from capsule_run.seccomp.ruleset import audit_arch_of, grouped_rules, numbers_of, settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from capsule_run.model.optional import Recipe
    from capsule_run.seccomp.rule import Action, Condition, Rule

# Offsets in `struct seccomp_data`; both architectures are little-endian, so an argument's low half comes first.
NUMBER_OFFSET, ARCH_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16

RET_KILL_PROCESS, RET_ERRNO, RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
# SECCOMP_RET_USER_NOTIF: the kernel notifies the launcher and ignores the low half, from which the launcher takes its answer.
RET_USER_NOTIF, END_OF_RUN = 0x7FC00000, 0xFFFF

X32_BIT = 0x40000000
# `syscall(-1)` is the customary way to ask for a call that does not exist, and has the x32 bit set.
NO_SYSCALL = 0xFFFFFFFF


def compile_rules(
    profile: str | Recipe, architecture: str, *, network: bool, on_violation: str, root_inside: bool, shared: bool
) -> bytes:
    """Compile the filter of one combination to little-endian `struct sock_filter` entries."""
    numbers = numbers_of(architecture)
    chosen = grouped_rules(profile, architecture, network=network, root_inside=root_inside, shared=shared)
    graph = Graph()
    unknown = graph.returns(_return_value(refuse(ENOSYS)))
    killed = graph.returns(RET_KILL_PROCESS)  # a foreign ABI: its syscall numbers mean other calls
    entries = {numbers[rule.name]: _rule(graph, settled(rule, profile, on_violation)) for _, rule in chosen}
    search = _search(graph, _segments(entries, unknown))
    if architecture == "x86_64":
        foreign = graph.branch(IF_EQUAL, NO_SYSCALL, yes=unknown, no=killed)
        search = graph.branch(IF_ANY_BIT, X32_BIT, yes=foreign, no=search)
    native = graph.load(NUMBER_OFFSET, search)
    start = graph.branch(IF_EQUAL, audit_arch_of(architecture), yes=native, no=killed)
    return assemble(graph, graph.load(ARCH_OFFSET, start))


def _return_value(action: Action) -> int:
    if action.kind == "allow":
        # the kernel ignores the low half; `filters.withhold_sysv` and its like take it for the answer
        return RET_ALLOW | action.errno
    if action.kind == "kill":
        return RET_USER_NOTIF | END_OF_RUN
    if action.kind == "errno":
        return RET_USER_NOTIF | action.errno
    if action.kind == "quiet":
        return RET_ERRNO | action.errno
    raise ValueError(f"action `{action.kind}` was not settled")


def _rule(graph: Graph, rule: Rule) -> int:
    node = graph.returns(_return_value(rule.otherwise))
    for case in reversed(rule.cases):
        decided = graph.returns(_return_value(case.action))
        for test in reversed(case.when):
            decided = _test(graph, test, holds=decided, fails=node)
        node = decided
    return node


def _test(graph: Graph, test: Condition, *, holds: int, fails: int) -> int:
    hit, miss = (holds, fails) if test.inside else (fails, holds)
    if test.values == (0,) and test.mask != ALL_BITS:
        compared = graph.branch(IF_ANY_BIT, test.mask, yes=miss, no=hit)
    else:
        compared = _among(graph, sorted(test.values), hit, miss)
        if test.mask != ALL_BITS:
            compared = graph.keep(test.mask, compared)
    return graph.load(ARGUMENTS_OFFSET + 8 * (test.argument % 6) + 4 * (test.argument // 6), compared)


def _among(graph: Graph, values: Sequence[int], hit: int, miss: int) -> int:
    """Test whether the loaded word is one of the sorted values: up to three one by one, more by bisection."""
    if len(values) <= 3:
        node = miss
        for value in reversed(values):
            node = graph.branch(IF_EQUAL, value, yes=hit, no=node)
        return node
    middle = len(values) // 2
    lower = _among(graph, values[:middle], hit, miss)
    upper = _among(graph, values[middle:], hit, miss)
    return graph.branch(IF_GREATER, values[middle - 1], yes=upper, no=lower)


def _segments(entries: dict[int, int], unknown: int) -> list[tuple[int, int]]:
    """Return the start and the node of each range of numbers that are treated alike; the first starts at 0, the last is open."""
    starts: list[tuple[int, int]] = []
    following = 0
    for number, node in sorted(entries.items()):
        if number > following:
            starts.append((following, unknown))
        starts.append((number, node))
        following = number + 1
    starts.append((following, unknown))
    return [
        (start, node)
        for position, (start, node) in enumerate(starts)
        if position == 0 or starts[position - 1][1] != node
    ]


def _search(graph: Graph, segments: Sequence[tuple[int, int]]) -> int:
    if len(segments) == 1:
        return segments[0][1]
    middle = len(segments) // 2
    return graph.branch(
        IF_AT_LEAST, segments[middle][0], yes=_search(graph, segments[middle:]), no=_search(graph, segments[:middle])
    )
