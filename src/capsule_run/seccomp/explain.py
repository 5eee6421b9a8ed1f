"""Describe the policy in words: one row for each syscall, for `policy show` and the documents.

Pure. Not loaded by a run.
"""

from __future__ import annotations

from capsule_run._base.value import Value
from capsule_run.model.request import KILL_ATTACKS
from capsule_run.seccomp.rule import ALLOW_IN_CGROUP, ERRNO_NAMES, IN_CGROUP
from capsule_run.seccomp.ruleset import grouped_rules, numbers_of, settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.optional import Recipe
    from capsule_run.seccomp.rule import Action, Case


class Row(Value):
    """One syscall of a profile: its action, the tests of its arguments, and the reason."""

    name: str
    number: int
    action: str
    arguments: tuple[str, ...]
    group: str
    reason: str


def explain(
    profile: str | Recipe,
    architecture: str,
    *,
    network: bool = False,
    on_violation: str = KILL_ATTACKS,
    root_inside: bool = False,
) -> tuple[Row, ...]:
    """Return a row for each call that the profile names, by number. All other calls fail with ENOSYS."""
    numbers = numbers_of(architecture)
    rows = []
    for group, rule in grouped_rules(profile, architecture, network=network, root_inside=root_inside):
        final = settled(rule, profile, on_violation)
        row = Row(
            name=rule.name,
            number=numbers[rule.name],
            action=_action(final.otherwise),
            arguments=(*map(_case, final.cases), *_uncounted(final.otherwise)),
            group=group,
            reason=rule.reason,
        )
        rows.append(row)
    return tuple(sorted(rows, key=lambda row: row.number))


def allowed_calls(
    profile: str | Recipe, architecture: str, *, network: bool = False, root_inside: bool = False
) -> tuple[str, ...]:
    """Return the names of the calls that the profile allows for any arguments, by number."""
    numbers = numbers_of(architecture)
    chosen = grouped_rules(profile, architecture, network=network, root_inside=root_inside)
    allowed = (
        rule.name
        for _, rule in chosen
        if any(action.kind == "allow" for action in (rule.otherwise, *(case.action for case in rule.cases)))
    )
    return tuple(sorted(allowed, key=lambda name: numbers[name]))


def _action(action: Action) -> str:
    if action.kind == "allow":
        return "allow"
    if action.kind == "kill":
        return "kill"
    if not action.errno:
        return "succeed without effect"
    return f"refuse with {ERRNO_NAMES[action.errno]}" + (", unrecorded" if action.kind == "quiet" else "")


def _uncounted(action: Action) -> tuple[str, ...]:
    if action != ALLOW_IN_CGROUP:
        return ()
    return (f"refuse with {ERRNO_NAMES[action.errno & ~IN_CGROUP]} if no memory cgroup counts what it makes",)


def _case(case: Case) -> str:
    where = ", where something of the host's is writable" if case.shared else ""
    return f"{_action(case.action)} if {' and '.join(test.words for test in case.when)}{where}"
