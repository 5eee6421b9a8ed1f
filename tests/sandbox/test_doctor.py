"""`capsule-run doctor`: it runs here, says what is so, and its attacks are real."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from inside import COMMAND, INSTALLED

import capsule_run
from capsule_run.cli import doctor as cli_doctor
from capsule_run.doctor import attack
from capsule_run.doctor.attack_table import ROWS, X86_ROWS

FINDABLE = (
    "read a secret of the host",
    "find a leaked descriptor",
    "signal a process of the host",
    "read the caller's variables",
    "reach a server on the host's loopback",
    "reach an abstract socket of the host",
)


def test_doctor_reports_every_check_and_the_worst_exit_code(inside_as_caller):
    """Every check has a line with its state, what is no `ok` has a remedy, and the exit code is that of the worst."""
    done = inside_as_caller.cli("doctor", "--json")
    answer = json.loads(done.stdout)
    states = {check["check"]: check["state"] for check in answer["checks"]}
    assert "ok" == states["sandbox"]
    assert {"ok": 0, "warning": 1}[answer["state"]] == done.returncode
    assert all(("remedy" in check) == (check["state"] != "ok") for check in answer["checks"])
    assert {"python", "kernel", "core", "container", "user namespaces", "proc", "landlock", "overlay"} <= set(states)


def test_doctor_text_has_one_line_a_check(inside_as_caller):
    """Without `--json` there is one line a check, and one more for each remedy."""
    checks = json.loads(inside_as_caller.cli("doctor", "--json").stdout)["checks"]
    lines = inside_as_caller.cli("doctor").stdout.decode().splitlines()
    assert len(checks) + sum("remedy" in check for check in checks) == len(lines)


def test_doctor_without_the_core_exits_with_125(inside_as_caller, tmp_path):
    """A copy of the package without its core says so, says what to do, and exits with 125."""
    copy = tmp_path / "capsule_run"
    shutil.copytree(Path(capsule_run.__file__).parent, copy, ignore=shutil.ignore_patterns("_core", "__pycache__"))
    done = subprocess.run([sys.executable, "-I", "-S", copy / "__main__.py", "doctor"], capture_output=True, text=True)
    assert 125 == done.returncode
    assert "problem  core" in done.stdout
    assert "remedy: reinstall" in done.stdout


@pytest.mark.limit(120)
def test_doctor_attack_stops_every_attack(inside):
    """`doctor --attack` tries dozens of ways out, for real, and each is stopped and names its layer."""
    done = inside.cli("doctor", "--attack", "--json")
    answer = json.loads(done.stdout)
    assert [] == [attempt for attempt in answer["attempts"] if not attempt["stopped"]]
    assert (0, True) == (done.returncode, answer["stopped"])
    assert len(answer["attempts"]) >= 60
    assert all(attempt["layer"] and attempt["story"] and attempt["outcome"] for attempt in answer["attempts"])


def test_doctor_attack_that_succeeds_is_reported(monkeypatch):
    """What succeeds is reported as such: the check of the sandbox can fail."""
    row = ("print", "filter", "allowed everywhere", ("EPERM",), "os.write(1, b'')")
    monkeypatch.setattr(attack, "ROWS", (row,))
    monkeypatch.setattr(attack, "X86_ROWS", ())
    assert [(False, "it succeeded")] == [(one.stopped, one.outcome) for one in attack.attack_all()]


def test_doctor_attack_progress_counts_each_attempt(monkeypatch):
    """Each attempt that has ended is reported once, with how many there are."""
    row = ("print", "filter", "allowed everywhere", ("EPERM",), "os.write(1, b'')")
    monkeypatch.setattr(attack, "ROWS", (row, row, row))
    monkeypatch.setattr(attack, "X86_ROWS", ())
    seen = []
    attack.attack_all(lambda done, total: seen.append((done, total)))
    assert [(1, 3), (2, 3), (3, 3)] == seen


@pytest.mark.parametrize(("terminal", "said"), [("xterm", b"\r\033[K3 of 9 attempts"), ("dumb", b"")])
def test_doctor_attack_progress_is_for_terminals(monkeypatch, terminal, said):
    """The line is drawn where stderr is a terminal that can erase it, and nowhere else."""
    written = []
    monkeypatch.setattr(cli_doctor, "write_all", lambda fd, text: written.append((fd, text.encode())))
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr("posix.isatty", lambda fd: fd == 2)
    cli_doctor._print_progress(3, 9)
    assert ([(2, said)] if said else []) == written
    monkeypatch.setattr("posix.isatty", lambda _fd: False)
    written.clear()
    cli_doctor._print_progress(3, 9)
    assert [] == written


def test_doctor_attack_without_working_sandbox_counts_nothing(monkeypatch):
    """A sandbox that cannot run anything stops everything; the report says so."""
    monkeypatch.setattr(attack, "CONTROL", (*attack.CONTROL[:4], "raise OSError(13, '')"))
    assert [(False, "EACCES")] == [(one.stopped, one.outcome) for one in attack.attack_all()]


def test_doctor_needs_no_var_tmp(monkeypatch):
    """In a small image of a container, its trial and its decoys lie in the directory for temporary files."""
    monkeypatch.setattr(attack, "PLACE", "/no/such/directory")
    with attack.Decoys() as decoys:
        assert "decoy" == Path(decoys.names["secret"]).read_text()
    assert not cli_doctor._trial().code


def test_doctor_attack_decoys_can_be_found_outside():
    """What the attacks look for is there to be found by anyone who stands outside: absence inside proves something."""
    with attack.Decoys() as decoys:
        for row in ROWS:
            if row[0] in FINDABLE:
                program = attack._program(row, decoys.names, {})
                done = subprocess.run([sys.executable, "-c", program], capture_output=True, close_fds=False)
                assert (row[0], b"it succeeded\n") == (row[0], done.stdout)


def test_doctor_attack_names_are_unique():
    """No attack stands in the table twice."""
    names = [row[0] for row in (*ROWS, *X86_ROWS)]
    assert len(set(names)) == len(names)


def test_doctor_apparmor_prints_the_profile(inside_as_caller):
    """`doctor --apparmor` prints the profile with the path of this core."""
    said = inside_as_caller.cli("doctor", "--apparmor").stdout.decode()
    assert (COMMAND[0] if COMMAND != INSTALLED else "/capsule_run/_core") in said
    assert "userns," in said


def test_doctor_unknown_option_is_refused(inside_as_caller):
    """A slip is a wrong usage, and nothing is examined."""
    done = inside_as_caller.cli("doctor", "--atack")
    assert (2, b"") == (done.returncode, done.stdout)
    assert b"--atack" in done.stderr
