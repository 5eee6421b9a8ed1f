"""How a command ends is what the report says, and its end is the end of everything that it started."""

from __future__ import annotations

import signal

import pytest
from handwritten_plans import Talk, compiled, failure, run_command, run_python

pytestmark = pytest.mark.sandbox


@pytest.mark.parametrize("first", range(0, 256, 32))
def test_exit_code_of_the_command_is_reported(core_path, first):
    """All 256 exit codes are the command's own: none has a meaning of ours."""
    plans = {code: compiled("sh", "-c", f"exit {code}") for code in (first, first + 31)}
    for code in range(first, first + 32):
        plan = plans.get(code) or compiled("sh", "-c", f"exit {code}")
        with Talk(core_path) as talk:
            talk.room(plan.room)
            talk.payload(plan.payload)
            report = talk.report()
        assert (code, None, "", None) == (report.exited, report.signalled, report.killed, failure(report))


FATAL = sorted(set(range(1, 32)) - {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, *range(19, 23)})
HARMLESS = [signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH]


@pytest.mark.parametrize("number", [*FATAL, 34, 50, 63, 64])
def test_exit_signal_of_the_command_is_reported(core_path, number):
    """A command that ends itself by a signal was ended by that signal."""
    report, out, _err = run_python(
        core_path, f"import os; os.write(1, b'before'); os.kill(os.getpid(), {number}); os._exit(9)"
    )
    # Python itself ignores two of them, and the core it would write is none
    ignored = number in (signal.SIGPIPE, signal.SIGXFSZ)
    assert ((9, None) if ignored else (None, number)) == (report.exited, report.signalled)
    assert (b"before", "") == (out, report.killed)


@pytest.mark.parametrize("number", HARMLESS)
def test_exit_signal_without_effect_is_ignored(core_path, number):
    """Nothing of ours gives a meaning to a signal that has none: the command goes on."""
    report, *_ = run_python(core_path, f"import os; os.kill(os.getpid(), {number}); os._exit(9)")
    assert (9, None) == (report.exited, report.signalled)


@pytest.mark.parametrize("how", ["abort", "segv", "illegal", "fpe"])
def test_exit_by_crash_is_a_signal_without_core_file(core_path, how):
    """A crash is reported as the signal it was, and no core file is written."""
    script = {
        "abort": "import os; os.abort()",
        "segv": "import ctypes; ctypes.string_at(0)",
        "illegal": "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
        "fpe": "import os, signal; os.kill(os.getpid(), signal.SIGFPE)",
    }[how]
    report, *_ = run_python(core_path, script)
    assert {"abort": 6, "segv": 11, "illegal": 4, "fpe": 8}[how] == report.signalled


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU])
def test_exit_of_a_stopped_command_is_not_reported(core_path, number):
    """A command that stops itself goes on counting against its clock, and nobody takes the stop for an end."""
    report, *_ = run_python(
        core_path,
        f"import os, signal; signal.signal(18, lambda *a: 0); os.kill(os.getpid(), {number}); os._exit(4)",
        timeout_ms=200 if number == signal.SIGSTOP else 20_000,
    )
    # the process group of the command is an orphaned one: there only SIGSTOP stops
    assert ("clock" if number == signal.SIGSTOP else "") == report.killed


def test_exit_of_a_continued_command_is_its_own(core_path):
    """A command may stop and be continued; its end is its own."""
    script = """if True:
        import os, signal, time
        me = os.getpid()
        if os.fork() == 0:
            while open(f"/proc/{me}/stat").read().rpartition(")")[2].split()[0] != "T": pass
            os.kill(me, signal.SIGCONT); os._exit(0)
        os.kill(me, signal.SIGSTOP)
        os._exit(6)"""
    report, *_ = run_python(core_path, script)
    assert (6, "") == (report.exited, report.killed)


def test_exit_ends_daemons(core_path):
    """A grandchild that left the session, closed everything and ignores signals does not outlive the command."""
    script = """if True:
        import os, signal, time
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in range(1, 65):
                    try: signal.signal(number, signal.SIG_IGN)
                    except (OSError, ValueError): pass
                os.write(write_end, b"x")
                for fd in range(100):
                    try: os.close(fd)
                    except OSError: pass
                while True: time.sleep(1000)
            os._exit(0)
        os.read(read_end, 1)
        os._exit(3)"""
    report, *_ = run_python(core_path, script)
    assert (3, "") == (report.exited, report.killed)


