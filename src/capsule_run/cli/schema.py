"""`capsule-run schema`: print the JSON Schema of a request or a response."""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.strict_json import dumps
from capsule_run.cli.output import write_all
from capsule_run.request.schema import request_schema
from capsule_run.request.validators import did_you_mean, shown
from capsule_run.result.schema import response_schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from capsule_run.request.option_table import Option

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMAS = {"request": request_schema, "response": response_schema}
OPTIONS: tuple[Option, ...] = ()


_HINT = "see `capsule-run schema --help`"


def help_text() -> str:
    """Return the text of `capsule-run schema --help`."""
    return """\
capsule-run schema request     Print the JSON Schema of what --json reads
capsule-run schema response    Print the JSON Schema of what --json prints

The dialect is 2020-12; docs/schema has the same two files.
"""


def main(words: Sequence[str]) -> int:
    """Print a schema and return the exit code. Raises CapsuleError E1007."""
    if not words or words[0] in ("-h", "--help"):
        write_all(1, help_text())
        return 0 if words else 2
    if len(words) > 1 or words[0] not in SCHEMAS:
        guess = did_you_mean(words[0], SCHEMAS)
        raise CapsuleError("E1007", f"schema: name `request` or `response`, got {shown(words[0])}{guess}", hint=_HINT)
    write_all(1, schema_text(words[0]))
    return 0


def schema_text(name: str) -> str:
    """Return the text of a schema, as it is printed and published."""
    return dumps({"$schema": DIALECT, **SCHEMAS[name]()}, indent=2) + "\n"
