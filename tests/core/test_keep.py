"""`keep`: what a command leaves running lives on, and its end is reported at once."""

from __future__ import annotations

import pytest
from handwritten_plans import Holder, Talk, after, compiled

pytestmark = pytest.mark.sandbox


@pytest.fixture
def keeping(core_path):
    """Start a shell script whose plan has `keep`; its stdout is heard through a pipe."""
    talks = []

    def start(script):
        talk = Talk(core_path)
        talks.append(talk)
        plan = compiled("sh", "-c", script)
        talk.room(plan.room)
        talk.piped(after(plan.payload, "drain", ("keep",)))
        return talk

    yield start
    for talk in talks:
        talk.__exit__()


@pytest.mark.parametrize(
    ("end", "said"), [("exit 3", b"exited 3\n"), ("exit 0", b"exited 0\n"), ("kill -9 $$", b"signalled 9\n")]
)
def test_keep_says_at_once_that_the_command_has_ended(keeping, end, said):
    """What it started goes on, and the report comes when that has ended, too."""
    talk = keeping(f"(while [ ! -e go ]; do sleep 0.05; done; echo went) & echo up; read x < /dev/null; {end}")
    assert b"up\n" == talk.heard()
    assert said == talk.core.receive()
    talk.core.send("kill")
    report = talk.report()
    assert "caller" == report.killed
    assert said.split()[1] == str(report.exited if report.exited is not None else report.signalled).encode()


def test_keep_report_comes_with_the_end_of_the_last_process(keeping):
    """Nothing is killed: the output of what was left is whole, and so is the command's exit code."""
    talk = keeping("(sleep 1; echo last) & exit 5")
    assert b"exited 5\n" == talk.core.receive()
    assert b"last\n" == talk.heard()
    report = talk.report()
    assert (5, "") == (report.exited, report.killed)


def test_keep_command_that_leaves_nothing_is_reported_as_ever(keeping):
    """Then the report is the only message."""
    assert 7 == keeping("exit 7").report().exited


def test_keep_orphans_of_orphans_live_on(keeping):
    """Each process that is left is waited for, in whatever session and however far from the command."""
    talk = keeping("setsid sh -c '(setsid sh -c \"sleep 1; echo deep\" &) ' & exit 1")
    assert b"exited 1\n" == talk.core.receive()
    assert b"deep\n" == talk.heard()
    assert 1 == talk.report().exited


def test_keep_signal_after_the_command_reaches_its_process_group(keeping):
    """What is left of it can still be signalled."""
    talk = keeping("sleep 1000 & exit 0")
    assert b"exited 0\n" == talk.core.receive()
    talk.core.send("signal 15")
    report = talk.report()
    assert (0, "") == (report.exited, report.killed)


def test_keep_clock_ends_what_is_left(keeping):
    """The clock goes on after the command, and can be set anew."""
    talk = keeping("sleep 1000 & exit 0")
    assert b"exited 0\n" == talk.core.receive()
    talk.core.send("clock 50")
    report = talk.report()
    assert ("clock", 0) == (report.killed, report.exited)


def test_keep_death_of_the_caller_ends_what_is_left(keeping):
    """As it ends a command: nothing outlives the control socket."""
    talk = keeping("(trap '' HUP TERM; echo up; sleep 1000) & exit 0")
    assert b"up\n" == talk.heard()
    assert b"exited 0\n" == talk.core.receive()
    talk.close()
    assert b"" == talk.heard()


def test_keep_in_a_room_lives_beside_other_payloads(core_path):
    """A server that a payload has started is there for the next one."""
    serve = (
        "import socket; s = socket.create_server(('127.0.0.1', 8000)); print('up', flush=True)\n"
        "while True: s.accept()[0].close()"
    )
    ask = "import socket; socket.create_connection(('127.0.0.1', 8000)); print('there')"
    with Holder(core_path) as room:
        room.hold()
        with room.joined() as talk:
            talk.piped(room.payload_of("sh", "-c", f'python3 -I -S -c "{serve}" & exit 0', keep=True))
            assert {b"up\n", b"exited 0\n"} == {talk.heard(), talk.core.receive()}
            assert b"there\n" == room.run_python(ask)[1]
            talk.core.send("kill")
            assert ("caller", 0) == ((report := talk.report()).killed, report.exited)
            assert b"" == room.run_python(ask)[1]
