"""`capsule-run batch`: a request a line in, a response a line out; docs/batch.md."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from capsule_run.cli.batch_lines import Lines
from capsule_run.model.request import Bind, Isolation, Request, Resources, Workspace
from capsule_run.sandbox.pools import MAX_POOLS, Pools, kind_of

pytestmark = pytest.mark.sandbox

LINES = int(os.environ.get("CAPSULE_BATCH", "60"))  # of the test with interruptions; 10000 for the long pass
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


@pytest.fixture
def batch(capsule_cli, tmp_path):
    """Run `capsule-run batch WORDS`, with lines as stdin; return the process with its responses in `responses`."""

    def run(*words, lines=(), env=ENVIRONMENT):
        text = "".join([line if isinstance(line, str) else f"{json.dumps(line)}\n" for line in lines])
        done = subprocess.run(
            [capsule_cli, "batch", *words], input=text, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120
        )  # fmt: skip
        done.responses = [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []
        return done

    return run


@contextlib.contextmanager
def started(capsule_cli, *words, **options):
    process = subprocess.Popen(
        [capsule_cli, "batch", *words], stderr=subprocess.PIPE, env=ENVIRONMENT, text=True, **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def test_batch_answers_every_line_in_order(batch):
    """A slow line, empty lines, a bad one, failures, ids and a last line without its end."""
    done = batch(
        *("--jobs", "3"),
        lines=[
            {"command": ["sh", "-c", "sleep 0.5; echo slow"], "execution_id": "one"},
            "\n  \n",
            "no json\n",
            {"command": ["sh", "-c", "exit 3"]},
            {"command": ["true"], "timeout_ms": -1, "execution_id": "six"},
            '{"command": ["echo", "last"]}',
        ],
    )
    got = [
        (each["line"], each.get("stdout"), each["status"], each.get("error", {}).get("code")) for each in done.responses
    ]
    assert [
        (1, "slow\n", "success", None),
        (4, None, "error", "E1001"),
        (5, "", "error", "E3003"),
        (6, None, "error", "E1004"),
        (7, "last\n", "success", None),
    ] == got
    assert ("one", "six", "") == (done.responses[0]["execution_id"], done.responses[3]["execution_id"], done.stderr)


def test_batch_unordered_gives_what_ends_first(batch):
    """A slow line does not hold up the others."""
    lines = [{"command": ["sleep", "0.5" if number == 0 else "0"]} for number in range(4)]
    done = batch("--unordered", "--jobs", "2", lines=lines)
    numbers = [each["line"] for each in done.responses]
    assert (4, [1, 2, 3, 4]) == (len(numbers), sorted(numbers))
    assert 1 != numbers[0]


def test_batch_options_are_defaults_of_each_line(batch):
    """What a line gives wins; a preset and variables count as for `--json`."""
    lines = [
        {"command": ["sh", "-c", "echo $NAME $OTHER"], "environment": {"OTHER": "line"}},
        {"command": ["sleep", "60"]},
        {"command": ["sleep", "0.3"], "timeout_ms": "20s"},
        {"command": ["true"], "preset": "no-such"},
    ]
    env = {**ENVIRONMENT, "CAPSULE_RUN_ENV": "OTHER=variable\nNAME=variable"}
    done = batch("--timeout", "200ms", "--env", "NAME=option", lines=lines, env=env)
    codes = [each.get("error", {}).get("code") for each in done.responses]
    assert (["option line\n", None, "E3006", None, "E1005"]) == [done.responses[0]["stdout"], *codes]


def test_batch_line_above_a_ceiling_is_refused_with_file_and_line(capsule_cli, under_system_file):
    """The operator's ceilings hold for every line, and a refused one has its id."""
    lines = [{"command": ["true"]}, {"command": ["true"], "isolation": {"network": True}, "execution_id": "net"}]
    text = "".join([json.dumps(line) + "\n" for line in lines])
    done = under_system_file("[ceilings]\nnetwork = false\n", [capsule_cli, "batch"], input=text)
    ok, refused = map(json.loads, done.stdout.splitlines())
    assert ("success", "net", "E1012") == (ok["status"], refused["execution_id"], refused["error"]["code"])
    assert "/etc/capsule-run/config.toml, line 2" in refused["error"]["message"]


