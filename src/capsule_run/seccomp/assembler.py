"""Assemble classic BPF from a decision graph: instruction layout, jump distances, bytes.

Knows nothing about syscalls; called by `compiler`. Emits only instructions that the kernel's seccomp cache can emulate
(absolute loads, AND, jumps against constants, returns): since Linux 5.11 a call that is always allowed costs a bitmap test.
"""

from __future__ import annotations

LOAD, AND, RETURN, JUMP = 0x20, 0x54, 0x06, 0x05
IF_EQUAL, IF_GREATER, IF_AT_LEAST, IF_ANY_BIT = 0x15, 0x25, 0x35, 0x45
BRANCHES = (IF_EQUAL, IF_GREATER, IF_AT_LEAST, IF_ANY_BIT)

MAX_INSTRUCTIONS = 4096
MAX_BRANCH = 255

# A node is (code, constant, first successor, second successor); successors are numbers of earlier nodes.
NONE = -1


class Graph:
    """The nodes of a program. Equal nodes are shared, so that equal ends of different rules become one piece of code."""

    def __init__(self) -> None:
        self.nodes: list[tuple[int, int, int, int]] = []
        self._numbers: dict[tuple[int, int, int, int], int] = {}

    def _node(self, code: int, constant: int, first: int, second: int) -> int:
        node = (code, constant, first, second)
        if node not in self._numbers:
            self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
        return self._numbers[node]

    def returns(self, constant: int) -> int:
        """Add a node that returns `constant` to the kernel."""
        return self._node(RETURN, constant, NONE, NONE)

    def load(self, offset: int, following: int) -> int:
        """Add a node that loads the word at `offset` of seccomp_data."""
        return self._node(LOAD, offset, following, NONE)

    def keep(self, mask: int, following: int) -> int:
        """Add a node that keeps the bits of `mask`."""
        return self._node(AND, mask, following, NONE)

    def branch(self, code: int, constant: int, *, yes: int, no: int) -> int:
        """Add a node that goes to `yes` or `no`; no node is needed if both are equal."""
        return yes if yes == no else self._node(code, constant, yes, no)


def assemble(graph: Graph, start: int) -> bytes:
    """Assemble the program that starts at node `start` into little-endian `struct sock_filter` entries.

    Raises ValueError if it is longer than the kernel accepts.
    """
    # Emitted in reverse order, successors first, so that every distance is known when a jump is emitted.
    backwards: list[tuple[int, int, int, int]] = []
    place: dict[int, int] = {}
    for number in _successors_first(graph, start):
        code, constant, first, second = graph.nodes[number]
        yes = no = 0
        if code in BRANCHES:
            # Bringing the second target near may emit one instruction, which moves the first one away.
            _bring_near(first, MAX_BRANCH - 1, graph, backwards, place)
            _bring_near(second, MAX_BRANCH, graph, backwards, place)
            yes, no = (len(backwards) - 1 - place[target] for target in (first, second))
        elif code != RETURN:
            _bring_near(first, 0, graph, backwards, place)
        backwards.append((code, yes, no, constant))
        place[number] = len(backwards) - 1
    if len(backwards) > MAX_INSTRUCTIONS:
        raise ValueError(f"the filter has {len(backwards)} instructions, the kernel takes {MAX_INSTRUCTIONS}")
    return b"".join(_encode(*instruction) for instruction in reversed(backwards))


def _successors_first(graph: Graph, start: int) -> list[int]:
    order: list[int] = []
    seen: set[int] = set()
    waiting = [(start, False)]
    while waiting:
        number, successors_done = waiting.pop()
        if successors_done:
            order.append(number)
        elif number != NONE and number not in seen:
            seen.add(number)
            _, _, first, second = graph.nodes[number]
            # The second successor is emitted first and so is further away: a search follows the near side.
            waiting += [(number, True), (first, False), (second, False)]
    return order


def _bring_near(
    target: int, reach: int, graph: Graph, backwards: list[tuple[int, int, int, int]], place: dict[int, int]
) -> None:
    """Ensure that `target` is at most `reach` instructions after the next one to be emitted."""
    distance = len(backwards) - 1 - place[target]
    if distance <= reach:
        return
    code, constant, _, _ = graph.nodes[target]
    if code == RETURN:
        backwards.append((RETURN, 0, 0, constant))
    else:
        backwards.append((JUMP, 0, 0, distance))
    place[target] = len(backwards) - 1


def _encode(code: int, yes: int, no: int, constant: int) -> bytes:
    return code.to_bytes(2, "little") + bytes((yes, no)) + constant.to_bytes(4, "little")
