"""`capsule-run policy`: show, test, compare and learn syscall profiles.

`show`, `test` and `diff` run nothing: they read the rules that the filter is compiled from.
"""

from __future__ import annotations

from capsule_run._base.strict_json import dumps
from capsule_run.cli import help as cli_help
from capsule_run.cli import policy_learn, policy_test
from capsule_run.cli.output import write_all, write_lines
from capsule_run.cli.policy_args import OPTIONS, Words, profile_of, usage
from capsule_run.model.request import PROFILE_ALIASES
from capsule_run.request.validators import did_you_mean, shown
from capsule_run.seccomp.custom_profile import open_groups
from capsule_run.seccomp.filters import SHIPPED_ARCHITECTURES, SHIPPED_PROFILES, allowed_calls
from capsule_run.seccomp.tables import history, rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from capsule_run.model.optional import Recipe

WORDS = ("show", "diff", "test", "learn")
_USAGE = """\
capsule-run policy show                   List profiles with their numbers of calls, and the groups
capsule-run policy show PROFILE           List each call of a profile: its action, group and reason
capsule-run policy diff PROFILE PROFILE   Compare two profiles
capsule-run policy test FILE              Check expectations against a profile; runs nothing
capsule-run policy learn -- COMMAND       Write a minimal profile for a command, from denied calls

PROFILE is strict, default, NAME+GROUP, or the path of a TOML file.

Options:
"""
_EXPECTATIONS = """
A file of expectations has one per line, with the call's arguments in decimal or 0x hexadecimal:
  allow openat
  refuse ptrace
  kill mount
"""


def help_text() -> str:
    """Return the text of `capsule-run policy --help`."""
    return f"{_USAGE}{cli_help.option_lines(OPTIONS)}{_EXPECTATIONS}"


def main(words: Sequence[str]) -> int:
    """Run the subcommand and return its exit code."""
    read = Words(words)
    if "--help" in read.flags or "-h" in read.flags or not read.plain:
        write_all(1, help_text())
        return 0 if read.flags else 2
    what, *rest = read.plain
    if what == "show" and len(rest) <= 1:
        return _show_one(read, rest[0]) if rest else _show_all(read)
    if what == "diff" and len(rest) == 2:
        return _diff(read, rest[0], rest[1])
    if what == "test" and len(rest) == 1:
        return policy_test.check_file(rest[0], read)
    if what == "learn" and not rest and read.command:
        return policy_learn.learn(read)
    guess = "" if what in WORDS else did_you_mean(what, WORDS)
    raise usage(f"cannot read {shown(' '.join(read.plain))}{guess}")


def _counts(profile: str | Recipe, *, network: bool = False) -> dict[str, int]:
    return {each: len(allowed_calls(profile, each, network=network)) for each in SHIPPED_ARCHITECTURES}


def _show_all(words: Words) -> int:
    counts = {name: {"offline": _counts(name), "network": _counts(name, network=True)} for name in SHIPPED_PROFILES}
    groups = {name: sorted({rule.name for rule in rules.GROUPS[name]}) for name in open_groups()}
    if "--json" in words.flags:
        write_all(1, dumps({"profiles": counts, "groups": groups}, indent=2) + "\n")
        return 0
    lines = ["calls allowed, by profile and architecture (in parentheses with --network)"]
    for name, count in counts.items():
        cells = ", ".join(f"{arch} {count['offline'][arch]} ({count['network'][arch]})" for arch in count["offline"])
        lines.append(f"  {name:8} {cells}")
    lines += [f"  {name:8} another name of {profile}" for name, profile in PROFILE_ALIASES.items()]
    lines.append("groups")
    lines += [f"  {name:18} {' '.join(calls)}" for name, calls in groups.items()]
    write_lines(1, lines)
    return 0


def _show_one(words: Words, name: str) -> int:
    rows = words.rows(name)
    counts = _counts(profile_of(name), network="--network" in words.flags)
    if "--json" in words.flags:
        fields = [
            {**{field: getattr(row, field) for field in row.__annotations__}, **_history(row.name)} for row in rows
        ]
        write_all(1, dumps({"profile": name, "allowed": counts, "calls": fields}, indent=2) + "\n")
        return 0
    cells = ", ".join(f"{count} calls on {architecture}" for architecture, count in counts.items())
    lines = [
        f"{name}: {cells} allowed; calls that are not listed fail with ENOSYS",
        f"known holes: {history.SOURCES}, as known to us on {history.COUNTED_ON}; a lower bound",
    ]
    for row in rows:
        lines.append(f"{row.number:4} {row.name:24} {row.action:22} {row.group}: {row.reason}")
        lines += [f"{'':30}{condition}" for condition in row.arguments]
        family = history.family_of(row.name)
        if family is not None and "allow" in f"{row.action} {' '.join(row.arguments)}":
            lines.append(f"{'':30}{history.summary(family)}")
    write_lines(1, lines)
    return 0


def _history(call: str) -> dict[str, object]:
    """Return the known holes of a call that `default` was given, for `--json`."""
    family = history.family_of(call)
    return {} if family is None else {"known": dict(family.known), "known_elsewhere": dict(family.elsewhere)}


def _diff(words: Words, left: str, right: str) -> int:
    sides = [{row.name: (row.action, *row.arguments) for row in words.rows(name)} for name in (left, right)]
    unknown = ("refuse with ENOSYS",)
    changes = {
        call: (sides[0].get(call, unknown), sides[1].get(call, unknown))
        for call in sorted(sides[0].keys() | sides[1].keys())
        if sides[0].get(call, unknown) != sides[1].get(call, unknown)
    }
    if "--json" in words.flags:
        write_all(
            1, dumps({call: {left: list(a), right: list(b)} for call, (a, b) in changes.items()}, indent=2) + "\n"
        )
        return 0
    lines = [f"{call:24} {'; '.join(a)}  ->  {'; '.join(b)}" for call, (a, b) in changes.items()]
    write_lines(1, [f"{left} -> {right}: {len(changes)} calls differ", *lines])
    return 0
