"""`capsule-run policy learn`: run a command repeatedly, each time with the calls allowed that were denied before.

Starts with a profile that allows almost nothing, and never allows what no profile may allow. Calls of high risk are listed,
not added. Every run has a fresh sandbox with a copy of the current directory.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.cli.command import command_workspace
from capsule_run.cli.complete_options import with_environment
from capsule_run.cli.output import write_all
from capsule_run.engine.execute import perform
from capsule_run.engine.profile_file import is_file
from capsule_run.host.caller_files import Place, callers_descriptor, reason_of
from capsule_run.request.options import build_request, read_options
from capsule_run.seccomp.catalogue import can_allow, group_of, is_closed, risk
from capsule_run.seccomp.custom_profile import ALONE, from_spec, open_groups
from capsule_run.seccomp.tables.rules import GROUPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run.cli.policy_args import Words
    from capsule_run.model.optional import Recipe
    from capsule_run.model.result import Result

ROUNDS = 40
# Groups that are added whole, because a program that needs one of their calls needs others, too. Of the rest, single calls.
WHOLE = (
    *(
        "files-read",
        "files-write",
        "signals",
        "signals-more",
        "events",
        "events-more",
        "threads",
        "process",
        "files-more",
    ),
    *("sockets", "timers", "watch", "ipc", "memory", "self", "ids"),
)


class Learned:
    """The profile so far, and the denied calls that are not added."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.reasons: dict[str, str] = {}
        self.left: dict[str, str] = {}

    @property
    def spec(self) -> str:
        """The profile so far, in the form NAME+GROUP+CALL."""
        return "+".join((self.recipe.extends, *self.recipe.groups, *self.recipe.allow))

    def take(self, denied_call: Mapping[str, object]) -> bool:
        """Add what allows a denied call, if a profile may. Return whether something was added."""
        call = str(denied_call["syscall"])
        if is_closed(call):
            self.left[call] = "no profile can allow it"
            return False
        if risk(call) == "high" and group_of(call) in ("suspects", "build-more", "memfd", "probed"):
            self.left[call] = "high risk: add it manually if needed"
            return False
        for group in WHOLE:
            mine = [rule for rule in GROUPS[group] if rule.name == call and can_allow(rule)]
            if group == "threads" and "process" in self.recipe.groups:
                continue  # `process` allows the same calls and more
            if mine and group not in self.recipe.groups:
                self.recipe = replace(self.recipe, groups=(*self.recipe.groups, group))
                self.reasons[group] = call
                return True
            if mine and group != "threads":
                return False  # its arguments were denied
        allowed = any(can_allow(rule) for group in open_groups() for rule in GROUPS[group] if rule.name == call)
        if call in self.recipe.allow or not (allowed or not group_of(call)) or not call.isidentifier():
            return False
        self.recipe = replace(self.recipe, allow=(*self.recipe.allow, call))
        return True


def _text(learned: Learned, command: tuple[str, ...], result: Result) -> str:
    recipe = learned.recipe
    lines = [
        f"# learned from: {' '.join(command)!r}",
        f"# result: {result.status}, exit code {result.exit_code}",
    ]
    if recipe.extends != ALONE:
        lines.append(f'extends = "{recipe.extends}"')
    lines.append("groups = [")
    lines += [
        f'    "{group}",  # {_group_risk(group)} risk, for {learned.reasons.get(group, "")}' for group in recipe.groups
    ]
    lines += ["]", "allow = ["]
    lines += [f'    "{call}",  # {risk(call)} risk' for call in recipe.allow]
    lines.append("]")
    lines += [f"# denied, and not added: {call} ({why})" for call, why in learned.left.items()]
    return "\n".join(lines) + "\n"


def _group_risk(group: str) -> str:
    grades = {risk(rule.name) for rule in GROUPS[group] if can_allow(rule)}
    return next((grade for grade in ("high", "medium") if grade in grades), "low")


def learn(words: Words) -> int:
    """Write the profile to the file that `-o` names, or to stdout."""
    start = words.given.get("--profile", ALONE)
    if is_file(start):
        raise CapsuleError("E1007", "policy: `learn` starts from a named profile, not from a file")
    learned = Learned(from_spec(start))
    options = with_environment(read_options(["--on-violation", "refuse", "--", *words.command]))
    if options.metrics_file or options.audit_log:
        raise CapsuleError(
            "E1007", "policy: `learn` records no run", hint="unset `CAPSULE_RUN_` variables of monitoring"
        )
    request = command_workspace(build_request(options), options)
    result = perform(replace(request, profile=learned.spec))
    for _round in range(ROUNDS):
        if result.error is not None and result.error.code[:2] in ("E2", "E6"):
            raise CapsuleError(result.error.code, result.error.message, details=result.error.details)
        added = [learned.take(denied_call) for denied_call in result.denied]
        if not any(added):
            break
        result = perform(replace(request, profile=learned.spec))
    text = _text(learned, words.command, result)
    if "-o" not in words.given:
        write_all(1, text)
        return 0
    _write(words.given["-o"], text)
    return 0


def _write(path: str, text: str) -> None:
    try:
        number = callers_descriptor(path)
        if number is not None:
            write_all(number, text)
            return
        with Place(path) as place:
            place.replace(text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        why, hint = reason_of(error)
        raise CapsuleError("E1005", f"cannot write `{path}`: {why}", hint=hint) from None
