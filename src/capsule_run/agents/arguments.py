"""The arguments of the tools that a model calls: the checker, JSON schema and description of each, in one table.

Every interface (MCP, function calling, agent frameworks) builds its schemas from `ARGUMENTS` and checks calls against it.
"""

from __future__ import annotations

from capsule_run._base.value import Value
from capsule_run.agents.operator import MIN_TIMEOUT_SECONDS
from capsule_run.engine import code
from capsule_run.request.languages import language
from capsule_run.request.parse import check_object, with_defaults
from capsule_run.request.validators import check_source, check_stdin, check_string, invalid, list_of, wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from capsule_run.agents.operator import Operator
    from capsule_run.model.request import Request
    from capsule_run.request.validators import Checker


class Argument(Value):
    """One argument of a tool. `schema` is its JSON schema, without what depends on the operator's limits."""

    check: Checker
    schema: Mapping[str, object]
    description: str


def _check_text(value: object, label: str) -> str:
    text = check_string(value, label)
    if not text.strip():
        raise invalid("E1005", label, "must not be empty")
    return text


def _check_seconds(value: object, label: str) -> int | None:
    """Accept null for the default, and a float without a fraction; `Operator.clamp` brings any number within bounds."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(label, "a whole number of seconds", value)
    return value


def _check_files(value: object, label: str) -> dict[str, object]:
    """Accept texts by path only: the other forms of the request's field can name a file of the host."""
    if not isinstance(value, dict):
        raise wrong_type(label, "an object of strings", value)
    for path, content in value.items():
        if not isinstance(content, str):
            raise wrong_type(f"{label}[{path!r}]", "a string", content)
    return value


_STRING: dict[str, object] = {"type": "string"}
ARGUMENTS = {
    "code": Argument(
        check=_check_text, schema=_STRING, description="The program, complete; print what you want to know"
    ),
    "language": Argument(check=_check_text, schema=_STRING, description="The language the code is written in"),
    "command": Argument(
        check=_check_text,
        schema=_STRING,
        description="A command line for `sh`, such as `grep -c x data.txt | sort`",
    ),
    "stdin": Argument(check=check_stdin, schema=_STRING, description="What the program reads on standard input"),
    "files": Argument(
        check=_check_files,
        schema={"type": "object", "additionalProperties": _STRING},
        description="Files to put into the working directory first: relative path to text",
    ),
    "collect": Argument(
        check=list_of(check_source),
        schema={"type": "array", "items": _STRING},
        description='Which files of the working directory come back, as patterns such as "*.png" or "out/**"',
    ),
    "timeout_seconds": Argument(
        check=_check_seconds,
        schema={"type": "integer", "minimum": MIN_TIMEOUT_SECONDS},
        description="Seconds after which it is ended",
    ),
}
CODE_ARGUMENTS = ("code", "language")  # what a call of `execute_code` must have


def arguments_schema(
    required: Sequence[str], optional: Sequence[str], limits: Operator, *, with_descriptions: bool
) -> dict[str, object]:
    """Build the JSON schema of a tool's arguments, narrowed to what the operator allows.

    :param with_descriptions: whether to add descriptions and the default timeout.
    """
    properties: dict[str, dict[str, object]] = {}
    for name in (*required, *optional):
        properties[name] = dict(ARGUMENTS[name].schema)
        if with_descriptions:
            properties[name]["description"] = ARGUMENTS[name].description
    if "language" in properties:
        properties["language"]["enum"] = list(limits.languages)
    if "timeout_seconds" in properties:
        properties["timeout_seconds"]["maximum"] = limits.max_timeout_seconds
        if with_descriptions and limits.timeout_ms % 1000 == 0:
            properties["timeout_seconds"]["default"] = limits.timeout_ms // 1000
    return {"type": "object", "properties": properties, "required": list(required)}


def check_arguments(
    arguments: object,
    required: Sequence[str],
    optional: Sequence[str],
    *,
    table: Mapping[str, Argument] = ARGUMENTS,
) -> dict[str, object]:
    """Check what a model sent for a tool. Raises CapsuleError E10xx, which the model can correct.

    :param table: the arguments by name, for an interface that has more of them.
    """
    checked = check_object(arguments, "arguments", {name: table[name].check for name in (*required, *optional)})
    for name in required:
        if name not in checked:
            names = " and ".join(f"`{each}`" for each in required)
            raise invalid("E1006", name, "the argument is missing", hint=f"send {names}")
    return checked


def requested_timeout_ms(checked: Mapping[str, object], limits: Operator) -> int:
    """Return the timeout of a call with checked arguments, within the operator's limits."""
    seconds = checked.get("timeout_seconds")
    assert seconds is None or isinstance(seconds, int)
    return limits.clamp(seconds)


def code_call_request(checked: Mapping[str, object], fields: Mapping[str, object], limits: Operator) -> Request:
    """Build the request of an `execute_code` call. Raises CapsuleError E10xx.

    :param checked: the arguments, as `check_arguments` returns them.
    :param fields: the other request fields of the call; the operator's limits fill the rest.
    """
    row = language(checked["language"])
    if row.name not in limits.languages:
        names = ", ".join(f"`{name}`" for name in limits.languages)
        raise invalid("E1005", "language", f"must be one of {names}, got `{row.name}`")
    return code.code_request(checked["code"], row.name, call_fields(fields, limits))


def call_fields(fields: Mapping[str, object], limits: Operator) -> dict[str, object]:
    """Complete the request fields of a call with the operator's limits."""
    completed = with_defaults(dict(fields), limits.limits)
    assert isinstance(completed, dict)
    return completed
