"""Payloads that join a room which another core holds: what they share, what they cannot reach, and who ends with whom."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time

import pytest
from handwritten_plans import Holder, Talk, changed, compiled, failure, rejection, run_python

import leftovers
from capsule_run.plan.join import join_steps, namespaces_of
from capsule_run.result.report import parse_record

pytestmark = pytest.mark.sandbox
WAIT = ("sh", "-c", "echo up; while [ ! -e /workspace/go ]; do sleep 0.05; done; echo went")
# What a payload sees of itself and of the sandbox, without what is another one in every run.
LOOK = """
import json, os
status = open("/proc/self/status").read().splitlines()
names = ("Cap", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups")
mounts = sorted(" ".join(line.split()[3:6]) for line in open("/proc/self/mountinfo"))
print(json.dumps({
    "status": [line for line in status if line.startswith(names)], "mounts": mounts,
    "maps": [open(f"/proc/self/{name}").read() for name in ("uid_map", "gid_map", "setgroups", "limits")],
    "fds": sorted(os.listdir("/proc/self/fd")), "cwd": os.getcwd(), "environ": dict(os.environ), "host": os.uname()[1],
    "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
}))
"""


@pytest.fixture
def room(core_path):
    with Holder(core_path) as holder:
        holder.hold()
        yield holder


def children_of(pid):
    """The children of a process, by number and in the order of their start."""
    found = []
    for child in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{child}/stat", encoding="utf-8") as stat:
            fields = stat.read().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append((int(fields[19]), int(child)))
    return [child for _start, child in sorted(found)]


def until(is_so, what):
    """Wait until it is so."""
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def kill_beside_another(room, script, said):
    """Kill a payload once it has said something; another one goes on to its own end."""
    with room.joined() as other, room.joined() as victim:
        other.piped(room.payload_of(*WAIT))
        assert b"up\n" == other.heard()
        victim.piped(room.payload_of("python3", "-I", "-S", "-c", script))
        assert said == victim.heard()
        victim.core.send("kill")
        assert "caller" == victim.report().killed
        room.run("touch", "/workspace/go")
        assert (b"went\n", 0) == (other.heard(), other.report().exited)


def reap_orphans():
    """Do what a process 1 does: this process is the one that orphans come to, and the kernel ends no room before that."""
    until(lambda: not [p for p in leftovers.processes() if "(Z)" in str(p)], "no orphan is left")


# ---- what they are ----


def test_join_payload_has_the_confinement_of_a_run(room, core_path):
    """Capabilities, filter, ids, limits, mounts, descriptors and environment are those of a payload in a room of its own."""
    report, out, err = room.run_python(LOOK)
    _report, alone, _err = run_python(core_path, LOOK)
    joined, alone = json.loads(out), json.loads(alone)
    assert (0, b"") == (report.exited, err)
    assert alone == joined


def test_join_payload_is_attested_as_a_run_is(room, core_path):
    """The facts that the kernel gives of it are the same but for the namespaces, of which it shares all that it joined."""
    plan = compiled(*WAIT)
    with room.joined() as first, room.joined() as second, Talk(core_path) as alone:
        alone.room(plan.room)
        talks = (first, second, alone)
        for talk in talks:
            talk.piped(plan.payload if talk is alone else room.payload_of(*WAIT))
            assert b"up\n" == talk.heard()
        for talk in talks:  # not before: the kernel gives the numbers of ended namespaces to new ones
            talk.core.send("kill")
            talk.report()
        records = [parse_record(talk.content(talk.record)) for talk in talks]

    def fields(row):
        return {name: getattr(row, name) for name in type(row).__annotations__}

    def different(one, other):
        return {name for name in fields(one.attest) if getattr(one.attest, name) != getattr(other.attest, name)}

    own = {f"{name}_namespace" for name in ("user", "mount", "pid", "cgroup")}
    shared = {f"{name}_namespace" for name in ("net", "ipc", "uts")}
    one, other, by_itself = records
    assert own == different(one, other)
    assert own | shared == different(one, by_itself)
    assert fields(by_itself.attest_caller) == fields(one.attest_caller)
    assert room.policy.identity.outside_uid == one.attest_room.uid_outside == other.attest_room.uid_outside


def test_join_payloads_one_after_the_other_share_files(room):
    """What one writes to the workspace, to /tmp and to /dev/shm the next one reads."""
    room.run("sh", "-c", "echo work > /workspace/a; echo temporary > /tmp/b; echo shared > /dev/shm/c; mkdir /tmp/d")
    _report, out, err = room.run("sh", "-c", "cat /workspace/a /tmp/b /dev/shm/c; ls -d /tmp/d")
    assert (b"work\ntemporary\nshared\n/tmp/d\n", b"") == (out, err)


def test_join_32_payloads_at_once_run_each(room):
    """Each has its own streams, end and report."""
    talks = [room.joined() for _ in range(32)]
    try:
        for number, talk in enumerate(talks):
            talk.payload(room.payload_of("sh", "-c", f"echo {number} > /tmp/{number}; echo {number}; exit {number}"))
        assert [*range(32)] == [talk.report().exited for talk in talks]
        assert [f"{number}\n".encode() for number in range(32)] == [talk.out for talk in talks]
    finally:
        for talk in talks:
            talk.__exit__()
    _report, out, _err = room.run("sh", "-c", "cat /tmp/*")
    assert sorted(out.split()) == sorted(str(number).encode() for number in range(32))


def test_join_payloads_share_the_loopback(room):
    """A server in one payload is reached from another."""
    serve = (
        "import socket; s = socket.create_server(('127.0.0.1', 8000)); print('up', flush=True);"
        "c, _ = s.accept(); c.sendall(b'hello'); c.close()"
    )
    ask = "import socket; print(socket.create_connection(('127.0.0.1', 8000)).recv(99).decode())"
    with room.joined() as server:
        server.piped(room.payload_of("python3", "-I", "-S", "-c", serve))
        assert b"up\n" == server.heard()
        _report, out, err = room.run_python(ask)
        assert (b"hello\n", b"") == (out, err)
        assert 0 == server.report().exited


def test_join_launcher_waits_for_its_payload(room):
    """A launcher may join ahead; the payload comes when it comes, and runs at once."""
    with room.joined() as talk:
        until(lambda: len(children_of(talk.pid)) == 1, "joined")
        talk.payload(room.payload_of("echo", "late"))
        assert (0, b"late\n") == (talk.report().exited, talk.out)


# ---- who ends with whom ----


def test_join_kill_ends_one_payload_and_all_that_it_started(room):
    """Sessions, double forks, ignored signals: all of it is in its pid namespace, and others live on."""
    hide = (
        "import os, signal, time\n"
        "for s in set(signal.Signals) - {9, 19}: signal.signal(s, signal.SIG_IGN)\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0: time.sleep(1000)\n"
        "        os._exit(0)\n"
        "print('hidden', flush=True); time.sleep(1000)\n"
    )
    kill_beside_another(room, hide, b"hidden\n")


def test_join_kill_ends_a_fork_storm_and_nobody_else(room):
    """A payload that forks without end is killed while another one goes on."""
    storm = "import os\nprint('storm', flush=True)\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
    kill_beside_another(room, storm, b"storm\n")


@pytest.mark.parametrize("who", ["launcher", "init"])
def test_join_death_of_one_of_ours_ends_its_payload_alone(room, who):
    """kill -9 of a joined launcher or of its init ends what it ran, and the room goes on."""
    with room.joined() as victim, room.joined() as other:
        for talk in (victim, other):
            talk.piped(room.payload_of(*WAIT))
            assert b"up\n" == talk.heard()
        (init,) = children_of(victim.pid)[:1]
        os.kill(victim.pid if who == "launcher" else init, signal.SIGKILL)
        assert b"" == victim.heard()  # every writer is dead
        if who == "init":
            assert "lost" == victim.report().killed
        room.run("touch", "/workspace/go")
        assert (b"went\n", 0) == (other.heard(), other.report().exited)
    reap_orphans()


@pytest.mark.parametrize("who", ["launcher", "init", "socket", "kill"])
def test_join_death_of_the_room_ends_every_payload(core_path, who):
    """However the room dies, each payload in it ends, and its launcher says so."""
    with Holder(core_path) as room:
        room.hold()
        talks = [room.joined() for _ in range(4)]
        for talk in talks:
            talk.piped(room.payload_of("sh", "-c", "echo up; sleep 1000"))
            assert b"up\n" == talk.heard()
        if who == "launcher":
            os.kill(room.pid, signal.SIGKILL)
        elif who == "init":
            os.kill(children_of(room.pid)[0], signal.SIGKILL)
        elif who == "kill":
            room.core.send("kill")
        else:
            room.close()
        for talk in talks:
            assert "lost" == talk.report().killed
            talk.__exit__()


def test_join_after_the_end_of_the_room_fails(core_path):
    """Its namespaces may still be open somewhere, but no process can be put into them."""
    with Holder(core_path) as room:
        room.hold()
        room.close()
        with room.joined() as talk:
            assert failure(talk.report()) is not None


def leave_zombie(room):
    """Kill a launcher that has joined: its init is now a child of this process, which does not reap it yet."""
    with room.joined() as talk:
        talk.piped(room.payload_of(*WAIT))
        assert b"up\n" == talk.heard()
        os.kill(talk.pid, signal.SIGKILL)
        assert b"" == talk.heard()


def test_join_zombie_that_nobody_reaps_holds_no_room(core_path):
    """Where no process 1 reaps an init whose launcher was killed, the room ends all the same: its report comes."""
    with Holder(core_path) as room:
        room.hold()
        leave_zombie(room)
        room.core.send("kill")
        assert "caller" == room.report().killed
        room.close()
    reap_orphans()


def test_join_zombie_that_nobody_reaps_holds_no_closed_room(core_path):
    """The same where the holder's caller says nothing, and closes its socket."""
    with Holder(core_path) as room:
        room.hold()
        leave_zombie(room)
        room.close()
    reap_orphans()


# ---- what does not join ----


@pytest.mark.parametrize("which", range(6))
def test_join_with_a_descriptor_that_is_no_such_namespace_fails_at_its_step(room, which):
    """Each is entered as what the plan calls it."""
    steps = join_steps(room.policy)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Talk(room.path) as talk:
            talk.join(steps, [*room.namespaces[:which], null, *room.namespaces[which + 1 :]])
            at = steps.index(("join-namespace", namespaces_of(room.policy)[which], str(which)))
            assert ("room", at, 22) == failure(talk.report())
    finally:
        os.close(null)


def test_join_invalid_half_is_rejected(room):
    """As the room's half is, before its first effect."""
    with Talk(room.path) as talk:
        talk.join(changed(join_steps(room.policy), "setup-clock"), room.namespaces)
        report = talk.report()
        assert "setup-clock" == rejection(report)[2]
