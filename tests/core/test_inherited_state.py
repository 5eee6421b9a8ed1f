"""Odd things that the caller's process has, and which end at the wall."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from handwritten_plans import compiled

import capsule_run

pytestmark = pytest.mark.sandbox

CALLER = """
import json, os, sys
sys.path[:0] = {path!r}
import ctypes, fcntl, resource, signal, socket, struct, tempfile, termios, threading, time
import handwritten_plans
libc = ctypes.CDLL(None, use_errno=True)
answers = os.open({answers!r}, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
{early}
plan = handwritten_plans.compiled(*{command!r})
{setup}
report, out, err = handwritten_plans.run({core!r}, plan)
answer = [report.exited, report.signalled, report.killed, handwritten_plans.failure(report), out.decode(), err.decode()]
os.write(answers, json.dumps(answer).encode())
# what was armed must not ring while the interpreter ends, and has taken its handlers back
for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF): signal.setitimer(timer, 0)
"""


class Answer:
    """What came of a run: its end (exit code, signal, who ended it, failed step), and its words."""

    def __init__(self, *end, out, err):
        self.end, self.out, self.err = end, out, err


@pytest.fixture
def odd_caller(core_path, tmp_path):
    """Run `command` from a process that did `setup` to itself before (`early`: before the plan is made, too)."""

    def run(setup, *command, early="", **options):
        answers = tmp_path / "answers"
        package = Path(capsule_run.__file__).parent.parent
        path = [str(Path(__file__).parent), str(package)]
        script = CALLER.format(
            path=path, answers=str(answers), early=early, command=command, setup=setup, core=str(core_path)
        )
        done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, timeout=60, **options)
        assert (0, b"") == (done.returncode, done.stderr)
        *end, out, err = json.loads(answers.read_text())
        return Answer(*end, out=out, err=err)

    return run


def python(script):
    return "python3", "-I", "-S", "-c", script


FINE = (0, None, "", None)
OPEN_EVERYTHING = """
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
kept = [os.open("/etc/passwd", os.O_RDONLY), os.open("/", os.O_RDONLY | os.O_DIRECTORY), *os.pipe()]
kept += [end.detach() for end in socket.socketpair()]
kept += [os.memfd_create("secret"), os.open("/tmp", os.O_PATH), os.open("/proc/self/ns/user", os.O_RDONLY)]
kept += [fcntl.fcntl(fd, fcntl.F_DUPFD, 300 + fd) for fd in kept]
most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
kept += [fcntl.fcntl(kept[0], fcntl.F_DUPFD, number) for number in (1023, 1024, 3000) if number < most]
for fd in kept: os.set_inheritable(fd, True)
"""


def test_inherited_descriptors_do_not_get_in(odd_caller):
    """Files, directories, sockets, pipes and namespaces of the caller, inheritable and at high numbers, end at the wall."""
    answer = odd_caller(OPEN_EVERYTHING, *python("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"))
    assert (FINE, "[0, 1, 2, 3]\n") == (answer.end, answer.out)


LOOK_AT_LAUNCHER = """
with handwritten_plans.Talk({core!r}) as talk:
    talk.room((*plan.room, ("offer", "/workspace")))
    os.close(talk.receive()[1][0])
    there = handwritten_plans.descriptors_of(talk.pid)
    assert not {{(st.st_dev, st.st_ino) for st in there}} & {{(st.st_dev, st.st_ino) for st in map(os.fstat, kept)}}
    assert open(f"/proc/{{talk.pid}}/environ").read() == ""
    assert open(f"/proc/{{talk.pid}}/cmdline").read() == "capsule-core\\0"
