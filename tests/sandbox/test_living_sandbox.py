"""`Sandbox`: commands, processes and files in one sandbox that lives between the calls."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

import capsule_run
from capsule_run import CapsuleError, Sandbox
from capsule_run.sandbox import process as sandbox_process
from capsule_run.sandbox.streams import Grace

PYTHON = ["/usr/bin/python3", "-I", "-S", "-c"]
SERVER = ["/usr/bin/python3", "-m", "http.server", "8000", "--bind", "127.0.0.1"]
ASK = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/page').read().decode())"
IMPORTS = "import os, signal, time\n"
STORM = "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass"


@pytest.fixture
def box():
    """A sandbox with the defaults."""
    with Sandbox() as sandbox:
        yield sandbox


def until(condition):
    """Wait for a condition that must come true."""
    end = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def lives(pid):
    """Whether a process is there and no zombie, which waits for somebody else."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- commands ---


def test_command_sees_the_files_of_the_one_before(box):
    """Files stay, in the workspace, HOME and the temporary directories."""
    box.run("echo a > file; echo b > /tmp/file; echo c > ~/file")
    assert "a\nb\nc\n" == box.run("cat file /tmp/file ~/file").stdout


def test_command_of_words_and_for_the_shell_are_the_same(box):
    """A string is a line for the shell, a sequence is a program with its arguments."""
    assert box.run("printf '%s' '$HOME'").stdout == box.run(["printf", "%s", "$HOME"]).stdout == "$HOME"


@pytest.mark.parametrize("environment", [{}, {"NAME": "own"}])
def test_variables_of_a_call_are_those_of_the_call_alone(environment):
    """The sandbox's variables are defaults, and a call changes nothing for the next one."""
    with Sandbox(env={"NAME": "sandbox"}, workdir="/tmp") as box:
        assert [environment.get("NAME", "sandbox"), "/tmp"] == box.run(
            "echo $NAME; pwd", env=environment
        ).stdout.split()
        assert ["sandbox", "/"] == box.run("echo $NAME; pwd", cwd="/").stdout.split()


def test_result_of_a_command_is_a_judge_s_result(box):
    """Exit code, limits, metrics and attestation are those of a one-shot run."""
    failed = box.run("exit 3")
    assert (3, "E3003") == (failed.exit_code, failed.error.code)
    assert "E3006" == box.run("sleep 60", timeout_ms=200).error.code
    assert "E4003" == box.run("yes", max_output=1000).error.code
    assert "E3001" == box.run(["no-such-program"]).error.code
    plain, result = capsule_run.run(["true"]), box.run(["true"])
    assert plain.isolation["attested"].keys() == result.isolation["attested"].keys()
    assert plain.metrics.to_dict().keys() >= {"wall_time_s", "max_memory_bytes"} & result.metrics.to_dict().keys()


def test_memory_limit_of_a_call_ends_that_command_alone(box):
    """The process that lives beside it goes on."""
    with box.start("sleep 60") as beside:
        result = box.run([*PYTHON, "x = b'x' * (200 << 20)"], memory="64M")
        assert (True, None) == (result.error is not None, beside.poll())


def test_memory_limit_above_the_sandbox_s_is_refused(box):
    """The message names the argument and both figures."""
    with pytest.raises(CapsuleError, match=r"`memory`: 2147483648 bytes are more than the 536870912 of the sandbox"):
        box.run("true", memory="2G")


def test_run_ends_what_it_leaves_running(box):
    """A process in the background, in a session of its own, is gone when `run` returns."""
    box.run("setsid sh -c 'while :; do touch /tmp/alive; sleep 0.02; done' > /dev/null 2>&1 &")
    box.run("rm -f /tmp/alive")
    time.sleep(0.1)
    assert not box.files.exists("/tmp/alive")


