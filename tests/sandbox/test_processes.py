"""Every process of a run: who it was, whose child, how it ended and what it used."""

from __future__ import annotations

import platform

import pytest

EXIT = {"x86_64": 60, "aarch64": 93}[platform.machine()]  # of one thread


@pytest.fixture
def ledger(inside):
    """The processes of a Python program or a command inside, by the name they end with."""

    def run(command, **fields):
        response = inside(command, ledger=True, **fields)
        return response["processes"], response

    return run


def by_words(processes):
    return {" ".join(entry["argv"]): entry for entry in processes if "argv" in entry}


def test_process_list_has_short_lived_children(ledger):
    """Children of a shell, reaped by the shell, each with its argv, parent and exit code."""
    processes, _response = ledger(["sh", "-c", "/bin/true; /bin/false; sh -c 'exit 7'; exit 3"])
    found = {words: entry.get("exit_code") for words, entry in by_words(processes).items()}
    assert {"/bin/true": 0, "/bin/false": 1, "sh -c exit 7": 7} == {
        words: code for words, code in found.items() if words in ("/bin/true", "/bin/false", "sh -c exit 7")
    }
    first = processes[0]
    assert (1, 3, 0.0) == (first["parent"], first["exit_code"], first["started_ms"])
    assert {first["pid"]} == {entry["parent"] for entry in processes[1:]}


def test_process_list_usage_is_per_process(ledger):
    """Processor time and peak memory of the child that used them, and not of its parent."""
    code = "x = bytearray(40 << 20)\nimport time\nwhile time.process_time() < 0.3: pass"
    processes, _response = ledger(["sh", "-c", f"/usr/bin/python3 -I -S -c '{code}'; true"])
    child = next(entry for entry in processes if entry.get("command") == "python3")
    assert child["user_ms"] + child["system_ms"] >= 250
    assert child["max_memory_bytes"] > 40 << 20
    assert processes[0]["max_memory_bytes"] < 20 << 20


def test_process_list_killed_command_has_its_signal(ledger):
    """The command's own death by a signal is in its entry, without an exit code."""
    processes, _response = ledger(["sh", "-c", "kill -SEGV $$"])
    assert (11, None) == (processes[0]["signal"], processes[0].get("exit_code"))


ENDED_BY_ANOTHER = """
import os, signal, subprocess, sys, time
child = subprocess.Popen(["sleep", "60"])
time.sleep(0.2)
os.kill(child.pid, signal.SIGTERM)
if sys.argv[1:] == ["reaped"]:
    child.wait()
time.sleep(0.2)
"""


@pytest.mark.needs("pidfd-exit")
@pytest.mark.parametrize("reaped", [[], ["reaped"]], ids=lambda words: " ".join(words) or "a zombie")
def test_process_list_child_killed_by_another_has_its_signal(ledger, reaped):
    """Who killed it, and whether its parent has waited for it: its program, its end and its signal are listed."""
    processes, _response = ledger(["/usr/bin/python3", "-I", "-S", "-c", ENDED_BY_ANOTHER, *reaped])
    killed = by_words(processes)["sleep 60"]
    assert (15, None, processes[0]["pid"]) == (killed["signal"], killed.get("exit_code"), killed["parent"])
    assert 200 <= killed["ended_ms"] <= processes[0]["ended_ms"] - 100


def test_process_list_zombie_has_its_usage(ledger):
    """Its parent has not waited for it when we look: what it computed is in its entry."""
    code = ENDED_BY_ANOTHER.replace('["sleep", "60"]', '["sh", "-c", "while :; do :; done"]').replace("0.2", "0.5")
    processes, _response = ledger(["/usr/bin/python3", "-I", "-S", "-c", code])
    killed = by_words(processes)["sh -c while :; do :; done"]
    assert killed["signal"] == 15
    assert killed["user_ms"] + killed["system_ms"] > 0


@pytest.mark.needs("pidfd-exit")
def test_process_list_of_a_timeout_has_states(ledger):
    """Of a run that was ended for its time the list says what each process was then."""
    processes, response = ledger(["sh", "-c", "sleep 60 & exec sleep 61"], timeout_ms=1000)
    assert "timeout" == response["status"]
    found = {words: (entry["signal"], entry["ended_ms"] >= 999) for words, entry in by_words(processes).items()}
    assert {"sleep 60": (9, True), "sleep 61": (9, True)} == found


BY_A_THREAD = """
import os, threading, time
if os.fork() == 0:
    time.sleep(0.1)  # so that the thread has a start of its own
    threading.Thread(target=lambda: {act}).start()
    time.sleep(60)
os.wait()
"""


@pytest.mark.parametrize(
    ("act", "words", "code"),
    [("os._exit(6)", "/usr/bin/python3", 6), ("os.execv('/bin/sh', ['sh', '-c', 'sleep 0.2; exit 7'])", "sh", 7)],
)
def test_process_list_thread_is_no_process(ledger, act, words, code):
    """One that ends the process, or becomes another program in its place, is no process of its own."""
    command = ["/usr/bin/python3", "-I", "-S", "-c", BY_A_THREAD.format(act=act)]
    processes, _response = ledger(command)
    found = [(entry["argv"][0], entry["exit_code"]) for entry in processes if entry["parent"] == processes[0]["pid"]]
    assert [(words, code)] == found


def test_process_list_leading_thread_ended_keeps_argv(ledger):
    """The process goes on without it, and is what it was."""
    code = "import ctypes, threading, time\nthreading.Thread(target=lambda: time.sleep(0.3)).start()\n"
    processes, _response = ledger(["/usr/bin/python3", "-I", "-S", "-c", f"{code}ctypes.CDLL(None).syscall({EXIT}, 5)"])
    assert ("/usr/bin/python3", True) == (processes[0]["argv"][0], processes[0]["ended_ms"] >= 300)


def test_process_list_flood_does_not_delay_the_timeout(ledger):
    """A program that makes processes as fast as it can is ended at its deadline, and the list stays bounded."""
    code = "import os\nwhile True:\n    if os.fork() == 0: os._exit(0)\n    os.wait()"
    processes, response = ledger(["/usr/bin/python3", "-I", "-S", "-c", code], timeout_ms=1500)
    assert "timeout" == response["status"]
    assert response["metrics"]["wall_ms"] < 15_000
    assert 0 < len(processes) <= 2000


def test_process_list_not_requested_is_absent(inside):
    """No list, and no process waits for one."""
    assert "processes" not in inside(["true"])


def test_process_list_does_not_allow_denied_syscalls(ledger):
    """The calls that are recorded continue; every other is judged as before."""
    code = "import ctypes; libc = ctypes.CDLL(None); print(libc.unshare(0x10000000))"
    _processes, response = ledger(["/usr/bin/python3", "-I", "-S", "-c", code])
    assert response["status"] == "killed" or "-1\n" == response["stdout"]
