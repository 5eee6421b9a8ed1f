"""The line of figures on a terminal while a command runs longer than a second."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest

from capsule_run.cli import colours, live_line
from capsule_run.engine.execute import execute
from capsule_run.host import process_usage
from capsule_run.request.parse import request_from_mapping
from capsule_run.workspace import export

LINE = re.compile(
    rb"(\d+) s of (\d+ s|1 min), CPU \d+\.\d s, memory (about )?[\d.]+( [KM]iB| bytes)? of 512 MiB, \d+ of 100 processes"
)


@pytest.fixture
def on_terminal(capsule_cli, tmp_path):
    """Run the command with stderr on a terminal, and stdout too unless it is given; return what the terminal got."""

    def run(*words, columns=200, stdout=None, **variables):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TERM": "xterm"} | variables
        process = subprocess.Popen(
            [capsule_cli, *words], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
            stdout=theirs if stdout is None else stdout, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 1 << 16):
                said += piece
        except OSError:  # the last process has closed it
            pass
        finally:
            os.close(ours)
        process.wait()
        return said

    return run


# Waits until the line has been drawn a few times. What is waited for is the clock, so a loaded machine only draws it later.
SLOW = ("--timeout", "1m", "--", "sh", "-c")


@pytest.mark.sandbox
def test_live_line_shows_use_and_limits(on_terminal):
    """Time, CPU, memory, processes and output, each with its limit; erased at the end, so that nothing of it stays."""
    said = on_terminal(*SLOW, "echo begun; sleep 3; echo done")
    assert said.startswith(b"begun\r\n")
    drawn = LINE.findall(said)
    assert drawn
    assert b", output 6 bytes" in said
    assert said.endswith(colours.ERASE.encode() + b"done\r\n")
    assert b"begun\r\ndone\r\n" == re.sub(rb"\r\x1b\[K(\x1b\[2m[^\x1b]*\x1b\[0m)?", b"", said)


@pytest.mark.sandbox
def test_live_line_leaves_an_unfinished_line_alone(on_terminal):
    """Behind a prompt, or other text without a newline, nothing is drawn."""
    said = on_terminal(*SLOW, "printf 'name? '; sleep 3; echo")
    assert b"name? \r\n" in said


@pytest.mark.sandbox
def test_live_line_fits_the_terminal(on_terminal):
    """Figures that do not fit are left out, so that it stays one line."""
    said = on_terminal(*SLOW, "sleep 2.5", columns=30)
    drawn = re.findall(rb"\x1b\[2m([^\x1b]*)\x1b\[0m", said)
    assert drawn
    assert max(map(len, drawn)) <= 29
    assert all(re.fullmatch(rb"\d+ s of 1 min, CPU \d+\.\d s", text) for text in drawn)


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("words", "variables"), [(["-q"], {}), ([], {"TERM": "dumb"}), ([], {"TERM": ""})], ids=["quiet", "dumb", "no TERM"]
)
def test_live_line_can_be_switched_off(on_terminal, words, variables):
    """`-q` and a terminal that cannot erase have none."""
    assert b"" == on_terminal(*words, *SLOW, "sleep 2.5", **variables)


@pytest.mark.sandbox
def test_live_line_is_for_terminals_only(capsule_cli, tmp_path):
    """Without a terminal on stderr nothing is drawn, whatever stdout is."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [capsule_cli, *SLOW, "sleep 2.5"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "TERM": "xterm"},
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE,
        )  # fmt: skip
    finally:
        os.close(theirs)
        os.close(ours)
    assert b"" == done.stderr


@pytest.mark.sandbox
def test_live_line_leaves_captured_output_whole(on_terminal, tmp_path):
    """With stdout in a file, and with a JSON response, stdout has what it always has."""
    for words, ending in (((), b"out\n"), (("--pretty",), b"}\n")):
        with (tmp_path / "out").open("wb") as out:
            said = on_terminal(*words, *SLOW, "sleep 2.5; echo out; echo err >&2", stdout=out)
        assert LINE.search(said)
        assert (tmp_path / "out").read_bytes().endswith(ending)
        assert (b"err" in said) == (not words)