def test_later_commands_have_the_results_of_the_first(box):
    """The second finds a process that is confined already; facts, limits and what is refused are the same."""

    def facts(result):
        attested = {name: fact for name, fact in result.isolation["attested"].items() if "namespace" not in name}
        return result.status, result.stdout, [call["syscall"] for call in result.denied], attested

    results = []
    for _ in range(3):
        results.append(box.run("cat; pwd; unshare -r true; ulimit -n; exit 0", stdin="in", cwd="/tmp"))
        time.sleep(0.2)
    assert [facts(results[0])] * 2 == [facts(result) for result in results[1:]]
    assert 0 in [result.metrics.startup["spawn"] for result in results[1:]]


def test_command_with_other_limits_than_the_sandbox_s_has_them(box):
    """What was confined ahead has the sandbox's, and is kept for the next command that has them, too."""
    for _ in range(2):
        box.run("true")
        time.sleep(0.2)
        assert "which is 4" in box.run("for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait", max_pids=4).error.hint
        assert "E4001" == box.run(["python3", "-c", "x = bytearray(200 << 20)"], memory="100M").error.code


def test_started_command_after_others_leaves_running_what_it_started(box):
    """What was confined ahead is for commands that end with all that they started."""
    for _ in range(2):
        box.run("true")
        time.sleep(0.2)
        process = box.start("sleep 0.5 & exit 3")
        assert 3 == process.wait(30).exit_code
        assert 3 == process.result(30).exit_code


def test_directory_that_is_new_is_the_one_that_a_command_starts_in(box):
    """A process that waits in a directory does not see that another has taken its place."""
    box.run("mkdir sub")
    for number in range(3):
        box.run(f"rm -r sub; mkdir sub; echo {number} > sub/file")
        time.sleep(0.2)
        assert f"{number}\n" == box.run("cat file", cwd="/workspace/sub").stdout


def test_thirty_two_commands_run_at_once(box):
    """All of them are there at the same time: each waits for all others."""
    barrier = "touch /tmp/here-$0; until [ $(ls /tmp | grep -c ^here-) = 32 ]; do sleep 0.05; done"
    processes = [box.start(["sh", "-c", barrier, str(number)], timeout_ms=60_000) for number in range(32)]
    assert {0} == {process.result().exit_code for process in processes}


def test_output_is_handed_on_while_the_command_runs(box):
    """The first line is there before the command ends: what it waits for is made by the callback."""
    seen = []

    def answer(text):
        seen.append(text)
        box.files.write("/tmp/go", "")

    result = box.run("echo first; until [ -e /tmp/go ]; do sleep 0.01; done; echo last", on_stdout=answer)
    assert ("first\nlast\n", "first\n") == (result.stdout, seen[0])


# --- processes ---


def test_server_in_the_background_answers_the_next_command(box):
    """A started process lives on, and the loopback interface is shared."""
    box.files.write("page", "served")
    with box.start(SERVER) as server:
        assert "served\n" == until(lambda: (result := box.run(["/usr/bin/python3", "-c", ASK])).ok and result.stdout)
        assert server.poll() is None


def test_process_reads_what_is_written_to_its_stdin(box):
    """Text or bytes, also more than a pipe holds; a closed stdin is end-of-file."""
    with box.start(["wc", "-c"], stdin=True) as process:
        assert (3, 1 << 20) == (process.stdin.write("é\n"), process.stdin.write(b"x" * (1 << 20)))
        process.stdin.close()
        assert [f"{(1 << 20) + 3}\n"] == list(process.stdout)
    with box.start("while read line; do echo got $line; done", stdin=True) as process:
        lines = iter(process.stdout)
        process.stdin.write(b"one\n")
        assert "got one\n" == next(lines)
        process.stdin.close()
        assert (0, []) == (process.wait(30).exit_code, list(lines))


def test_lines_of_a_process_come_as_they_are_written(box):
    """Each line is there before the next one is written."""
    loop = "for i in 1 2 3; do echo $i; until [ -e /tmp/next-$i ]; do sleep 0.01; done; done"
    with box.start(loop) as process:
        for line in process.stdout:
            box.files.write(f"/tmp/next-{line.strip()}", "")
    assert "1\n2\n3\n" == process.output_so_far


