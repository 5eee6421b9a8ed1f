"""Every process of a run: who it was, whose child, how it ended and what it used."""

from __future__ import annotations

import pytest


@pytest.fixture
def ledger(inside):
    """The processes of a Python program or a command inside, by the name they end with."""

    def run(command, **fields):
        response = inside(command, ledger=True, **fields)
        return response["processes"], response

    return run


def by_words(processes):
    return {" ".join(entry["argv"]): entry for entry in processes if "argv" in entry}


def test_processes_that_live_for_a_moment_are_all_there(ledger):
    """Children of a shell, reaped by the shell, each with its argv, parent and exit code."""
    processes, _response = ledger(["sh", "-c", "/bin/true; /bin/false; sh -c 'exit 7'; exit 3"])
    found = {words: entry.get("exit_code") for words, entry in by_words(processes).items()}
    assert {"/bin/true": 0, "/bin/false": 1, "sh -c exit 7": 7} == {
        words: code for words, code in found.items() if words in ("/bin/true", "/bin/false", "sh -c exit 7")
    }
    first = processes[0]
    assert (1, 3, 0.0) == (first["parent"], first["exit_code"], first["started_ms"])
    assert {first["pid"]} == {entry["parent"] for entry in processes[1:]}


def test_what_a_process_used_is_its_own(ledger):
    """Processor time and peak memory of the child that used them, and not of its parent."""
    code = "x = bytearray(40 << 20)\nimport time\nwhile time.process_time() < 0.3: pass"
    processes, _response = ledger(["sh", "-c", f"/usr/bin/python3 -I -S -c '{code}'; true"])
    child = next(entry for entry in processes if entry.get("command") == "python3")
    assert child["user_ms"] + child["system_ms"] >= 250
    assert child["max_memory_bytes"] > 40 << 20
    assert processes[0]["max_memory_bytes"] < 20 << 20


def test_a_killed_command_has_its_signal(ledger):
    """The command's own death by a signal is in its entry, without an exit code."""
    processes, _response = ledger(["sh", "-c", "kill -SEGV $$"])
    assert (11, None) == (processes[0]["signal"], processes[0].get("exit_code"))


def test_a_process_that_lived_until_the_end_has_none(ledger):
    """What was killed with the run has no end of its own."""
    processes, _response = ledger(["sh", "-c", "sleep 60 & /bin/true"])
    endless = [entry for entry in processes if "ended_ms" not in entry]
    assert [(["sh", "-c", "sleep 60 & /bin/true"], False)] == [
        (entry["argv_before"], "argv" in entry) for entry in endless
    ]


def test_a_flood_does_not_hold_up_the_clock(ledger):
    """A program that makes processes as fast as it can is ended at its deadline, and the list stays bounded."""
    code = "import os\nwhile True:\n    if os.fork() == 0: os._exit(0)\n    os.wait()"
    processes, response = ledger(["/usr/bin/python3", "-I", "-S", "-c", code], timeout_ms=1500)
    assert "timeout" == response["status"]
    assert response["metrics"]["wall_ms"] < 15_000
    assert 0 < len(processes) <= 2000


def test_without_asking_there_is_none(inside):
    """No list, and no process waits for one."""
    assert "processes" not in inside(["true"])


def test_what_is_forbidden_stays_forbidden(ledger):
    """The calls that are told are let go on; every other is judged as before."""
    code = "import ctypes; libc = ctypes.CDLL(None); print(libc.unshare(0x10000000))"
    _processes, response = ledger(["/usr/bin/python3", "-I", "-S", "-c", code])
    assert response["status"] == "killed" or "-1\n" == response["stdout"]
