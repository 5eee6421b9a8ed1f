"""The record: a file of Python's that the launcher writes to, line by line, and never beyond its cap."""

from __future__ import annotations

import os
import socket

import pytest
from handwritten_plans import Talk, after, compiled, rejection
from hypothesis import given
from hypothesis import strategies as st

from capsule_run._base.errors import CapsuleError
from capsule_run.engine import build_result
from capsule_run.engine.execute import execute
from capsule_run.engine.streams import Streams
from capsule_run.model.report import DiskUse, Record
from capsule_run.model.request import Request
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
            assert (report.record.bytes, 0) == (len(talk.content(talk.record)), report.record.lost_lines)


def test_record_descriptor_unsent_is_refused(core_path):
    """A number that no descriptor came with is refused before anything runs."""
    plan = compiled("true")
    without = tuple(step for step in plan.payload if step[0] != "record")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(after(without, "memory-watch", ("record", "9", "1000")))
        assert ("payload", "field") == (rejection(talk.report()) or ("", 0, ""))[::2]


@given(st.binary(max_size=100))
def test_record_text_is_unescaped(raw):
    """The escape of the core, read back; bytes that are not UTF-8 stay as file names keep them."""
    word = "".join(chr(c) if 0x20 < c < 0x7F and c != 0x25 else f"%{c:02x}" for c in raw) or "%"
    assert raw == record_text(word).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "written",
    [
        b"disk 1 2 3 4", b"\xff\n", b"listening\n\xc3", b"listening\n\n", b"denied 1\n",  # cut, foreign, unknown
        b"disk 1 2 3\n", b"disk 1 2 3 4 5\n", b"listening 1\n", b"cgroup cpu.stat\n", b"disk  1 2 3\n",  # columns
        b"disk 1 2 3 x\n", b"disk 1 2 3 -4\n", b"disk 1 2 3 1_0\n", b"spent 0x1\n", b"spent +1\n",  # numbers
        b"stderr-tail\n", b"stderr-tail a b\n", b"plain-sum x\n",
        b"cgroup cpu.stat a%2\n", b"cgroup cpu.stat %zz\n", b"cgroup cpu.stat %%\n",  # texts
    ],
)  # fmt: skip
def test_record_malformed_is_refused(written):
    """Cut or foreign bytes, unknown lines and other columns are an error of the core, and not read as if they were whole."""
    with pytest.raises(CapsuleError, match="E6001"):
        parse_record(written)


FACTS = {
    "attest": " ".join(["attest", *map(str, range(22))]),
    "attest-caller": " ".join(["attest-caller", *map(str, range(15))]),
    "attest-room": "attest-room 0 1 2 3 4 5",
}


@pytest.mark.parametrize("name", FACTS)
def test_record_attestation_cut_or_doubled_is_refused(name):
    """A kernel's account that is there twice, or not as a whole, is an error of the core."""
    line = FACTS[name]
    assert parse_record(f"{line}\n".encode()) != Record()
    for written in (f"{line}\n{line}\n", f"{line.rpartition(' ')[0]}\n", f"{line} 1\n"):
        with pytest.raises(CapsuleError, match="E6001"):
            parse_record(written.encode())


def test_record_lines_become_typed_values():
    """A line becomes a value whose fields are its columns; lines that may repeat become a tuple, in the order of the record."""
    written = (
        b"disk 1 2 3 4\ndenied 165 1 10 11 12 13 14 15 a%20b %\nspent 7\nspent 8\ncgroup pids.events max%2012%0a\n"
        b"process 0 1 2 3 4 5 6 7 8 9 sh sh%00-c%00%25\nprocess-ended 1 2 1 9 0 0 0 %\nlistening\ndenied-others 3\n"
    )
    record = parse_record(written)
    assert DiskUse(used_bytes=1, free_bytes=2, files=3, free_files=4) == record.disk
    assert ((10, 11, 12, 13, 14, 15), "a b", "") == (
        record.denied[0].arguments,
        record.denied[0].name,
        record.denied[0].command_line,
    )
    assert ((7, 8), {"pids.events": "max 12\n"}, True, 3) == (
        record.spent_us,
        record.cgroup_files,
        record.listening,
        record.denied_others,
    )
    assert ["sh\0-c\0%", 9] == [record.process_events[0].command_line, record.process_events[1].wait_status]
    assert (None, False, ()) == (record.setup, record.threads_complete, record.threads)
    tail = parse_record(b"stderr-tail no%20%e9\n").stderr_tail
    assert [b"no \xe9"] == [part.encode("utf-8", "surrogateescape") for part in tail]
    assert Record() == parse_record(b"")


LETTERS = "import sys\nfor c in 'abcdefghijklmnopqrst': sys.stderr.write(c * 1000); sys.stderr.flush()"


@pytest.mark.parametrize("sink", ["memory", "pipe", "append", "socket"])
def test_record_has_the_end_of_stderr(core_path, tmp_path, monkeypatch, sink):
    """The last 12,288 bytes of stderr are in the record, wherever stderr goes, and stderr itself is whole."""
    seen = []
    build = build_result.build
    monkeypatch.setattr(
        build_result, "build", lambda finished, *a, **k: seen.append(finished) or build(finished, *a, **k)
    )
    reader, writer = -1, -1
    if sink == "pipe":
        reader, writer = os.pipe()
    elif sink == "socket":
        ends = socket.socketpair()
        reader, writer = (end.detach() for end in ends)
    elif sink == "append":
        writer = os.open(tmp_path / "stderr", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        request = Request(command=("python3", "-c", LETTERS))
        assert execute(request, streams=Streams(stderr=None if writer < 0 else writer), core_path=core_path).ok
        if reader >= 0:
            assert 20_000 == len(os.read(reader, 1 << 16))
    finally:
        for fd in (reader, writer):
            if fd >= 0:
                os.close(fd)
    (finished,) = seen
    written = "".join(letter * 1000 for letter in "abcdefghijklmnopqrst")
    assert written[-12_288:] == "".join(finished.record.stderr_tail)
    assert 20_000 == finished.report.stderr.kept


def test_record_of_a_timeout_has_the_counters_of_the_network(core_path, monkeypatch):
    """After a timeout the record counts the connections that found no route."""
    code = "import socket, time\ntry: socket.create_connection(('192.0.2.1', 80))\nexcept OSError: time.sleep(60)"
    seen = []
    build = build_result.build
    monkeypatch.setattr(
        build_result, "build", lambda finished, *a, **k: seen.append(finished) or build(finished, *a, **k)
    )
    execute(Request(command=("python3", "-c", code), timeout_ms=1500), core_path=core_path)
    (names, numbers) = (line.split() for line in seen[0].record.net_counters.splitlines() if line.startswith("Ip:"))
    assert 1 <= int(dict(zip(names, numbers, strict=True))["OutNoRoutes"])