def test_output_of_a_fast_process_is_lost_nowhere(box):
    """More than is kept, while a slow reader iterates: every byte comes."""
    command = "echo ready; read go; seq 700000"
    with box.start(command, stdin=True, max_output=1000) as process:
        pieces = process.stdout.iter_bytes()
        assert b"ready\n" == next(pieces)
        process.stdin.write(b"\n")
        total = sum(len(piece) for piece in pieces)
        assert len("".join(f"{number}\n" for number in range(1, 700001))) == total
        assert 1000 == len(process.output_so_far)


def test_output_before_somebody_iterates_is_not_lost(box):
    """More than is kept waits for the one who begins later."""
    with box.start("seq 700000", max_output=1000) as process:
        box.run("sleep 0.5")
        total = sum(len(piece) for piece in process.stdout.iter_bytes())
        assert (len("".join(f"{number}\n" for number in range(1, 700001))), 0) == (total, process.stdout.missing_bytes)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_stream_that_nobody_takes_holds_up_no_reader_of_the_other(box, name):
    """Iterating over one lets the other go on, and what is missing of that is counted."""
    with box.start("seq 700000 | tee /tmp/all; cat /tmp/all >&2; cat /tmp/all", max_output=1000) as process:
        taken, left = (process.stdout, process.stderr) if name == "stdout" else (process.stderr, process.stdout)
        assert 4_000_000 < sum(len(piece) for piece in taken.iter_bytes())
        assert (0, True) == (taken.missing_bytes, left.missing_bytes > 1_000_000)


def test_server_whose_log_nobody_reads_goes_on(box, monkeypatch):
    """After the first seconds its output is dropped beyond what is kept."""
    monkeypatch.setattr(sandbox_process, "Grace", lambda: Grace(0.2))
    with box.start("seq 700000; touch /tmp/done; sleep 60", max_output=1000) as process:
        assert box.run("until [ -e /tmp/done ]; do sleep 0.05; done", timeout_ms=30_000).ok
        assert (1000, True) == (len(process.output_so_far), process.stdout.missing_bytes > 0)


def test_input_of_a_process_takes_text_and_bytes(box):
    """As `aio` does, and whatever writes to a file."""
    with box.start("cat", stdin=True) as process:
        assert 3 == process.stdin.write("ü\n")
        process.stdin.write(bytearray(b"b\n"))
        print("line", file=process.stdin)
        process.stdin.close()
        assert "ü\nb\nline\n" == process.stdout.read()


def test_reader_that_stops_iterating_stops_no_process(box):
    """The rest is dropped beyond what is kept, as of a stream that nobody reads."""
    with box.start("seq 700000", max_output=1000) as process:
        assert "1\n" == next(iter(process.stdout))
        assert 0 == process.wait(20).exit_code


def test_callback_of_a_command_gets_whole_characters_and_the_result_lists_pieces(box):
    """As of a one-shot run, also for a process."""
    seen = []
    result = box.run("printf '\\303'; sleep 0.1; printf '\\274'", on_stdout=seen.append)
    assert ("ü", [("stdout", "ü")]) == ("".join(seen), [piece[1:] for piece in result.output])
    with box.start("echo a", on_stdout=seen.append) as process:
        assert [("stdout", "a\n")] == [piece[1:] for piece in process.result().output]


@pytest.mark.parametrize(
    "error", [OSError(24, "mine"), CapsuleError("E3001", "mine")], ids=["oserror", "capsule error"]
)
def test_error_of_a_callback_is_not_taken_for_one_of_the_run(box, error):
    """Whatever a callback raises comes out of the call as it is."""

    def fail(_text):
        raise error

    with pytest.raises(type(error)) as caught:
        box.run("echo; sleep 60", on_stdout=fail)
    assert error is caught.value


