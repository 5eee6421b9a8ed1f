"""How a context ends, begins anew, is interrupted and is closed, and what code can do to it on purpose."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import SimpleNamespace

import pytest
from places import PlainProcess

from capsule_run import CapsuleError
from capsule_run._base.errors import Failure
from capsule_run.contexts import Context

WRITE_TO_DRIVER = """
import os, stat, struct
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        if number > 2 and stat.S_ISFIFO(os.fstat(number).st_mode):
            os.write(number, {0})
    except OSError:
        pass
"""
FORGE = """
import struct
def message(kind, **fields):
    texts = [text.encode() for pair in fields.items() for text in pair]
    payload = bytes([kind]) + b"".join(struct.pack(">I", len(text)) + text for text in texts)
    return struct.pack(">I", len(payload)) + payload
"""

# name: (cell, cause of the error, what its message says)
DEATHS = {
    "os._exit": ("import os; os._exit(5)", "exit", "exited with code 5"),
    "os._exit with success": ("import os; os._exit(0)", "exit", "exited with code 0"),
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", "signal", "SIGSEGV"),
    "abort": ("import os; os.abort()", "signal", "SIGABRT"),
    "kill": ("import os; os.kill(os.getpid(), 9)", "signal", "SIGKILL"),
    "kill of the relay": ("import os; os.kill(os.getppid(), 9)\nwhile True: pass", "ended", "was ended"),
    "all descriptors closed": ("import os; os.closerange(0, 2048)", "exit", "exited"),
    "exec": ("import os; os.execvp('true', ['true'])", "exit", "exited with code 0"),
    "not a message": (WRITE_TO_DRIVER.format("b'forged' * 99"), "protocol", "sent what it never sends"),
    "long message": (WRITE_TO_DRIVER.format("struct.pack('>I', 1 << 31)"), "protocol", "a message of"),
    "empty message": (WRITE_TO_DRIVER.format("bytes(4)"), "protocol", "a message of 0 bytes"),
    "unknown kind": (FORGE + WRITE_TO_DRIVER.format("message(9)"), "protocol", "kind 9"),
    "second start": (FORGE + WRITE_TO_DRIVER.format("message(1, version='9')"), "protocol", "a second start"),
    "end of another cell": (FORGE + WRITE_TO_DRIVER.format("message(3, number='7')"), "protocol", "another cell"),
    "end without a number": (FORGE + WRITE_TO_DRIVER.format("message(3, number='x')"), "protocol", "as a number"),
    "unknown field of an end": (
        FORGE + WRITE_TO_DRIVER.format("message(3, number='2', x='')"),
        "protocol",
        "another cell",
    ),
    "unknown field of a result": (FORGE + WRITE_TO_DRIVER.format("message(2, x='')"), "protocol", "a result with 'x'"),
}


@pytest.mark.parametrize("name", DEATHS)
def test_context_whose_interpreter_is_lost_says_so_and_begins_anew(context, name):
    """The result says why and that the state is lost; what was printed before is kept; the next cell has a new interpreter."""
    code, cause, words = DEATHS[name]
    assert "success" == context.run_code("kept = 1").status
    result = context.run_code(f"print('before')\n{code}")
    assert (cause, True) == (result.error.cause, result.state_lost), result
    assert words in result.error.message
    assert "all variables are lost" in result.error.message
    # some of them write to every pipe; a relay that is killed has had no time to forward
    assert result.stdout.startswith("" if name == "kill of the relay" else "before\n")
    again = context.run_code("kept")
    assert ("NameError", 1) == (again.error.name, again.execution_count)
    assert "restarted" in again.error.hint
    assert "2" == context.run_code("1 + 1").text


def test_forged_end_of_a_cell_fools_that_cell_only(context):
    """A cell that sends its own end early is believed, and then its real end is not: the context begins anew."""
    context.run_code("pass")
    forged = context.run_code(FORGE + WRITE_TO_DRIVER.format("message(3, number='2')") + "\nprint('after')")
    assert ("success", False) == (forged.status, forged.state_lost)
    results = [context.run_code("1 + 1") for _ in range(3)]
    assert "2" == results[-1].text


def test_forged_result_is_the_cells_own_lie(context):
    """A cell can send a result as if it were its value: it lies about itself."""
    result = context.run_code(FORGE + WRITE_TO_DRIVER.format("message(2, **{'main': '1', 'data text/plain': 'lie'})"))
    assert ("lie", "success") == (result.text, result.status)


def test_deep_json_of_a_result_is_text_until_it_is_asked_for(context):
    """A representation as JSON that is nested too deeply does no harm: it has no parsed form."""
    code = "display({'application/json': '[' * 200_000 + ']' * 200_000}, raw=True)"
    result = context.run_code(code)
    assert ("success", None) == (result.status, result.results[0].json)
    assert result.to_json()


def test_cell_is_interrupted_at_its_time_limit_and_keeps_its_variables(context):
    """A time limit ends a cell as KeyboardInterrupt where it was, and nothing is lost."""
    context.run_code("kept = 1")
    result = context.run_code("import time\nprint('before')\ntime.sleep(1000)", timeout_ms=2000)
    assert ("timeout", "timeout", "KeyboardInterrupt") == (result.status, result.error.cause, result.error.name)
    assert (3, False, "before\n") == (result.error.line, result.state_lost, result.stdout)
    assert "time.sleep(1000)" in result.error.traceback
    assert "after 2000 ms" in result.error.message
    assert "1" == context.run_code("kept").text


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import asyncio\nawait asyncio.sleep(1000)",
        "class R:\n    def __repr__(self):\n        while True: pass\nR()",
        "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
        "import threading\nthreading.Event().wait()",
        "import subprocess\nsubprocess.run(['sleep', '1000'])",
    ],
    ids=["loop", "await", "repr", "text of an exception", "lock", "child"],
)
def test_interrupt_ends_whatever_a_cell_waits_for(context, code):
    """A time limit ends loops, waits and methods that hang, and the variables are kept."""
    context.run_code("kept = 1")
    result = context.run_code(code, timeout_ms=300)
    assert ("timeout", False) == (result.status, result.state_lost), result
    assert "1" == context.run_code("kept").text


def test_interrupted_await_runs_its_finally_clauses(context):
    """The task of an interrupted cell is cancelled, and may clean up."""
    lines = ["try:", "    print('on')", "    await asyncio.sleep(1000)", "finally:", "    print('cleaned')"]
    context.run_code("import asyncio\nawait asyncio.sleep(0)")
    result = context.run_code("\n".join(lines), on_stdout=lambda _: context.interrupt())
    assert ("killed", "on\ncleaned\n") == (result.status, result.stdout)


@pytest.mark.parametrize(
    "code",
    [
        "while True:\n    try:\n        time.sleep(1000)\n    except KeyboardInterrupt:\n        pass",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\ntime.sleep(1000)",
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(1000)",
    ],
    ids=["caught", "blocked", "ignored"],
)
def test_cell_that_ignores_its_interrupt_is_killed(tmp_path, code):
    """After its grace the interpreter is killed, which the result says; the next cell has a new one."""
    with Context(lambda: PlainProcess(cwd=tmp_path), grace_ms=200) as context:
        result = context.run_code(f"import signal, time\nprint('before')\n{code}", timeout_ms=2000)
        assert ("timeout", "TimeLimit", True) == (result.status, result.error.name, result.state_lost)
        assert "did not end within 200 ms of its interrupt" in result.error.message
        assert "before\n" == result.stdout
        assert "2" == context.run_code("1 + 1").text


def test_interrupt_from_another_thread_ends_the_cell(context):
    """`interrupt` ends what runs, with a status of its own, and keeps the variables."""
    result = context.run_code("kept = 1\nprint('on')\nwhile True: pass", on_stdout=lambda _: context.interrupt())
    assert ("killed", "cancelled", False) == (result.status, result.error.cause, result.state_lost)
    assert "1" == context.run_code("kept").text


def test_standard_error_of_the_relay_leads_nowhere(context):
    """What code writes to the relay's standard error, which it may find in procfs, does not come out."""
    assert "'/dev/null'" == context.run_code("import os\nos.readlink(f'/proc/{os.getppid()}/fd/2')").text


