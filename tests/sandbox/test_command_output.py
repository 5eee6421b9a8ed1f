"""What the command line itself prints: details, a dry run, colours, quiet; and the variables it passes on."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest

from capsule_run.cli import colours

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/tmp"}


@pytest.fixture
def cli(capsule_cli, tmp_path):
    """Run the command in an empty directory with few variables; return the finished process."""

    def run(*words, stdin=subprocess.DEVNULL, **variables):
        return subprocess.run(
            [capsule_cli, *words],
            cwd=tmp_path,
            env=ENVIRONMENT | variables,
            stdin=stdin,
            capture_output=True,
            text=True,
        )

    return run


def shaped(text):
    """A text with its numbers, mechanisms and paths left out."""
    text = re.sub(r"\((cgroup\d?|rlimit|watch|launcher)\)", "(M)", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    return re.sub(r"\d+(\.\d+)?", "N", text)


VERBOSE = """\
capsule-run: status     success, exit code N
capsule-run: workspace  an empty private directory
capsule-run: shared     /usr/share at /data (ro)
capsule-run: isolation  network none, user N (on the host N), system calls default, no capabilities
capsule-run: memory     N KiB of N MiB (M)
capsule-run: processes  N of N (M)
capsule-run: CPU        N ms
capsule-run: stdout     N bytes of N MiB
capsule-run: files      N KiB of N MiB
capsule-run: wall clock N ms of N s
capsule-run: time       N ms before the command (spawn N, create N, map N, plan N, build N, confine N), N ms of the command
capsule-run: run        ID
"""


@pytest.mark.sandbox
def test_verbose_snapshot(cli):
    """`-v`: what was shown, each limit with its use, the time by phase, in about ten lines."""
    words = ("--no-workspace", "--bind", "/usr/share:/data", "--memory", "256M", "--", "echo", "hello")
    said = cli("-v", *words).stderr
    lines = dict(line.removeprefix("capsule-run: ").split(maxsplit=1) for line in said.splitlines())
    measured = {line.split()[1] for line in VERBOSE.splitlines()} - {"memory", "processes", "files"}
    assert measured <= set(lines)
    expected = [line for line in VERBOSE.splitlines() if line.split()[1] in lines]
    got = re.sub(r"[KM]iB of N MiB|N bytes of N MiB", "KiB of N MiB", shaped(said)).splitlines()
    assert [re.sub(r"[KM]iB of N MiB|N bytes of N MiB", "KiB of N MiB", line) for line in expected] == [
        re.sub("memory     N of N MiB", "memory     N KiB of N MiB", line) for line in got
    ]


@pytest.mark.sandbox
def test_verbose_twice_adds_the_protections(cli):
    """`-vv` prints everything that is in force, too."""
    said = cli("-vv", "--", "true").stderr
    assert all(f"capsule-run: {name}: " in said for name in ("namespaces", "limits", "attested", "seccomp"))
    assert "namespaces: " not in cli("-v", "--", "true").stderr


@pytest.mark.sandbox
def test_dry_run_is_about_ten_lines(cli):
    """`--dry-run` says what the command would see and its limits; `-v` adds the steps."""
    brief = cli("--dry-run", "--timeout", "2m", "--", "true").stdout.splitlines()
    assert 9 <= len(brief) <= 12
    assert any(line.startswith("limits       2 min, 512 MiB of memory") for line in brief)
    long = cli("--dry-run", "-v", "--timeout", "2m", "--", "true").stdout.splitlines()
    assert [line.split()[0] for line in brief] == [line.split()[0] for line in long[: len(brief)]]
    assert long[len(brief) + 1].strip().startswith("1  a private user namespace")


@pytest.mark.sandbox
def test_quiet_leaves_errors_only(cli):
    """`-q`: no notice of changes, no hint; an error is still one line."""
    script = ("--", "sh", "-c", "touch new")
    assert "1 change" in cli(*script).stderr
    assert "" == cli("-q", *script).stderr
    assert "capsule-run: E3001: command not found: `no-such`\n" == cli("-q", "--", "no-such").stderr


CPU_WARNING = """\
capsule-run: warning: `--cpu 2` is a weight, next to 1024 of other runs

