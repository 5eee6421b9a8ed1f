"""`capsule-run doctor`: report what this host supports, what it lacks, and the remedies; `--attack` attacks a sandbox here.

The findings are data, and go to stdout.
"""

from __future__ import annotations

import time

from capsule_run import __version__
from capsule_run._base.errors import CapsuleError
from capsule_run._base.strict_json import dumps
from capsule_run.cli import colours
from capsule_run.cli import help as cli_help
from capsule_run.cli.output import write_all, write_lines
from capsule_run.doctor import apparmor, attack
from capsule_run.doctor.diagnose import EXITS, OK, Trial, diagnose, worst
from capsule_run.doctor.facts import gather_facts
from capsule_run.engine import configuration
from capsule_run.engine.execute import perform
from capsule_run.host.path_resolution import SYSTEM_FILE, is_absent
from capsule_run.request.option_table import Option
from capsule_run.request.parse import request_from_mapping
from capsule_run.request.validators import did_you_mean, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from capsule_run.doctor.diagnose import Finding
    from capsule_run.model.result import Result

_USAGE = """\
capsule-run doctor [OPTIONS]

Check this host, and print a remedy for each missing feature.

Options:
"""
_EXITS = """
Exit code: 0 all checks passed, 1 a protection is weaker than possible, 125 no sandbox can run here.
With --attack: 0 every attempt was stopped, 1 at least one was not.
"""
_SAID = {
    "ended": "the run was killed (E5001)",
    "E3006": "the run timed out (E3006)",
    "E4001": "the run was killed (E4001)",
    "E4003": "the run was killed (E4003)",
}
OPTIONS = (
    Option(long="--attack", about="Try real but harmless escapes, and print what stopped each"),
    Option(long="--apparmor", about="Print the AppArmor profile for the core, for hosts that need it"),
    Option(long="--json", about="Print the findings as JSON"),
    Option(long="--help", short="-h", about="Print help"),
)
WORDS = tuple(name for option in OPTIONS for name in (option.long, option.short) if name)


def help_text() -> str:
    """Return the text of `capsule-run doctor --help`."""
    return f"{_USAGE}{cli_help.option_lines(OPTIONS)}{_EXITS}"


def main(words: Sequence[str]) -> int:
    """Run the subcommand and return its exit code."""
    for word in words:
        if word not in WORDS:
            message = f"doctor: unknown option {shown(word)}{did_you_mean(word, WORDS)}"
            raise CapsuleError("E1007", message, hint="see `capsule-run doctor --help`")
    if "--help" in words or "-h" in words:
        write_all(1, help_text())
        return 0
    if "--apparmor" in words:
        write_all(1, apparmor.profile(gather_facts().core))
        return 0
    return _attack(as_json="--json" in words) if "--attack" in words else _examine(as_json="--json" in words)


def _trial() -> Trial:
    """Run a sandbox, the check that decides. Its workspace is shared copy-on-write, as in command mode."""
    with attack.temporary_directory() as place:
        asked = {"command": ["/bin/sh", "-c", "echo alive"], "isolation": {"workspace": place}}
        begun = time.perf_counter()
        if not is_absent(SYSTEM_FILE) and configuration.ceiling_against_sharing(place):
            del asked["isolation"]  # a ceiling allows other directories only
        result = perform(request_from_mapping({**asked, "require": ["overlay"]}))  # a small directory is copied instead
        if result.error is not None and result.error.code == "E2007":
            result = perform(request_from_mapping(asked))
        milliseconds = (time.perf_counter() - begun) * 1000
    return _judged(result, milliseconds)


def _judged(result: Result, milliseconds: float) -> Trial:
    code = message = hint = ""
    if result.error is not None:
        code, message, hint = result.error.code, result.error.message, result.error.hint
    elif result.stdout != "alive\n":
        code, message = "E6001", f"the command printed {result.stdout!r}"
    return Trial(code=code, message=message, hint=hint, milliseconds=milliseconds, isolation=result.isolation)


def _examine(*, as_json: bool) -> int:
    findings = diagnose(gather_facts(), _trial())
    state = worst(findings)
    if as_json:
        checks = [_fields(finding) for finding in findings]
        write_all(1, dumps({"capsule_run": __version__, "state": state, "checks": checks}, indent=2) + "\n")
    else:
        write_lines(1, [line for finding in findings for line in _lines(finding)])
    return EXITS[state]


def _fields(finding: Finding) -> dict[str, object]:
    fields: dict[str, object] = {"check": finding.check, "state": finding.state, "found": finding.found}
    if finding.remedy:
        fields["remedy"] = finding.remedy
    return fields


def _lines(finding: Finding) -> list[str]:
    line = f"{finding.state:<8} {finding.check:<21} {finding.found}"
    return [line] if finding.state == OK else [line, f"{'':<8} remedy: {finding.remedy}"]


def _print_progress(done: int, total: int) -> None:
    """Show on a terminal how many of the attempts have ended; it takes seconds, and the findings come at the end."""
    if colours.obeys_controls(2):
        write_all(2, f"{colours.ERASE}{done} of {total} attempts")


def _attack(*, as_json: bool) -> int:
    begun = time.perf_counter()
    attempts = attack.attack_all(_print_progress)
    if colours.obeys_controls(2):
        write_all(2, colours.ERASE)
    through = [attempt for attempt in attempts if not attempt.stopped]
    if as_json:
        fields = [dict(attempt.__dict__) for attempt in attempts]
        write_all(1, dumps({"capsule_run": __version__, "stopped": not through, "attempts": fields}, indent=2) + "\n")
        return 1 if through else 0
    for attempt in attempts:
        mark = "stopped" if attempt.stopped else "THROUGH"
        outcome = _SAID.get(attempt.outcome, attempt.outcome)
        write_lines(1, [f"{mark}  {attempt.name:<42} {attempt.layer:<18} {outcome}"])
    seconds = time.perf_counter() - begun
    write_all(1, f"{len(attempts) - len(through)} of {len(attempts)} stopped, in {seconds:.1f} s\n")
    return 1 if through else 0
