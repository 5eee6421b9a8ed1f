"""The kernel's account against the policy: what is missing or differs makes of a run an error."""

from __future__ import annotations

import pytest

from capsule_run._base.value import replace
from capsule_run.engine.build_result import short_result_of
from capsule_run.engine.prepare import prepare
from capsule_run.model.report import FinishedRun
from capsule_run.model.request import Isolation, Request
from capsule_run.result.isolation import attest
from capsule_run.result.report import parse_report
from records import record

REPORT = b"times 1 2 3 4 5 6 7 8\nstarted 6\nexited 0\nstdout 0 0 0\nstderr 0 0 0\nend\n"
OURS, THEIRS = list(range(101, 108)), list(range(1, 8))
OWN = [0, 0, 0, 0, 0, 1, 2, 1, *OURS, 1000, 0, 1, 1000, 0, 1]


def finished_run(own=None, caller=None, room=None, *, network=False):
    policy = prepare(Request(command=("true",), isolation=Isolation(network=network)))[1]
    groups = len(policy.limit_mechanisms.groups)
    own = [*(own or OWN), groups] if own is None or len(own) < 22 else own
    room = room or [0, policy.identity.outside_uid, 1, 0, policy.identity.outside_gid, 1]
    rows = {"attest": own, "attest-caller": caller or [0, 0, 5, 5, 0, 0, 0, 0, *THEIRS], "attest-room": room}
    return FinishedRun(
        policy=policy,
        report=parse_report(REPORT),
        record=record(*([name, *map(str, row)] for name, row in rows.items() if row)),
        program="06000000" + "0000ff7f",
        cancelled_by=0,
        stdout=b"",
        stderr=b"",
    )


def test_attestation_matches_policy_has_no_error():
    """An account as it should be has all facts and no error."""
    facts, error = attest(finished_run())
    assert error is None
    assert {"user": 101, "mount": 102, "pid": 103, "net": 104, "ipc": 105, "uts": 106, "cgroup": 107} == facts[
        "namespaces"
    ]
    assert ({"mode": 2, "filters": 1, "filters_of_caller": 0}, []) == (
        {name: fact for name, fact in facts["seccomp"].items() if name != "sha256"},
        facts["shared_namespaces"],
    )


def _changed(at, value):
    own = [*OWN, 0][: max(at + 1, 21)]
    own[at] = value
    return own


@pytest.mark.parametrize(
    ("fact", "own"),
    [
        ("capabilities", _changed(2, 1 << 21)),
        ("capabilities", _changed(4, 1)),
        ("no_new_privs", _changed(5, 0)),
        ("seccomp", _changed(6, 0)),
        ("seccomp", _changed(7, 0)),
        ("shared_namespaces", _changed(9, 2)),
        ("shared_namespaces", _changed(11, 4)),
        ("user", _changed(15, 0)),
        ("group", _changed(18, 0)),
        ("cgroups", _changed(21, 99)),
    ],
)
def test_attestation_one_fact_differs_is_e6004_that_names_it(fact, own):
    """One fact that is not as the policy has it makes E6004, which names it."""
    _facts, error = attest(finished_run(own))
    assert ("E6004", fact) == (error.code, error.details["fact"])


def test_attestation_network_namespace_must_be_the_one_asked_for():
    """With `network` the host's network namespace is right, and a private one is not what was asked for."""
    assert attest(finished_run(_changed(11, 4), network=True))[1] is None
    assert "shared_namespaces" == attest(finished_run(network=True))[1].details["fact"]


def test_attestation_fact_differs_is_an_error_in_the_short_result():
    """An interface that shows no attestation still reports a mismatch."""
    how = {"execution_id": "one", "started_at": "then"}
    assert ("success", 0, None) == _end_of(short_result_of(finished_run(), how))
    result = short_result_of(finished_run(_changed(5, 0)), how)
    assert ("error", None, "E6004") == (result.status, result.exit_code, result.error.code)


def _end_of(result):
    return result.status, result.exit_code, result.error


@pytest.mark.parametrize("name", ["attest", "attest-caller", "attest-room"])
def test_attestation_missing_or_cut_is_an_error(name):
    """A run whose account is missing is not taken on trust. One that is cut or doubled is no record, see test_record.py."""
    whole = finished_run()
    facts, error = attest(replace(whole, record=replace(whole.record, **{name.replace("-", "_"): None})))
    assert ({}, "E6004") == (facts, error.code)
    assert f"`{name}`" in error.message