def test_interrupt_between_cells_does_nothing(context):
    """An interrupt that comes when no cell runs ends none, also not the next one."""
    context.run_code("import time")
    context.interrupt()
    assert "'done'" == context.run_code("time.sleep(0.05)\n'done'").text


def test_cell_may_answer_an_interrupt_itself(context):
    """A cell that catches the caller's interrupt and ends has succeeded."""
    code = "import time\ntry:\n    print('on')\n    time.sleep(1000)\nexcept KeyboardInterrupt:\n    pass\n'caught'"
    result = context.run_code(code, on_stdout=lambda _: context.interrupt())
    assert ("success", "'caught'") == (result.status, result.text)


def test_interrupt_while_results_are_sent_cuts_no_message(context):
    """However often a cell that displays is interrupted, what arrives is whole."""
    context.run_code("big = 'x' * 100_000")
    for _ in range(15):
        result = context.run_code("while True: display(big)", timeout_ms=20)
        assert ("timeout", False) == (result.status, result.state_lost), result
    assert "2" == context.run_code("1 + 1").text


def test_restart_forgets_the_variables_without_a_word_of_loss(context):
    """`restart` was asked for: the next NameError has no hint."""
    context.run_code("kept = 1")
    context.restart()
    error = context.run_code("kept").error
    assert ("NameError", "") == (error.name, error.hint)


