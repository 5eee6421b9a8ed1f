"""`clock MS`: the clock of a command, set anew while it runs; a lease is made of it."""

from __future__ import annotations

import pytest
from handwritten_plans import Holder, Talk, changed, compiled

pytestmark = pytest.mark.sandbox
NEVER = "600000"


def waiting(clock_ms, script="echo up; sleep 1000"):
    plan = compiled("sh", "-c", script)
    return plan.room, changed(plan.payload, "clock", ("clock", str(clock_ms)))


def started(talk, clock_ms):
    room, payload = waiting(clock_ms)
    talk.room(room)
    talk.piped(payload)
    assert b"up\n" == talk.heard()


@pytest.mark.parametrize("ms", ["1", "20", "39", "40", "41", "60"])
def test_clock_set_shorter_ends_the_command(core_path, ms):
    """From now on it has so long, also where that is shorter than the time of a thread dump."""
    with Talk(core_path) as talk:
        started(talk, NEVER)
        talk.core.send(f"clock {ms}")
        assert "clock" == talk.report().killed


def test_clock_set_longer_keeps_the_command(core_path):
    """The end that was due does not come."""
    room, payload = waiting(1500, "echo up; sleep 3; echo done")
    with Talk(core_path) as talk:
        talk.room(room)
        talk.piped(payload)
        assert b"up\n" == talk.heard()
        talk.core.send(f"clock {NEVER}")
        assert b"done\n" == talk.heard()
        assert 0 == talk.report().exited


def test_clock_set_again_and_again_counts_from_the_last(core_path):
    """A lease that is renewed in time never ends, also while a thread dump has begun."""
    with Talk(core_path) as talk:
        started(talk, NEVER)
        for _ in range(500):
            talk.core.send("clock 41")
            talk.core.send(f"clock {NEVER}")
        talk.core.send("signal 9")
        assert 9 == talk.report().signalled


def test_clock_set_before_the_start_is_that_of_the_command(core_path):
    """It counts from the start, like the plan's, which it replaces."""
    room, payload = waiting(NEVER)
    with Talk(core_path) as talk:
        talk.room(room)
        talk.payload(payload)
        talk.core.send("clock 50")
        assert "clock" == talk.report().killed


@pytest.mark.parametrize(
    "word", ["clock", "clock ", "clock 0", "clock -1", "clock 1x", "clock  5", "clock 1234567890123456"]
)
def test_clock_of_no_number_is_garbage(core_path, word):
    """A caller that says what is not in the protocol keeps no sandbox."""
    with Talk(core_path) as talk:
        started(talk, NEVER)
        talk.core.send(word)
        assert b"" == talk.core.receive()


def test_clock_after_the_end_changes_nothing(core_path):
    """What is left in the pipes is drained, and the report comes."""
    plan = compiled("sh", "-c", "sleep 1000 & echo up")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(changed(plan.payload, "drain", ("drain", "1000")))
        talk.core._socket.settimeout(0.5)
        try:
            talk.core.receive()
        except TimeoutError:
            talk.core.send(f"clock {NEVER}")
        talk.core._socket.settimeout(30)
        assert 0 == talk.report().exited


def test_clock_is_the_lease_of_a_room(core_path):
    """When it is over every payload ends, and the holder's report says why."""
    with Holder(core_path) as room:
        room.hold()
        with room.joined() as talk:
            talk.piped(room.payload_of("sh", "-c", "echo up; sleep 1000"))
            assert b"up\n" == talk.heard()
            room.core.send("clock 50")
            assert "lost" == talk.report().killed
        assert "clock" == room.report().killed
