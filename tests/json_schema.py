"""A small validator of JSON Schema (2020-12): the keywords that our schemas use, and an error for any other.

Our own, so that every test run validates every response and needs no package; tests/docs/test_schema.py compares it with
`jsonschema` where that is installed.
"""

from __future__ import annotations

import re

ANNOTATIONS = {"$schema", "title", "description", "contentEncoding"}
TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
    "number": (int, float),
}  # fmt: skip


def is_type(value, name):
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def errors(value, schema, place="$", *, strict=False):
    """Yield what is wrong with a value. `strict`: an object with `properties` has no others, unless the schema says so."""
    for keyword, wanted in schema.items():
        if keyword not in ANNOTATIONS:
            yield from KEYWORDS[keyword](value, wanted, schema, place, strict)


def _simple(is_wrong):
    def check(value, wanted, _schema, place, _strict):
        if is_wrong(value, wanted):
            yield f"{place}: {str(value)[:80]!r} against {wanted!r}"

    return check


def _properties(value, wanted, schema, place, strict):
    if isinstance(value, dict):
        for name, inner in wanted.items():
            if name in value:
                yield from errors(value[name], inner, f"{place}.{name}", strict=strict)
        if strict and "additionalProperties" not in schema:
            yield from (f"{place}.{name}: no such field in the schema" for name in value if name not in wanted)


def _additional(value, wanted, schema, place, strict):
    if isinstance(value, dict):
        for name in value.keys() - schema.get("properties", {}).keys():
            if wanted is False:
                yield f"{place}.{name}: no such field in the schema"
            elif wanted is not True:
                yield from errors(value[name], wanted, f"{place}.{name}", strict=strict)


def _items(value, wanted, _schema, place, strict):
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from errors(item, wanted, f"{place}[{index}]", strict=strict)


def _prefix_items(value, wanted, _schema, place, strict):
    if isinstance(value, list):
        for index, (item, inner) in enumerate(zip(value, wanted, strict=False)):
            yield from errors(item, inner, f"{place}[{index}]", strict=strict)


def _any_of(value, wanted, _schema, place, strict):
    found = [list(errors(value, one, place, strict=strict)) for one in wanted]
    if all(found):
        yield from min(found, key=len)


def _not(value, wanted, _schema, place, _strict):
    if not list(errors(value, wanted, place)):
        yield f"{place}: is what it must not be: {wanted!r}"


def _if(value, wanted, schema, place, strict):
    branch = "else" if list(errors(value, wanted, place)) else "then"
    yield from errors(value, schema.get(branch, {}), place, strict=False)


KEYWORDS = {
    "type": _simple(
        lambda value, wanted: not any(is_type(value, one) for one in ([wanted] if isinstance(wanted, str) else wanted))
    ),
    "const": _simple(lambda value, wanted: value != wanted),
    "enum": _simple(lambda value, wanted: value not in wanted),
    "minimum": _simple(lambda value, wanted: is_type(value, "number") and value < wanted),
    "maximum": _simple(lambda value, wanted: is_type(value, "number") and value > wanted),
    "minLength": _simple(lambda value, wanted: isinstance(value, str) and len(value) < wanted),
    "maxLength": _simple(lambda value, wanted: isinstance(value, str) and len(value) > wanted),
    "minItems": _simple(lambda value, wanted: isinstance(value, list) and len(value) < wanted),
    "maxItems": _simple(lambda value, wanted: isinstance(value, list) and len(value) > wanted),
    "pattern": _simple(lambda value, wanted: isinstance(value, str) and re.search(wanted, value) is None),
    "required": _simple(lambda value, wanted: isinstance(value, dict) and not set(wanted) <= value.keys()),
    "properties": _properties,
    "additionalProperties": _additional,
    "prefixItems": _prefix_items,
    "items": _items,
    "anyOf": _any_of,
    "not": _not,
    "if": _if,
    "then": lambda *_: (),
    "else": lambda *_: (),
}
