"""Payloads of one room that mean harm: to each other, to one that is joining, and to what init keeps from all of them."""

from __future__ import annotations

import errno
import json
import os
import platform

import pytest
from handwritten_plans import Holder, failure
from test_join import WAIT, children_of

pytestmark = pytest.mark.sandbox


@pytest.fixture
def room(core_path):
    with Holder(core_path) as holder:
        holder.hold()
        yield holder


def python(script):
    return ("python3", "-I", "-S", "-c", script)


# Looks for processes of others while some come and go; prints every number that was not its own family's.
WATCH = """
import os, time
print("up", flush=True)
seen, end = set(), time.monotonic() + 120
while not os.path.exists("/workspace/stop") and time.monotonic() < end:
    seen |= {name for name in os.listdir("/proc") if name.isdigit()}
    for number in range(1, 400):
        try: os.kill(number, 0)
        except ProcessLookupError: continue
        except PermissionError: pass
        seen.add(str(number))
print(sorted(seen))
"""


def test_hostile_payload_sees_no_process_of_others(room):
    """Not one that joins, not what it runs, not the room's own init: by name in /proc and by number of a signal."""
    with room.joined() as talk:
        talk.piped(room.payload_of(*python(WATCH)))
        assert b"up\n" == talk.heard()
        for _ in range(10):
            assert 0 == room.run("true")[0].exited
        room.run("touch", "/workspace/stop")
        assert b"['1', '2']\n" == talk.heard()
        talk.report()


def test_hostile_payload_kills_nobody_but_itself(room):
    """A signal to everybody stays in its own pid namespace."""
    with room.joined() as talk:
        talk.piped(room.payload_of(*WAIT))
        assert b"up\n" == talk.heard()
        killer = "import os, time; child = os.fork() or time.sleep(1000); os.kill(-1, 9); print(os.wait()[1])"
        report, out, _err = room.run_python(killer)
        assert (0, b"9\n") == (report.exited, out)
        room.run("touch", "/workspace/go")
        assert (b"went\n", 0) == (talk.heard(), talk.report().exited)


# What would be a way to the procfs of the room, by names and numbers.
REACH = """
import errno, json, os
def opened(path, flags=os.O_RDONLY):
    try: os.close(os.open(path, flags))
    except OSError as error: return errno.errorcode[error.errno]
    return "done"
mounts = [line.split() for line in open("/proc/self/mountinfo")]
procs = [(m[3], m[4]) for m in mounts if m[m.index("-") + 1] == "proc"]
os.chdir("/proc"); os.chdir("..")
paths = "root cwd mem ns/mnt ns/pid fd fd/3 fd/4 map_files task/1/root".split()
print(json.dumps({
    "whole": [place for root, place in procs if root == "/"],
    "at /proc": len([m for m in mounts if m[4] == "/proc"]),
    "above is the root": sorted(os.listdir(".")) == sorted(os.listdir("/")),
    "opened": [path for path in paths if opened(f"/proc/1/{path}") == "done"],
    "written": [name for name in ("shmmax", "ns_last_pid", "pid_max") if opened("/proc/sys/kernel/" + name, 1) == "done"],
}))
"""


def test_hostile_payload_finds_no_other_procfs(room):
    """There is one in its mounts, its own; the room's is nowhere, and its own init shows nothing."""
    report, out, err = room.run_python(REACH)
    assert (0, b"") == (report.exited, err)
    found = {"whole": ["/proc"], "at /proc": 1, "above is the root": True, "opened": [], "written": []}
    assert found == json.loads(out)


# x86_64, aarch64 and arguments; `{}` is the address of "/proc"
CALLS = {
    "umount": (166, 39, "{}, 2"),
    "mount procfs": (165, 40, '{}, c.c_char_p(b"/tmp"), {}, 0, 0'),
    "bind": (165, 40, '{}, c.c_char_p(b"/tmp"), 0, 4096, 0'),
    "pivot_root": (155, 41, "{}, {}"),
    "unshare": (272, 97, "0x10000000 | 0x20000"),
    "setns": (308, 268, 'open("/proc/self/ns/mnt").fileno(), 0'),
    "open_tree": (428, 428, "-100, {}, 1"),
    "move_mount": (429, 429, '-100, {}, -100, c.c_char_p(b"/tmp"), 0'),
    "fsopen": (430, 430, 'c.c_char_p(b"proc"), 0'),
    "mount_setattr": (442, 442, "-100, {}, 0, bytes(32), 32"),
    "ptrace": (101, 117, "16, 1, 0, 0"),
    "process_vm_readv": (310, 270, "1, 0, 0, 0, 0, 0"),
}


