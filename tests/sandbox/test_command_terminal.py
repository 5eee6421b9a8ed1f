"""A command with a terminal of its own, driven as a person would: keys, sizes, signals, and the caller's terminal afterwards."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.sandbox
PATIENCE_S = 50  # for a loaded machine


class Driven:
    """The command on a terminal that the test holds the other side of."""

    def __init__(self, words, cwd, *, columns=80, **variables):
        self.keys, self.terminal = pty.openpty()
        self.resize(24, columns)
        self.before = termios.tcgetattr(self.terminal)
        self.said = b""
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TERM": "xterm-256color", "LANG": "C.UTF-8"} | variables
        self.program = subprocess.Popen(
            list(map(str, words)), cwd=cwd, env=environment, stdin=self.terminal, stdout=self.terminal, stderr=self.terminal,
            preexec_fn=self._own_session,  # noqa: PLW1509  # no thread runs here
        )  # fmt: skip

    @staticmethod
    def _own_session():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows, columns):
        fcntl.ioctl(self.keys, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.keys, text.encode())

    def wait_for(self, text):
        """Return what was said up to the text; what follows is for the next call."""
        wanted, deadline = text.encode(), time.monotonic() + PATIENCE_S
        while wanted not in self.said:
            assert time.monotonic() < deadline, (text, self.said[-3000:])
            self._read(0.2)
        at = self.said.index(wanted) + len(wanted)
        seen, self.said = self.said[:at].decode(), self.said[at:]
        return seen

    def _read(self, seconds):
        if not select.select([self.keys], [], [], seconds)[0]:
            return False
        self.said += os.read(self.keys, 1 << 16)
        return True

    def end(self):
        """Wait for the end; return the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self.program.poll() is None:
            assert time.monotonic() < deadline, self.said[-3000:]
            self._read(0.05)
        while self._read(0):
            pass
        return self.program.returncode

    def is_intact(self):
        """Whether the terminal's modes become what they were; a restorer may still be at it."""
        deadline = time.monotonic() + PATIENCE_S
        while termios.tcgetattr(self.terminal) != self.before:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def close(self):
        if self.program.poll() is None:
            self.program.kill()
        os.close(self.keys)
        os.close(self.terminal)
        self.program.wait()


