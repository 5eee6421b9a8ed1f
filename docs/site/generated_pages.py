"""Generate reference pages from the code: the table of options, the JSON Schemas, and the configuration's keys and presets.

Called by `hooks`, when the site is built, and by tests/docs/test_reference.py. Needs the package, and nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path

from python_reference import field_documentation
from python_reference import page as python_page

from capsule_run.cli import subcommands
from capsule_run.cli.help import long_help
from capsule_run.request.config_file import CEILING_KEYS, SETTABLE, TIGHTENING
from capsule_run.request.option_table import GROUPS, OPTIONS, Option
from capsule_run.request.parse import FIELDS
from capsule_run.request.presets import SHIPPED_PRESETS
from capsule_run.request.schema import request_schema
from capsule_run.result.schema import response_schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Schema = Mapping[str, object]


DOCS = Path(__file__).resolve().parents[1]


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _code(text: object) -> str:
    return f"`{_cell(text)}`" if str(text) else ""


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def _option_rows(options: Iterable[Option]) -> Iterable[tuple[str, ...]]:
    for option in options:
        names = ", ".join(name for name in (option.short, option.long) if name)
        about = _cell(option.about) + (
            f": {', '.join(_code(word) for word in option.choices)}" if option.choices else ""
        )
        field = option.field if option.field in FIELDS else ""
        yield _code(f"{names} {option.metavar}".strip()), about, _code(field), "all" if option.repeats else "last"


def command_line() -> str:
    """The page of the command line: every option and every subcommand."""
    lines = [
        "# Options and subcommands",
        "",
        "Generated from the table of options and the help texts; [the command line](../command-line.md) explains them.",
        "*JSON field* is the field of a [request](../json-api.md) that an option sets.",
        "*Given twice* says which values count.",
        "An option with a JSON field is also [a variable](../json-api.md#variables-of-the-environment) of the environment,",
        "such as CAPSULE_RUN_MAX_PIDS.",
        "",
    ]
    for group in GROUPS:
        lines += [f"## {group.capitalize()}", ""]
        options = [option for option in OPTIONS if option.group == group]
        lines += _table(("Option", "Meaning", "JSON field", "Given twice"), _option_rows(options))
    lines += ["## Exit codes and defaults", "", "```", _after(long_help(), "Defaults: "), "```", ""]
    for name, about in subcommands.SUBCOMMANDS.items():
        lines += [
            f"## capsule-run {name}",
            "",
            f"{about}.",
            "",
            "```",
            subcommands.module(name).help_text().rstrip(),
            "```",
            "",
        ]
    return "\n".join(lines)


def _after(text: str, word: str) -> str:
    """The part of a text that begins with a word."""
    return (word + text.partition(word)[2]).rstrip()


def _kind(schema: Schema) -> str:
    """The type of a schema in words."""
    if "anyOf" in schema:
        alternatives = schema["anyOf"]
        assert isinstance(alternatives, list)
        return " or ".join(dict.fromkeys(_kind(one) for one in alternatives))
    if "enum" in schema:
        values = schema["enum"]
        assert isinstance(values, list)
        return ", ".join(_code(value) for value in values)
    if "const" in schema:
        return _code(schema["const"])
    kind = schema.get("type", "any")
    items = schema.get("items")
    if kind == "array" and isinstance(items, dict):
        return f"list of {_kind(items)}"
    text = " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
    low, high = schema.get("minimum"), schema.get("maximum")
    return f"{text}, {low} to {high}" if low is not None and high is not None else text


# The class that documents the fields of an object, by the place of the object.
REQUEST = {
    "": ("capsule_run.model.request", "Request"),
    "resources.": ("capsule_run.model.request", "Resources"),
    "isolation.": ("capsule_run.model.request", "Isolation"),
}
RESPONSE = {
    "": ("capsule_run.model.result", "Result"),
    "metrics.": ("capsule_run.model.result_parts", "Metrics"),
    "error.": ("capsule_run._base.errors", "Failure"),
}


# Objects of the response whose fields a table of docs/json-api.md explains; a test compares its fields with the schema's.
TABLES = {
    "": "| field | type | present |",
    "isolation.": "| `isolation` field |",
    "measurement.": "| `measurement` field |",
}


def _explained(head: str) -> dict[str, str]:
    """The last column of the table of docs/json-api.md that begins with a heading, by the field in the first."""
    rows = (DOCS / "json-api.md").read_text().partition(head)[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    # links lead from docs/, and this page is one folder deeper
    return {row[0].strip("` "): re.sub(r"\]\((?=[\w-]+(/|\.md))", "](../", row[-1]) for row in cells}


def _schema_rows(schema: Schema, classes: Mapping[str, tuple[str, str]], prefix: str = "") -> Iterable[tuple[str, ...]]:
    properties = schema.get("properties")
    required = schema.get("required", [])
    assert isinstance(properties, dict)
    assert isinstance(required, list)
    documented = field_documentation(*classes[prefix]) if prefix in classes else {}
    table = TABLES.get(prefix) if classes is RESPONSE else "| field | type | range |"
    explained = _explained(table) if table else {}
    for name, inner in properties.items():
        about = inner.get("description") or documented.get(name) or explained.get(name, "")
        must = "always" if name in required else ""
        yield _code(prefix + name), _cell(_kind(inner)), must, _cell(about)
        if "properties" in inner:
            yield from _schema_rows(inner, classes, f"{prefix}{name}.")


def json_fields() -> str:
    """The page of the fields of request and response."""
    heads = ("Field", "Type", "Required", "Meaning")
    return "\n".join(
        [
            "# JSON fields",
            "",
            "Generated from the JSON Schemas of [requests](../schema/request.json) and [responses](../schema/response.json).",
            "[The JSON API](../json-api.md) explains them.",
            "[Attestation](../attestation.md) explains the fields of `isolation.attested`.",
            "",
            "## Request",
            "",
            *_table(heads, _schema_rows(request_schema(), REQUEST)),
            "## Response",
            "",
            *_table(("Field", "Type", "Present", "Meaning"), _schema_rows(response_schema(), RESPONSE)),
        ]
    )


def configuration() -> str:
    """The page of the keys of configuration files, and of what each preset sets."""
    lines = [
        "# Configuration keys",
        "",
        "Generated from the table of options and the shipped presets; [Configuration](../configuration.md) explains them.",
        "",
        "## Keys",
        "",
        "*Project* says whether the file of a project may set the key: to lower a limit, and for nothing else.",
        "",
    ]
    rows = ((_code(key), _cell(option.about), "lower" if key in TIGHTENING else "") for key, option in SETTABLE.items())
    lines += _table(("Key", "Meaning", "Project"), rows)
    lines += ["## Ceilings", "", "Keys of `[ceilings]` in the file of the system:", ""]
    lines += [*(f"- `{key}`" for key in CEILING_KEYS), "", "## Presets", ""]
    for preset in SHIPPED_PRESETS:
        lines += [f"### {preset.name}", "", f"{preset.about}.", ""]
        lines += _table(
            ("Key", "Value"), ((_code(setting.key), _code(_toml(setting.written))) for setting in preset.settings)
        )
    return "\n".join(lines)


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# Path in the site → (title in the navigation, the text).
PAGES = {
    "reference/command-line.md": ("Options and subcommands", command_line),
    "reference/json.md": ("JSON fields", json_fields),
    "reference/python.md": ("Python names", python_page),
    "reference/configuration.md": ("Configuration keys", configuration),
}
