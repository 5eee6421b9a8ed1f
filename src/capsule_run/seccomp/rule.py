"""The words that syscall rules are written in: actions, tests of an argument, cases, rules.

Values only; may not know any syscall. `data.rules` writes with it, `check`, `compiler` and `explain` read it.

Every test looks at 32 bits: the low half of an argument (0 to 5), or the high half (the same plus HIGH_HALF). What is `int`,
`unsigned int` or `umode_t` for the kernel is tested by its low half alone: the kernel ignores the other, so that a test of
64 bits could be stepped around by setting a high bit (CVE-2019-10063). A pointer is NULL only when both halves are 0.
"""

from __future__ import annotations

from errno import EAFNOSUPPORT, EINVAL, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM, EPROTONOSUPPORT

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ALL_BITS = 0xFFFFFFFF
HIGH_HALF = 6

# The errno values that a filter may answer; `errno.errorcode` has another name for EOPNOTSUPP.
ERRNO_NAMES = {
    EPERM: "EPERM",
    EINVAL: "EINVAL",
    ENOTTY: "ENOTTY",
    ENOSYS: "ENOSYS",
    EPROTONOSUPPORT: "EPROTONOSUPPORT",
    EOPNOTSUPP: "EOPNOTSUPP",
    EAFNOSUPPORT: "EAFNOSUPPORT",
}


class Action(Value):
    """What the filter answers.

    `allow`; `errno` (refuse, and tell the launcher); `quiet` (answer without telling: refuse, or for 0 pretend);
    `suspect` (refuse with the errno, but a strict profile kills);
    `violation` (kill, or EPERM when the request says `refuse`); `kill` (what the last two are settled to).
    """

    kind: str
    errno: int = 0


ALLOW = Action(kind="allow")
PRETEND = Action(kind="quiet", errno=0)
VIOLATION = Action(kind="violation", errno=EPERM)
KILL = Action(kind="kill")


def refuse(errno: int) -> Action:
    """An ordinary refusal: programs probe for this and carry on."""
    return Action(kind="errno", errno=errno)


def quiet(errno: int) -> Action:
    """A refusal that honest programs meet so often that telling of it would slow them down and drown the others."""
    return Action(kind="quiet", errno=errno)


def suspect(errno: int) -> Action:
    """A refusal of what escapes are made of but some honest programs try too."""
    return Action(kind="suspect", errno=errno)


class Condition(Value):
    """Holds when `argument & mask` is one of `values` (`inside`), or none of them."""

    argument: int
    mask: int
    values: tuple[int, ...]
    inside: bool
    words: str


class Case(Value):
    """An action for calls on which every test holds; `shared`: only where something of the host's is writable inside."""

    when: tuple[Condition, ...]
    action: Action
    shared: bool = False


class Rule(Value):
    """One syscall of a group. The first case whose tests hold decides, else `otherwise`.

    `only` names the architecture that the rule is for, or is empty for every one that has the call.
    """

    name: str
    reason: str
    cases: tuple[Case, ...]
    otherwise: Action
    only: str


def one_of(argument: int, what: str, names: Mapping[str, int], *, mask: int = ALL_BITS) -> Condition:
    """The argument, called `what`, is one of the named constants."""
    values = tuple(dict.fromkeys(names.values()))
    return Condition(argument=argument, mask=mask, values=values, inside=True, words=f"{what} is {_either(names)}")


def has_any(argument: int, what: str, names: Mapping[str, int]) -> Condition:
    """The argument has at least one of the named bits."""
    mask = 0
    for bits in names.values():
        mask |= bits
    return Condition(argument=argument, mask=mask, values=(0,), inside=False, words=f"{what} has {_either(names)}")


def lacks(argument: int, what: str, names: Mapping[str, int]) -> Condition:
    """The argument has not all of the named bits."""
    mask = 0
    for bits in names.values():
        mask |= bits
    words = f"{what} lacks {_either(names)}"
    return Condition(argument=argument, mask=mask, values=(mask,), inside=False, words=words)


def is_null(argument: int, what: str) -> tuple[Condition, Condition]:
    """The pointer is NULL, in both its halves."""
    low = one_of(argument, what, {"NULL": 0})
    return low, one_of(argument + HIGH_HALF, f"{what} (high half)", {"NULL": 0})


def case(action: Action, *when: Condition) -> Case:
    """`action` when every test holds."""
    return Case(when=when, action=action)


def case_shared(action: Action, *when: Condition) -> Case:
    """The same where something of the host's is writable inside, and nothing elsewhere."""
    return Case(when=when, action=action, shared=True)


def _either(names: Mapping[str, int]) -> str:
    return " or ".join(names)