hint: `--cpus 2` limits the number of processors
"""


@pytest.mark.sandbox
def test_cpu_weight_that_looks_like_processors_is_warned_of(cli):
    """`--cpu 2` says what it is; a real weight, and `-q`, say nothing."""
    assert CPU_WARNING == cli("--cpu", "2", "--", "true").stderr
    assert "" == cli("--cpu", "512", "--", "true").stderr + cli("-q", "--cpu", "2", "--", "true").stderr


@pytest.mark.sandbox
@pytest.mark.parametrize(("timeout", "asks"), [("5", True), ("999", True), ("1s", False), ("20ms", False)])
def test_timeout_below_a_second_asks_for_the_unit(cli, timeout, asks):
    """A limit below a second that ended the run may have been meant in seconds."""
    said = cli("--timeout", timeout, "--", "sleep", "60").stderr
    assert "E3006" in said
    assert asks == (f"if {timeout} seconds were meant, set `--timeout` to `{timeout}s`" in said)
    assert asks == (" seconds were meant" in said)


@pytest.mark.sandbox
def test_variable_of_the_caller_is_passed_by_name(cli, tmp_path):
    """`--env NAME` has the caller's value, `--env-file` the file's, and a value of `--env` wins."""
    (tmp_path / "f").write_text("# comment\n\nexport A='x y'\nB=1\nC=#2=\nD\n")
    show = ("--", "sh", "-c", 'echo "$A|$B|$C|$D|$E"')
    done = cli("--env-file", "f", "--env", "B=3", "--env", "E", *show, D="d", E="e e")
    assert ("x y|3|#2=|d|e e\n", "") == (done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("words", "file", "said"),
    [
        (["--env", "NOT_SET"], "", "--env: `NOT_SET` is not set in your environment"),
        (["--env", "hunter2"], "", "--env: the variable is not set in your environment"),
        (["--env-file", "f"], "A=1\nB C=2\n", "--env-file f line 2: must be KEY=VALUE, or KEY for the variable"),
        (["--env-file", "f"], "A=1\nNOT_SET\n", "--env-file f line 2: `NOT_SET` is not set in your environment"),
        (["--env-file", "none"], "", '--env-file: cannot read "none": no such file or directory'),
    ],
)
def test_variable_that_is_not_there_is_refused(cli, tmp_path, words, file, said):
    """A name that the caller does not have, and a line that cannot be read, are E1005; a possible secret is not shown."""
    (tmp_path / "f").write_text(file)
    done = cli(*words, "--", "true")
    assert (2, True) == (done.returncode, said in done.stderr), done.stderr
    assert "hunter2" not in done.stderr


def test_colours_are_for_terminals(cli):
    """No escape sequence goes to a pipe, unless `--color always` asks for it."""
    words = ("--", "no-such-program")
    assert "\033" not in cli(*words).stderr
    assert f"{colours.RED}E3001:{colours.RESET}" in cli("--color", "always", *words).stderr


def test_message_about_a_wrong_command_line_obeys_its_other_options(cli):
    """Also those behind what is wrong, but not the command's own."""
    for words in (["--color", "always", "--wrong"], ["--wrong", "--color=always"]):
        assert f"{colours.RED}E1007:{colours.RESET}" in cli(*words).stderr
    assert "\033" not in cli("--wrong", "--", "x", "--color=always").stderr
    assert ("hint" in cli("--wrong").stderr, "hint" in cli("--wrong", "-q").stderr) == (True, False)


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("words", "typed", "what"),
    [
        (["--json"], b'{"command": ["true"]}\n', b"the request"),
        (["exec", "--lang", "python"], b"print(1)\n", b"the code"),
        (["batch", "-"], b'{"command": ["true"]}\n', b"requests"),
    ],
)
def test_input_read_from_a_terminal_is_announced(capsule_cli, tmp_path, words, typed, what):
    """Who types nothing would wait for a command that waits for them."""
    ours, theirs = pty.openpty()
    os.write(ours, typed + b"\x04")
    done = subprocess.run(
        [capsule_cli, *words], cwd=tmp_path, env=ENVIRONMENT, stdin=theirs, capture_output=True, timeout=60
    )
    os.close(theirs)
    os.close(ours)
    assert (0, True) == (done.returncode, done.stdout != b"")
    assert b"capsule-run: reading " + what + b" from the terminal; Ctrl-D ends it\n" in done.stderr


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("words", "variables", "coloured"),
    [
        ([], {"TERM": "xterm"}, True),
        ([], {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ([], {"TERM": "xterm", "NO_COLOR": ""}, True),
        ([], {"TERM": "dumb"}, False),
        (["--color=never"], {"TERM": "xterm"}, False),
    ],
)
def test_colours_on_a_terminal_can_be_switched_off(capsule_cli, tmp_path, words, variables, coloured):
    """On a terminal there are colours, without NO_COLOR and where TERM knows them."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [capsule_cli, *words, "--", "no-such-program"],
            cwd=tmp_path, env=ENVIRONMENT | variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        said = os.read(ours, 4096)
    finally:
        os.close(ours)
    assert coloured == (b"\033[31mE3001" in said), said
