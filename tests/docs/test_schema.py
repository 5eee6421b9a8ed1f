"""The JSON Schemas: published as printed, true of requests and responses, and checked by a validator that is right."""

from __future__ import annotations

import json

import pytest
from documents import DOCS, REPOSITORY, blocks

import json_schema
from capsule_run._base.errors import CapsuleError
from capsule_run.cli.schema import SCHEMAS, schema_text
from capsule_run.model.result_parts import Metrics
from capsule_run.request import parse
from capsule_run.request.schema import request_schema
from capsule_run.result.schema import response_schema

REQUEST, RESPONSE = request_schema(), response_schema()


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_published_as_it_is_printed(name):
    """docs/schema has what `capsule-run schema` prints."""
    assert schema_text(name) == (DOCS / "schema" / f"{name}.json").read_text()


def fields_of(schema):
    inner = {f"{name}.{key}" for name in ("resources", "isolation") for key in schema["properties"][name]["properties"]}
    return {*schema["properties"], *inner}


def test_schema_of_requests_has_every_field():
    """Each field that is parsed is in the schema, and no other."""
    assert set(parse.FIELDS) == fields_of(REQUEST)


def test_schema_of_responses_has_every_field_of_the_page():
    """The fields of the response's tables in json-api.md are those of the schema."""
    page = (DOCS / "json-api.md").read_text()
    tables = {
        "| field | type | present | meaning |": RESPONSE,
        "| `isolation` field | type | meaning |": RESPONSE["properties"]["isolation"],
        "| `metrics` field | type | meaning |": RESPONSE["properties"]["metrics"],
        "| `measurement` field | type | meaning |": RESPONSE["properties"]["measurement"],
        "| `error` field | type | meaning |": RESPONSE["properties"]["error"],
    }
    for start, schema in tables.items():
        rows = page.partition(start)[2].partition("\n\n")[0].splitlines()[2:]
        names = {name.strip(" `") for row in rows for name in row.split("|")[1].split(",")}
        assert names == schema["properties"].keys(), start
    assert set(Metrics.__annotations__) == RESPONSE["properties"]["metrics"]["properties"].keys()


VALID = [
    {"command": ["a"]},
    {"command": ["a"], "timeout_ms": "5s", "resources": {"stack_bytes": "unlimited", "cpu_quota": 0.5}},
    {
        "command": ["a"],
        "isolation": {"workspace": None, "user": "0:1", "binds": [{"source": "a", "destination": "/b"}]},
    },
    {"command": ["a"], "isolation": {"workspace": {"source": "a", "mode": "ro"}, "workspace_upper": "/a"}},
    {
        "command": ["a"],
        "files": {"x": "text", "y": {"base64": "", "mode": "0755"}},
        "collect": ["*"],
        "preset": "judge",
    },
    {"command": ["a"], "stdin": "", "require": ["landlock"], "environment": {"A": ""}, "execution_id": "a:b"},
]
INVALID = [
    {},
    {"command": []},
    {"command": "a"},
    {"command": ["a"], "x": 1},
    {"command": ["a"], "timeout_ms": 0},
    {"command": ["a"], "timeout_ms": "5"},
    {"command": ["a"], "timeout_ms": True},
    {"command": ["a"], "ledger": 1},
    {"command": ["a"], "stdin": "", "stdin_base64": ""},
    {"command": ["a"], "resources": {"memory_bytes": 1}},
    {"command": ["a"], "resources": {"x": 1}},
    {"command": ["a"], "isolation": {"binds": [{"source": "a"}]}},
    {"command": ["a"], "isolation": {"binds": [{"source": "a", "destination": "b"}]}},
    {"command": ["a"], "isolation": {"workspace": {"mode": "ro"}}},
    {"command": ["a"], "isolation": {"hostname": "-a"}},
    {"command": ["a"], "isolation": {"user": -1}},
    {"command": ["a"], "on_output_limit": "x"},
    {"command": ["a"], "files": {"x": {"text": "", "other": 1}}},
]


def parsed(request):
    fields = dict(request)
    fields.pop("preset", None)
    return parse.request_from_mapping(fields)


@pytest.mark.parametrize("request_", VALID)
def test_schema_accepts_what_is_parsed(request_):
    """A valid request is valid in both."""
    assert parsed(request_)
    assert [] == list(json_schema.errors(request_, REQUEST))


@pytest.mark.parametrize("request_", INVALID)
def test_schema_rejects_what_is_refused(request_):
    """A request that is refused for its form is invalid in both."""
    with pytest.raises(CapsuleError, match="E10"):
        parsed(request_)
    assert [] != list(json_schema.errors(request_, REQUEST))


def test_schema_accepts_the_requests_of_the_documents():
    """Every JSON request in the documents is valid."""
    found = [block.text for path in (REPOSITORY / "README.md", *DOCS.glob("*.md")) for block in blocks(path)
             if block.language == "json" and block.is_example]  # fmt: skip
    assert found
    for text in found:
        assert [] == list(json_schema.errors(json.loads(text), REQUEST))


RESPONSES = [
    {"execution_id": "a", "status": "success", "started_at": "x", "finished_at": "2026-01-01T00:00:00.000Z"},
    {"status": "success"},
    {"execution_id": "a", "status": "killed", "started_at": "2026-01-01T00:00:00.000Z"},
]


@pytest.mark.parametrize("response", RESPONSES)
def test_schema_rejects_a_response_that_no_run_gives(response):
    """A response without its fields, or with a wrong time, is invalid."""
    assert [] != list(json_schema.errors(response, RESPONSE, strict=True))


@pytest.mark.needs("jsonschema")
def test_schema_validator_agrees_with_jsonschema():
    """The schemas are valid ones, and the tests' own validator judges requests as the reference does."""
    import jsonschema

    validator = jsonschema.Draft202012Validator
    for schema in (REQUEST, RESPONSE):
        validator.check_schema(schema)
    for request in (*VALID, *INVALID):
        expected = validator(REQUEST).is_valid(request)
        assert expected == (not list(json_schema.errors(request, REQUEST))), request
