"""Options in the environment: `CAPSULE_RUN_` and an option's name, such as `CAPSULE_RUN_MAX_PIDS` for `--max-pids`.

Every interface that makes a request reads them, as defaults for what the request, the command line or the arguments do not
give. A variable of this prefix that is no option is refused: a limit that is misspelt must not be a limit that is missing.
Rank 4. Imported only if there is such a variable.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.host.path_resolution import OUR_VARIABLES, variables
from capsule_run.request.options import OPTIONS, parse_words
from capsule_run.request.parse import with_defaults
from capsule_run.request.validators import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run.request.fast_path import Options
    from capsule_run.request.options import Option


# How a command line is answered, and what each call has of its own: nothing that could hold for all of them.
NOT_HERE = ("--json", "--pretty", "--verbose", "--dry-run", "--execution-id", "--help", "--version")
# Who writes a run down: the command line alone.
MONITORING = ("--metrics-file", "--audit-log", "--audit-required")


def variable(option: Option) -> str:
    """The variable of the environment for an option: `CAPSULE_RUN_MAX_PIDS` for `--max-pids`."""
    return OUR_VARIABLES + option.long.removeprefix("--").replace("-", "_").upper()


_BY_NAME = {variable(option): option for option in OPTIONS if option.long not in NOT_HERE}


def _words(name: str, text: str) -> list[str]:
    """The words of a command line that one variable stands for.

    An option that takes no value wants `1`, or `0` for not given; one that repeats takes a value a line.
    """
    option = _BY_NAME.get(name)
    if option is None:
        guess = nearest(name, _BY_NAME)
        raise CapsuleError(
            "E1007",
            f"unknown variable `{name}`" + (f"; did you mean `{guess}`?" if guess else ""),
            hint="unset it: variables that begin with `CAPSULE_RUN_` are options of capsule-run",
        )
    if option.metavar:
        values = text.splitlines() if option.repeats else [text]
        return [f"{option.long}={line}" for line in values if line]
    if text not in ("0", "1", ""):
        raise CapsuleError("E1007", f"`{name}` must be 0 or 1")
    return [option.long] if text == "1" else []


def options_of(environment: Mapping[str, str]) -> Options:
    """What the variables of this prefix say, as the command line that they stand for. Raises CapsuleError E10xx."""
    words: list[str] = []
    for name, text in environment.items():
        if not name.startswith(OUR_VARIABLES) or name == TRACEBACK:
            continue
        new = _words(name, text)
        try:
            parse_words(new)
        except CapsuleError as error:
            why = f"`{name}`: {error.message}"
            raise CapsuleError(error.code, why, details=error.details, hint=error.hint) from None
        words += new
    return parse_words(words)


def with_variables(options: Options) -> Options:
    """A command line, completed by the variables of this process. Raises CapsuleError E10xx."""
    found = options_of(variables())
    fields = with_defaults(options.fields, found.fields)
    assert isinstance(fields, dict)
    return replace(
        options,
        fields=fields,
        metrics_file=options.metrics_file or found.metrics_file,
        audit_log=options.audit_log or found.audit_log,
        audit_required=options.audit_required or found.audit_required,
    )


def completed(fields: Mapping[str, object]) -> dict[str, object]:
    """A request mapping, completed by the variables of this process. Raises CapsuleError E10xx."""
    given = variables()
    for option in MONITORING:
        name = OUR_VARIABLES + option.removeprefix("--").replace("-", "_").upper()
        if name in given:
            why = f"`{name}` has no meaning here: only runs from the command line are written down"
            raise CapsuleError("E1007", why, hint="unset it; from Python use `capsule_run.monitor.audit_log.Monitor`")
    merged = with_defaults(dict(fields), options_of(given).fields)
    assert isinstance(merged, dict)
    return merged


TRACEBACK = "CAPSULE_RUN_TRACEBACK"