"""


def test_inherited_state_is_not_held_by_the_launcher(odd_caller, core_path):
    """Descriptors, environment and arguments of the caller are not in the launcher: it cannot pass on what it has not."""
    answer = odd_caller(
        OPEN_EVERYTHING + LOOK_AT_LAUNCHER.format(core=str(core_path)), "true", env={**os.environ, "SECRET": "x"}
    )
    assert FINE == answer.end


IGNORED = (1, 2, 3, 10, 12, 13, 14, 15, 17, 18, 20, 21, 22, 24, 25, 34, 64)
IGNORE_ALL = f"for number in {IGNORED}: signal.signal(number, signal.SIG_IGN)\n"
BLOCK_ALL = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"


@pytest.mark.parametrize("setup", [IGNORE_ALL, BLOCK_ALL, IGNORE_ALL + BLOCK_ALL], ids=["ignored", "blocked", "both"])
def test_inherited_signal_state_does_not_get_in(odd_caller, setup):
    """Whatever the caller ignores (SIGCHLD, SIGPIPE) or blocks, the command starts with every signal as it is by default."""
    answer = odd_caller(setup, "cat", "/proc/self/status")
    words = "SigPnd ShdPnd SigBlk SigIgn SigCgt".split()
    said = [line for line in answer.out.splitlines() if line.partition(":")[0] in words]
    assert (FINE, [f"{word}:\t{0:016x}" for word in words]) == (answer.end, said)


def test_inherited_ignored_sigpipe_does_not_get_in(odd_caller):
    """The usual case of the above: Python ignores SIGPIPE, and `yes | head` must end all the same."""
    answer = odd_caller("", "sh", "-c", "yes | head -1; echo ${PIPESTATUS:-done}")
    assert (FINE, "y\ndone\n") == (answer.end, answer.out)


def test_inherited_umask_does_not_get_in(odd_caller):
    """A caller's umask neither makes the sandbox's own files unreadable nor the command's."""
    answer = odd_caller(
        "os.umask(0o777)",
        "sh",
        "-c",
        "umask; cat /etc/hostname; touch f; stat -c %a f /etc /etc/passwd /workspace /tmp /dev/null",
    )
    assert (FINE, "0022\ncapsule\n644\n755\n644\n755\n1777\n666\n") == (answer.end, answer.out)


# nice value and scheduling policy, of a shell of the command's: fields 19 and 41 of proc_pid_stat(5)
PRIORITY = "rest = open('/proc/self/stat').read().rpartition(')')[2].split(); print(rest[16], rest[38])"


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        pytest.param("os.nice(5)", "5 0", id="nice 5"),
        pytest.param("os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))", "0 3", id="batch"),
        pytest.param("os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))", "0 5", id="idle"),
    ],
)
def test_inherited_low_priority_is_kept(odd_caller, setup, expected):
    """Nobody becomes more urgent by starting a sandbox."""
    answer = odd_caller(setup, *python(PRIORITY))
    assert (FINE, expected + "\n") == (answer.end, answer.out)


@pytest.mark.root
@pytest.mark.parametrize(
    "setup",
    [
        pytest.param("os.setpriority(os.PRIO_PROCESS, 0, -15)", id="nice -15"),
        pytest.param("os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))", id="fifo"),
        pytest.param("os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))", id="rr"),
    ],
)
def test_inherited_high_priority_does_not_get_in(odd_caller, setup):
    """A command is never more urgent than usual, though its caller is."""
    answer = odd_caller(setup, *python(PRIORITY))
    assert (FINE, "0 0\n") == (answer.end, answer.out)


IOPRIO = {"x86_64": (251, 252), "aarch64": (30, 31)}


@pytest.mark.root
def test_inherited_io_priority_does_not_get_in(odd_caller, core_path):
    """The caller's real-time class for disks is its own: the room's processes have the usual one."""
    set_number, get_number = IOPRIO[os.uname().machine]
    look = f"""
libc.syscall({set_number}, 1, 0, (1 << 13) | 2)
with handwritten_plans.Talk({str(core_path)!r}) as talk:
    talk.room((*plan.room, ("offer", "/workspace")))
    os.close(talk.receive()[1][0])
    init = int(open(f"/proc/{{talk.pid}}/task/{{talk.pid}}/children").read())
    classes = [libc.syscall({get_number}, 1, pid) >> 13 for pid in (os.getpid(), init)]
    os.write(answers, b"")
    assert classes[0] == 1 and classes[1] != 1, classes
"""
    assert FINE == odd_caller(look, "true").end