@pytest.mark.sandbox
def test_live_line_passes_large_output_on(on_terminal):
    """What goes through us to the terminal is all there, in order."""
    said = on_terminal("--max-output", "4M", "--timeout", "1m", "--", "sh", "-c", "seq 100000; sleep 2")
    plain = re.sub(rb"\r\x1b\[K(\x1b\[2m[^\x1b]*\x1b\[0m)?", b"", said).replace(b"\r", b"")
    assert [b"%d" % number for number in range(1, 100_001)] == plain.split()


HOLD = """
import os, sys, time
held = bytearray(40 << 20)
for at in range(0, len(held), 4096):
    held[at] = 1
if os.fork() == 0:
    while True: time.sleep(1)
while os.times().user < 0.3: pass
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.sandbox
def test_usage_of_a_run_is_what_its_processes_use():
    """Processes, CPU time and memory of a run, read from outside while it goes on; None behind its end."""
    runs, results = [], []
    request = request_from_mapping({"command": ["python3", "-c", HOLD], "timeout_ms": "2m"})
    thread = threading.Thread(target=lambda: results.append(execute(request, on_start=runs.append)))
    thread.start()
    try:
        deadline = time.monotonic() + 60
        used = None
        while time.monotonic() < deadline:
            used = process_usage.of_tree(runs[-1].pid) if runs and runs[-1].pid > 0 else None
            if used is not None and used.processes == 2 and used.cpu_ms >= 300 and (used.memory_bytes or 0) >= 40 << 20:
                break
            time.sleep(0.05)
        assert used is not None
        assert (2, True) == (used.processes, used.cpu_ms >= 300), used
        assert 40 << 20 <= used.memory_bytes < 512 << 20
    finally:
        runs[-1].cancel(15)
        thread.join()
    assert results[0].error.code == "E3007"
    assert process_usage.of_tree(1 << 22) is None


def _children(pid):
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


@pytest.mark.sandbox
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_live_line_on_a_stopped_terminal_delays_no_end(capsule_cli, tmp_path, number):
    """A terminal that takes nothing delays neither the time limit nor the signal that ends us behind it."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [capsule_cli, "--timeout", "2s", "--", "sh", "-c", "seq 50000; sleep 600"],
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "TERM": "xterm"}, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    try:
        deadline = time.monotonic() + 100
        while not _children(run.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        while _children(run.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _children(run.pid)
        assert run.poll() is None  # it waits for the terminal
        run.send_signal(number)
        assert -number == run.wait(60)
    finally:
        run.kill()
        run.wait()
        os.close(ours)


@pytest.mark.sandbox
def test_live_line_is_erased_behind_a_signal(capsule_cli, tmp_path):
    """Ctrl-C ends the run, and nothing of the line stays."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [capsule_cli, "--timeout", "1m", "--", "sleep", "600"],
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "TERM": "xterm"}, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while not LINE.search(said):
            said += os.read(ours, 1 << 16)
        run.send_signal(signal.SIGINT)
        assert 130 == run.wait(60)
        with contextlib.suppress(OSError):  # it is closed
            while piece := os.read(ours, 1 << 16):
                said += piece
    finally:
        run.kill()
        run.wait()
        os.close(ours)
    end = said.rpartition(colours.ERASE.encode())[2]
    assert end.startswith(b"capsule-run: \x1b[31mE3007"), said


@pytest.mark.sandbox
def test_live_line_says_how_many_changes_are_applied(place, monkeypatch):
    """The line is asked for at each file that is written to the host, and counts it; afterwards there is none."""
    seen = []
    original = export.HostTree.file

    def file(*arguments):
        seen.append(line._text(None, 80))
        return original(*arguments)

    monkeypatch.setattr(export.HostTree, "file", file)
    fields = {"command": ["sh", "-c", "touch a b"], "isolation": {"workspace": str(place)}, "apply_changes": True}
    request = request_from_mapping({**fields, "collect": ["*"], "collect_to": str(place / "out")})
    line = live_line.LiveLine(request, stdin=None, terminal=1, captures=True)
    line.stop()
    assert execute(request).ok
    assert ["saving files: 1", "saving files: 2", "applying changes: 1", "applying changes: 2"] == [
        each.partition(" s, ")[2] for each in seen
    ]
    assert " of 30 s" in line._text(None, 80)
