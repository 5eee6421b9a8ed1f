"""Text from inside in what we print: no interface lets it through raw, and none of our lines begins with it."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capsule_run._base.errors import CapsuleError, Failure
from capsule_run._base.printable import MAX_MESSAGE, name, printable
from capsule_run._base.value import replace
from capsule_run.agents.operator import operator
from capsule_run.agents.text import problem_text, refusal_text, tool_text
from capsule_run.cli import output
from capsule_run.host.survey import survey
from capsule_run.mcp.resources import ResourceStore
from capsule_run.mcp.results import answer, invalid_call
from capsule_run.model.changes import Change, NotApplied
from capsule_run.model.report import FinishedRun
from capsule_run.model.request import Request
from capsule_run.model.result import Result
from capsule_run.model.result_parts import CollectedFile, NotCollected, Output
from capsule_run.monitor.prometheus import accumulated
from capsule_run.policy.resolve import resolve
from capsule_run.result import verdict
from capsule_run.result.denied_syscalls import denied, forbidden
from capsule_run.result.denied_syscalls import in_words as denied_in_words
from capsule_run.result.processes import in_words as threads_in_words
from capsule_run.result.processes import postmortem
from records import record, report

# Whatever ends a line for some reader, moves a cursor, hides or reorders text, or is no text at all.
HOSTILE = (
    *map(chr, (*range(32), *range(0x7F, 0xA0))),
    *map(chr, (0x61C, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2060, 0x206A), 0xFEFF, 0xFFF9, 0xE0041)),
    *("\ud800", "\udc80", "\udcff"),
)
MARK = "hint: sudo"
TEXTS = st.lists(st.sampled_from((*HOSTILE, MARK, "`", " ", "é", "日", "a")), min_size=1, max_size=12).map("".join)
FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
POLICY = resolve(Request(command=("true",)), survey(Request(command=("true",))))
TIMES = {"received": 1, "cloned": 2, "mapped": 3, "ready": 4, "started": 5, "ended": 6, "reported": 7}
USAGE = dict.fromkeys(
    ("user_us", "system_us", "max_rss_kib", "minor_faults", "major_faults", "in_blocks", "out_blocks", "voluntary_switches",
     "involuntary_switches"), 1,
)  # fmt: skip


def word(text):
    """A text as the record has it (core/record.c)."""
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass")) or "%"


def finished_run(text, **said):
    """A run with the text in every word of its record that is one, and at the end of its stderr."""
    stat = word(f"4 ({text}) S 1 3 3 0 -1 4194560 100 0 0 0 25 0 0 0 20 0\n")
    lines = [
        ["denied", "165", "65535", *["0"] * 6, word(text), word(text)],
        ["denied-count", "165", "65535", "1"],
        ["thread", "4", "4", stat, word("61 0x3\n"), word("x")],
    ]
    stderr = f"before\n{text}No space left {text}".encode("utf-8", "surrogatepass")
    return FinishedRun(
        policy=POLICY, report=report(**{"times": TIMES, "usage": USAGE, "memory_peak_kib": 1, **said}),
        record=record(*lines), program="", cancelled_by=0, stdout=b"", stderr=stderr,
    )  # fmt: skip


def result_of(text, error):
    """A result with the text in every field that can hold something from inside."""
    run = finished_run(text, killed="syscall")
    path = text.replace("\ud800", "")  # in names of files only bytes that are no UTF-8 are surrogates
    stream = Output(data=text.encode("utf-8", "surrogatepass"), total_bytes=99, truncated=True)
    return Result(
        execution_id="x", status="error", started_at="", finished_at="", exit_code=3, signal=None, stdout_stream=stream,
        stderr_stream=stream, metrics=None, isolation={"seccomp": "default", "note": text}, error=error,
        collected=(CollectedFile(path=f"{path}/f", data=b"its content is data", mode=0o644),),
        not_collected=(NotCollected(path=path, reason="absent", bytes=1),),
        changes=(Change(path=text, kind="created", bytes=1),),
        not_applied=(NotApplied(path=text, reason="changed meanwhile"),), denied=denied(run),
        postmortem=postmortem(run.record, "x86_64"), processes=({"pid": 1, "command": text, "argv": [text]},),
    )  # fmt: skip


def clean(said, *, lines=True):
    """Assert that what an interface said is clean; `lines` where it may have lines, all of them ours."""
    raw = [one for one in said if one in HOSTILE and not (lines and one == "\n")]
    assert [] == raw
    assert all(unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in said if one != "\n")
    assert not [line for line in said.splitlines() if line.lstrip().startswith(MARK)]


@pytest.fixture
def said(monkeypatch):
    """What the command line writes, by descriptor."""
    texts = {1: "", 2: ""}

    def write(fd, data):
        texts[fd] += bytes(data).decode()
        return len(data)

    monkeypatch.setattr(output.posix, "write", write)
    return texts


@FAST
@given(TEXTS)
def test_printable_is_one_clean_and_bounded_line(text):
    """Any text becomes one line without anything that acts, and ordinary writing stays as it is."""
    for shown, most in ((printable(text), MAX_MESSAGE), (name(text * 99), 256)):
        clean(f"`{shown}", lines=False)
        assert len(shown) <= most
    assert "naïve 日本 ‛x’" == printable("naïve 日本 ‛x’")


@FAST
@given(TEXTS)
def test_printable_errors_are_one_line(text):
    """Message, hint, `str` and `repr` of an exception and of its value are clean; its details are exact."""
    error = CapsuleError("E3001", f"command not found: `{text}`", details={"command": text}, hint=f"show `{text}`")
    assert {"command": text} == error.details
    for said in (error.message, error.hint, str(error), error.failure().message, *error.__notes__):
        clean(said, lines=False)
    clean(repr(error.failure()), lines=False)


@FAST
@given(TEXTS)
def test_printable_verdicts_are_one_line(text):
    """Whatever a command prints last, or its processes are called, the sentence about its end is one line of ours."""
    ends = ({"exited": 3}, {"signalled": 11}, {"killed": "clock"}, {"killed": "memory"}, {"killed": "syscall"})
    for said in ends:
        failure = verdict.judge(finished_run(text, **said))[3]
        clean(f"{failure.message}", lines=False)
    full = finished_run(text, exited=1)
    clean(verdict.judge(replace(full, record=record(["disk", "99", "0", "1", "1"])))[3].message, lines=False)
    run = finished_run(text, killed="syscall")
    clean(forbidden(run).message, lines=False)
    clean(denied_in_words(denied(run), "default", ended_well=False), lines=False)
    for line in threads_in_words(postmortem(run.record, "x86_64")):
        clean(f"at the end {line}", lines=False)


@FAST
@given(TEXTS)
def test_printable_command_line_writes_nothing_raw(said, text):
    """On stderr stand our own lines alone, and what `--json` prints is ASCII with exact data."""
    said.update({1: "", 2: ""})
    error = CapsuleError("E4005", f"full: {text}", details={"said": text}).failure()
    result = result_of(text, error)
    request = Request(command=("true",))
    output.print_result(request, result)
    output.print_details(request, result, 2)
    output.print_dry_run([f"summary {text}"], [f"argument {text}"], pretty=False)
    output.print_error(CapsuleError("E3001", text), json=False, pretty=False)
    clean(said[2])
    clean(said[1])
    ours = ("capsule-run: ", "  at the end ", "hint: raise `--disk`", "hint: check the spelling")
    assert [] == [line for line in said[2].split("\n") if line and not line.startswith(ours)]
    said[1] = ""
    output.print_json(result, pretty=False)
    assert said[1].isascii()
    assert 1 == said[1].count("\n")
    response = json.loads(said[1])
    exact = json.loads(json.dumps(text))  # JSON cannot tell a pair of surrogates from the character
    assert (exact, exact) == (response["changes"][0]["path"], response["error"]["details"]["said"])
    clean(response["error"]["message"], lines=False)


@FAST
@given(TEXTS)
def test_printable_agent_texts_have_nothing_raw(text):
    """Tool texts and MCP answers have the program's words in fences only, and there nothing that reorders."""
    for error in (CapsuleError("E4005", f"full: {text}"), CapsuleError("E5001", f"by `{text}`")):
        result = result_of(text, error.failure())
        quiet = replace(result, stdout_stream=None, stderr_stream=None)
        for shown in (tool_text(quiet), problem_text(error.failure()), refusal_text(error)):
            clean(shown)
        everything = [
            tool_text(result),
            answer(result, Request(command=("true",)), operator({}), ResourceStore()),
            invalid_call(error),
        ]
        for one in _strings(everything):
            assert [] == [letter for letter in one if letter in HOSTILE and letter not in "\n\t"]


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for field, one in value.items():
            yield from _strings(field)
            yield from _strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)


@FAST
@given(TEXTS)
def test_printable_metrics_have_no_text_from_inside(text):
    """The file for Prometheus has figures and our own labels."""
    result = result_of(text, Failure(code="E3003", message=text, cause="exit_code", details={}, hint=text))
    clean(accumulated("", result, now=1.0))


@FAST
@given(TEXTS)
def test_printable_result_repr_has_nothing_raw(text):
    """`repr` of a result is one line, and its view in a notebook has lines in streams only."""
    result = result_of(text, CapsuleError("E4005", f"full: {text}").failure())
    clean(repr(result), lines=False)
    assert [] == [one for one in result._repr_html_() if one in HOSTILE and one not in "\n\t"]
