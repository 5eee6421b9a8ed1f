"""The record: a file of Python's that the launcher writes to, line by line, and never beyond its cap."""

from __future__ import annotations

import pytest
from handwritten_plans import Talk, after, compiled
from hypothesis import given
from hypothesis import strategies as st

from capsule_run._base.errors import CapsuleError
from capsule_run.result.report import parse_record, record_text


def test_record_length_is_in_the_report(core_path):
    """A clean run of a plan that asks for a record has one, and one that does not ask has none."""
    plan = compiled("true")
    without = tuple(step for step in plan.payload if step[0] != "record")
    for payload in (plan.payload, without):
        with Talk(core_path) as talk:
            talk.room(plan.room)
            talk.payload(payload)
            report = talk.report()
            assert (report.record[0], 0) == (len(talk.content(talk.record)), report.record[1])


def test_record_descriptor_unsent_is_refused(core_path):
    """A number that no descriptor came with is refused before anything runs."""
    plan = compiled("true")
    without = tuple(step for step in plan.payload if step[0] != "record")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(after(without, "memory-watch", ("record", "9", "1000")))
        assert ("payload", "field") == (talk.report().refused or ("", 0, ""))[::2]


@given(st.binary(max_size=100))
def test_record_text_is_unescaped(raw):
    """The escape of the core, read back; bytes that are not UTF-8 stay as file names keep them."""
    word = "".join(chr(c) if 0x20 < c < 0x7F and c != 0x25 else f"%{c:02x}" for c in raw) or "%"
    assert raw == record_text(word).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("written", [b"denied 1", b"\xff\n", b"a\n\xc3"])
def test_record_malformed_is_refused(written):
    """Cut or foreign bytes are an error of the core, and not read as if they were whole."""
    with pytest.raises(CapsuleError, match="E6001"):
        parse_record(written)
