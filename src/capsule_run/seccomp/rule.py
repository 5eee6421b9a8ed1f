"""The values that syscall rules consist of: actions, tests of an argument, cases, rules.

Knows no syscall. `tables.rules` is written with it; `ruleset`, `compiler` and `explain` read it.

Every test reads 32 bits: the low half of an argument (0 to 5), or the high half (the same plus HIGH_HALF). What the kernel
takes as `int`, `unsigned int` or `umode_t` is tested by its low half only: the kernel ignores the other, so a test of 64 bits
could be evaded by setting a high bit (CVE-2019-10063). A pointer is NULL only if both halves are 0.
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

    `allow` (with an errno, or one and `IN_CGROUP`: allow, or deny with it where nothing counts the memory of what is made);
    `errno` (deny, and notify the launcher); `quiet` (deny without notifying, or for 0 return success);
    `suspect` (deny with the errno, but a strict profile kills);
    `futile` (deny with EPERM, but a strict profile kills, and any if the request says `kill`);
    `violation` (kill, or EPERM if the request says `refuse`); `kill` (what the last three can become in `settled`).
    """

    kind: str
    errno: int = 0


ALLOW = Action(kind="allow")
IN_CGROUP = 0x100  # beside an errno
ALLOW_COUNTED = Action(kind="allow", errno=ENOSYS)
ALLOW_IN_CGROUP = Action(kind="allow", errno=ENOSYS | IN_CGROUP)
PRETEND = Action(kind="quiet", errno=0)
VIOLATION = Action(kind="violation", errno=EPERM)
# What no process without capabilities can do, but honest programs try.
FUTILE = Action(kind="futile", errno=EPERM)
KILL = Action(kind="kill")


def refuse(errno: int) -> Action:
    """Deny a call that programs probe for and can do without."""
    return Action(kind="errno", errno=errno)


def quiet(errno: int) -> Action:
    """Deny a call without a record: honest programs make it so often that recording it would slow them down."""
    return Action(kind="quiet", errno=errno)


def suspect(errno: int) -> Action:
    """Deny a call that escapes need, but that some honest programs try too."""
    return Action(kind="suspect", errno=errno)


class Condition(Value):
    """Holds when `argument & mask` is one of `values` (`inside`), or none of them."""

    argument: int
    mask: int
    values: tuple[int, ...]
    inside: bool
    words: str


class Case(Value):
    """An action for calls for which every test holds. `shared`: only if something of the host is writable inside."""

    when: tuple[Condition, ...]
    action: Action
    shared: bool = False


class Rule(Value):
    """One syscall of a group. The first case whose tests hold decides, else `otherwise`.

    `only` is the architecture of the rule, or "" for all that have the call.
    """

    name: str
    reason: str
    cases: tuple[Case, ...]
    otherwise: Action
    only: str


def one_of(argument: int, what: str, names: Mapping[str, int], *, mask: int = ALL_BITS) -> Condition:
    """Test that the argument, called `what`, is one of the named constants."""
    values = tuple(dict.fromkeys(names.values()))
    return Condition(argument=argument, mask=mask, values=values, inside=True, words=f"{what} is {_either(names)}")


def has_any(argument: int, what: str, names: Mapping[str, int]) -> Condition:
    """Test that the argument has at least one of the named bits."""
    mask = 0
    for bits in names.values():
        mask |= bits
    return Condition(argument=argument, mask=mask, values=(0,), inside=False, words=f"{what} has {_either(names)}")


def lacks(argument: int, what: str, names: Mapping[str, int]) -> Condition:
    """Test that the argument lacks at least one of the named bits."""
    mask = 0
    for bits in names.values():
        mask |= bits
    words = f"{what} lacks {_either(names)}"
    return Condition(argument=argument, mask=mask, values=(mask,), inside=False, words=words)


def is_null(argument: int, what: str) -> tuple[Condition, Condition]:
    """Test that the pointer is NULL, in both halves."""
    low = one_of(argument, what, {"NULL": 0})
    return low, one_of(argument + HIGH_HALF, f"{what} (high half)", {"NULL": 0})


def case(action: Action, *when: Condition) -> Case:
    """Build a case: `action` if every test holds."""
    return Case(when=when, action=action)


def case_shared(action: Action, *when: Condition) -> Case:
    """Build a case that applies only if something of the host is writable inside."""
    return Case(when=when, action=action, shared=True)


def _either(names: Mapping[str, int]) -> str:
    return " or ".join(names)