RLIMITS = {
    "few descriptors": "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 4096))",
    "a large core": "resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)",
    "a small stack": "resource.setrlimit(resource.RLIMIT_STACK, (1 << 18, resource.getrlimit(resource.RLIMIT_STACK)[1]))",
    "small files": "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))",
    "no locked memory": "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))",
    "few pending signals": "resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))",
    "no message queues": "resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))",
}


@pytest.mark.parametrize("name", RLIMITS)
def test_inherited_soft_limits_do_not_get_in(odd_caller, name):
    """The sandbox works, and the command has the limits of its plan, whatever soft limits its caller has."""
    answer = odd_caller(RLIMITS[name], "cat", "/proc/self/limits")
    said = {line[:25].strip(): line[25:].split()[:2] for line in answer.out.splitlines()}
    assert FINE == answer.end
    planned = {step[1]: [step[2], step[3]] for step in compiled("true").payload if step[0] == "rlimit"}
    assert [planned["4"], planned["7"]] == [said["Max core file size"], said["Max open files"]]


def test_inherited_hard_limit_of_descriptors_is_kept(odd_caller):
    """A caller that may have 64 descriptors at most gets a sandbox that has no more."""
    setup = "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"
    answer = odd_caller(setup, "grep", "open files", "/proc/self/limits")
    assert (FINE, ["64", "64"]) == (answer.end, answer.out[25:].split()[:2])


def test_inherited_personality_does_not_get_in(odd_caller):
    """A caller without address space randomisation does not take it from the command."""
    setup = "assert libc.personality(0x0040000 | 0x0400000 | 0x0100000) >= 0"
    answer = odd_caller(setup, "cat", "/proc/self/personality")
    assert (FINE, "00000000\n") == (answer.end, answer.out)


def test_aslr_addresses_differ_between_runs(odd_caller):
    """The point of the above, as an attacker would see it."""
    setup = "assert libc.personality(0x0040000) >= 0"
    said = {odd_caller(setup, "grep", "stack", "/proc/self/maps").out for _ in range(3)}
    assert 3 == len(said)


def test_inherited_environment_does_not_get_in(odd_caller):
    """No variable of the caller is seen inside, neither by the command nor in any process's file."""
    command = ("sh", "-c", "env | cut -d= -f1 | sort; cat /proc/[0-9]*/environ | grep -c LEAKED")
    answer = odd_caller("", *command, env={**os.environ, "SECRET": "LEAKED", "LD_PRELOAD": "", "IFS": "LEAKED"})
    names = "GOMEMLIMIT HOME LANG LSAN_OPTIONS NODE_OPTIONS PATH PWD PYTHONUNBUFFERED TMPDIR USER"
    assert [*names.split(), "0"] == answer.out.split()


def test_inherited_terminal_cannot_be_reached(odd_caller):
    """From a caller with a controlling terminal: /dev/tty does not open, no stream is a terminal, no TIOCSTI."""
    master, slave = pty.openpty()
    script = """if True:
        import fcntl, os
        try: os.open("/dev/tty", os.O_RDWR); print("opened")
        except OSError as error: print(error.errno)
        print([os.isatty(fd) for fd in (0, 1, 2)])
        print(open("/proc/self/stat").read().rpartition(")")[2].split()[4])"""
    setup = "os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.close(os.open('/dev/tty', os.O_RDWR))"
    try:
        answer = odd_caller(setup, *python(script), stdin=slave)
    finally:
        os.close(master)
        os.close(slave)
    assert (FINE, "6\n[False, False, False]\n0\n") == (answer.end, answer.out)


def test_inherited_working_directory_deleted_is_harmless(odd_caller):
    """A caller whose directory was removed can still run something."""
    setup = "place = tempfile.mkdtemp(); os.chdir(place); os.rmdir(place)"
    answer = odd_caller(setup, "pwd")
    assert (FINE, "/workspace\n") == (answer.end, answer.out)
    answer = odd_caller("", "pwd", early=setup)
    assert (FINE, "/workspace\n") == (answer.end, answer.out)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_inherited_closed_streams_are_harmless(odd_caller, closed):
    """With any of 0, 1, 2 closed, descriptors of ours land there; each still arrives where it belongs."""
    setup = "".join(f"os.close({fd});" for fd in closed)
    answer = odd_caller(setup, "sh", "-c", "cat; echo out; echo err >&2; exit 3")
    assert ((3, None, "", None), "out\n", "err\n") == (answer.end, answer.out, answer.err)