@pytest.fixture
def driven(capsule_cli, tmp_path):
    """Start the command on a terminal: `driven("-it", "--", "bash")`."""
    started = []

    def start(*words, **options):
        started.append(Driven([capsule_cli, *words], tmp_path, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()


def shell(driven, *words, **options):
    """A shell that is ready, of a known prompt."""
    session = driven("-it", *words, "--env", "PS1=ready> ", "--", "bash", "--norc", "--noprofile", **options)
    session.wait_for("ready> ")
    return session


def test_terminal_edits_resizes_controls_jobs_and_ends_intact(driven):
    """A shell edits its line, sees a new size, gets Ctrl-C and Ctrl-Z, and its exit code is ours."""
    session = shell(driven)
    assert termios.tcgetattr(session.terminal) != session.before  # raw: every key is the command's
    session.type("ecxho $((6 * 7))" + "\x1b[D" * 13 + "\x7f\r")
    session.wait_for("42\r\n")
    session.type("stty size; tput colors; tty\r")
    assert "24 80" in session.wait_for("/dev/pts/0\r\n")
    session.resize(40, 100)
    session.type("until stty size | grep '40 100'; do :; done\r")
    session.wait_for("40 100\r\n")
    session.type("sh -c \"echo g''o; exec cat\"\r")
    session.wait_for("go\r\n")
    session.type("one\n")
    session.wait_for("one\r\none\r\n")  # of the terminal and of cat, which runs
    session.type("\x1a")
    session.wait_for("Stopped")
    session.wait_for("ready> ")
    session.type("fg\r")
    session.wait_for("exec cat")
    session.type("two\n")
    session.wait_for("two\r\ntwo\r\n")
    session.type("\x03")
    session.wait_for("ready> ")
    session.type("echo code $?; exit 3\r")
    session.wait_for("code 130\r\n")
    assert 3 == session.end()
    assert session.is_intact()


def test_terminal_programs_of_the_screen_run(driven, needs):
    """vi edits and saves, top draws and ends, less pages, a Python REPL has colours, and `script` gets a terminal more."""
    session = shell(driven)
    if shutil.which("vi"):
        session.type("vi file\r")
        session.wait_for("~")
        session.type("iwritten\x1b:wq\r")
        session.wait_for("ready> ")
        session.type("cat file\r")
        session.wait_for("written\r\n")
    if shutil.which("top"):
        session.type("top\r")
        session.wait_for("COMMAND")
        session.type("q")
        session.wait_for("ready> ")
    if shutil.which("less"):
        session.type("seq 100 | less\r")
        session.wait_for(":")
        session.type("G")
        session.wait_for("100")
        session.type("q")
        session.wait_for("ready> ")
    session.type("python3 -q\r")
    session.wait_for(">>> ")
    session.type("print('\\x1b[31m' + 'red', __import__('sys').stdin.isatty())\r")
    session.wait_for("\x1b[31mred True")
    session.wait_for(">>> ")
    session.type("\x04")
    session.wait_for("ready> ")
    if shutil.which("script"):
        session.type("script -qc tty /dev/null\r")
        session.wait_for("/dev/pts/1\r\n")
        session.wait_for("ready> ")
    session.type("exit\r")
    assert 0 == session.end()
    assert session.is_intact()


def _processes(pid):
    """All below a process, each with its children behind it."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [one for child in children for one in (child, *_processes(child))]


def _is_gone(pid):
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("victim", ["ours", "our group", "launcher", "init", "command"])
def test_terminal_is_restored_after_kill_9(driven, victim):
    """Whichever of ours is killed, the terminal is as before, and so are the screen and the cursor."""
    session = shell(driven)
    session.type("printf '\\033[?1049h\\033[?25l'; echo dra''wn\r")
    session.wait_for("drawn\r\n")
    ours = session.program.pid
    launcher, init, command = _processes(ours)[:3]
    if victim == "our group":
        os.killpg(ours, signal.SIGKILL)
    else:
        os.kill({"ours": ours, "launcher": launcher, "init": init, "command": command}[victim], signal.SIGKILL)
    code = session.end()
    assert {"ours": -9, "our group": -9, "command": 137}.get(victim, 125) == code
    assert session.is_intact()
    assert _is_gone(launcher)
    assert _is_gone(command)
    while session._read(0):
        pass
    assert b"\x1b[?25h" in session.said.replace(b"\x1b[?7;25h", b"\x1b[?25h")
    assert re.search(rb"\x1b\[\?(1049|1047)l", session.said)


def test_terminal_of_a_session_whose_watcher_is_killed_is_restored(driven):
    """The launcher makes another watcher, and the session goes on to its end."""
    session = shell(driven)
    launcher, init, *_ = _processes(session.program.pid)
    watchers, deadline = [], time.monotonic() + PATIENCE_S
    while not watchers and time.monotonic() < deadline:  # the shell's prompt may be there before it
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        watchers = [int(child) for child in children if int(child) != init]
    assert watchers
    for watcher in watchers:
        os.kill(watcher, signal.SIGKILL)
    session.type("echo still''here; exit 5\r")
    session.wait_for("stillhere\r\n")
    assert 5 == session.end()
    assert session.is_intact()


def test_terminal_is_restored_after_limit_and_signal(driven):
    """A timeout and a signal from outside end the session, and the terminal is as before."""
    session = driven("-it", "--timeout", "1s", "--", "bash", "--norc")
    assert 124 == session.end()
    assert session.is_intact()
    session = shell(driven, "--grace", "100ms")
    session.program.send_signal(signal.SIGTERM)  # which an interactive shell ignores
    assert 128 + signal.SIGTERM == session.end()
    assert session.is_intact()


def test_terminal_that_hangs_up_ends_the_session(driven):
    """When the window is closed, the session ends by SIGHUP, and nothing of it stays."""
    session = shell(driven)
    everybody = _processes(session.program.pid)
    os.close(session.keys)
    session.keys = os.open(os.devnull, os.O_RDONLY)
    assert 128 + signal.SIGHUP == session.program.wait(PATIENCE_S)
    assert [] == [pid for pid in everybody if not _is_gone(pid)]


def test_terminal_is_the_callers_while_stopped(driven):
    """SIGTSTP from outside gives the terminal back as it was; continued, the session goes on."""
    session = shell(driven)
    session.program.send_signal(signal.SIGTSTP)
    assert session.is_intact()
    assert os.WIFSTOPPED(os.waitpid(session.program.pid, os.WUNTRACED)[1])
    session.program.send_signal(signal.SIGCONT)
    session.type("echo b''ack; exit\r")
    session.wait_for("back\r\n")
    assert 0 == session.end()
    assert session.is_intact()


ATTACK = r"""
import ctypes, fcntl, os, termios
for number in (termios.TIOCSTI, 0x541C, termios.TIOCCONS):
    try:
        fcntl.ioctl(0, number, b"x")
        print("typed")
    except OSError as error:
        print("refused", error.errno)
print(sorted(os.listdir("/dev/pts")), [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)])
opened = []
for fd in range(3, 64):
    try:
        opened.append(os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        pass
print("opened", [each for each in opened if "pts" in each or "tty" in each])
print("reaches", [pid for pid in os.listdir("/proc") if pid.isdigit() and os.access(f"/proc/{pid}/fd/0", os.W_OK)])
os.write(1, b"\x1b]52;c;aGk=\x07\x1b[21t\x05\x1bP$qm\x1b\\\x1b[6nend\n")
"""


def test_terminal_of_the_caller_is_out_of_reach(driven, tmp_path):
    """No typing into it, no descriptor of it, no harmful sequence to it; and what it answers late is not the shell's."""
    (tmp_path / "attack.py").write_text(ATTACK)
    session = driven("-it", "--", "python3", "attack.py")
    assert 0 == session.end()
    said = session.said
    assert 3 == said.count(b"refused 1\r\n")
    assert b"['0', 'ptmx'] ['/dev/pts/0', '/dev/pts/0', '/dev/pts/0']" in said
    assert b"opened []\r\n" in said
    assert b"\x1b[6nend\r\n" in said
    for harmful in (b"\x1b]52", b"\x1b[21t", b"\x05", b"\x1bP"):
        assert harmful not in said
    assert b"\x1b[5n" in said.partition(b"end\r\n")[2]  # asked, to know when late answers are over


def test_terminal_throws_late_answers_away(driven):
    """What the terminal answers to a query of the command, after its end, is not left for the caller's shell."""
    session = driven("-it", "--", "printf", "\\033[6n")
    session.wait_for("\x1b[5n")
    session.type("\x1b[1;1R\x1b[0n")
    assert 0 == session.end()
    assert session.is_intact()
    os.set_blocking(session.terminal, False)
    with pytest.raises(BlockingIOError):
        os.read(session.terminal, 100)


def test_terminal_that_is_not_read_holds_nothing_up(driven):
    """Neither a command that reads none of its keys, nor a caller's terminal that takes no output, delays the time limit."""
    session = driven("-it", "--timeout", "2s", "--", "sh", "-c", "stty raw -echo; echo b''egun; sleep 600")
    session.wait_for("begun")
    session.type("x" * 3000)
    session.type("y" * 3000)
    assert 124 == session.end()
    assert session.is_intact()
    session = driven(
        "-it", "--timeout", "3s", "--", "sh", "-c", "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done"
    )
    everybody = []
    while len(everybody) < 3:  # the launcher, init and the command
        everybody = _processes(session.program.pid)
    assert all(_is_gone(pid) for pid in everybody[1:3])  # nobody reads the output
    assert 124 == session.end()
    assert session.is_intact()


def test_terminal_carries_large_input_and_output_whole(driven):
    """A paste of many lines arrives whole, and so does a long listing."""
    session = driven("-it", "--", "sh", "-c", "stty -echo; echo b''egun; wc -l; seq 20000")
    session.wait_for("begun")
    for _ in range(50):
        session.type("x" * 60 + "\r")
    session.type("\x04")
    session.wait_for("50\r\n")
    assert 0 == session.end()
    assert [b"%d" % number for number in range(1, 20_001)] == session.said.split()


@pytest.mark.parametrize(
    ("words", "has_terminal"),
    [
        (["--", "sh"], True),
        (["-i", "--", "sh"], False),
        (["--", "sh", "-c", "tty"], False),
        (["-t", "--", "sh", "-c", "tty"], True),
    ],
    ids=["shell", "-i", "command", "-t"],
)
def test_terminal_is_given_to_a_shell_and_on_request(driven, words, has_terminal):
    """A shell at a terminal gets one; `-i` alone gives none, and a shell with a command needs `-t`."""
    session = driven(*words)
    if words[-1] == "sh":
        if has_terminal:
            session.wait_for("$ ")
        session.type("tty\rexit 0\r" if has_terminal else "tty; exit 0\n")
    session.end()
    assert has_terminal == (b"/dev/pts/0\r\n" in session.said)
    assert has_terminal != (b"not a tty\r\n" in session.said)


def test_terminal_that_is_none_or_captured_is_refused(capsule_cli, driven):
    """`-t` says which stream is no terminal, and what captures the output."""
    done = subprocess.run(
        [capsule_cli, "-it", "--", "sh"], stdin=subprocess.DEVNULL, capture_output=True, cwd="/", check=False
    )
    assert (2, b"") == (done.returncode, done.stdout)
    assert b"E1009: `--tty` passes your terminal on, but stdin is none\n" in done.stderr
    done = subprocess.run([capsule_cli, "-t", "--json"], input=b"{}", capture_output=True, check=False)
    assert 2 == done.returncode
    assert b"`--tty` gives the command a terminal, but `--json` captures its output" in done.stdout
    done = subprocess.run([capsule_cli, "exec", "-t", "--lang", "bash"], input=b"", capture_output=True, check=False)
    assert b"E1009: `--tty` passes your terminal on, but stdin is the code\n" in done.stderr
    session = driven("-t", "--pretty", "--", "sh")
    assert 2 == session.end()
    assert b"`--pretty` captures its output" in session.said


def test_terminal_that_a_shell_does_not_get_is_explained(driven, capsule_cli):
    """A shell at a keyboard whose output goes elsewhere gets no terminal, and a message says why; `-i` asks for that."""
    for word, wanted in (("-v", True), ("-i", False)):
        session = driven("-q", "--", "true")
        session.end()
        done = subprocess.run(
            [capsule_cli, word, "--", "sh"], stdin=session.terminal, capture_output=True, timeout=PATIENCE_S, check=False,
            preexec_fn=lambda terminal=session.keys: os.write(terminal, b"\x04"),  # no thread runs here
        )  # fmt: skip
        assert wanted == (b"`sh` gets no terminal of its own: stdout is none" in done.stderr)


def test_terminal_session_ends_by_its_own_limits_alone(driven):
    """Without `--timeout` a session has a day and all the output it likes; what is given holds."""
    session = shell(driven, "-v")
    session.type("exit\r")
    assert 0 == session.end()
    assert re.search(rb"time .* of 1440 min", session.said) or b"1440 min" in session.said
    session = driven("-it", "--max-output", "1K", "--", "seq", "10000")
    assert 137 == session.end()
    assert b"E4003" in session.said
    assert session.is_intact()
