"""The lines of the ledger, read back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from capsule_run.model.report import Record
from capsule_run.model.report_details import ProcessEnded, ProcessSeen
from capsule_run.result.processes import _end, _seen, ledger


def line(moment, words="sh\0", *, code=0, outside=501, inside=4, started=4321, name="sh"):
    return ProcessSeen(
        moment=moment, at_ns=1000, outside=outside, inside=inside, parent_outside=500, started_ticks=started, user_ticks=25,
        system_ticks=7, peak_kib=1500, code=code, name=name, command_line=words,
    )  # fmt: skip


def end(known, wait_status, zombie, *, at_ns=1000, ticks=(0, 0), name=""):
    return ProcessEnded(
        at_ns=at_ns, outside=501, is_known=known, wait_status=wait_status, is_zombie=zombie, user_ticks=ticks[0],
        system_ticks=ticks[1], name=name,
    )  # fmt: skip


def test_process_entry_is_parsed_with_odd_names():
    """A name with brackets, an empty word and blanks come back as they were."""
    expected = {
        "outside": 501, "pid": 4, "parent_outside": 500, "command": "a b) R", "argv": ["sh", "-c", "", "a b"], "now": True,
        "argv_truncated": False, "ticks": 4321, "user_ms": 250.0, "system_ms": 70.0, "max_memory_bytes": 1500 << 10,
    }  # fmt: skip
    assert expected == _seen(line(1, "sh\0-c\0\0a b\0", name="a b) R"))


def test_process_usage_before_exec_is_not_reported():
    """What the process used until then, and its peak, are not those of the program that it becomes."""
    assert {"user_ms", "system_ms", "max_memory_bytes"}.isdisjoint(_seen(line(0)))


def test_process_argv_long_is_marked_as_truncated():
    """768 bytes are read, 64 words are kept."""
    assert _seen(line(1, "x" * 768))["argv_truncated"]
    many = _seen(line(1, "w\0" * 70))
    assert (64, True) == (len(many["argv"]), many["argv_truncated"])


USE = {"command": "sleep", "user_ms": 250.0, "system_ms": 70.0}


@pytest.mark.parametrize(
    ("known", "wait_status", "zombie", "expected"),
    [
        (1, 15, 0, {"signal": 15}),
        (1, 143, 0, {"signal": 15}),  # with a core
        (1, 1792, 0, {"exit_code": 7}),
        (0, 0, 0, {}),
        (1, 9, 1, {**USE, "signal": 9}),
    ],
)
def test_process_end_unseen_is_read_from_the_kernel_or_zombie(known, wait_status, zombie, expected):
    """As the kernel remembers it; a zombie has its use as well."""
    assert expected == _end(end(known, wait_status, zombie, ticks=(25, 7), name="sleep"))


def process_list(*lines):
    """The ledger of a command `sh`, number 3 inside and 500 outside, with these lines behind its first look."""
    report = SimpleNamespace(times={"started": 1000}, signalled=None)
    first = line(0, outside=500, inside=3, started=4300)
    record = Record(process_events=(first, *lines))
    return ledger(SimpleNamespace(record=record, report=report, policy=SimpleNamespace(command=("sh",))))


KILLED = end(1, 9, 0, at_ns=5_001_000)


def test_process_killed_before_a_sample_has_its_parents_argv():
    """What it executed is not known: nobody has looked since; that it ended, and how, is."""
    _first, killed = process_list(line(0), KILLED)
    assert {"pid": 4, "parent": 3, "started_ms": 0.0, "argv_before": ["sh"], "ended_ms": 5.0, "signal": 9} == killed


def test_process_sampled_later_has_its_new_argv():
    """Its own words, and no use: that of a process which goes on is not its last."""
    _first, living = process_list(line(0), line(2, "sleep\x0060\0", name="sleep"))
    assert {"pid": 4, "parent": 3, "started_ms": 0.0, "command": "sleep", "argv": ["sleep", "60"]} == living


def test_pid_reused_is_another_process():
    """The end of the first is not the end of the second."""
    _first, old, new = process_list(line(0), KILLED, line(0, inside=5, started=4399))
    assert (4, 9, 5, None) == (old["pid"], old["signal"], new["pid"], new.get("signal"))
