"""Attestation: a kernel that says yes and does nothing is found out before the command begins.

strace plays that kernel: it answers a call with success and never lets it through.
"""

from __future__ import annotations

import os
import shutil

import pytest
from handwritten_plans import Talk, compiled

from capsule_run.engine.execute import execute
from capsule_run.request.parse import request_from_mapping
from capsule_run.result import filter_hash

pytestmark = pytest.mark.sandbox


@pytest.fixture
def lying(core_path, tmp_path):
    """Run a command with a core whose calls `names` do nothing, and succeed."""

    def run(names, **isolation):
        wrapper = tmp_path / "core"
        tmp_path.joinpath("capsule-core").symlink_to(core_path)  # the core looks at the name that it is called by
        strace = f"{shutil.which('strace')} -f -qq -o /dev/null -e trace={names} -e inject={names}:retval=0"
        wrapper.write_text(f"#!/bin/sh\nPATH={tmp_path} exec {strace} capsule-core\n")
        wrapper.chmod(0o755)
        request = request_from_mapping({"command": ["echo", "I ran"], "isolation": isolation})
        return execute(request, core_path=str(wrapper))

    return run


LIES = {
    "capset": ("a capability remains", {}),
    "seccomp": ("the system call filter is not active", {}),
    "setns": ("a namespace is shared with the caller", {}),  # that of the network, which is made aside and then joined
}


@pytest.mark.needs("strace")
@pytest.mark.parametrize("names", LIES)
def test_attestation_measure_not_in_force_stops_the_run(lying, names):
    """Where a call only pretended to work, the kernel's own account shows it, and the command is never started."""
    what, isolation = LIES[names]
    result = lying(names, **isolation)
    assert ("error", "E6004", "") == (result.status, result.error.code, result.stdout)
    assert what in result.error.message


@pytest.mark.needs("strace")
def test_attestation_under_strace_alone_passes(lying):
    """The check above can pass: a core beneath strace whose calls go through starts the command."""
    assert "I ran\n" == lying("acct").stdout


ROWS = ("attest", "attest-caller", "attest-room")


def _rows(talk):
    lines = talk.content(talk.record).decode().splitlines()
    return {name: [int(word) for word in rest] for name, *rest in map(str.split, lines) if name in ROWS}


@pytest.mark.parametrize("command", [("true",), ("sleep", "0.05")], ids=["gone at once", "stays"])
def test_attestation_of_a_short_command_is_present(core_path, command):
    """The account is that of before exec, so that a command which is over at once has one as well."""
    plan = compiled(*command)
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(plan.payload)
        assert 0 == talk.report().exited
        rows = _rows(talk)
    assert {"attest": 22, "attest-caller": 15, "attest-room": 6} == {name: len(row) for name, row in rows.items()}
    assert [0, 0, 0, 0, 0, 1, 2] == rows["attest"][:7]
    assert rows["attest"][7] == rows["attest-caller"][7] + 1


def test_attestation_baseline_is_that_of_the_caller(core_path):
    """What the payload is compared with is what the kernel says of this process."""
    plan = compiled("true")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(plan.payload)
        talk.report()
        rows = _rows(talk)
    names = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
    assert [os.stat(f"/proc/self/ns/{name}").st_ino for name in names] == rows["attest-caller"][8:]
    assert set() == set(rows["attest-caller"][8:]) & set(rows["attest"][8:15])


def test_attestation_namespaces_are_those_of_the_command(core_path):
    """What was attested before exec is what the command finds."""
    names = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
    plan = compiled("stat", "-L", "-c", "%i", *(f"/proc/self/ns/{name}" for name in names))
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(plan.payload)
        talk.report()
        assert list(map(int, talk.out.split())) == _rows(talk)["attest"][8:15]


def test_attestation_filter_hash_is_that_of_the_program_sent():
    """`sha256` is of the bytes of the program, as any tool would compute it."""
    import hashlib

    program = next(step[1] for step in compiled("true").payload if step[0] == "filter")
    assert hashlib.sha256(bytes.fromhex(program)).hexdigest() == filter_hash.sha256_of(program)