def test_output_that_nobody_reads_stops_no_process(box):
    """Beyond what is kept it is dropped, and the process ends."""
    with box.start("seq 700000; seq 700000 >&2", max_output=1000) as process:
        assert 0 == process.wait(60).exit_code


def test_process_that_leaves_something_running_has_an_exit_code(box):
    """`wait` returns at the end of the command, `result` at the end of everything."""
    with box.start("sleep 60 & echo started; exit 4") as process:
        assert (4, "started\n", None) == ((early := process.wait(30)).exit_code, early.stdout, early.metrics)
        with pytest.raises(TimeoutError):
            process.result(0.05)
        process.kill()
        assert "killed" == process.result().status


@pytest.mark.parametrize(
    "code",
    [
        "if os.fork() == 0:\n    os.setsid()\n    print(1, flush=True)\ntime.sleep(60)",
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        print(1, flush=True)\n        time.sleep(60)",
        "for number in (1, 2, 3, 15):\n    signal.signal(number, signal.SIG_IGN)\nprint(1, flush=True)\ntime.sleep(60)",
        "print(1, flush=True)\n" + STORM,
    ],
    ids=["setsid", "double fork", "ignored signals", "fork storm"],
)
def test_kill_ends_the_whole_tree_and_nothing_else(box, code):
    """Whatever a process did to stay, it and all its children go, and the process beside it goes on."""
    with box.start("sleep 60") as beside, box.start([*PYTHON, IMPORTS + code]) as process:
        next(iter(process.stdout))
        process.kill()
        assert ("killed", None) == (process.result().status, beside.poll())
        assert box.run("true").ok


def test_command_cannot_signal_another_command(box):
    """A command that kills everything that it can reach ends itself, and none beside it."""
    with box.start("sleep 60") as beside:
        assert not box.run([*PYTHON, IMPORTS + "os.kill(-1, 9)\nfor pid in range(2, 300):\n    os.kill(pid, 9)"]).ok
        assert beside.poll() is None


LEAVE = """
import os, socket
for place in ("/tmp", "/dev/shm", "/workspace", "/home/user"):
    open(f"{place}/mark", "w").close()
tcp = socket.create_server(("127.0.0.1", 8000))
local = socket.socket(socket.AF_UNIX)
local.bind(b"\\0mark")
local.listen()
print("ready", flush=True)
tcp.accept()
"""
LOOK = """
import os, socket
print([place for place in ("/tmp", "/dev/shm", "/workspace", "/home/user") if "mark" in os.listdir(place)])
print(socket.socket().connect_ex(("127.0.0.1", 8000)) == 0, socket.socket(socket.AF_UNIX).connect_ex(b"\\0mark") == 0)
"""


def test_living_sandbox_reaches_nothing_of_another(box):
    """Files and ports of one sandbox are there for its next command, and they and abstract sockets not for another sandbox."""
    with box.start([*PYTHON, LEAVE]) as process, Sandbox() as other:
        assert "ready\n" == next(iter(process.stdout))
        assert "[]\nFalse False\n" == other.run([*PYTHON, LOOK]).stdout
        # abstract sockets only without Landlock, whose scope is one command
        assert box.run([*PYTHON, LOOK]).stdout.startswith("['/tmp', '/dev/shm', '/workspace', '/home/user']\nTrue ")


def test_signal_reaches_the_process(box):
    """A program may handle it and end in its own way."""
    with box.start("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done") as process:
        assert "ready\n" == next(iter(process.stdout))
        process.signal(signal.SIGTERM)
        assert (5, "ready\nbye\n") == ((result := process.wait(30)).exit_code, result.stdout)


def test_process_whose_program_is_missing_has_a_result(box):
    """Nothing is raised: the result says what is wrong."""
    process = box.start(["no-such-program"])
    assert "E3001" == process.wait().error.code


def test_callback_that_raises_ends_the_process(box):
    """What it raises comes out of `wait`."""

    def fail(_text):
        raise KeyError("mine")

    process = box.start("echo; sleep 60", on_stdout=fail)
    with pytest.raises(KeyError, match="mine"):
        process.wait(30)


