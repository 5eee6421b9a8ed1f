"""Plans written by hand, and the talk with the core without the product in between.

`ROOM` and `PAYLOAD` are the smallest plans above the floor; they name no path of this host, so the checker alone takes
them. `compiled()` gives the plan of a real run on this host, to be changed by one step. `Talk` is one core with its
socket; whatever the core says on stderr (it says nothing, a sanitizer does) fails the test.
"""

from __future__ import annotations

import os
import select
import subprocess
from typing import NamedTuple

from capsule_run.engine.prepare import prepare
from capsule_run.launcher import Launcher, memory_file, sealed_file
from capsule_run.model.request import Request
from capsule_run.plan import payload as plan_payload
from capsule_run.plan.join import join_steps
from capsule_run.plan.room import compile_plan, room_steps
from capsule_run.policy.later_payload import for_payload
from capsule_run.policy.resolve import resolve
from capsule_run.result.report import parse_report

NO_STEP = (1 << 31) - 1  # the number that a report has for what is no step's


class Verb(NamedTuple):
    """A row of `--verbs`."""

    half: str
    phase: str
    rank: int
    least: int
    many: bool
    name: str
    kinds: str


ROOM = (
    *(("namespace", name) for name in ("user", "mount", "pid", "ipc", "uts", "cgroup")),
    ("uid-map", "0", "1885988111"),
    ("gid-map", "0", "1885988111"),
    ("setup-clock", "10000"),
    ("root", "4194304", "4096"),
    ("proc", "/proc", "ro"),
    ("network",),
    ("readonly",),
    ("pivot",),
    ("hostname", "capsule"),
)
PAYLOAD = (
    ("id", "1000", "1000"),
    ("umask", "0022"),
    ("rlimit", "4", "0", "0"),
    ("cwd", "/"),
    ("new-keyring",),
    ("no-new-privs",),
    ("no-capabilities",),
    ("filter", "06000000" + "0000ff7f"),
    ("attest",),
    ("exe", "/bin/true"),
    ("arg", "true"),
    ("stdout", "0", "1000", "kill"),
    ("stderr", "1", "1000", "kill"),
    ("clock", "1000"),
    ("drain", "10"),
)
JOIN = (
    ("setup-clock", "10000"),
    *(("join-namespace", name, str(fd)) for fd, name in enumerate(("user", "mount", "pid", "ipc", "uts", "net"))),
    ("proc", "/proc", "ro"),
)
SMALLEST = {"room": ROOM, "join": JOIN, "payload": PAYLOAD}


