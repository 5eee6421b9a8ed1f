"""docs/json-api.md, against the tables, the model and what a run really answers."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from documents import DOCS, table_rows

from capsule_run._base.errors import CapsuleError, Failure
from capsule_run.engine.execute import execute
from capsule_run.host.survey import survey
from capsule_run.model import changes
from capsule_run.model import result_parts as parts
from capsule_run.model.request import Isolation, Request, Resources, Workspace
from capsule_run.model.result import Result
from capsule_run.model.result_parts import Metrics
from capsule_run.policy.resolve import resolve
from capsule_run.request import parse
from capsule_run.result import isolation

PAGE = (DOCS / "json-api.md").read_text()


def section(start, end="\n## "):
    """The text of the page from a heading (or a table's first line) to the next."""
    return PAGE.partition(start)[2].partition(end)[0]


REQUEST = {row[0].strip("`"): row[1:] for row in table_rows(section("## The request"))}
RESPONSE_TABLES = {
    name: {row[0].strip("`") for row in table_rows(section(start, "\n\n"))}
    for name, start in {
        "response": "| field | type | present | meaning |",
        "metrics": "| `metrics` field | type | meaning |",
        "isolation": "| `isolation` field | type | meaning |",
        "postmortem": "| `postmortem` field | type | meaning |",
        "measurement": "| `measurement` field | type | meaning |",
        "error": "| `error` field | type | meaning |",
    }.items()
}


def test_json_page_has_every_request_field():
    """The page's fields are those of `request.parse.FIELDS`."""
    assert set(parse.FIELDS) == set(REQUEST)


def given(path, value):
    return parse.request_from_mapping(parse.nested({"command": ["true"], path: value}))


INTEGERS = {path: row for path, row in REQUEST.items() if row[0] == "integer"}


@pytest.mark.parametrize("path", INTEGERS)
def test_json_page_ranges_are_the_checkers(path):
    """The first and the last number of a range are accepted, and their neighbours refused."""
    low, high = map(int, INTEGERS[path][1].split(" to "))
    for number in (low, high):
        given(path, number)
    for number in (low - 1, high + 1):
        with pytest.raises(CapsuleError, match="E1004"):
            given(path, number)


def test_json_page_integers_have_a_range():
    """Every field whose checker counts is an integer with a range on the page."""
    counting = {path for path, check in parse.FIELDS.items() if "integer" in check.__qualname__}
    assert counting == set(INTEGERS)


@pytest.mark.parametrize("path", [path for path, row in REQUEST.items() if row[0].startswith("`")])
def test_json_page_choices_are_the_checkers(path):
    """Each word that the page gives is accepted, another is refused with all of them."""
    words = re.findall(r"`(\w+)`", REQUEST[path][0])
    for word in words:
        given(path, word)
    with pytest.raises(CapsuleError) as caught:
        given(path, "another")
    assert words == caught.value.details["accepted"]


def test_json_page_requirements_are_the_tables():
    """The names that `require` takes are on the page."""
    assert list(parse.REQUIREMENTS) == re.findall(r"`(\w+)`", REQUEST["require"][1])


def defaults():
    """What `policy.resolve.resolve` makes of a request of a command alone, by the fields' paths."""
    request = Request(command=("true",))
    policy = resolve(request, survey(request))
    return {
        "timeout_ms": policy.timeout_ms,
        "on_output_limit": policy.on_output_limit,
        "resources.memory_bytes": policy.memory_bytes,
        "resources.cpu_shares": policy.cpu_shares,
        "resources.max_output_bytes": policy.max_output_bytes,
        "resources.max_pids": policy.max_pids,
        "resources.max_open_files": policy.max_open_files,
        "isolation.network": policy.network,
        "isolation.working_directory": policy.working_directory,
        "isolation.workspace": policy.workspace,
        "isolation.user": policy.user,
        "isolation.hostname": policy.hostname,
    }


@pytest.mark.parametrize("path", defaults())
def test_json_page_defaults_are_in_force(path):
    """A default on the page is the one that a request without the field gets."""
    value = defaults()[path]
    shown = value if isinstance(value, str) else json.dumps(value)
    assert shown == REQUEST[path][2].strip("`")


def test_json_page_dependent_defaults_are_in_force():
    """The disk is a little smaller than memory, and a file may fill it, unless the request says otherwise."""
    request = Request(command=("true",), resources=Resources(memory_bytes=8 << 20))
    policy = resolve(request, survey(request))
    assert ("7/8 of `memory_bytes`", "`disk_bytes` and 1 MiB") == (
        REQUEST["resources.disk_bytes"][2],
        REQUEST["resources.max_file_bytes"][2],
    )
    assert (7 << 20, 8 << 20) == (policy.disk_bytes, policy.max_file_bytes)


def test_json_page_other_defaults_are_empty():
    """What is left has an empty default in the model, and the page says so."""
    empty = {path for path, row in REQUEST.items() if row[2] in ("`{}`", "`[]`")}
    assert {"environment", "resources", "isolation", "require", "files", "collect"} | {
        f"isolation.{name}" for name in ("readonly_paths", "writable_paths", "binds", "tools", "unmask")
    } == empty
    assert (Resources(), Isolation(), (), (), (), ()) == (
        Request(command=()).resources,
        Request(command=()).isolation,
        Request(command=()).environment,
        Request(command=()).require,
        Request(command=()).files,
        Request(command=()).collect,
    )


def test_json_page_null_is_for_the_workspace_only():
    """Null is accepted where the page says, and nowhere else."""
    accepted = set()
    for path in parse.FIELDS:
        try:
            parse.FIELDS[path](None, path)
        except CapsuleError:
            continue
        accepted.add(path)
    assert {"isolation.workspace"} == accepted


def test_json_page_bytes_have_a_spelling():
    """Text may hold a lone low surrogate for a byte that is not UTF-8."""
    assert b"\xff" == given("environment", {"A": "\udcff"}).environment[0][1].encode("utf-8", "surrogateescape")


def test_json_page_sizes_are_checked():
    """The limits of the whole are those that are checked."""
    assert f"at most {parse.MAX_REQUEST_BYTES >> 20} MiB" in section("## The request")
    assert f"1 MiB, {parse.MAX_COMMAND_STRINGS} strings" in REQUEST["environment"][1]


# --- the response ------------------------------------------------------------------------------------------------------

REQUESTS = [
    {"command": ["sh", "-c", "printf '\\377'; printf '\\377' >&2"]},
    {"command": ["sh", "-c", "kill -SEGV $$"]},
    {"command": ["sh", "-c", "exit 3"]},
    {"command": ["no-such-program"]},
    {"command": ["python", "-c", "x = bytearray(1 << 29)"]},
    {"command": ["true"], "isolation": {"workspace": "/usr/share", "network": True}},
    {"command": ["sleep", "60"], "timeout_ms": 300},
    {"command": []},
]


@pytest.fixture(scope="module")
def responses(capsule_cli):
    """Real answers of every kind."""
    return [
        json.loads(
            subprocess.run([capsule_cli, "--json"], input=json.dumps(request), capture_output=True, text=True).stdout
        )
        for request in REQUESTS
    ]


@pytest.mark.sandbox
@pytest.mark.parametrize("table", RESPONSE_TABLES)
def test_json_page_has_every_response_field(responses, table):
    """Whatever answers hold has a row."""
    parts = responses if table == "response" else [answer[table] for answer in responses if table in answer]
    assert parts
    assert set() == {name for part in parts for name in part} - RESPONSE_TABLES[table]


def test_json_page_response_rows_are_the_models():
    """The page has no field that no answer could hold."""
    result = Result(
        execution_id="x", status="killed", started_at="", finished_at="", exit_code=1, signal="SIGKILL",
        stdout_stream=parts.Output(data=b"\xff", total_bytes=1, truncated=True),
        stderr_stream=parts.Output(data=b"\xff", total_bytes=1, truncated=True),
        metrics=Metrics(**dict.fromkeys(Metrics.__annotations__, 1)), isolation={"a": 1},
        error=Failure(code="E4001", message="m", cause="c", details={}, hint="h"),
        processes=({},), limits_hit=({},), denied=({},), denied_count=1,
        measurement={"doubts": []}, postmortem={"threads": [], "complete": True},
        collected=(parts.CollectedFile(path="p", data=b"", mode=0o644),),
        not_collected=(parts.NotCollected(path="p", reason="symlink", bytes=0),),
        changes=(changes.Change(path="p", kind="created", bytes=0),), changes_truncated=True, diff="", diff_truncated=True,
        not_applied=(changes.NotApplied(path="p", reason="special"),), output=((0.1, "stdout", "o"),),
    )  # fmt: skip
    answer = result.to_dict()
    # `line` is of `capsule-run batch`, and no part of a result
    assert (set(answer) | {"line"}, set(answer["metrics"]), set(answer["error"])) == (
        RESPONSE_TABLES["response"],
        RESPONSE_TABLES["metrics"],
        RESPONSE_TABLES["error"],
    )


def test_attestation_page_rows_are_those_of_a_run():
    """docs/attestation.md has a row for every fact of `isolation.attested`, and for no other."""
    facts = execute(Request(command=("true",))).isolation["attested"]
    names = {f"{name}.{inner}" for name in ("seccomp",) for inner in facts[name]} | (set(facts) - {"seccomp"})
    rows = table_rows((DOCS / "attestation.md").read_text())
    assert names == {name for row in rows for name in re.findall(r"`([\w.]+)`", row[0])}


def test_json_page_isolation_rows_are_those_of_a_run():
    """The page's fields of `isolation` are what a run with everything in it says, and so are the limits' names."""
    request = Request(command=("true",), isolation=Isolation(workspace=Workspace(source="/usr/share")))
    policy = resolve(request, survey(request, unsupported=("overlay",)))
    made = isolation.isolation_in_force(policy, 0)
    assert {*made, "attested"} == RESPONSE_TABLES["isolation"]  # the kernel's account comes from the run itself
    (row,) = [row for row in table_rows(PAGE) if row[0] == "`limits`"]
    assert list(made["limits"]) == re.findall(r"`(\w+)`", row[2])
