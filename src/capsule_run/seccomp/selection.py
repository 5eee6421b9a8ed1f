"""Which rules a profile means on one architecture, checked for sense.

Pure; `compiler` and `explain` call it. Raises PolicyError for a policy that contradicts itself or says something without effect.
"""

from __future__ import annotations

from ..data.profiles import PROFILES
from ..data.rules import GROUPS
from . import check, groups
from .recipe import ALONE, Recipe
from .rule import ALLOW, KILL, Action, Case, Rule, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

KILL_VIOLATIONS, REFUSE_VIOLATIONS = "kill", "refuse"
ARCHITECTURES = ("x86_64", "aarch64")


def numbers_of(architecture: str) -> Mapping[str, int]:
    """Syscall numbers by name."""
    if architecture == "x86_64":
        from ..data.syscalls_x86_64 import NUMBERS
    elif architecture == "aarch64":
        from ..data.syscalls_aarch64 import NUMBERS
    else:
        raise ValueError(f"unknown architecture `{architecture}`: `x86_64` and `aarch64` have a policy")
    return NUMBERS


def audit_arch_of(architecture: str) -> int:
    """What the kernel calls the architecture in `seccomp_data.arch`."""
    if architecture == "x86_64":
        from ..data.syscalls_x86_64 import AUDIT_ARCH
    else:
        from ..data.syscalls_aarch64 import AUDIT_ARCH
    return AUDIT_ARCH


def group_names(profile: str, architecture: str, *, network: bool, root_inside: bool) -> tuple[str, ...]:
    """The groups that the profile consists of in this variant."""
    if profile not in PROFILES:
        raise ValueError(
            f"unknown syscall profile `{profile}`: there are {', '.join(f'`{name}`' for name in PROFILES)}"
        )
    chosen = PROFILES[profile]
    by_network = chosen.online if network else chosen.offline
    by_user = chosen.as_root if root_inside else chosen.as_user
    return (*chosen.groups, *by_network, *by_user, *(chosen.roomy if architecture == "aarch64" else ()))


def grouped_rules(
    profile: str | Recipe, architecture: str, *, network: bool, root_inside: bool, shared: bool = True
) -> tuple[tuple[str, Rule], ...]:
    """Every rule that counts on this architecture, with the name of its group.

    `shared`: with the cases that count only where something of the host's is writable inside.
    """
    if isinstance(profile, Recipe):
        chosen = _composed(profile, architecture, network=network, root_inside=root_inside)
    else:
        chosen = _named(profile, architecture, network=network, root_inside=root_inside)
    return chosen if shared else tuple((group, _unshared(rule)) for group, rule in chosen)


def _unshared(rule: Rule) -> Rule:
    return Rule(
        name=rule.name,
        reason=rule.reason,
        cases=tuple(case for case in rule.cases if not case.shared),
        otherwise=rule.otherwise,
        only=rule.only,
    )


def _named(profile: str, architecture: str, *, network: bool, root_inside: bool) -> tuple[tuple[str, Rule], ...]:
    """The rules of a shipped profile."""
    numbers = numbers_of(architecture)
    chosen = [
        (group, rule)
        for group in group_names(profile, architecture, network=network, root_inside=root_inside)
        for rule in GROUPS[group]
        if rule.only in ("", architecture)
    ]
    check.names([rule.name for _, rule in chosen], [numbers_of(each) for each in ARCHITECTURES])
    for _, rule in chosen:
        check.sense(rule)
    return tuple((group, rule) for group, rule in chosen if rule.name in numbers)


# What a profile has that extends none: what the core itself needs, and every refusal that is not plain ENOSYS.
_ALONE = ("base", "files-read", "start", "spared-strict", "probed", "suspects", "escape")


def _composed(recipe: Recipe, architecture: str, *, network: bool, root_inside: bool) -> tuple[tuple[str, Rule], ...]:
    """The rules of a profile that a user composed: what is named later wins, what was removed is not there."""
    numbers = numbers_of(architecture)
    if recipe.extends == ALONE:
        names: tuple[str, ...] = (*_ALONE, *(("sockets", "net") if network else ()))
    else:
        names = group_names(recipe.extends, architecture, network=network, root_inside=root_inside)
    chosen: dict[str, tuple[str, Rule]] = {}
    for group in (*names, *recipe.groups):
        for rule in GROUPS[group]:
            if rule.only in ("", architecture):
                chosen[rule.name] = (group, rule)
    for call in recipe.allow:
        rules = (
            rule for rule in GROUPS.get(groups.group_of(call), ()) if rule.name == call and groups.lets_through(rule)
        )
        plain = Rule(name=call, reason=f"allowed by name in {recipe.name}", cases=(), otherwise=ALLOW, only="")
        chosen[call] = ("allow", next(rules, plain))
    for call in recipe.remove:
        chosen.pop(call, None)
    chosen.setdefault("sendmsg", ("start", GROUPS["start"][0]))
    return tuple(entry for name, entry in chosen.items() if name in numbers)


def is_unforgiving(profile: str | Recipe) -> bool:
    """Whether every refusal of an escape-class call ends the run."""
    name = profile.extends if isinstance(profile, Recipe) else profile
    return name in PROFILES and PROFILES[name].unforgiving


def settled(rule: Rule, profile: str | Recipe, on_violation: str) -> Rule:
    """The rule with nothing left open: only allow, errno and kill remain."""
    if on_violation not in (KILL_VIOLATIONS, REFUSE_VIOLATIONS):
        raise ValueError(f"on_violation is `kill` or `refuse`, not `{on_violation}`")
    unforgiving = is_unforgiving(profile)
    if unforgiving and on_violation == REFUSE_VIOLATIONS:
        name = profile if isinstance(profile, str) else profile.name
        raise ValueError(f"profile `{name}` always kills on a violation: `refuse` contradicts it")
    kills = {"violation"} if on_violation == KILL_VIOLATIONS else set()
    if unforgiving:
        kills.add("suspect")

    def settle(action: Action) -> Action:
        if action.kind in kills:
            return KILL
        return refuse(action.errno) if action.kind in ("violation", "suspect") else action

    return Rule(
        name=rule.name,
        reason=rule.reason,
        cases=tuple(Case(when=case.when, action=settle(case.action), shared=case.shared) for case in rule.cases),
        otherwise=settle(rule.otherwise),
        only=rule.only,
    )
