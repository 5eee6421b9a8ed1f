"""Select the rules of a profile, and check them: rules must not contradict each other, and every case must have an effect.

Pure. The checks run before anything is compiled or shown.
"""

from __future__ import annotations

from capsule_run.model.optional import Recipe
from capsule_run.model.request import KILL as KILL_VIOLATIONS
from capsule_run.model.request import KILL_ATTACKS, PROFILE_ALIASES
from capsule_run.model.request import REFUSE as REFUSE_VIOLATIONS
from capsule_run.seccomp import catalogue
from capsule_run.seccomp.custom_profile import ALONE
from capsule_run.seccomp.rule import ALL_BITS, ALLOW, KILL, Case, Rule, refuse
from capsule_run.seccomp.tables.profiles import PROFILES
from capsule_run.seccomp.tables.rules import GROUPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from capsule_run.seccomp.rule import Action, Condition


# Six arguments of 64 bits: their low halves are 0 to 5, their high halves 6 to 11.
HALVES = 12


class PolicyError(ValueError):
    """Raised for rules that contradict each other or have no effect; the message names the rule."""


def check_names(chosen: Sequence[str], tables: Sequence[Mapping[str, int]]) -> None:
    """Check that every name is a syscall of some architecture, and that none is listed twice. Raises PolicyError."""
    seen: set[str] = set()
    for name in chosen:
        if not any(name in table for table in tables):
            raise PolicyError(f"`{name}` is no syscall of any architecture")
        if name in seen:
            raise PolicyError(f"`{name}` is listed twice")
        seen.add(name)


def check_rule(rule: Rule) -> None:
    """Check that every case of the rule changes some decision, and that it has a reason. Raises PolicyError."""
    if not rule.reason:
        raise PolicyError(f"`{rule.name}` has no reason")
    for case in rule.cases:
        for test in case.when:
            _check_test(rule, test)
    if not rule.cases:
        return
    calls = list(distinguishing_calls(rule))
    for position in range(len(rule.cases)):
        without = rule.cases[:position] + rule.cases[position + 1 :]
        if not any(decide(rule.cases, rule.otherwise, call) != decide(without, rule.otherwise, call) for call in calls):
            raise PolicyError(f"`{rule.name}`: case {position + 1} is redundant, no call notices it")


def decide(cases: Sequence[Case], otherwise: Action, call: Sequence[int]) -> Action:
    """Return the action for a call, given the halves of its arguments."""
    for case in cases:
        if all(holds(test, call[test.argument]) for test in case.when):
            return case.action
    return otherwise


def holds(test: Condition, argument: int) -> bool:
    """Return whether the test holds for this argument."""
    return ((argument & test.mask) in test.values) == test.inside


def distinguishing_calls(rule: Rule) -> Iterator[tuple[int, ...]]:
    """Yield calls that make each test of the rule hold and fail, in every combination with the others."""
    by_argument: dict[int, list[Condition]] = {}
    for case in rule.cases:
        for test in case.when:
            by_argument.setdefault(test.argument, []).append(test)
    calls: list[tuple[int, ...]] = [(0,) * HALVES]
    for argument, tests in by_argument.items():
        values = _distinguishing_values(tests)
        calls = [(*call[:argument], each, *call[argument + 1 :]) for call in calls for each in values]
    yield from calls


def _distinguishing_values(tests: Sequence[Condition]) -> list[int]:
    """Return a value for each combination of outcomes of one argument's tests that their values can produce."""
    seeds = {0, ALL_BITS}
    for test in tests:
        seeds.update((test.mask, ALL_BITS ^ test.mask))
        seeds.update(1 << bit for bit in range(32) if test.mask != ALL_BITS and test.mask >> bit & 1)
        seeds.update(test.values)
        seeds.update(value | ALL_BITS ^ test.mask for value in test.values)
    distinguishing: dict[tuple[bool, ...], int] = {}
    for seed in sorted(seeds):
        distinguishing.setdefault(tuple(holds(test, seed) for test in tests), seed)
    return list(distinguishing.values())


def _check_test(rule: Rule, test: Condition) -> None:
    if not test.values or len(set(test.values)) != len(test.values):
        raise PolicyError(f"`{rule.name}`: `{test.words}` has no values or one twice")
    if not 0 <= test.argument < HALVES or not 0 < test.mask <= ALL_BITS:
        raise PolicyError(f"`{rule.name}`: `{test.words}` looks at no 32-bit argument")
    if any(value & ~test.mask for value in test.values):
        raise PolicyError(f"`{rule.name}`: `{test.words}` can never hold, a value has bits outside the mask")


ARCHITECTURES = ("x86_64", "aarch64")


def numbers_of(architecture: str) -> Mapping[str, int]:
    """Return the syscall numbers by name. Raises ValueError for an unknown architecture."""
    if architecture == "x86_64":
        from capsule_run.seccomp.tables.syscalls_x86_64 import NUMBERS  # noqa: PLC0415  # one of two
    elif architecture == "aarch64":
        from capsule_run.seccomp.tables.syscalls_aarch64 import NUMBERS  # noqa: PLC0415  # one of two
    else:
        raise ValueError(f"unknown architecture `{architecture}`: `x86_64` and `aarch64` have a policy")
    return NUMBERS


def audit_arch_of(architecture: str) -> int:
    """Return the value of `seccomp_data.arch` for the architecture."""
    if architecture == "x86_64":
        from capsule_run.seccomp.tables.syscalls_x86_64 import AUDIT_ARCH  # noqa: PLC0415  # one of two
    else:
        from capsule_run.seccomp.tables.syscalls_aarch64 import AUDIT_ARCH  # noqa: PLC0415  # one of two
    return AUDIT_ARCH


