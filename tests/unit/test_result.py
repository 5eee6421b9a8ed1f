"""A result as callers use it: its short form, its JSON and the way back, `check()`, and what a notebook shows."""

from __future__ import annotations

import ast
import inspect
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import capsule_run
import records
from capsule_run._base import statuses
from capsule_run._base.errors import CapsuleError, Failure
from capsule_run._base.value import Value, replace
from capsule_run.model import request
from capsule_run.model.changes import Change, NotApplied
from capsule_run.model.result import Result, RunError
from capsule_run.model.result_parts import CollectedFile, Metrics, NotCollected, Output
from capsule_run.request import languages
from capsule_run.seccomp.tables import profiles

CLEAN = records.result(
    stdout_stream=Output(data="é\n".encode(), total_bytes=3, truncated=False),
    stderr_stream=Output(data=b"a\xffb", total_bytes=90, truncated=True),
    metrics=Metrics(wall_ms=12.3456, user_ms=1.0, system_ms=2.0, cpu_ms=3.0, startup={"spawn": 210}),
    isolation={"seccomp": "default"},
)
FAILED = replace(
    CLEAN,
    status="killed",
    exit_code=137,
    signal="SIGKILL",
    error=Failure(code="E4001", message="out of memory", cause="memory", details={"limit": (1, 2)}, hint="more"),
)
FULL = replace(
    FAILED,
    collected=(
        CollectedFile(path="a.txt", data=b"text", mode=0o644),
        CollectedFile(path="b.bin", data=b"\xff\0", mode=0o755),
        CollectedFile(path="c", data=b"saved", mode=0o600, saved="/out/c"),
    ),
    not_collected=(NotCollected(path="d", reason="size", bytes=9),),
    limits_hit=({"code": "E4002", "cause": "pids", "details": {}},),
    postmortem={"threads": []},
    changes=(Change(path="n", kind="created", bytes=0, type="directory"), Change(path="m", kind="modified", bytes=1)),
    changes_truncated=True,
    not_applied=(NotApplied(path="e", reason="link"),),
    measurement={"trustworthy": True},
    denied=({"syscall": "bpf", "count": 1},),
    processes=({"pid": 2},),
    output=((0.25, "stdout", "é"), (1.0, "stderr", "x\n")),
)
NEVER_STARTED = replace(FAILED, exit_code=None, signal=None, stdout_stream=None, stderr_stream=None, metrics=None)
EXAMPLES = {"clean": CLEAN, "failed": FAILED, "full": FULL, "never-started": NEVER_STARTED}


@pytest.mark.parametrize("result", EXAMPLES.values(), ids=EXAMPLES)
def test_result_from_dict_returns_what_to_dict_gave(result):
    """`from_dict` reads `to_dict`, also through JSON text, and nothing of it is lost."""
    response = result.to_dict()
    assert response == json.loads(result.to_json())
    assert response == Result.from_dict(response).to_dict()
    assert response == Result.from_dict(json.loads(json.dumps(response))).to_dict()
    assert result.to_json(indent=2) == Result.from_dict(response).to_json(indent=2)


def test_result_to_dict_is_a_copy():
    """Changing what `to_dict` gave changes no result."""
    FULL.to_dict()["postmortem"]["threads"].append(1)
    assert {"threads": []} == FULL.postmortem


@given(st.binary(max_size=200), st.booleans())
def test_result_from_dict_keeps_any_bytes(data, truncated):
    """Streams and files of any bytes come back exactly."""
    stream = Output(data=data, total_bytes=len(data), truncated=truncated)
    result = replace(CLEAN, stdout_stream=stream, collected=(CollectedFile(path="f", data=data, mode=0o644),))
    back = Result.from_dict(json.loads(result.to_json()))
    assert (data, stream, data) == (back.stdout_data, back.stdout_stream, bytes(back.files["f"]))


def test_result_from_dict_with_unknown_field_leaves_it_out():
    """A response of a later version can be read."""
    response = {**CLEAN.to_dict(), "later": 1}
    response["metrics"] = {**response["metrics"], "later_ms": 1}
    assert CLEAN.to_dict() == Result.from_dict(response).to_dict()


NO_RESPONSES = {
    "nothing": ({}, "`status` must be one of"),
    "a list": ([], "`response` must be an object"),
    "a text": ("x", "`response` must be an object"),
    "a missing field": ({"status": "success"}, "`execution_id` is missing"),
    "a status": ({**CLEAN.to_dict(), "status": "fine"}, "`status` must be one of success, error, timeout, killed"),
    "a type": ({**CLEAN.to_dict(), "exit_code": "0"}, "`exit_code` must be an integer"),
    "a boolean for a number": ({**CLEAN.to_dict(), "exit_code": True}, "`exit_code` must be an integer"),
    "a metric": ({**CLEAN.to_dict(), "metrics": {"wall_ms": 1}}, "`metrics.user_ms` is missing"),
    "base64": ({**CLEAN.to_dict(), "stdout_base64": "!"}, "`stdout_base64` must be base64"),
    "a file": ({**CLEAN.to_dict(), "files": {"f": {"mode": "x", "bytes": 1}}}, "`files[f].mode` must be octal digits"),
    "a change": ({**CLEAN.to_dict(), "changes": [1]}, "`changes[0]` must be an object"),
}