def test_stream_of_a_process_keeps_it_running(box):
    """A process that is referred to by one of its streams alone goes on."""
    assert ["1\n", "2\n"] == list(box.start("echo 1; sleep 0.3; echo 2").stdout)
    assert "err\n" == box.start("sleep 0.3; echo err >&2").stderr.read()


def test_collected_process_is_killed(box):
    """A process that nobody has any more ends."""
    process = box.start("while :; do touch /tmp/collected; sleep 0.02; done")
    until(lambda: box.files.exists("/tmp/collected"))
    del process
    gc.collect()
    box.files.remove("/tmp/collected")
    time.sleep(0.1)
    assert not box.files.exists("/tmp/collected")


# --- files ---


def test_files_are_read_and_written_as_text_and_bytes(box):
    """Paths are relative to the workspace, or absolute inside; missing directories are made."""
    box.files.write("deep/er/file", "grün\n")
    box.files.write("deep/er/file", b"\xff", append=True)
    assert (b"gr\xc3\xbcn\n\xff", "n") == (
        box.files.read_bytes("/workspace/deep/er/file"),
        box.files.read("deep/er/file", offset=4, size=1),
    )
    assert ["er"] == [info.name for info in box.files.list("deep")]
    box.files.rename("deep/er/file", "deep/file")
    info = box.files.stat("deep/file")
    assert ("/workspace/deep/file", "file", 7) == (info.path, info.type, info.size)
    box.files.remove("deep", recursive=True)
    assert not box.files.exists("deep")


def test_files_written_from_outside_belong_to_the_command_s_user(box):
    """A command may change, rename and remove them."""
    box.files.write("given/file", "x")
    assert box.run("echo y >> given/file && mv given taken && rm -r taken").ok


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("none", FileNotFoundError),
        ("/usr/bin", IsADirectoryError),
        ("/tmp/pipe", OSError),
        ("/proc/self/root/etc", OSError),
    ],
)
def test_file_that_cannot_be_read_is_an_oserror(box, path, error):
    """The usual exception, with the path inside; a pipe never makes the caller wait."""
    box.run("test -p /tmp/pipe || mkfifo /tmp/pipe")
    with pytest.raises(error):
        box.files.read(path)


def test_link_planted_inside_leads_nowhere_outside(box, tmp_path):
    """A link to a path of the host is resolved inside, where there is no such file; writing through it makes none outside."""
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    box.run(["ln", "-sf", str(secret), "/workspace/planted"])
    box.run(["ln", "-sfn", "/", "/workspace/root"])
    with pytest.raises(OSError):
        box.files.read("planted")
    with pytest.raises(OSError):
        box.files.read(f"root{secret}")
    with pytest.raises(OSError):
        box.files.write("planted", "changed")
    assert "of the host" == secret.read_text()


def test_deep_tree_is_removed_from_outside(box):
    """However deep a command has made it: deeper than a path can be long."""
    deep = "import os\nos.mkdir('/tmp/deep')\nos.chdir('/tmp/deep')\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
    assert box.run([*PYTHON, deep]).ok
    box.files.remove("/tmp/deep", recursive=True)
    assert not box.files.exists("/tmp/deep")


def test_system_files_cannot_be_written_from_outside(box):
    """What a command may not write, the file interface does not write either, also for root."""
    for path in ("/usr/bin/planted", "/etc/passwd", "/planted"):
        with pytest.raises(OSError):
            box.files.write(path, "x")


