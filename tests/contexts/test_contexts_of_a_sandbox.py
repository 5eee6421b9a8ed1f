"""What a sandbox does with its contexts: its own ones, their limits, their files, their end."""

from __future__ import annotations

import gc
import threading

import pytest
from places import GRACE_MS

from capsule_run import CapsuleError, Sandbox

pytestmark = pytest.mark.sandbox


def test_sandbox_has_a_context_of_its_own():
    """`run_code` keeps variables from call to call, beside commands and files of the same sandbox."""
    with Sandbox() as box:
        box.files.write("data.txt", "40")
        box.run_code("x = int(open('data.txt').read())")
        assert "42" == box.run_code("x + 2").text
        box.run_code("open('out.txt', 'w').write(str(x));")
        assert "40" == box.run(["cat", "out.txt"]).stdout


def test_contexts_of_a_sandbox_share_files_and_no_variables():
    """Each context has names of its own, and the directory that it was given."""
    with Sandbox() as box:
        one, two = box.create_context(cwd="/tmp"), box.create_context()
        one.run_code("x = 1\nopen('/workspace/shared', 'w').close()")
        assert "NameError" == two.run_code("x").error.name
        assert "['shared']" == two.run_code("import os; os.listdir()").text
        assert "'/tmp'" == one.run_code("import os; os.getcwd()").text


def test_cell_that_uses_up_its_memory_ends_its_interpreter_only():
    """An interpreter has less memory than its sandbox, which lives on with its files; the result says why."""
    with Sandbox(memory="256M") as box:
        box.run_code("open('kept', 'w').close()")
        result = box.run_code("hoard = []\nwhile True: hoard.append(b'x' * (1 << 20))")
        assert ("killed", "memory", True) == (result.status, result.error.cause, result.state_lost), result
        assert "`memory=`" in result.error.hint
        assert "kept\n" == box.run(["ls"]).stdout
        assert "2" == box.run_code("1 + 1").text


def test_fork_storm_of_a_cell_leaves_the_sandbox_usable():
    """Whatever a cell leaves running ends with its interpreter, and the next cell has a new one."""
    with Sandbox(max_pids=60) as box:
        context = box.create_context(grace_ms=100)
        storm = "while True:\n    try: os.fork()\n    except OSError: pass"
        context.run_code("import os, signal")
        assert context.run_code(f"signal.signal(signal.SIGINT, signal.SIG_IGN)\n{storm}", timeout_ms=1000).state_lost
        assert "hello\n" == box.run(["echo", "hello"]).stdout
        assert "2" == context.run_code("1 + 1").text


def test_restart_ends_what_cells_left_running():
    """A process that a cell started, in a session of its own, does not outlive the interpreter."""
    with Sandbox() as box:
        context = box.create_context()
        context.run_code("import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True);")
        seen = "import glob; [one for one in glob.glob('/proc/[0-9]*/comm') if 'sleep' in open(one).read()]"
        assert "[]" != context.run_code(seen).text
        context.restart()
        assert "[]" == context.run_code(seen).text


def test_end_of_the_sandbox_ends_a_cell_that_runs():
    """A sandbox that is killed while a cell runs ends the cell with a result; nobody waits for ever."""
    box = Sandbox()
    context = box.create_context()
    begun, results = threading.Event(), []
    code = "print('on')\nwhile True: pass"
    thread = threading.Thread(target=lambda: results.append(context.run_code(code, on_stdout=lambda _: begun.set())))
    thread.start()
    begun.wait()
    box.kill()
    thread.join()
    assert results[0].state_lost
    assert results[0].status in ("killed", "error"), results[0]


def test_cell_of_a_killed_sandbox_says_so():
    """A context of a sandbox that is gone is closed."""
    box = Sandbox()
    context = box.create_context()
    context.run_code("1")
    box.kill()
    with pytest.raises(CapsuleError, match="E1009: the context is closed"):
        context.run_code("1")


def test_sandbox_that_nobody_refers_to_ends_with_its_context():
    """Garbage collection ends a sandbox at once, also one that has a context: the leftover check sees what remains."""
    box = Sandbox()
    box.run_code("1")
    gc.disable()
    try:
        del box
    finally:
        gc.enable()


def test_cell_does_not_count_as_idle():
    """A cell that runs longer than the idle time keeps its sandbox alive."""
    with Sandbox(idle_timeout_ms=1500) as box:
        assert "'done'" == box.run_code("import time\ntime.sleep(3)\n'done'").text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"language": "ruby"}, "E1005: language: a context has `python` or `javascript`, got `ruby`"),
        ({"memory": "1T"}, "E1004: `memory`"),
        ({"cwd": "relative"}, "E1005: .*: must be an absolute path"),
        ({"grace_ms": -1}, "E1004: grace_ms: must be from 0"),
    ],
)
def test_wrong_context_is_refused_at_once(arguments, message):
    """What is wrong with a context is said when it is made, not at its first cell."""
    with Sandbox() as box, pytest.raises(CapsuleError, match=message):
        box.create_context(**arguments)


def test_profile_that_allows_no_process_is_a_clear_error():
    """Under `strict` an interpreter cannot start, and the result says what was denied."""
    with Sandbox(profile="strict") as box:
        error = box.run_code("1").error
    assert "the interpreter did not start" in error.message
    assert "`clone`" in error.hint


def test_missing_directory_of_a_context_is_a_clear_error():
    """A working directory that does not exist is the reason why the interpreter did not start."""
    with Sandbox() as box:
        result = box.create_context(cwd="/no/such").run_code("1")
    assert ("error", True) == (result.status, result.state_lost)
    assert "/no/such" in result.error.message


def test_forged_end_of_one_context_does_not_reach_another():
    """What code writes to its own descriptors, and to those of its relay, is of its own context alone."""
    with Sandbox() as box:
        one, two = box.create_context(grace_ms=GRACE_MS), box.create_context(grace_ms=GRACE_MS)
        two.run_code("kept = 1")
        forge = [
            "import os",
            "fd = os.open(f'/proc/{os.getppid()}/fd/1', os.O_WRONLY)",
            "os.write(fd, b'forged' * 100)",
        ]
        result = one.run_code("\n".join([*forge, "while True: pass"]), timeout_ms=20_000)
        assert result.error.name in ("BrokenMessage", "PermissionError"), (
            result
        )  # the pipe is the caller's: root's, or ours
        assert "1" == two.run_code("kept").text