@pytest.mark.parametrize(("response", "message"), NO_RESPONSES.values(), ids=NO_RESPONSES)
def test_result_from_dict_of_no_response_names_the_field(response, message):
    """What is no response is a ValueError that names the field and what it must be."""
    with pytest.raises(ValueError, match="not a response: ") as caught:
        Result.from_dict(response)
    assert message in str(caught.value)


def test_result_check_of_success_returns_it():
    """`check()` of a run that succeeded is the result itself."""
    assert CLEAN is CLEAN.check()


def test_result_check_of_failure_raises_with_result():
    """`check()` of any other run raises a RunError that is a CapsuleError and carries the result, also pickled."""
    with pytest.raises(CapsuleError) as caught:
        FAILED.check()
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (RunError, FAILED, "E4001", "more") == (type(error), error.result, error.code, error.hint)
        assert "E4001: out of memory" == str(error)
    assert capsule_run.RunError is RunError


def test_result_repr_is_short():
    """The `repr` has status, exit code, time and the first characters of stdout, however much there is."""
    assert "Result('success', exit_code=0, wall_ms=12.3, stdout='é\\n')" == repr(CLEAN)
    long = replace(FAILED, stdout_stream=Output(data=b"x" * 10**6, total_bytes=10**6, truncated=False))
    expected = "Result('killed', exit_code=137, error=E4001: 'out of memory', wall_ms=12.3, stdout='" + "x" * 60 + "'…)"
    assert expected == repr(long)
    assert "Result('killed', exit_code=None, error=E4001: 'out of memory')" == repr(NEVER_STARTED)


def test_result_html_shows_streams_error_and_images():
    """A notebook shows the error, both streams and the images among the files."""
    html = replace(FULL, collected=(CollectedFile(path="p.png", data=b"\x89PNG", mode=0o644),))._repr_html_()
    for part in (
        "killed, exit code 137",
        "E4001",
        "out of memory",
        "hint: more",
        "é",
        '<img src="data:image/png;base64,iVBORw==',
    ):
        assert part in html


@given(st.text(max_size=50))
def test_result_html_escapes_what_comes_from_inside(text):
    """No text from inside opens a tag or leaves an attribute in what a notebook shows."""
    hostile = f"<script>{text}</script>\"'"
    result = replace(
        CLEAN,
        stdout_stream=Output(data=hostile.encode("utf-8", "replace"), total_bytes=1, truncated=False),
        collected=(CollectedFile(path=f"{hostile}.svg", data=b"<svg onload='x'/>", mode=0o644),),
    )
    html = result._repr_html_()
    tags = {part.partition(">")[0].split(" ")[0].strip("/") for part in html.split("<")[1:]}
    assert tags <= {"div", "b", "br", "small", "pre", "figure", "img", "figcaption"}
    assert "onload" not in html


def test_result_pickles():
    """A result crosses process pools as it is."""
    assert FULL == pickle.loads(pickle.dumps(FULL))


VALUES = (
    Result,
    Metrics,
    request.Request,
    request.Resources,
    request.Isolation,
    request.Workspace,
    request.Bind,
    request.InputFile,
)


@pytest.mark.parametrize("kind", VALUES)
def test_public_value_documents_every_field(kind):
    """Each field of a public value has its meaning below it, where editors and readers look for it."""
    body = ast.parse(inspect.getsource(kind)).body[0].body
    for field, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            documented = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            assert documented, f"{kind.__name__}.{field.target.id}"


def literal_types(module):
    """The words of each `Literal` that a module defines for type checkers, by name; a run does not need `typing`."""
    guard = next(node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.If))
    types = [node for node in guard.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)]
    return {
        node.targets[0].id: {word.value for word in ast.walk(node.value.slice) if isinstance(word, ast.Constant)}
        for node in types
    }


def test_literal_types_match_tables():
    """The literal types that editors offer are the words that the checkers accept."""
    offered = literal_types(request) | literal_types(statuses)
    assert set(languages.LANGUAGES) == offered["Language"]
    assert {*profiles.PROFILES, *request.PROFILE_ALIASES} == offered["ProfileName"]
    assert {statuses.SUCCESS, statuses.ERROR, statuses.TIMEOUT, statuses.KILLED} == offered["Status"]
    assert {request.READ_ONLY, request.READ_WRITE} == offered["BindMode"]
    assert {request.COPY_ON_WRITE, request.COPY, request.READ_ONLY, request.READ_WRITE} == offered["WorkspaceMode"]
    assert {request.KILL, request.TRUNCATE} == offered["OnOutputLimit"]
    assert {request.KILL_ATTACKS, request.KILL, request.REFUSE} == offered["OnViolation"]


def test_package_shows_public_names_only():
    """`dir(capsule_run)` has nothing but the public interface."""
    assert sorted(capsule_run.__all__) == dir(capsule_run)
    assert all(isinstance(getattr(capsule_run, name), object) for name in capsule_run.__all__)
    assert issubclass(capsule_run.Result, Value)
