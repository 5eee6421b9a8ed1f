"""Kernels back to 5.10, and containers that hide newer calls: each fall-back is forced, and keeps every promise.

The caller runs under a filter that answers ENOSYS for a call, so no process below it can have made that call; with
EPERM in its place the run must fail, which shows that the call is really wanted there: so with ENOSYS the fall-back ran.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import capsule_run

pytestmark = pytest.mark.sandbox

# The numbers of calls that are as new as these are the same on every architecture.
CALLS = {"clone3": 435, "close_range": 436, "openat2": 437, "mount_setattr": 442, "landlock_create_ruleset": 444}
HIDDEN = [[name] for name in CALLS] + [list(CALLS)]

CALLER = """
import json, os, posix, sys
sys.path[:0] = {path!r}
import ctypes, struct, tempfile
import handwritten_plans
from capsule_run.model.request import Bind, Isolation, Workspace
libc = ctypes.CDLL(None, use_errno=True)

def answer(numbers, error):
    "Every call with one of these numbers is answered with `error`, from here on and in every process below."
    code = [(0x20, 0, 0, 0)]  # load the number of the call
    for at, number in enumerate(numbers):
        code.append((0x15, len(numbers) - at, 0, number))
    code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | error)]
    packed = b"".join(struct.pack("=HBBI", *one) for one in code)
    program = ctypes.create_string_buffer(packed)
    fprog = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(program)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(fprog), 0, 0) == 0
    for number in numbers:
        assert libc.syscall(number, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() == error

core = {core!r}

def spawn(path, argv, env, *, file_actions):
    "As posix_spawn, which in glibc needs the very calls that are hidden here; the core is what is under test."
    pid = os.fork()
    if pid == 0:
        for action, *arguments in file_actions:
            if action == os.POSIX_SPAWN_DUP2: os.dup2(*arguments)
            else: os.dup2(os.open(*arguments[1:]), arguments[0])
        os.execve(path, argv, env)
    return pid

posix.posix_spawn = spawn
{before}
answer({numbers!r}, {error!r})
said = []
{script}
with open({answers!r}, "w") as file:
    json.dump(said, file)
"""


@pytest.fixture
def hidden(core_path, tmp_path):
    """Run a script in a process in which the calls `names` give `error`; what it appends to `said` comes back."""

    def run(names, script, error=errno.ENOSYS, before=""):
        answers = tmp_path / "answers"
        path = [str(Path(__file__).parent), str(Path(capsule_run.__file__).parent.parent)]
        numbers = [CALLS[name] for name in names]
        text = CALLER.format(
            path=path,
            core=str(core_path),
            numbers=numbers,
            error=int(error),
            script=script,
            answers=str(answers),
            before=before,
        )
        done = subprocess.run([sys.executable, "-I", "-c", text], capture_output=True, timeout=60)
        assert (0, b"") == (done.returncode, done.stderr)
        return json.loads(answers.read_text())

    return run


def names_of(names):
    return " ".join(names) if len(names) == 1 else "all"


each_and_all = pytest.mark.parametrize("names", HIDDEN, ids=names_of)
REPORT = """
said += [report.exited, report.signalled, report.killed, handwritten_plans.failure(report), report.landlock_abi]
said += [out.decode(), err.decode()]
"""
RUN = "report, out, err = handwritten_plans.run_command(core, *{command!r}, **dict({fields}))\n" + REPORT


def run_of(*command, fields=""):
    return RUN.format(command=command, fields=fields)


@each_and_all
def test_fallback_runs_a_command(hidden, names):
    """A sandbox can be had without the call, and Landlock is reported as absent exactly where it is."""
    exited, _signalled, killed, failed, abi, out, _err = hidden(names, run_of("sh", "-c", "id -u; exit 3"))
    assert (3, "", None, "1000\n") == (exited, killed, failed, out)
    assert ("landlock_create_ruleset" in names) == (abi == 0) or not capsule_run_has_landlock()


def capsule_run_has_landlock():
    import ctypes

    return ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1) > 0


PROBE = """if True:
    import os
    failed = []
    for path in ("/usr/x", "/usr/bin/x", "/x", "/etc/x", "/dev/x", "/proc/x", "/proc/self/x"):
        try: os.open(path, os.O_WRONLY | os.O_CREAT); failed.append(path)
        except OSError as error:
            if error.errno not in (30, 13, 2): failed.append((path, error.errno))
    flags = {}
    for line in open("/proc/self/mountinfo"):
        fields = line.split()
        flags[fields[4]] = fields[5].split(",")
    for path, wanted in {"/": "ro nosuid nodev", "/usr": "ro nosuid nodev", "/proc": "rw nosuid nodev noexec",
                         "/proc/sys": "ro nosuid nodev noexec",
                         "/tmp": "rw nosuid nodev",
                         "/dev/null": "nosuid noexec", "/dev/pts": "nosuid noexec", "/workspace": "nosuid nodev"}.items():
        failed += [(path, word, flags[path]) for word in wanted.split() if word not in flags[path]]
    for path in ("/tmp/x", "/dev/shm/x", "/workspace/x", "/dev/null"):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    print(failed, os.listdir("/proc/self/fd"), os.path.exists("/srv"), os.path.exists("/mnt"))"""


@each_and_all
def test_fallback_mounts_keep_their_flags(hidden, names):
    """Read-only stays read-only, nothing honours set-user-id or device nodes, and no descriptor of ours is left."""
    said = hidden(names, run_of("python3", "-I", "-S", "-c", PROBE))
    assert [0, None, "", None] == said[:4]
    assert "[] ['0', '1', '2', '3'] False False\n" == said[5]


@each_and_all
def test_fallback_submount_of_a_bind_is_read_only(hidden, names, tmp_path, needs):
    """A mount beneath a read-only path of the caller is read-only as well, or it is not there."""
    needs("root")
    tmp_path.joinpath("under").mkdir()
    before = (
        "assert libc.unshare(0x20000) == 0 and libc.mount(None, b'/', None, 0x44000, None) == 0\n"
        f"assert libc.mount(b'tmpfs', {bytes(tmp_path / 'under')!r}, b'tmpfs', 0, b'mode=0777') == 0\n"
    )
    tmp_path.chmod(0o755)
    script = f"""
from capsule_run.model.request import Request
from capsule_run.engine.execute import execute
command = ("sh", "-c", "echo x > {tmp_path}/under/file && echo written; cat {tmp_path}/under/* && echo read; ls {tmp_path}")
result = execute(Request(command=command, isolation=Isolation(readonly_paths=({str(tmp_path)!r},))), core_path=core)
said += [result.status, result.stdout]
"""
    assert ["success", "under\n"] == hidden(names, script, before=before)


@each_and_all
def test_fallback_closes_descriptors_of_the_caller(hidden, names):
    """What the caller left open is closed in the launcher, by whatever means it has."""
    script = """
kept = [os.open("/etc/passwd", os.O_RDONLY), *os.pipe()] + [os.open("/", os.O_RDONLY) for _ in range(200)]
for fd in kept: os.set_inheritable(fd, True)
plan = handwritten_plans.compiled("true")
with handwritten_plans.Talk(core) as talk:
    talk.room((*plan.room, ("offer", "/workspace")))
    os.close(talk.receive()[1][0])
    there = handwritten_plans.descriptors_of(talk.pid)
    said += [st.st_ino for st in there if (st.st_dev, st.st_ino) in {(st.st_dev, st.st_ino) for st in map(os.fstat, kept)}]
"""
    assert [] == hidden(names, script)


SOURCES = """
plan = handwritten_plans.compiled("true")
verb = "source" if any(step[0] == "source" for step in plan.room) else "inner-source"
place = tempfile.mkdtemp()
os.mkdir(place + "/real"); os.mkdir(place + "/real/deep"); os.symlink("real", place + "/link")
within = [place + name for name in ("/real", "/link", "/link/deep", "/none", "/real/" + "x" * 300)]
for path in (*within, "/proc/self/root/usr"):
    seen = os.lstat(path) if os.path.lexists(path) and not path.startswith("/proc") else os.stat("/usr")
    inode = seen.st_ino + (path == place + "/real")
    room = handwritten_plans.changed(plan.room, verb, (verb, path, str(seen.st_dev), str(inode)), which=1)
    with handwritten_plans.Talk(core) as talk:
        talk.room((*room, ("offer", "/workspace")))
        message, fds = talk.receive()
        for fd in fds: os.close(fd)
        words = [line.split() for line in message.decode().splitlines()]
        failed = [line for line in words if line[0] == "failed-room"]
        said += [int(code) for _, step, code in failed if int(step) == handwritten_plans.number_of(room, verb, path)] or ["ran"]
for name in ("/link", "/real/deep", "/real", ""): (os.unlink if name == "/link" else os.rmdir)(place + name)
"""


@each_and_all
def test_fallback_checks_sources(hidden, names):
    """A swapped source, a link as source, on the way or magic, a missing one: each is refused as it is with the newer call."""
    expected = [errno.ESTALE, errno.ELOOP, errno.ELOOP, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP]
    assert expected == hidden(names, SOURCES)


PLACES = """
plan = handwritten_plans.compiled("true")
for path in ("/new/dev/fd/x", "/new/none/x", "/new/etc/hostname/x"):
    room = handwritten_plans.after(plan.room, "symlink", ("dir", path, "0755"))
    with handwritten_plans.Talk(core) as talk:
        talk.room((*room, ("offer", "/workspace")))
        message, fds = talk.receive()
        for fd in fds: os.close(fd)
        said.append(b"failed-room %d " % handwritten_plans.number_of(room, "dir", path) in message)
"""


@each_and_all
def test_fallback_resolves_places_beneath_the_root(hidden, names):
    """No link and no missing parent is passed when things are made."""
    assert [True, True, True] == hidden(names, PLACES)


@each_and_all
def test_fallback_kill_reaches_every_process(hidden, names):
    """The kill reaches the whole tree, whichever call made it."""
    script = run_of("sh", "-c", "(setsid sleep 1000 &); sleep 1000", fields="timeout_ms=100")
    assert [None, None, "clock", None] == hidden(names, script)[:4]


@each_and_all
def test_fallback_workspace_does_not_change_the_host(hidden, names, tmp_path):
    """Copy-on-write or read-only, as the host allows: the caller does not see what the command does to its directory."""
    tmp_path.chmod(0o755)
    tmp_path.joinpath("ours").mkdir(mode=0o777)
    tmp_path.joinpath("ours", "file").write_text("as it was")
    script = f"""
from capsule_run.model.request import Request
from capsule_run.engine.execute import execute
request = Request(command=("sh", "-c", "cat file; echo changed > file; rm -f file; touch new; true"),
                  isolation=Isolation(workspace=Workspace(source={str(tmp_path / "ours")!r})))
result = execute(request, core_path=core)
said += [result.status, result.stdout, result.error and result.error.message]
"""
    status, out, message = hidden(names, script)
    assert ("success", "as it was", None) == (status, out, message)
    assert ["as it was"] == [path.read_text() for path in tmp_path.joinpath("ours").iterdir()]


# The half, and the steps of which one is the first to meet it: launcher and init work side by side.
REFUSED = {
    "clone3": ("room", ("namespace",)),
    "openat2": ("room", ("source", "dir")),
    "mount_setattr": ("room", ("bind",)),
    "landlock_create_ruleset": ("payload", ("landlock",)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_fallback_is_not_taken_on_eperm(hidden, name):
    """EPERM in the place of ENOSYS is a "no" of the host: the run fails and names the step, and no fall-back is taken."""
    script = """
plan = handwritten_plans.compiled("true")
report, out, err = handwritten_plans.run(core, plan)
half, step, code = handwritten_plans.failure(report)
said += [half, (plan.room if half == "room" else plan.payload)[step][0].removeprefix("inner-"), code, report.exited]
"""
    half, steps = REFUSED[name]
    found, step, *rest = hidden([name], script, error=errno.EPERM)
    assert (half, [errno.EPERM, None]) == (found, rest)
    assert step in steps


def test_close_range_denied_ends_the_core_before_it_reads(hidden):
    """The core does not run with descriptors that it could not close, and reports it; there is no plan yet, and so no step."""
    script = """
with handwritten_plans.Talk(core) as talk:
    talk.room(handwritten_plans.compiled("true").room)
    said += [talk.core.receive().decode(), os.waitstatus_to_exitcode(talk.close())]
"""
    report, status = hidden(["close_range"], script, error=errno.EPERM)
    assert (True, 0) == (f"\nfailed-room {(1 << 31) - 1} {errno.EPERM}\n" in report, status)


@pytest.mark.parametrize("name", CALLS)
def test_fallback_not_taken_is_a_setup_error(hidden, name):
    """What the caller of the product gets is an error of the set-up, and nothing has run."""
    script = """
from capsule_run.model.request import Request
from capsule_run.engine.execute import execute
result = execute(Request(command=("true",)), core_path=core)
said += [result.status, result.exit_code, result.error.code[:2], bool(result.error.message)]
"""
    said = hidden([name], script, error=errno.EPERM)
    assert ["error", None, True] == [*said[:2], said[3]]
    assert said[2] in ("E2", "E6")


NO_EXIT = """
import capsule_run
# ioctl(2) with PIDFD_GET_INFO: the number first, and of the request the low half
code = [(0x20, 0, 0, 0), (0x15, 0, 2, {ioctl}), (0x20, 0, 0, 24), (0x15, 1, 0, 0xC040FF0B)]
code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | {error})]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in code))
fprog = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(program)))
assert libc.prctl(22, 2, ctypes.byref(fprog), 0, 0) == 0
code = "import os, subprocess, time; child = subprocess.Popen(['sleep', '60']); time.sleep(0.1); child.kill(); time.sleep(0.1)"
run = capsule_run.run(["/usr/bin/python3", "-I", "-S", "-c", code], ledger=True)
said += [dict(one) for one in run.processes if one["pid"] != run.processes[0]["pid"]]
"""


def test_fallback_process_end_is_read_from_the_zombie(hidden):
    """Before Linux 6.15 nobody remembers how a process ended but the process itself, until its parent waits for it."""
    ioctl = {"x86_64": 16, "aarch64": 29}[os.uname().machine]
    killed = hidden([], NO_EXIT.format(ioctl=ioctl, error=int(errno.ENOTTY)))
    assert [(["sleep", "60"], 9, True)] == [(one["argv"], one["signal"], "ended_ms" in one) for one in killed]
