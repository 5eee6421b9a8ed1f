"""The confinement, the first steps of a payload, sent ahead of its command: the same sandbox, and nothing runs before."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from handwritten_plans import PAYLOAD, Talk, after, changed, check, compiled, encode, number_of, rejection

from capsule_run.plan.preamble import continuation
from capsule_run.result.report import parse_record

pytestmark = pytest.mark.sandbox


def halves(steps):
    """The confinement of a payload, and the rest of it."""
    at = number_of(steps, "attest") + 1
    return steps[:at], steps[at:]


def before(steps, verb, *more):
    """`steps` with more in front of the first `verb`."""
    at = number_of(steps, verb)
    return (*steps[:at], *more, *steps[at:])


class Confined(Talk):
    """A core with a payload that is confined, and waits for its command."""

    def confine(self, plan):
        self.room(plan.room)
        self.confinement, self.rest = halves(plan.payload)
        self.send_bytes("confinement", encode("payload", self.confinement))
        return self

    def command(self, rest=None, fds=()):
        sent = (self.stdout, self.stderr, self.record, *fds)
        self.core.send_command(continuation(self.rest if rest is None else rest), sent)

    def until_confined(self):
        """Wait until the payload has its filter and sleeps: it has done all that it can do without a command."""
        end = time.monotonic() + 30
        while not any(map(_waits, _below(self.pid))):
            assert time.monotonic() < end, "nothing waits for a command"
            time.sleep(0.001)


def _below(pid):
    """The processes below one, the lowest last."""
    found = []
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    for child in children:
        found += [int(child), *_below(int(child))]
    return found


def _waits(pid):
    """Whether a process has a filter of its own and sleeps."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended meanwhile
        return False
    return "State:\tS" in status and "Seccomp:\t2" in status


@pytest.fixture
def plan():
    return compiled("sh", "-c", "echo out; echo err >&2; pwd; exit 3")


def test_confinement_then_command_runs_the_command(core_path, plan):
    """The command runs as it does with a payload in one piece."""
    with Confined(core_path) as talk:
        talk.confine(plan).command()
        report = talk.report()
        assert (3, b"out\n/workspace\n", b"err\n") == (report.exited, talk.out, talk.err)


def test_confinement_long_before_the_command_is_in_force_when_it_comes(core_path):
    """What the kernel says is in force is what it says of a payload in one piece, and refused calls are seen."""
    plan = compiled("sh", "-c", "unshare -r true; exit 0")
    facts = {}
    for late in (True, False):
        with Confined(core_path) as talk:
            if late:
                talk.confine(plan).until_confined()
                talk.command()
            else:
                talk.room(plan.room)
                talk.payload(plan.payload)
            assert 0 == talk.report().exited
            record = parse_record(talk.content(talk.record))
            own = {name: fact for name, fact in vars(record.attest).items() if not name.endswith("_namespace")}
            facts[late] = (own, [(denied.call, denied.errno) for denied in record.denied])
            assert record.listening
            assert record.denied
    assert facts[True] == facts[False]


def test_confinement_command_with_stdin_reads_it(core_path):
    """A stdin that comes with the command is read; without one the command reads end-of-file from `/dev/null`."""
    for given in (b"", b"text"):
        plan = compiled("sh", "-c", "cat; readlink /proc/self/fd/0", **({"stdin": given} if given else {}))
        with Confined(core_path) as talk:
            talk.confine(plan)
            read_end, write_end = os.pipe()
            os.write(write_end, given)
            os.close(write_end)
            talk.command(fds=(read_end,) if given else ())
            os.close(read_end)
            assert 0 == talk.report().exited
            assert talk.out.startswith(given + b"pipe:" if given else b"/dev/null")


def test_confinement_command_cwd_goes_there(core_path, plan):
    """The directory that comes with the command counts, and one that is not there fails the start."""
    with Confined(core_path) as talk:
        talk.confine(plan)
        talk.command((("command-cwd", "/tmp"), *talk.rest))
        assert (3, b"out\n/tmp\n") == (talk.report().exited, talk.out)
    with Confined(core_path) as talk:
        talk.confine(plan)
        talk.command((("command-cwd", "/nowhere"), *talk.rest))
        report = talk.report()
        assert not report.started
        assert (len(talk.confinement), 2) == (report.failed.step, report.failed.errno)


def test_confinement_without_command_leaves_nothing(core_path, plan):
    """What waits ends with the caller; the check after every test looks for it."""
    with Confined(core_path) as talk:
        talk.confine(plan).until_confined()
        assert 0 == talk.close()


def test_confinement_killed_payload_ends_the_room_with_a_report(core_path, plan):
    """A payload that is killed while it waits has not started a command, and the launcher says so at once."""
    with Confined(core_path) as talk:
        talk.confine(plan).until_confined()
        os.kill(_below(talk.pid)[-1], 9)
        report = talk.report()
        assert not report.started


REST = {
    "no command": lambda rest: tuple(step for step in rest if step[0] != "exe"),
    "a limit more": lambda rest: (("rlimit", "4", "1", "1"), *rest),
    "another filter": lambda rest: (("filter", "06000000" + "0000ff7f"), *rest),
    "attested again": lambda rest: (("attest",), *rest),
    "a keep that init does not know of": lambda rest: after(rest, "drain", ("keep",)),
    "a terminal that init has not made": lambda rest: before(rest, "stdout", ("terminal", "0")),
    "another order": lambda rest: (*rest[1:], rest[0]),
    "a descriptor that was not sent": lambda rest: changed(rest, "stdout", ("stdout", "3", "1000", "kill")),
}


@pytest.mark.parametrize("what", REST)
def test_confinement_rest_that_makes_no_payload_is_rejected(core_path, plan, what):
    """The whole is checked: a rest below the floor, or with a step of the confinement, runs nothing."""
    with Confined(core_path) as talk:
        talk.confine(plan).command(REST[what](talk.rest))
        report = talk.report()
        assert "payload" == rejection(report)[0]
        assert not report.started


OUT_OF_TURN = ("command", "confinement confinement", "confinement payload", "confinement command command")


@pytest.mark.parametrize("messages", OUT_OF_TURN)
def test_confinement_messages_out_of_turn_end_the_run(core_path, plan, messages):
    """A command needs a confinement, and there is one of each; `payload` stands in the place of both."""
    sleeps = compiled("sleep", "60")
    with Confined(core_path) as talk:
        talk.room(plan.room)
        talk.confinement, talk.rest = halves(sleeps.payload)
        for message in messages.split():
            if message == "command":
                talk.command()
            elif message == "confinement":
                talk.send_bytes("confinement", encode("payload", talk.confinement))
            else:
                talk.payload(sleeps.payload)
        report = talk.report()
        assert None is report.exited
        assert report.killed in ("rejected", "failed") or report.rejected


@pytest.mark.parametrize("verb", [step[0] for step in halves(PAYLOAD)[0]])
def test_confinement_below_the_floor_is_rejected(core_path, verb):
    """A confinement lacks nothing that confines."""
    assert "ok" == check(core_path, "confinement", encode("payload", halves(PAYLOAD)[0]))
    assert check(core_path, "confinement", encode("payload", changed(halves(PAYLOAD)[0], verb))).endswith(verb)


@pytest.mark.parametrize("step", [("hold",), ("exe", "/bin/true"), ("clock", "1")])
def test_confinement_with_a_step_of_the_command_is_rejected(core_path, step):
    """It ends before the command."""
    steps = after(halves(PAYLOAD)[0], "attest", step)
    assert check(core_path, "confinement", encode("payload", steps)).endswith("verb")