def test_upload_and_download_of_a_large_file(box, tmp_path):
    """It goes through in pieces, and the mode with it."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(1 << 20) * 20)
    source.chmod(0o750)
    box.files.upload(source, "large")
    box.files.download("large", target)
    assert (source.read_bytes(), 0o750) == (target.read_bytes(), box.files.stat("large").mode)
    box.files.remove("large")


def test_disk_limit_holds_for_what_is_written_from_outside():
    """Files in memory count wherever they come from."""
    with Sandbox(disk="1M") as box, pytest.raises(OSError, match="No space left"):
        box.files.write("large", bytes(2 << 20))


# --- the workspace ---


@pytest.fixture
def shared(place):
    (place / "kept").write_text("same\n")
    (place / "changed").write_text("one\ntwo\n")
    (place / "removed").write_text("old\n")
    return place


EDIT = "echo three >> changed; rm removed; mkdir new; printf x > new/file"
LINES = ["+three", "+x", "-old"]


def changed_lines(diff):
    return sorted(line for line in diff.splitlines() if line[:1] in ("+", "-") and line[:3] not in ("+++", "---"))


@pytest.mark.parametrize("mode", ["cow", "copy"])
def test_changes_of_a_workspace_are_listed_shown_and_applied(shared, mode):
    """Over several commands, while the sandbox lives; the directory is untouched until then."""
    with Sandbox(workspace={"source": str(shared), "mode": mode}) as box:
        assert () == box.changes()
        assert box.run(EDIT).ok
        kinds = {change.path: change.kind for change in box.changes()}
        assert {"removed": "deleted", "changed": "modified", "new": "created", "new/file": "created"} == kinds
        assert LINES == changed_lines(box.diff())
        assert (shared / "removed").exists()
        assert () == box.apply()
    assert ({"kept", "changed", "new"}, "x") == (set(os.listdir(shared)), (shared / "new/file").read_text())


def test_discard_brings_the_workspace_back(shared):
    """What was created is gone, and what was changed or deleted is as before."""
    with Sandbox(workspace=str(shared)) as box:
        box.run(EDIT)
        box.discard()
        assert ((), "one\ntwo\nold\n") == (box.changes(), box.run("cat changed removed").stdout)


@pytest.mark.parametrize("is_large", [False, True], ids=["copied", "overlaid"])
def test_discard_brings_no_secret_of_the_host_in(shared, is_large):
    """Names of secrets are hidden, also such as the host makes later: what a command wrote there goes, and nothing comes."""
    for number in range(300 if is_large else 0):
        (shared / f"file{number}").touch()
    with Sandbox(workspace=str(shared)) as box:
        (shared / ".netrc").write_text("of the host")
        (shared / ".aws").mkdir()
        (shared / ".aws/credentials").write_text("of the host")
        assert box.run("echo mine > .netrc; mkdir .aws; echo mine > .aws/credentials; echo x >> changed").ok
        box.discard()
        assert "" == box.run("cat .netrc .aws/credentials 2> /dev/null; true").stdout
        assert "one\ntwo\n" == box.run("cat changed").stdout


def test_fork_starts_with_the_files_and_goes_its_own_way(shared):
    """Changes of the workspace and files in HOME and /tmp are in the second sandbox; what it does then is its own."""
    with Sandbox(workspace=str(shared)) as box:
        box.run(f"{EDIT}; echo t > /tmp/t; echo h > ~/h; ln -s t /tmp/link")
        with box.fork() as other:
            assert "three\nx" == other.run("tail -n 1 changed; cat new/file; test ! -e removed").stdout
            assert "t\nh\nt\n" == other.run("cat /tmp/t ~/h /tmp/link").stdout
            other.run("rm -r new")
        assert box.files.exists("new/file")


def test_snapshot_is_of_its_time(shared):
    """What happens after it is not in it, and it outlives its sandbox."""
    with Sandbox(workspace=str(shared)) as box:
        box.files.write("first", "1")
        snapshot = box.snapshot()
        box.files.write("second", "2")
    with snapshot, Sandbox(workspace=str(shared), snapshot=snapshot) as other:
        assert (True, False) == (other.files.exists("first"), other.files.exists("second"))


def test_diff_does_not_show_what_a_link_in_the_shared_directory_leads_to(shared, tmp_path):
    """A file below a link of the host's directory is not compared with what lies there."""
    (tmp_path / "secret").write_text("of the host\n")
    (shared / "link").symlink_to(tmp_path)
    with Sandbox(workspace=str(shared)) as box:
        box.run("rm link; mkdir link; echo mine > link/secret")
        assert "of the host" not in box.diff()