@pytest.mark.parametrize("what", CALLS)
def test_hostile_payload_can_call_nothing_to_change_its_mounts_or_to_trace(room, what):
    """Each call is answered with an error, or ends what called it; the next payload finds all as it was."""
    first, second, words = CALLS[what]
    number = {"x86_64": first, "aarch64": second}[platform.machine()]
    words = words.replace("{}", 'c.c_char_p(b"/proc")')
    script = f"import ctypes as c; print('asked', flush=True); print(c.CDLL(None).syscall({number}, {words}))"
    report, out, _err = room.run_python(script)
    assert out == b"asked\n-1\n" or (out == b"asked\n" and report.exited is None)
    assert b"/proc\n" == room.run("sh", "-c", "cut -d' ' -f5 /proc/self/mountinfo | grep -x /proc")[1]


def test_hostile_payload_finds_init_closed(room):
    """Each of our processes in the room is undumpable: to anyone of the same id its files are those of root."""
    with room.joined() as talk:
        talk.piped(room.payload_of(*WAIT))
        assert b"up\n" == talk.heard()
        ours = [children_of(room.pid)[0], children_of(children_of(room.pid)[0])[0], children_of(talk.pid)[0]]
        assert [0, 0, 0] == [os.stat(f"/proc/{pid}/environ").st_uid for pid in ours]
        talk.core.send("kill")
        talk.report()


@pytest.mark.needs("root")  # nobody else may look
def test_joined_init_has_nothing_open_but_its_own(room):
    """No descriptor of a namespace, of the plan or of the caller is left when the payload begins."""
    with room.joined() as talk:
        talk.piped(room.payload_of(*WAIT))
        assert b"up\n" == talk.heard()
        (init,) = children_of(talk.pid)[:1]
        links = [os.readlink(f"/proc/{init}/fd/{fd}") for fd in sorted(os.listdir(f"/proc/{init}/fd"), key=int)]
        assert ["/dev/null", "/proc", "anon_inode:[signalfd]"] == sorted(
            {link for link in links if not link.startswith(("socket:", "/memfd:capsule-core-stderr"))}
        )
        assert 1 == sum(link.startswith("socket:") for link in links)
        talk.core.send("kill")
        talk.report()


FILL = """
import os
print("up", flush=True)
for place in ("/tmp", "/dev/shm", "/workspace"):
    try:
        with open(place + "/fill", "wb", 0) as file:
            while file.write(bytes(1 << 20)): pass
    except OSError: pass
    try:
        for number in range(1 << 20): os.mkdir(f"{place}/{number}")
    except OSError: pass
print("full", flush=True)
"""


def test_hostile_payload_with_a_full_disk_starves_no_joining(core_path):
    """To join needs no space of the room's and no name in it."""
    from capsule_run.model.request import Resources

    with Holder(core_path, resources=Resources(disk_bytes=8 << 20)) as room:
        room.hold()
        assert b"up\nfull\n" == room.run_python(FILL)[1]
        assert (0, b"hello\n") == ((ran := room.run("echo", "hello"))[0].exited, ran[1])


# Forks until it is refused, says how often it could, and stays.
FORKS = """
import os, time
count = 0
try:
    while count < 200:
        if os.fork() == 0: time.sleep(1000)
        count += 1
except OSError as error: print(count, error.errno, flush=True)
else: print(count, 0, flush=True)
time.sleep(1000)
"""


def test_hostile_payloads_share_the_limit_of_processes(room, needs):
    """What one has started is missing for the others: the limit holds for the room as a whole, without a cgroup."""
    release = tuple(map(int, platform.release().split("-")[0].split(".")[:2]))
    needs("Linux 5.14", present=release >= (5, 14))
    with room.joined(max_processes=40) as first, room.joined(max_processes=40) as second:
        first.piped(room.payload_of(*python(FORKS)))
        one, error = map(int, first.heard().split())
        assert (errno.EAGAIN, True) == (error, 20 < one < 40)
        second.payload(room.payload_of("true"))
        assert errno.EAGAIN == failure(second.report())[2]
        first.core.send("kill")
        first.report()
    with room.joined(max_processes=40) as third:
        third.payload(room.payload_of("true"))
        assert 0 == third.report().exited