def group_names(profile: str, *, network: bool, root_inside: bool) -> tuple[str, ...]:
    """Return the groups of the profile in this variant. Raises ValueError for an unknown profile."""
    profile = PROFILE_ALIASES.get(profile, profile)
    if profile not in PROFILES:
        raise ValueError(
            f"unknown syscall profile `{profile}`: there are {', '.join(f'`{name}`' for name in PROFILES)}"
        )
    chosen = PROFILES[profile]
    by_network = chosen.online if network else chosen.offline
    by_user = chosen.as_root if root_inside else chosen.as_user
    return (*chosen.groups, *by_network, *by_user)


def grouped_rules(
    profile: str | Recipe, architecture: str, *, network: bool, root_inside: bool, shared: bool = True
) -> tuple[tuple[str, Rule], ...]:
    """Return every rule that applies to this architecture, with the name of its group.

    :param shared: whether to include the cases that apply only if something of the host is writable inside.
    """
    if isinstance(profile, Recipe):
        chosen = _custom_rules(profile, architecture, network=network, root_inside=root_inside)
    else:
        chosen = _shipped_rules(profile, architecture, network=network, root_inside=root_inside)
    return chosen if shared else tuple((group, _without_shared_cases(rule)) for group, rule in chosen)


def _without_shared_cases(rule: Rule) -> Rule:
    return Rule(
        name=rule.name,
        reason=rule.reason,
        cases=tuple(case for case in rule.cases if not case.shared),
        otherwise=rule.otherwise,
        only=rule.only,
    )


def _shipped_rules(
    profile: str, architecture: str, *, network: bool, root_inside: bool
) -> tuple[tuple[str, Rule], ...]:
    """Return the rules of a shipped profile."""
    numbers = numbers_of(architecture)
    chosen = [
        (group, rule)
        for group in group_names(profile, network=network, root_inside=root_inside)
        for rule in GROUPS[group]
        if rule.only in ("", architecture)
    ]
    check_names([rule.name for _, rule in chosen], [numbers_of(each) for each in ARCHITECTURES])
    for _, rule in chosen:
        check_rule(rule)
    return tuple((group, rule) for group, rule in chosen if rule.name in numbers)


# The groups of a profile that extends none: what the core itself needs, and every denial other than ENOSYS.
_BASE_GROUPS = ("base", "files-read", "start", "spared-strict", "probed", "suspects", "escape")


def _custom_rules(
    recipe: Recipe, architecture: str, *, network: bool, root_inside: bool
) -> tuple[tuple[str, Rule], ...]:
    """Return the rules of a custom profile: later groups win, removed calls are left out."""
    numbers = numbers_of(architecture)
    if recipe.extends == ALONE:
        names: tuple[str, ...] = (*_BASE_GROUPS, *(("sockets", "net") if network else ()))
    else:
        names = group_names(recipe.extends, network=network, root_inside=root_inside)
    chosen: dict[str, tuple[str, Rule]] = {}
    for group in (*names, *recipe.groups):
        for rule in GROUPS[group]:
            if rule.only in ("", architecture):
                chosen[rule.name] = (group, rule)
    for call in recipe.allow:
        rules = (
            rule for rule in GROUPS.get(catalogue.group_of(call), ()) if rule.name == call and catalogue.can_allow(rule)
        )
        plain = Rule(name=call, reason=f"allowed by name in {recipe.name}", cases=(), otherwise=ALLOW, only="")
        chosen[call] = ("allow", next(rules, plain))
    for call in recipe.remove:
        chosen.pop(call, None)
    chosen.setdefault("sendmsg", ("start", GROUPS["start"][0]))
    return tuple(entry for name, entry in chosen.items() if name in numbers)


def is_unforgiving(profile: str | Recipe) -> bool:
    """Return whether every denied `suspect` or `futile` call ends the run."""
    name = profile.extends if isinstance(profile, Recipe) else profile
    return name in PROFILES and PROFILES[name].unforgiving


def settled(rule: Rule, profile: str | Recipe, on_violation: str) -> Rule:
    """Resolve the actions of a rule for a profile: `violation`, `futile` and `suspect` become `errno` or `kill`."""
    if on_violation not in (KILL_ATTACKS, KILL_VIOLATIONS, REFUSE_VIOLATIONS):
        raise ValueError(f"on_violation is `kill_attacks`, `kill` or `refuse`, not `{on_violation}`")
    unforgiving = is_unforgiving(profile)
    if unforgiving and on_violation == REFUSE_VIOLATIONS:
        name = profile if isinstance(profile, str) else profile.name
        raise ValueError(f"profile `{name}` always kills on a violation: `refuse` contradicts it")
    kills = set() if on_violation == REFUSE_VIOLATIONS else {"violation"}
    if unforgiving or on_violation == KILL_VIOLATIONS:
        kills.add("futile")
    if unforgiving:
        kills.add("suspect")

    def settle(action: Action) -> Action:
        if action.kind in kills:
            return KILL
        return refuse(action.errno) if action.kind in ("violation", "futile", "suspect") else action

    return Rule(
        name=rule.name,
        reason=rule.reason,
        cases=tuple(Case(when=case.when, action=settle(case.action), shared=case.shared) for case in rule.cases),
        otherwise=settle(rule.otherwise),
        only=rule.only,
    )