def test_close_lets_the_interpreter_flush_its_files(tmp_path):
    """Between cells a context ends as a program ends: files are flushed, `atexit` is called."""
    with Context(lambda: PlainProcess(cwd=tmp_path)) as context:
        context.run_code("import atexit\nopen_file = open('file', 'w')\nn = open_file.write('kept')")
        context.run_code("atexit.register(lambda: open('exit', 'w').close());")
    assert "kept" == tmp_path.joinpath("file").read_text()
    assert tmp_path.joinpath("exit").exists()


def test_close_of_an_interpreter_that_does_not_end_kills_it(tmp_path):
    """A thread that never ends does not keep a context open."""
    with Context(lambda: PlainProcess(cwd=tmp_path), grace_ms=100) as context:
        context.run_code("import threading\nthreading.Thread(target=threading.Event().wait).start()")


def test_closed_context_is_refused(context):
    """A cell of a closed context is E1009; closing twice is no error."""
    context.close()
    context.close()
    with pytest.raises(CapsuleError, match="E1009: the context is closed"):
        context.run_code("1")


def test_exception_of_a_callback_interrupts_the_cell(context):
    """What `on_stdout` raises is the caller's; the cell does not go on, and its variables are kept."""
    context.run_code("kept = 1")
    with pytest.raises(ZeroDivisionError):
        context.run_code("print('on')\nwhile True: pass", on_stdout=lambda _: 1 / 0)
    assert "1" == context.run_code("kept").text