# --- the end ---


def test_closed_sandbox_gives_a_clear_result():
    """Calls after the end are results with the cause, and file calls raise it."""
    with Sandbox() as box:
        pass
    assert ("E3010", "error") == ((result := box.run("true")).error.code, result.status)
    assert "make a new sandbox" == result.error.hint
    with pytest.raises(CapsuleError, match="the sandbox has ended: it was closed"):
        box.files.read("x")


def test_lease_ends_the_sandbox_and_what_runs_in_it():
    """The result of what was running names the lease."""
    with Sandbox(lease_ms=300) as box:
        result = box.run("sleep 60")
        assert ("E3010", "the sandbox has ended: its lease is over") == (result.error.code, result.error.message)


def test_lease_is_made_longer_by_set_timeout():
    """The command outlives what the lease was at first."""
    with Sandbox(lease_ms=400) as box:
        box.set_timeout(60_000)
        assert box.run("sleep 0.6").ok


def test_idle_sandbox_ends_and_a_busy_one_does_not():
    """The idle time counts from the end of a call."""
    with Sandbox(idle_timeout_ms=300) as box:
        assert box.run("sleep 0.6").ok
        until(lambda: not box.info().is_alive)


@pytest.mark.parametrize("memory", ["64M"])
def test_memory_of_all_commands_together_ends_the_sandbox(memory):
    """Two commands that are within the limit alone are over it together; each result says which limit it was."""
    hold = "held = b'x' * (40 << 20)\nimport time\ntime.sleep(60)"
    with Sandbox(memory=memory) as box:
        processes = [box.start([*PYTHON, hold]) for _ in range(2)]
        errors = {process.result(60).error.code for process in processes}
        assert {"E4001"} == errors
        assert "E4001" == box.run("true").error.code


def test_process_limit_holds_over_all_commands():
    """Commands that each stay within the limit make no more processes together than it allows, and the sandbox lives on."""
    many = "i=0; while [ $i -lt 25 ]; do sleep 60 & i=$((i + 1)); done; echo made; wait"
    with Sandbox(max_pids=30) as box:
        processes = [box.start(many) for _ in range(8)]
        until(lambda: any(process.poll() is not None for process in processes))
        for process in processes:
            process.kill()
        assert box.run("true").ok


@pytest.mark.parametrize("victim", ["launcher", "init"])
def test_killed_holder_ends_every_command(victim):
    """Nobody waits for ever, and the result says that the sandbox has ended."""
    with Sandbox() as box:
        process = box.start("sleep 60")
        holder = box.info().pid
        children = Path(f"/proc/{holder}/task/{holder}/children").read_text().split()
        os.kill(holder if victim == "launcher" else int(children[0]), signal.SIGKILL)
        assert process.result(30).error.code in ("E3010", "E6002")
        assert not box.info().is_alive


def test_killed_launcher_of_a_command_ends_that_command_alone():
    """The sandbox and the process beside it live on."""
    with Sandbox() as box, box.start("sleep 60") as beside:
        process = box.start("sleep 60")
        os.kill(process.pid, signal.SIGKILL)
        assert ("E6002", None) == (process.result(30).error.code, beside.poll())
        assert box.run("true").ok


OWNER = """
    import sys, capsule_run
    box = capsule_run.Sandbox()
    process = box.start("sleep 60")
    print(box.info().pid, process.pid, flush=True)
    sys.stdin.read()
"""


def test_death_of_the_owner_ends_its_sandboxes():
    """SIGKILL leaves no process: launchers notice that their caller is gone."""
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pids = [int(word) for word in owner.stdout.readline().split()]
    owner.kill()
    owner.communicate()
    until(lambda: not any(lives(pid) for pid in pids))