def encode(half, steps, *, header=("capsule-plan", "1"), end=("end",)):
    """The text of a plan: each word with a NUL behind it."""
    words = [*header, half, *(word for step in steps for word in step), *end]
    return b"".join(
        (word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape")) + b"\0" for word in words
    )


def verbs(core):
    """What the core itself says about its language."""
    lines = subprocess.run([core, "--verbs"], capture_output=True, check=True, text=True).stdout.splitlines()
    rows = [line.split(" ") for line in lines]
    return [
        Verb(half, phase, int(rank), int(least), many == "many", name, kinds.replace("-", ""))
        for half, phase, rank, least, many, name, kinds in rows
    ]


def check(core, half, text):
    """What `--check` says about a plan, in one line; `text` as bytes, or as steps to be encoded."""
    if not isinstance(text, bytes):
        text = encode(half, text)
    done = subprocess.run([core, "--check", half], input=text, capture_output=True, timeout=60)
    assert (b"", {"ok": 0}.get(done.stdout.decode().strip(), 3)) == (done.stderr, done.returncode)
    return done.stdout.decode().strip()


def compiled(*command, **fields):
    """The plan of a real run of `command` on this host, with the memory watch, which needs no descriptors."""
    request = Request(command=command, **fields)
    return compile_plan(resolve(request, prepare(request)[0]))


def changed(steps, verb, *replacement, which=0):
    """`steps` with occurrence number `which` of `verb` replaced by the steps given (none: left out)."""
    at = [index for index, step in enumerate(steps) if step[0] == verb][which]
    return (*steps[:at], *replacement, *steps[at + 1 :])


def after(steps, verb, *more):
    """`steps` with more behind the last `verb`."""
    at = max(index for index, step in enumerate(steps) if step[0] == verb)
    return (*steps[: at + 1], *more, *steps[at + 1 :])


def number_of(steps, *wanted):
    """The number of the step that begins with the words `wanted`, as the core counts."""
    return next(index for index, step in enumerate(steps) if step[: len(wanted)] == wanted)


def descriptors_of(pid):
    """What a process has open, as os.stat sees it. One that is closed meanwhile is not open."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.stat(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue
    assert found
    return found


def rejection(report):
    """The half that was invalid, the step and the reason; None if none was."""
    return report.rejected and (report.rejected.half, report.rejected.step, report.rejected.reason)


def failure(report):
    """The half, the step and the errno of a step that failed; None if none did."""
    return report.failed and (report.failed.half, report.failed.step, report.failed.errno)


class Talk:
    """One core. Leaving the context ends it, and proves that it wrote nothing to its stderr."""

    def __init__(self, core):
        self.said = memory_file("capsule-core-stderr")
        self.core = Launcher(path=str(core), stderr=self.said)
        self.core._socket.settimeout(30)  # a core that never answers fails one test, and does not stop the others
        self.stdout, self.stderr = memory_file("capsule-stdout"), memory_file("capsule-stderr")
        self.record = memory_file("capsule-record")
        self.status = None
        self.pipes = []

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        try:
            self.close()
            assert b"" == self.content(self.said)
        finally:
            for fd in (self.said, self.stdout, self.stderr, self.record, *self.pipes):
                os.close(fd)

    @property
    def pid(self):
        return self.core.pid

    def close(self):
        """Close the control socket and wait for the launcher. Its wait status."""
        if self.status is None:
            self.status = self.core.close()
        return self.status

    def send_bytes(self, word, text, fds=(), *, sealed=True):
        plan = sealed_file("capsule-plan", text) if sealed else memory_file("capsule-plan", text)
        try:
            self.core.send(word, (plan, *fds))
        finally:
            os.close(plan)

    def room(self, steps, fds=()):
        self.send_bytes("room", encode("room", steps), fds)

    def join(self, steps, fds):
        self.send_bytes("join", encode("join", steps), fds)

    def payload(self, steps, fds=()):
        self.send_bytes("payload", encode("payload", steps), (self.stdout, self.stderr, self.record, *fds))

    def piped(self, steps, fds=()):
        """Send the payload with a pipe for its stdout; what comes out of it is `heard()`."""
        read_end, write_end = os.pipe()
        self.pipes.append(read_end)
        try:
            self.send_bytes("payload", encode("payload", steps), (write_end, self.stderr, self.record, *fds))
        finally:
            os.close(write_end)

    def heard(self):
        """What the command says next; empty when it has ended."""
        readable, *_ = select.select(self.pipes[-1:], [], [], 30)
        assert readable, "the command says nothing"
        return os.read(self.pipes[-1], 1 << 16)

    def receive(self):
        """One message and its descriptors, which are the caller's to close."""
        message, ancillary, _flags, _from = self.core._socket.recvmsg(4096, 4096)
        fds = [int.from_bytes(data[at : at + 4], "little") for *_, data in ancillary for at in range(0, len(data), 4)]
        return message, fds

    def report(self):
        """The report, which must be the next thing that the core says, and the last."""
        report = parse_report(self.core.receive())
        assert b"" == self.core.receive()
        return report

    def content(self, fd):
        size = os.fstat(fd).st_size
        return os.pread(fd, size, 0)

    @property
    def out(self):
        return self.content(self.stdout)

    @property
    def err(self):
        return self.content(self.stderr)


def run(core, plan):
    """Both halves at once, as a one-shot run sends them. Returns the report and the bytes of stdout and stderr."""
    with Talk(core) as talk:
        talk.room(plan.room)
        talk.payload(plan.payload)
        return talk.report(), talk.out, talk.err


def run_command(core, *command, **fields):
    """Run a command as the product would. Returns the report and the bytes of stdout and stderr."""
    return run(core, compiled(*command, **fields))


def run_python(core, script, **fields):
    return run_command(core, "python3", "-I", "-S", "-c", script, **fields)


class Holder(Talk):
    """A core that holds a room for others to join. `policy` is the room's; `namespaces` are its descriptors."""

    def __init__(self, core, **fields):
        super().__init__(core)
        self.path = core
        request = Request(command=("true",), **fields)
        self.policy = resolve(request, prepare(request)[0])
        self.namespaces = []

    def __enter__(self):
        self.room(after(room_steps(self.policy), "hostname", ("share",)))
        message, self.namespaces = self.receive()
        self.pipes += self.namespaces  # they are closed in the end
        assert b"ready" == message
        return self

    def hold(self, *, clock_ms=60_000):
        """Send the payload that holds the room."""
        steps = plan_payload.payload_steps(self.policy, hold=True)
        self.payload(changed(steps, "clock", ("clock", str(clock_ms))))

    def joined(self, *, max_processes=None):
        """One more core, which joins the room and waits for a payload."""
        talk = Talk(self.path)
        talk.join(join_steps(self.policy, max_processes=max_processes), self.namespaces)
        return talk

    def payload_of(self, *command, keep=False, **fields):
        """The payload's half of a command in this room."""
        request = Request(command=command, **fields)
        policy = for_payload(self.policy, request, lacking=(), streams_stdin=False, joins=True)
        return plan_payload.payload_steps(policy, keep=keep)

    def run(self, *command, **fields):
        """Run a command in the room. Returns the report and the bytes of stdout and stderr."""
        with self.joined() as talk:
            talk.payload(self.payload_of(*command, **fields))
            return talk.report(), talk.out, talk.err

    def run_python(self, script, **fields):
        return self.run("python3", "-I", "-S", "-c", script, **fields)