def test_inherited_no_new_privs_is_harmless(odd_caller):
    """A caller that has given up privileges can still make a sandbox."""
    answer = odd_caller("assert libc.prctl(38, 1, 0, 0, 0) == 0", "id", "-u")
    assert (FINE, "1000\n") == (answer.end, answer.out)


TIMERS = """
for number in (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF): signal.signal(number, lambda *_: None)
for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF): signal.setitimer(timer, 0.05, 0.05)
"""


def test_inherited_timers_do_not_get_in(odd_caller):
    """A caller's alarm rings for the caller, and interrupts nothing of ours on either side."""
    answer = odd_caller(TIMERS, "sh", "-c", "sleep 0.3; echo slept")
    assert (FINE, "slept\n") == (answer.end, answer.out)


def test_inherited_parent_death_signal_does_not_get_in(odd_caller):
    """The caller's own parent-death signal is not the sandbox's."""
    answer = odd_caller("assert libc.prctl(1, 9, 0, 0, 0) == 0", "true")
    assert FINE == answer.end


def test_run_survives_the_end_of_its_thread(odd_caller, core_path):
    """A core outlives the thread that spawned it: a parent-death signal is a thread's, and we use none there."""
    setup = f"""
talks = []
thread = threading.Thread(target=lambda: talks.append(handwritten_plans.Talk({str(core_path)!r})))
thread.start(); thread.join()
talks[0].room(plan.room); talks[0].payload(plan.payload)
assert talks[0].report().exited == 0
talks[0].__exit__()
"""
    assert FINE == odd_caller(setup, "true").end


@pytest.mark.root
def test_inherited_capabilities_and_groups_do_not_get_in(odd_caller):
    """Inheritable and ambient capabilities, keep-caps and supplementary groups of a root caller end at the wall."""
    setup = """
os.setgroups([0, 4, 27, 100])
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
sets[2], sets[5] = sets[1], sets[4]
assert libc.capset(header, sets) == 0
assert libc.prctl(47, 2, 0, 0, 0) == 0 and libc.prctl(8, 1, 0, 0, 0) == 0
"""
    command = ("sh", "-c", "grep -E '^(Cap|Groups|NoNewPrivs|Seccomp:)' /proc/self/status; id -G")
    answer = odd_caller(setup, *command)
    rows = dict(line.split(":\t", 1) for line in answer.out.splitlines() if ":" in line)
    zero = f"{0:016x}"
    expected = {f"Cap{name}": zero for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
    assert {**expected, "NoNewPrivs": "1", "Seccomp": "2"} == {
        name: text for name, text in rows.items() if name != "Groups"
    }
    assert not {"0", "4", "27", "100"} & set(rows["Groups"].split())


@pytest.mark.root
def test_inherited_oom_score_does_not_get_in(odd_caller):
    """A caller that the kernel spares does not spare the command: the sandbox goes first."""
    setup = """
score = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
try: os.write(score, b"-1000")
except PermissionError: os.write(score, b"17")  # a host without CAP_SYS_RESOURCE lets nobody go down
os.close(score)
"""
    answer = odd_caller(setup, "cat", "/proc/self/oom_score_adj")
    assert (FINE, "1000\n") == (answer.end, answer.out)


def test_inherited_pending_signals_do_not_get_in(odd_caller):
    """A signal that waits for the caller is not delivered to the command."""
    setup = "signal.pthread_sigmask(signal.SIG_BLOCK, {10, 15, 34}); [os.kill(os.getpid(), number) for number in (10, 15, 34)]"
    answer = odd_caller(setup, "sh", "-c", "echo fine")
    assert (FINE, "fine\n") == (answer.end, answer.out)
