"""`capsule-run policy test`: compare expectations with the rules of a profile. Runs nothing."""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run.cli.output import write_lines
from capsule_run.cli.policy_args import Words, read_text
from capsule_run.engine.profile_file import load
from capsule_run.model.request import KILL_ATTACKS
from capsule_run.seccomp import ruleset
from capsule_run.seccomp.rule import ERRNO_NAMES
from capsule_run.seccomp.ruleset import grouped_rules, numbers_of, settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.seccomp.rule import Action, Rule

EXPECTED = ("allow", "refuse", "kill")


def _said(action: Action) -> str:
    if action.kind in ("allow", "kill"):
        return action.kind
    return f"refuse with {ERRNO_NAMES[action.errno]}" if action.errno else "allow without effect"


def _halves(arguments: list[int]) -> tuple[int, ...]:
    padded = (arguments + [0] * 6)[:6]
    return (*(each & 0xFFFFFFFF for each in padded), *(each >> 32 & 0xFFFFFFFF for each in padded))


def _number(word: str) -> int:
    """Parse a number in the notation of Python or C: strace and man pages write a mode as 0755."""
    return int(word, 8) if word.startswith("0") and word.isdigit() else int(word, 0)


def _line(number: int, line: str, rules: dict[str, Rule], known: set[str]) -> str:
    """Return what is wrong with one expectation, or ""."""
    expected, *rest = line.split()
    if expected not in EXPECTED or not rest or len(rest) > 7:
        raise CapsuleError(
            "E1011", f"line {number}: an expectation is `allow`, `refuse` or `kill`, then a call, then its arguments"
        )
    call, *words = rest
    if call not in known:
        raise CapsuleError("E1011", f"line {number}: unknown system call `{call}`")
    try:
        arguments = [_number(word) for word in words]
    except ValueError:
        raise CapsuleError("E1011", f"line {number}: arguments are numbers, such as 42, 0x2a or 052") from None
    rule = rules.get(call)
    got = (
        "refuse with ENOSYS" if rule is None else _said(ruleset.decide(rule.cases, rule.otherwise, _halves(arguments)))
    )
    return "" if got.startswith(expected) else f"line {number}: `{line}`: got `{got}`"


def check_file(path: str, words: Words) -> int:
    """Print the expectations that do not hold; return 1 if there is one, else 0."""
    name = words.given.get("--profile", "default")
    profile = load(name) or name
    chosen = grouped_rules(
        profile, words.architecture, network="--network" in words.flags, root_inside="--root" in words.flags
    )
    rules = {rule.name: settled(rule, profile, KILL_ATTACKS) for _, rule in chosen}
    lines = [(number, line.partition("#")[0].strip()) for number, line in enumerate(read_text(path).splitlines(), 1)]
    held = [_line(number, line, rules, set(numbers_of(words.architecture))) for number, line in lines if line]
    wrong = [each for each in held if each]
    write_lines(1, [*wrong, f"{len(held) - len(wrong)} of {len(held)} expectations hold for {name}"])
    return 1 if wrong else 0