def test_json_request_above_a_ceiling_keeps_its_id(capsule_cli, under_system_file):
    """As every refusal does; also one that only the host's facts allow, such as an unknown profile."""
    for fields in ({"isolation": {"network": True}}, {"profile": "strct"}):
        text = json.dumps({"command": ["true"], "execution_id": "mine", **fields})
        done = under_system_file("[ceilings]\nnetwork = false\n", [capsule_cli, "--json"], input=text)
        assert (2, "mine") == (done.returncode, json.loads(done.stdout)["execution_id"])


def test_batch_line_sees_a_shared_directory_as_it_is_then(batch, tmp_path):
    """No sandbox was built before the line that wrote to the directory."""
    folder = tmp_path / "shared"
    folder.mkdir()
    shared = {"isolation": {"workspace": str(folder)}, "apply_changes": True}
    lines = [{"command": ["sh", "-c", "echo x >> file; wc -l < file"], **shared} for _ in range(4)]
    done = batch("--jobs", "1", lines=lines)
    assert [str(number) for number in range(1, 5)] == [each["stdout"].strip() for each in done.responses]


def test_batch_records_each_run(batch, tmp_path):
    """Metrics and audit log have the runs of all lines."""
    done = batch(
        *("--metrics-file", "metrics", "--audit-log", "log"), lines=[{"command": ["true"], "execution_id": "a"}] * 3
    )
    assert ([0] * 3, 3) == (
        [each["exit_code"] for each in done.responses], len(tmp_path.joinpath("log").read_text().splitlines())
    )  # fmt: skip
    assert re.search(r'runs_total\{status="success".*\} 3\n', tmp_path.joinpath("metrics").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pretty"], "E1007: `--pretty` has no meaning with `batch`"),
        (["-v"], "E1007: `--verbose` has no meaning with `batch`"),
        (["--execution-id", "x"], "E1007: `--execution-id` has no meaning with `batch`"),
        (["--jobs", "0"], "E1004: --jobs: must be from 1 to 1024, got 0"),
        (["-j", "many"], 'E1005: --jobs: must be a whole number from 1 to 1024, got "many"'),
        (["-j"], "E1007: `-j` needs a value: `-j <NUM>`"),
        (["--unordered=1"], "E1007: `--unordered` takes no value"),
        (["a", "b"], 'E1007: `batch` takes one FILE, and no "b"'),
        (["--", "true"], 'E1007: `batch` takes one FILE, and no "true"'),
        (["missing.jsonl"], 'E1005: FILE: cannot read "missing.jsonl": no such file or directory'),
        (["--memory", "lots"], "E1005: --memory: must be a size"),
        (["--resume", "/"], 'E1005: --resume: cannot open "/": is a directory'),
    ],
)
def test_batch_wrong_command_line_is_refused(batch, words, said):
    """The error names what was written, and nothing runs."""
    done = batch(*words)
    assert (2, "") == (done.returncode, done.stdout)
    assert f"capsule-run: {said}" in done.stderr


# --- resume ---


