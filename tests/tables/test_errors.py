"""The error catalogue, the exception, and the document made of them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from capsule_run._base import error_codes
from capsule_run._base.error_codes import OWN
from capsule_run._base.errors import CapsuleError, Failure
from capsule_run._base.statuses import ERROR, KILLED, TIMEOUT

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "errors.md"

# Published: a cause is what programs compare, so neither it nor its code ever changes.
PUBLISHED = {
    "E1001": "malformed_json", "E1002": "unknown_field", "E1003": "wrong_type", "E1004": "out_of_range",
    "E1005": "bad_value", "E1006": "missing_field", "E1007": "usage", "E1008": "too_large", "E1009": "contradiction",
    "E1010": "language", "E1011": "syscall_profile",
    "E1012": "ceiling", "E1013": "configuration_file",
    "E2001": "user_namespaces", "E2002": "setup_step", "E2003": "core_missing", "E2004": "bind_source",
    "E2005": "kernel", "E2006": "setup_timeout", "E2007": "requirement", "E2008": "workspace", "E2009": "ownership",
    "E3001": "not_found", "E3002": "not_executable", "E3003": "exit_code", "E3004": "not_visible", "E3005": "signal",
    "E3006": "timeout", "E3007": "cancelled", "E3008": "arguments_too_long", "E3009": "working_directory",
    "E3010": "sandbox_ended",
    "E4001": "memory", "E4002": "processes", "E4003": "output", "E4004": "cpu_time", "E4005": "disk", "E4006": "files",
    "E5001": "forbidden_syscall", "E5002": "cover_lifted",
    "E6001": "protocol", "E6002": "core_died", "E6003": "host_exhausted",
    "E6004": "attestation", "E6005": "monitoring", "E6006": "streams", "E6007": "internal",
}  # fmt: skip

# Design section 5, by class or by code.
EXIT_CODES = {
    "E1": 2, "E2": 125, "E3001": 127, "E3002": 126, "E3003": OWN, "E3004": 127, "E3005": OWN, "E3006": 124,
    "E3007": OWN, "E3008": 126, "E3009": 126, "E3010": 126, "E4": 137, "E5": 137, "E6": 125,
}  # fmt: skip
STATUSES = {"E3006": TIMEOUT, "E3007": KILLED, "E4": KILLED, "E5": KILLED}
CATEGORIES = {
    "E1": "configuration", "E2": "security", "E3": "execution", "E4": "resource", "E5": "security", "E6": "system",
}  # fmt: skip


def test_error_codes_published_keep_their_meaning():
    """The codes and their causes are those that were published."""
    assert PUBLISHED == {code: error_codes.entry(code).cause for code in error_codes.CODES}


@pytest.mark.parametrize("code", PUBLISHED)
def test_error_code_category_exit_code_and_status_follow_the_design(code):
    """Category, exit code and status of every code are those of the README and of design section 5."""
    entry = error_codes.entry(code)
    expected = (
        CATEGORIES[code[:2]],
        EXIT_CODES.get(code, EXIT_CODES.get(code[:2])),
        STATUSES.get(code, STATUSES.get(code[:2], ERROR)),
    )
    assert expected == (entry.category, entry.exit, entry.status)
    assert entry.fault in (error_codes.REQUEST, error_codes.HOST, error_codes.PROGRAM, error_codes.OURS)


@pytest.mark.parametrize("code", PUBLISHED)
def test_error_texts_keep_the_style(code):
    """Meanings and hints are lower case without a full stop, and a cause is one word."""
    entry = error_codes.entry(code)
    assert entry.meaning[0].islower()
    assert not entry.meaning.endswith(".")
    assert not entry.hint.endswith(".")
    assert "|" not in entry.hint + entry.meaning
    assert entry.cause.replace("_", "").isalpha()
    assert entry.cause.islower()


def test_error_causes_are_unique():
    """No two codes share a cause, so that either names the other."""
    assert len(error_codes.CODES) == len({error_codes.entry(code).cause for code in error_codes.CODES})


def test_error_code_unknown_is_refused():
    """An error cannot be made with a code that the catalogue lacks."""
    with pytest.raises(KeyError):
        CapsuleError("E9999", "no such code")


def test_failure_takes_cause_and_hint_from_the_catalogue():
    """Anyone who raises gives code and message; cause and hint are the catalogue's."""
    line = error_codes.entry("E3001")
    expected = Failure(
        code="E3001", message="`foo` does not exist", cause=line.cause, details={"name": "foo"}, hint=line.hint
    )
    assert expected == CapsuleError("E3001", "`foo` does not exist", details={"name": "foo"}).failure()


def test_failure_prefers_what_the_raiser_knows():
    """A cause or a hint of the raiser's wins over the catalogue's, also where it is empty."""
    failure = CapsuleError("E3001", "`foo` does not exist", cause="typo", hint="").failure()
    assert ("typo", "") == (failure.cause, failure.hint)


def test_error_str_names_code_and_hint():
    """A traceback shows code, message and hint."""
    error = CapsuleError("E1007", "no command is given")
    assert "E1007: no command is given" == str(error)
    assert ["hint: see `capsule-run --help`"] == error.__notes__


def test_error_pickled_is_equal():
    """An error that was pickled is the same error."""
    error = CapsuleError("E2004", "cannot share `/x`", cause="missing", details={"path": "/x"}, hint="look")
    error.execution_id = "job-7"
    copy = pickle.loads(pickle.dumps(error))
    assert (error.failure(), "job-7", str(error)) == (copy.failure(), copy.execution_id, str(copy))


def test_error_details_are_a_copy():
    """What the raiser does to its mapping afterwards does not change the error."""
    details = {"field": "a"}
    error = CapsuleError("E1003", "wrong", details=details)
    details["field"] = "b"
    assert {"field": "a"} == error.details


def test_errors_page_equals_the_catalogue():
    """`docs/errors.md` is what the catalogue says; `python -c "…catalogue_markdown()"` writes it anew."""
    assert error_codes.catalogue_markdown() == DOCUMENT.read_text(encoding="utf-8")


def test_errors_page_has_a_row_for_every_code():
    """No code is missing from the document."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    assert list(error_codes.CODES) == [line.split(" ")[1] for line in lines if line.startswith("| E")]
