"""Read options from the environment: `CAPSULE_RUN_` and an option's name, such as `CAPSULE_RUN_MAX_PIDS` for `--max-pids`.

Every interface that makes a request reads them, as defaults for fields that the request, the command line or the arguments
do not give. A variable with this prefix that is no option is an error: a misspelt limit must not be a missing limit.
Imported only if there is such a variable.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.engine import caller_environment
from capsule_run.host.path_resolution import OUR_VARIABLES, variables
from capsule_run.request.option_table import OPTIONS
from capsule_run.request.options import parse_words
from capsule_run.request.parse import request_from_mapping, request_to_mapping, with_defaults
from capsule_run.request.validators import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run.model.request import Request
    from capsule_run.request.fast_path import Options
    from capsule_run.request.option_table import Option


# Options about the output of one command line, and options that differ for each run: not allowed as variables.
NOT_VARIABLES = (
    "--json",
    "--pretty",
    "--verbose",
    "--quiet",
    "--color",
    "--dry-run",
    "--no-config",
    "--tty",
    "--interactive",
    "--grace",
    "--execution-id",
    "--help",
    "--version",
)
# Only the command line writes metrics and audit logs.
MONITORING = ("--metrics-file", "--audit-log", "--audit-required")


def variable(option: Option) -> str:
    """Return the name of the environment variable for an option: `CAPSULE_RUN_MAX_PIDS` for `--max-pids`."""
    return OUR_VARIABLES + option.long.removeprefix("--").replace("-", "_").upper()


_BY_NAME = {variable(option): option for option in OPTIONS if option.long not in NOT_VARIABLES}


def _words(name: str, text: str) -> list[str]:
    """Return the command-line words for one variable.

    An option without a value takes `1`, or `0` for not given; an option that repeats takes one value a line.
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
    """Return the options that the variables with this prefix set. Raises CapsuleError E10xx."""
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
    """Complete the options of a command line from the environment of this process. Raises CapsuleError E10xx."""
    found = caller_environment.completed(options_of(variables()))
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
    """Complete a request mapping from the environment of this process. Raises CapsuleError E10xx."""
    given = variables()
    for option in MONITORING:
        name = OUR_VARIABLES + option.removeprefix("--").replace("-", "_").upper()
        if name in given:
            why = f"`{name}` has no effect here: only runs from the command line are recorded"
            raise CapsuleError("E1007", why, hint="unset it; from Python use `capsule_run.monitor.audit_log.Monitor`")
    found = caller_environment.completed(options_of(given))
    merged = with_defaults(dict(fields), found.fields)
    assert isinstance(merged, dict)
    return merged


def completed_request(request: Request) -> Request:
    """Complete a checked request from the environment of this process. Raises CapsuleError E10xx."""
    return request_from_mapping(completed(request_to_mapping(request)))


TRACEBACK = "CAPSULE_RUN_TRACEBACK"