def test_exit_is_not_delayed_by_a_grandchild_with_stdout(core_path):
    """The run ends with the direct child; what holds its output gets the drain time and no more."""
    report, out, _err = run_command(core_path, "sh", "-c", "(setsid sleep 1000 &); echo done; exit 5")
    assert (5, "", b"done\n") == (report.exited, report.killed, out)
    assert report.times["reported"] - report.times["ended"] < 5_000_000_000


def test_drain_keeps_output_of_a_grandchild(core_path):
    """Output that is on its way when the command ends is not lost."""
    script = """if True:
        import os
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            os.close(write_end)
            os.read(read_end, 1)  # until the parent is gone
            os.write(1, b"from the child")
            os._exit(0)
        os._exit(0)"""
    report, out, _err = run_python(core_path, script)
    assert (0, b"from the child") == (report.exited, out)


def test_drain_keeps_output_that_waits_in_pipes(core_path):
    """Everything that the command wrote before its end is there, however full the pipes were."""
    report, out, err = run_command(
        core_path, "sh", "-c", "head -c 900000 /dev/zero; head -c 800000 /dev/zero >&2; exit 1"
    )
    assert (1, 900_000, 800_000) == (report.exited, len(out), len(err))


def test_init_reaps_orphans(core_path):
    """A thousand orphans, more than there may be processes at a time: each is reaped, so none counts any more."""
    script = """if True:
        import os, time
        def fork():  # refused as long as a hundred wait for process 1, and for good if it reaps none
            while True:
                try: return os.fork()
                except BlockingIOError: time.sleep(0.001)
        for _ in range(500):
            if fork() == 0:
                for _orphan in range(2):
                    if fork() == 0: os._exit(0)
                os._exit(0)
            os.wait()
        while left := [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in (1, os.getpid())]:
            time.sleep(0.001)
        os.write(1, b"none left")"""
    report, out, err = run_python(core_path, script)
    assert (0, b"none left", b"", "") == (report.exited, out, err, report.killed)


@pytest.mark.parametrize("number", [9, 15, 19, 2, 1, 11, 17])
def test_init_survives_kill_of_everything(core_path, number):
    """kill(-1) and kill(1) from inside reach the command's own processes at most, never process 1."""
    script = f"""if True:
        import os, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {{2, 1, 15, 11}})
        for target in (1, -1):
            try: os.kill(target, {number})
            except (PermissionError, ProcessLookupError): pass
        os.write(1, open("/proc/1/stat", "rb").read().split()[2])
        os._exit(8)"""
    report, out, _err = run_python(core_path, script)
    assert (8, "") == (report.exited, report.killed)
    assert out in (b"S", b"R")


def test_command_is_not_process_1(core_path):
    """Process 1 is ours, and reaps: the command starts as an ordinary process, whose session and group are its own."""
    script = """if True:
        import os
        parent, group, session = map(int, open("/proc/self/stat").read().rpartition(")")[2].split()[1:4])
        print(parent, os.getpid() == group == session, os.getpid() != 1)"""
    _report, out, _err = run_python(core_path, script)
    assert b"1 True True\n" == out


def test_exit_code_after_exec_is_reported(core_path):
    """exec keeps the process, and so its exit code counts."""
    report, *_ = run_command(core_path, "sh", "-c", "exec sh -c 'exit 44'")
    assert 44 == report.exited


def test_exit_of_the_leading_thread_is_not_the_end(core_path):
    """The command ends with its last thread, not with its first."""
    script = """if True:
        import ctypes, os, threading, time
        def late():
            while open("/proc/self/stat").read().rpartition(")")[2].split()[0] != "Z": pass
            os._exit(12)
        threading.Thread(target=late).start()
        libc = ctypes.CDLL(None)
        libc.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)"""
    report, *_ = run_python(core_path, script)
    assert (12, "") == (report.exited, report.killed)
