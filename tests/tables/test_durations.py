"""Durations as people write them, and their milliseconds."""

from __future__ import annotations

import pytest

from capsule_run import run
from capsule_run._base.errors import CapsuleError
from capsule_run.request.durations import format_duration, parse_duration
from capsule_run.request.parse import request_from_mapping

WRITTEN = {
    "5000": 5000, "500ms": 500, "5s": 5000, "1.5s": 1500, "0.25s": 250, "2m": 120_000, "1min": 60_000, "1h": 3_600_000,
    "0": 0, "-5": -5, "-1s": -1000, "0.0001s": 1,
}  # fmt: skip
MALFORMED = ("", "s", "5 s", "5S", "1.5", "5sec", "5ss", "1e3", "٥s", "5d", "--5s", ".5s", "1.s", "9" * 30)


@pytest.mark.parametrize(("text", "milliseconds"), WRITTEN.items())
def test_duration_is_read_as_milliseconds(text, milliseconds):
    """Units are ms, s, m (or min) and h; a whole number alone is milliseconds; a fraction is rounded up."""
    assert milliseconds == parse_duration(text, label="--timeout")


@pytest.mark.parametrize("text", MALFORMED)
def test_duration_malformed_is_refused(text):
    """Anything else is E1005, and the message names the place and three examples."""
    with pytest.raises(CapsuleError, match="E1005: --timeout: must be a whole number of milliseconds or a duration"):
        parse_duration(text, label="--timeout")


@pytest.mark.parametrize("field", ["timeout_ms", "cpu_time_ms"])
def test_duration_in_a_request_needs_a_unit(field):
    """A request takes a text with a unit, and a number without one only as a number."""
    given = {"timeout_ms": "5s"} if field == "timeout_ms" else {"resources": {"cpu_time_ms": "5s"}}
    request = request_from_mapping({"command": ["x"], **given})
    assert 5000 in (request.timeout_ms, request.resources.cpu_time_ms)
    with pytest.raises(CapsuleError, match=f"E1005: {field}: must be a duration") as caught:
        run(["x"], **{field: "5000"})
    assert "a number that is not a string is milliseconds" == caught.value.hint


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    {1: "1 ms", 999: "999 ms", 1000: "1 s", 1500: "1.5 s", 61_000: "61 s", 120_000: "2 min"}.items(),
)
def test_duration_is_formatted_exactly(milliseconds, words):
    """A duration is shown without loss."""
    assert words == format_duration(milliseconds)