def test_keyboard_interrupt_of_the_caller_interrupts_the_cell(context):
    """Ctrl-C while a cell runs ends the cell before it goes on to the caller."""
    context.run_code("kept = 1")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            context.run_code("print('on')\nwhile True: pass", on_stdout=lambda _: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert "1" == context.run_code("kept").text


def test_cells_of_several_threads_run_one_after_the_other(context):
    """A context has one cell at a time, however many threads ask."""
    context.run_code("count = 0")
    work = "before = count\nimport time; time.sleep(0.002)\ncount = before + 1"
    threads = [threading.Thread(target=lambda: [context.run_code(work) for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "20" == context.run_code("count").text


def test_flood_of_output_does_not_stop_the_interrupt(context):
    """A cell that prints without end is interrupted at its time limit; the first bytes are kept."""
    result = context.run_code("while True: print('x' * 10_000)", timeout_ms=300, max_output=1000)
    assert ("timeout", False, 1000) == (result.status, result.state_lost, len(result.stdout))
    assert result.stdout_stream.total_bytes > 1000


def test_child_left_behind_that_floods_does_not_stop_the_cells(context):
    """What a child of an earlier cell writes without end neither ends nor delays the cells after it."""
    context.run_code("import subprocess\nchild = subprocess.Popen(['yes'])")
    assert "2" == context.run_code("1 + 1").text
    result = context.run_code("child.kill()\nchild.wait()\n'over'")
    assert "'over'" == result.text


def test_large_code_reaches_the_interpreter_whole(context):
    """A cell of several megabytes arrives, also while the interpreter writes."""
    result = context.run_code("print('x' * 3_000_000)\nlen('" + "y" * 4_000_000 + "')")
    assert "4000000" == result.text
    assert 3_000_001 == result.stdout_stream.total_bytes


def test_command_that_starts_no_interpreter_says_so():
    """A process that is none of ours ends in a clear result, and is no endless wait."""
    with Context(lambda: PlainProcess(start=["true"])) as context:
        result = context.run_code("1")
    assert ("error", "InterpreterNotStarted", True) == (result.status, result.error.name, result.state_lost)


def test_process_that_speaks_another_protocol_is_a_clear_error():
    """What is not a frame of ours is an error of this context."""
    with Context(lambda: PlainProcess(start=[sys.executable, "-c", "print('hello, world')"])) as context:
        result = context.run_code("1")
    assert ("protocol", True) == (result.error.cause, result.state_lost)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"code": 5}, "E1003: code: must be a string, got int"),
        ({"code": "", "timeout_ms": 0}, "E1004: timeout_ms: must be from 1 to 86400000, got 0"),
        ({"code": "", "timeout_ms": "5"}, "E1003: timeout_ms: must be a whole number, got str"),
        ({"code": "", "memory": 5}, "E1004: memory: must be from 1048576"),
        ({"code": "", "max_output": -1}, "E1004: max_output: must be from 0"),
        ({"code": "", "memory": "much"}, "E1005: memory: must be a size such as"),
        ({"code": "", "on_stdout": 5}, "E1003: on_stdout: must be callable, got int"),
        ({"code": "x" * (12 << 20)}, "E1008: code: at most"),
    ],
)
def test_wrong_arguments_of_a_cell_are_refused(shared, arguments, message):
    """A wrong argument is named, with what is accepted."""
    with pytest.raises(CapsuleError, match=message):
        shared.run_code(**arguments)


@pytest.mark.parametrize(
    ("language", "message"), [("cobol", "E1005: language: a context has `python`"), (5, "E1003: language")]
)
def test_language_without_contexts_is_refused(language, message):
    """A language that has no context is refused with those that have one."""
    with pytest.raises(CapsuleError, match=message):
        Context(PlainProcess, language=language)


class EndsByALimit(PlainProcess):
    """A process that ends by a limit, of which nothing is known any more once it was killed."""

    def __init__(self):
        super().__init__(start=["true"])
        self.cause = "memory"

    def kill(self):
        super().kill()
        if self.process.returncode is None:
            self.cause = "cancelled"

    def wait(self, timeout=None):
        super().wait(timeout)
        failure = Failure(code="E4001", message="too much", cause=self.cause, details={}, hint="")
        return SimpleNamespace(status="killed", error=failure)


def test_reason_of_an_end_is_heard_before_the_kill():
    """What the sandbox says of a process that ends is waited for: a kill would hide it."""
    with Context(EndsByALimit) as context:
        result = context.run_code("1")
    assert ("memory", "killed") == (result.error.cause, result.status)