@pytest.mark.limit(60 if LINES < 10_000 else 3600)
def test_batch_interrupted_twice_and_resumed_loses_and_doubles_nothing(capsule_cli, tmp_path):
    """Once by Ctrl-C, once by SIGKILL: the file has one response for every line in the end, and the bad lines theirs."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    bad = set(range(7, LINES, LINES // (100 if LINES >= 10_000 else 6)))
    commands = [{"command": ["echo", str(number)], "execution_id": f"id-{number}"} for number in range(1, LINES + 1)]
    source.write_text(
        "".join([f"{'nonsense' if number in bad else json.dumps(each)}\n" for number, each in enumerate(commands, 1)])
    )
    peaks = []
    for part, number in ((3, signal.SIGINT), (2, signal.SIGKILL)):
        with started(capsule_cli, "--resume", target, source, "--unordered") as process:
            while len(target.read_bytes().splitlines() if target.exists() else []) < LINES // part:
                time.sleep(0.01 if LINES < 10_000 else 1)
                assert process.poll() is None
            peaks.append(_kib(process.pid, "VmHWM"))
            process.send_signal(number)
            said = process.communicate()[1]
            assert {signal.SIGINT: 130, signal.SIGKILL: -9}[number] == process.returncode
            assert ("interrupted: " in said) == (number == signal.SIGINT)
    with target.open("a") as file:
        file.write('{"line": 3, "exec')  # as if the kill had come in the middle of a write
    with started(capsule_cli, "--resume", target, source) as process:
        assert ("", 0) == (process.communicate()[1], process.returncode)
    found = [json.loads(line) for line in target.read_text().splitlines()]
    assert list(range(1, LINES + 1)) == sorted([each["line"] for each in found])
    assert bad == {each["line"] for each in found if each["status"] == "error"}
    assert all(each["stdout"] == f"{each['line']}\n" for each in found if each["line"] not in bad)
    print("peak memory in KiB at each interruption:", peaks)  # for the long pass


def _kib(pid, name):
    return int(re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"line": 1, "execution_id": "other"}\n', 'line 1 has the id "mine", and its response in "out" another one'),
        ('{"command": ["true"]}\n', 'line 1 of "out" is no response of `capsule-run batch`'),
        ("text\n", 'line 1 of "out" is no response of `capsule-run batch`'),
    ],
)
def test_batch_resume_with_a_foreign_file_is_refused(batch, tmp_path, content, said):
    """Nothing is run, and the file stays as it was."""
    tmp_path.joinpath("out").write_text(content)
    done = batch("--resume", "out", lines=[{"command": ["true"], "execution_id": "mine"}])
    assert (2, "") == (done.returncode, done.stdout)
    assert (True, content) == (said in done.stderr, tmp_path.joinpath("out").read_text())


def test_batch_resume_removes_a_response_that_was_not_written_whole(batch, tmp_path):
    """Also if nothing is left to be run."""
    whole = '{"line": 1, "execution_id": "mine"}\n'
    tmp_path.joinpath("out").write_text(whole + '{"line": 2, "exec')
    done = batch("--resume", "out", lines=[{"command": ["true"], "execution_id": "mine"}])
    assert (0, "", whole) == (done.returncode, done.stdout + done.stderr, tmp_path.joinpath("out").read_text())


def test_batch_resume_of_a_file_in_use_is_refused(capsule_cli, batch, tmp_path):
    """Two batches that write to one file would run lines twice."""
    with started(capsule_cli, "--resume", tmp_path / "out", stdin=subprocess.PIPE, bufsize=1) as first:
        first.stdin.write("{}\n")
        while not (tmp_path / "out").exists() or not (tmp_path / "out").read_text():
            time.sleep(0.01)
        assert 'another batch writes to "out"' in batch("--resume", "out").stderr


# --- streams, signals, memory ---


def test_batch_answers_before_the_next_line_comes(capsule_cli):
    """A program can write a line, read its response, and write the next one."""
    with started(capsule_cli, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1) as process:
        for number in range(3):
            process.stdin.write(json.dumps({"command": ["echo", str(number)]}) + "\n")
            assert f"{number}\n" == json.loads(process.stdout.readline())["stdout"]
        process.stdin.close()
        assert 0 == process.wait()


def test_batch_signals_end_what_runs(capsule_cli):
    """What has ended is written, what is ended has no response, and the exit code is the signal's."""
    lines = [{"command": ["echo", "done"]}, {"command": ["sleep", "60"]}, {"command": ["sleep", "60"]}]
    with started(capsule_cli, "-j2", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write("".join([json.dumps(line) + "\n" for line in lines]))
        process.stdin.flush()
        assert "done\n" == json.loads(process.stdout.readline())["stdout"]
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        rest, said = process.communicate()
    assert ("", True) == (rest, process.returncode in (130, 143))
    assert "interrupted: 1 line has a response" in said


def test_batch_whose_reader_has_left_ends(capsule_cli):
    """As every program in a pipeline: 141, and no message."""
    with started(capsule_cli, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.close()
        process.stdin.write('{"command": ["true"]}\n{"command": ["sleep", "60"]}\n')
        process.stdin.flush()
        assert 141 == process.wait(60)
        assert "" == process.stderr.read()


def test_batch_waits_for_a_slow_reader_and_keeps_its_memory(capsule_cli, tmp_path):
    """With nobody reading it stops taking lines; after many thousand lines it is as large as after the first."""
    source = tmp_path / "in.jsonl"
    source.write_text("no json\n" * 20_000)
    with source.open() as stdin, started(capsule_cli, stdin=stdin, stdout=subprocess.PIPE) as process:
        for _ in range(2000):
            process.stdout.readline()
        before = _kib(process.pid, "VmRSS")
        place = -1
        while (now := _taken(process.pid)) != place:
            place = now
            time.sleep(0.3)
        assert place < source.stat().st_size  # responses of 1,000 lines, a pipe full and a piece of the input
        count = 2000 + sum(1 for _ in process.stdout)
        assert (20_000, 0) == (count, process.wait())
    with source.open() as stdin, started(capsule_cli, stdin=stdin, stdout=subprocess.PIPE) as process:
        for _ in range(18_000):  # it lives still: of the other 2,000 at most 1,000 wait, and what a pipe holds
            process.stdout.readline()
        assert _kib(process.pid, "VmHWM") < before + 6144
        assert (2000, 0) == (sum(1 for _ in process.stdout), process.wait())


def _taken(pid):
    return int(re.search(r"pos:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/0").read_text())[1])


def test_batch_on_a_terminal_shows_how_far_it_is(capsule_cli, tmp_path):
    """Rate, failures by cause and the time left, on a terminal only."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"command": ["sh", "-c", "sleep 0.3; exit 1"]}\n' * 6)
    ours, theirs = pty.openpty()
    with source.open() as stdin:
        process = subprocess.Popen(
            [capsule_cli, "batch", "--jobs", "1"], stdin=stdin, stdout=subprocess.DEVNULL, stderr=theirs,
            env={**ENVIRONMENT, "TERM": "xterm"},
        )  # fmt: skip
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # the last process has closed it
        while piece := os.read(ours, 1 << 16):
            said += piece
    os.close(ours)
    assert 0 == process.wait()
    assert re.search(rb"\d lines, [\d.]+ a second, \d failed \(exit_code \d\), \d+ s left", said)
    assert re.search(rb"\rcapsule-run: |\x1b\[Kcapsule-run: 6 lines, [\d.]+ a second, 6 failed \(exit_code 6\)", said)


# --- what is under it ---


def test_lines_longer_than_a_request_are_known_by_number_alone(monkeypatch):
    """Such a line is not kept, and those after it are read."""
    monkeypatch.setattr("capsule_run.cli.batch_lines.MAX_REQUEST_BYTES", 100)
    reader, writer = os.pipe()
    os.write(writer, b"a\n" + b"x" * 101 + b"\nb")
    os.close(writer)
    lines = Lines(reader)
    assert [(1, b"a", 2), (2, None, 104), (3, b"b", 105)] == [(each.number, each.text, each.end) for each in lines]
    lines.close()
    os.close(reader)


SAME_KIND = Request(command=("true",))


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (Request(command=("cat",), stdin=b"x", environment=(("A", "b"),), timeout_ms=5, execution_id="x"), SAME_KIND),
        (Request(command=("a",), resources=Resources(max_output_bytes=5), on_output_limit="truncate"), SAME_KIND),
        (Request(command=("a",), isolation=Isolation(working_directory="/tmp")), SAME_KIND),
        (
            Request(command=("a",), resources=Resources(memory_bytes=5)),
            Request(command=("true",), resources=Resources(memory_bytes=5)),
        ),
        (Request(command=("a",), ledger=True), Request(command=("true",), ledger=True)),
        (Request(command=("a",), isolation=Isolation(workspace=Workspace(source="/x"))), None),
        (Request(command=("a",), isolation=Isolation(binds=(Bind(source="/x", destination="/y"),))), None),
        (Request(command=("a",), isolation=Isolation(readonly_paths=("/home",))), None),
        (Request(command=("a",), isolation=Isolation(writable_paths=("/srv",))), None),
    ],
)
def test_requests_of_one_kind_differ_in_what_is_sent_late(request_, kind):
    """The room is built from what it needs, and requests that show directories have rooms of their own."""
    assert kind == kind_of(request_)


def test_pools_build_ahead_for_kinds_that_come_again():
    """The first run of a kind is cold, the second has rooms; more kinds than there is place for stay cold."""
    with Pools(1) as pools:
        kinds = [Request(command=("true",), timeout_ms=number) for number in range(3)]
        assert [None, True, True] == [
            found and bool(found) for found in (pools.filler_of(kind_of(each)) for each in kinds)
        ]
        for number in range(MAX_POOLS + 1):
            limited = kind_of(Request(command=("true",), resources=Resources(max_pids=50 + number)))
            assert None is pools.filler_of(limited)
            assert (number + 1 < MAX_POOLS) == (pools.filler_of(limited) is not None)
