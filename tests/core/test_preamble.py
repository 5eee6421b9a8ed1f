"""The preamble, the first steps of a room, sent early: it saves time and gives nobody more than the room."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from handwritten_plans import ROOM, Talk, changed, check, compiled, descriptors_of, encode, rejection

from capsule_run.engine.prepare import prepare
from capsule_run.model.request import Isolation, Request
from capsule_run.plan.preamble import preamble_steps

LAST = "oom-score-adj"  # of those verbs


def beginning(steps):
    """The steps of a room that may be sent ahead."""
    return steps[: next(number for number, step in enumerate(steps) if step[0] == "setup-clock")]


@pytest.fixture
def plan():
    return compiled("echo", "started")


def until_started(talk):
    """Wait until the launcher has a child, init."""
    end = time.monotonic() + 30
    while not Path(f"/proc/{talk.pid}/task/{talk.pid}/children").read_text():
        assert time.monotonic() < end, "init was not started"
        time.sleep(0.001)


def test_preamble_then_room_then_payload_runs_the_command(core_path, plan):
    """With preamble, room and payload the command runs as it does without the preamble."""
    with Talk(core_path) as talk:
        talk.send_bytes("preamble", encode("room", beginning(plan.room)))
        talk.room(plan.room)
        talk.payload(plan.payload)
        report = talk.report()
        assert (0, b"started\n") == (report.exited, talk.out)
    assert 0 < report.times["received"] < report.times["cloned"] < report.times["mapped"] < report.times["room_sent"]


def test_preamble_starts_init_before_the_room_is_sent(core_path, plan):
    """That is what it is for: the process is there while Python still plans."""
    with Talk(core_path) as talk:
        talk.send_bytes("preamble", encode("room", beginning(plan.room)))
        until_started(talk)
        talk.room(plan.room)
        talk.payload(plan.payload)
        assert 0 == talk.report().exited


def test_preamble_without_room_leaves_nothing(core_path, plan):
    """Init dies if the caller closes the socket or dies; the check after every test looks for it."""
    with Talk(core_path) as talk:
        talk.send_bytes("preamble", encode("room", beginning(plan.room)))
        until_started(talk)
        assert 0 == talk.close()


OTHERS = {
    "another id": lambda steps: changed(steps, "uid-map", ("uid-map", "0", "4242")),
    "a step more": lambda steps: changed(steps, "namespace", ("namespace", "cgroup"), ("drop-groups",), which=5),
    "a step less": lambda steps: changed(steps, LAST),
    "another order": lambda steps: (*steps[1:6], steps[0], *steps[6:]),
    "another score": lambda steps: changed(steps, LAST, (LAST, "77")),
    "the host's network": lambda steps: changed(
        changed(steps, "network"), "namespace", ("namespace", "cgroup"), ("host-net",), which=5
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_preamble_room_with_another_beginning_is_rejected(core_path, kind):
    """What was done ahead is what the whole room, as it was checked, says: not a word more or less."""
    room = compiled("true").room
    room = tuple(step for step in room if step[0] != "drop-groups")
    with Talk(core_path) as talk:
        talk.send_bytes("preamble", encode("room", beginning(room)))
        talk.room(OTHERS[kind](room))
        report = talk.report()
    assert (("room", 0, "preamble"), "rejected") == (rejection(report), report.killed)


def test_preamble_room_invalid_is_refused_with_its_step(core_path, plan):
    """Init exits, and the report names the step."""
    room = changed(plan.room, "pivot")
    with Talk(core_path) as talk:
        talk.send_bytes("preamble", encode("room", beginning(room)))
        talk.room(room)
        assert "pivot" == talk.report().rejected.reason


def test_preamble_second_one_is_rejected(core_path, plan):
    """A second one is no room."""
    with Talk(core_path) as talk:
        for _ in range(2):
            talk.send_bytes("preamble", encode("room", beginning(plan.room)))
        assert "message" == talk.report().rejected.reason


def test_preamble_unsealed_is_rejected(core_path, plan):
    """Like every plan: what could change behind the check was not checked."""
    with Talk(core_path) as talk:
        talk.send_bytes("preamble", encode("room", beginning(plan.room)), sealed=False)
        assert "seals" == talk.report().rejected.reason


def test_preamble_descriptors_are_closed(core_path, plan, tmp_path):
    """They come again with the room, so the launcher does not keep the first ones."""
    mine = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    room = changed(plan.room, "pivot")  # rejected, but only after the preamble
    try:
        with Talk(core_path) as talk:
            talk.send_bytes("preamble", encode("room", beginning(room)), (mine,))
            until_started(talk)
            seen = os.fstat(mine)
            assert any((one.st_dev, one.st_ino) == (seen.st_dev, seen.st_ino) for one in descriptors_of(talk.pid))
            talk.room(room)
            talk.report()
    finally:
        os.close(mine)


def test_preamble_with_later_verb_is_rejected(core_path):
    """A source, say, needs the whole room to be checked."""
    steps = beginning(ROOM)
    assert "ok" == check(core_path, "preamble", encode("room", steps))
    for more in (("source", "/usr", "1", "2"), ("root", "1", "1"), ("hostname", "x")):
        assert f"rejected {len(steps)} verb" == check(core_path, "preamble", encode("room", (*steps, more)))


@pytest.mark.parametrize("name", ["namespace", "uid-map", "gid-map"])
def test_preamble_below_the_floor_is_rejected(core_path, name):
    """Six namespaces and both maps: a preamble with less is rejected."""
    assert name in check(core_path, "preamble", encode("room", changed(beginning(ROOM), name)))


REQUESTS = {
    "plain": Request(command=("true",)),
    "network": Request(command=("true",), isolation=Isolation(network=True)),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_preamble_of_the_product_is_a_prefix_of_its_room(core_path, name):
    """The preamble of a real run is a prefix of its room, and passes the checker."""
    from capsule_run.plan.room import room_steps

    policy = prepare(REQUESTS[name])[1]
    preamble = preamble_steps(policy.identity, policy.limit_mechanisms.groups, network=policy.network, name="capsule-x")
    room = room_steps(policy, group_name="capsule-x")
    assert preamble == room[: len(preamble)]
    assert "ok" == check(core_path, "preamble", encode("room", preamble))
