"""Which paths of the workspace a request names: the rules of paths, and of the patterns of `collect`.

Rank 1: pure. A pattern is written like a path: `*`, `?` and `[...]` match within one name, `**` any number of names, and a
name that begins with a dot is matched like any other. A pattern that names a directory does not name what lies in it.
"""

from __future__ import annotations

from .checks import check_source, refuse, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

WORKSPACE = "/workspace"
MOST_NAMES = 64  # how deep a path may lie, here and where the command makes them


def check_inner_path(value: object, label: str) -> str:
    """A path in the workspace, relative to it in its shortest spelling; given so, or absolute beneath `/workspace`."""
    path = check_source(value, label)
    names = [name for name in path.split("/") if name not in ("", ".")]
    if path.startswith("/"):
        if names[:1] != [WORKSPACE[1:]]:
            raise refuse(
                "E1005", label, f"must lie in the workspace: relative, or beneath `{WORKSPACE}`; got {shown(path)}"
            )
        del names[0]
    if ".." in names:
        raise refuse("E1005", label, f"must not contain `..`, got {shown(path)}")
    if not names or path.endswith("/"):
        raise refuse("E1005", label, f"must name a file in the workspace, got {shown(path)}")
    if len(names) > MOST_NAMES:
        raise refuse("E1008", label, f"must have at most {MOST_NAMES} names, got {len(names)}")
    return "/".join(names)


def matches_name(name: str, pattern: str) -> bool:
    """Whether one name matches one part of a pattern. Takes time in proportion to both, however they are made."""
    at = back = 0
    star = -1
    step = 0
    while at < len(name):
        width = _matches_letter(name[at], pattern, step)
        if step < len(pattern) and pattern[step] == "*":
            star, back, step = step, at, step + 1
        elif width:
            at, step = at + 1, step + width
        elif star >= 0:
            back += 1
            at, step = back, star + 1
        else:
            return False
    return pattern[step:].strip("*") == ""


def _matches_letter(letter: str, pattern: str, at: int) -> int:
    """How much of the pattern at `at` this letter uses up, 0 for none; a `*` uses none."""
    if at >= len(pattern) or pattern[at] == "*":
        return 0
    end = pattern.find("]", at + 2) if pattern[at] == "[" else -1
    if end < 0:  # an unclosed bracket stands for itself
        return 1 if pattern[at] in ("?", letter) else 0
    inside = pattern[at + 1 : end]
    negated = inside[0] == "!" and len(inside) > 1
    found = _in_class(letter, inside[1:] if negated else inside)
    return end + 1 - at if found != negated else 0


def _in_class(letter: str, inside: str) -> bool:
    at = 0
    while at < len(inside):
        if at + 2 < len(inside) and inside[at + 1] == "-":
            if inside[at] <= letter <= inside[at + 2]:
                return True
            at += 3
        elif inside[at] == letter:
            return True
        else:
            at += 1
    return False


def advance(name: str, states: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """What is left of each pattern behind a component `name`. An empty rest says that the path so far is named."""
    rests: dict[tuple[str, ...], None] = {}
    for rest in states:
        if not rest:
            continue
        if rest[0] == "**":
            rests[tuple(rest)] = None
            for further in advance(name, [rest[1:]]) if len(rest) > 1 else [()]:
                rests[tuple(further)] = None
        elif matches_name(name, rest[0]):
            rests[tuple(rest[1:])] = None
    return list(rests)