def test_interrupted_run_leaves_the_sandbox_usable(box):
    """KeyboardInterrupt ends the command, and nothing else."""

    def interrupt(_text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        box.run("echo; sleep 60", on_stdout=interrupt)
    assert box.run("true").ok


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"collect": ["*"]}, "`collect` is of one command"),
        ({"lease_ms": 0}, "`lease_ms` must be a number of milliseconds above 0, not 0"),
        ({"idle_timeout_ms": "5s"}, "`idle_timeout_ms` must be a number of milliseconds above 0, not '5s'"),
    ],
)
def test_option_that_is_not_a_sandbox_s_is_refused(options, message):
    """The error names the option."""
    with pytest.raises(CapsuleError, match=message.replace("(", r"\(")):
        Sandbox(**options)


def test_living_sandboxes_are_listed(box):
    """Closed ones are not."""
    with Sandbox() as other:
        pass
    listed = {info.id for info in Sandbox.list()}
    assert box.id in listed
    assert other.id not in listed


def test_metrics_and_processes_show_what_is_there_now(box):
    """Of commands that run, and of those that have ended; what is ours is no process of the sandbox."""
    first = box.metrics()
    assert (0, 0, ()) == (first.commands, first.processes, box.processes())
    code = "import time; kept = b'x' * (20 << 20); print(1, flush=True); time.sleep(60)"
    with box.start(["python3", "-c", code]) as python, box.start("(setsid sleep 61 &); echo; sleep 60; true") as shell:
        assert ("1\n", "\n") == (next(iter(python.stdout)), next(iter(shell.stdout)))
        box.files.write("/tmp/large", bytes(5 << 20))
        box.run("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
        expected = {"python3": 1, "sh": 1, "sleep": 2}
        until(lambda: expected == Counter(each.name for each in box.processes()))
        found = box.processes()
        assert {python.pid: 1, shell.pid: 3} == Counter(each.launcher_pid for each in found)
        largest = max(found, key=lambda each: each.memory_bytes)
        assert (("python3", "-c", code), True) == (largest.command, largest.memory_bytes >= 20 << 20)
        now = box.metrics()
        assert (2, 4) == (now.commands, now.processes)
        assert now.cpu_ms > first.cpu_ms
        assert now.memory_bytes - first.memory_bytes >= 20 << 20
        assert now.disk_bytes - first.disk_bytes >= 5 << 20
    box.kill()
    for call in (box.metrics, box.processes):
        with pytest.raises(CapsuleError, match="the sandbox has ended"):
            call()


def test_processes_of_an_ordinary_user_are_shown(as_user):
    """Without any right over them."""
    code = "import capsule_run as c\nwith c.Sandbox() as box:\n    p = box.start('echo; exec sleep 60'); next(iter(p.stdout))\n"
    code += (
        "    while [q.command for q in box.processes()] != [('sleep', '60')]: pass\n    print(box.metrics().processes)"
    )
    done = as_user([sys.executable, "-c", code])
    assert (b"1\n", b"") == (done.stdout, done.stderr)


IN_A_CHILD = """
import capsule_run, os, time
with capsule_run.Sandbox() as box:
    box.run("true")
    while box._session._ahead._ready is None:
        time.sleep(0.01)
    if not (pid := os.fork()):
        print([box.run("echo child").stdout for _ in range(2)], flush=True)
        try:
            print(os.waitpid(-1, os.WNOHANG), flush=True)
        except ChildProcessError:
            os._exit(0)
    os.waitpid(pid, 0)
    print(box.run("echo parent").stdout, end="")
"""


def test_forked_child_waits_for_its_own_launchers():
    """The thread that waits for launchers, and the one that is ahead, are its parent's."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_CHILD], capture_output=True, text=True, timeout=50, check=False
    )
    assert ("['child\\n', 'child\\n']\nparent\n", "") == (done.stdout, done.stderr)
