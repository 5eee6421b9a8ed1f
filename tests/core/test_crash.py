"""An exception that nobody expected: one line or one JSON response, exit code 125, and no traceback unless it is asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import capsule_run

PACKAGE = Path(capsule_run.__file__).parent
RAISES = {
    "ValueError": "raise ValueError('x\\nhint: sudo\\u202e')",
    "MemoryError": "raise MemoryError",
    "memory for real": "bytearray(1 << 60)",
    "RecursionError": "f = lambda: f(); f()",
    "an error that cannot be shown": "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})",
    "an error without a base": "raise BaseException('x')",
    "EMFILE": "raise OSError(24, 'x')",
    "EIO": "raise OSError(5, 'x')",
    "AssertionError": "assert False",
    "GeneratorExit": "raise GeneratorExit",
    "surrogates": "raise KeyError('\\udcff')",
    "a group": "raise ExceptionGroup('x', [ValueError('y')])",
}
PLACES = {"while it is imported": "request/fast_path.py", "while it runs": "engine/execute.py"}


@pytest.fixture
def package(tmp_path):
    """A copy of the package, to be broken."""
    shutil.copytree(PACKAGE, tmp_path / "capsule_run", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "capsule_run"


def broken(package, code, place="engine/execute.py"):
    """Make the copy raise, when it is imported or in each run."""
    source = package / place
    text = source.read_text()
    if place == "engine/execute.py":
        begin = "        call = Call(\n"
        assert begin in text
        source.write_text(text.replace(begin, f"        {code}\n{begin}", 1))
    else:
        source.write_text(f"{text}\n{code}\n")


def start(package, *words, shell='exec "$@"', **options):
    command = [sys.executable, "-I", "-S", "-B", str(package / "__main__.py"), *words]
    settings = {"input": b'{"command":["true"]}', "capture_output": True, "timeout": 50, "cwd": "/", "check": False}
    return subprocess.run(["/bin/sh", "-c", shell, "sh", *command], **{**settings, **options})


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("raised", RAISES)
def test_crash_is_one_line_and_exit_code_125(package, raised, place):
    """Whatever is raised, wherever: a line with a code, a hint, and nothing on stdout."""
    broken(package, RAISES[raised], PLACES[place])
    done = start(package, "--no-workspace", "--", "true")
    assert (125, b"") == (done.returncode, done.stdout)
    lines = done.stderr.decode().rstrip("\n").split("\n")
    assert lines[0].startswith(("capsule-run: E6007: ", "capsule-run: E6003: "))
    assert [] == [
        line
        for line in lines[1:]
        if line
        and not line.startswith(("hint: this is a bug in capsule-run", "hint: free some", "hint: raise the limit"))
    ]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("raised", RAISES)
def test_crash_with_json_is_one_response(package, raised, place):
    """With `--json` stdout has exactly one response, with an error, and stderr has nothing."""
    broken(package, RAISES[raised], PLACES[place])
    done = start(package, "--json")
    response = json.loads(done.stdout)
    assert (125, b"", 1) == (done.returncode, done.stderr, done.stdout.count(b"\n"))
    assert ("error", True) == (response["status"], response["error"]["code"] in ("E6003", "E6007"))
    assert {"execution_id", "status", "error"} <= response.keys()


def test_crash_after_the_response_adds_no_second_one(package):
    """What fails once the response is out goes to stderr: stdout has one object."""
    source = package / "cli" / "command.py"
    text = source.read_text()
    end = "        output.print_details(request, result, options.verbosity)\n"
    end += "    return exit_status(result.error, result.exit_code)\n\n\ndef _about"
    assert end in text
    source.write_text(text.replace(end, "        pass\n    raise ValueError('late')\n\n\ndef _about"))
    done = start(package, "--json")
    assert (125, 1) == (done.returncode, done.stdout.count(b"\n"))
    assert "success" == json.loads(done.stdout)["status"]
    assert done.stderr.startswith(b"capsule-run: E6007: ")


@pytest.mark.parametrize("raised", ["ValueError", "KeyboardInterrupt"])
@pytest.mark.parametrize("words", [("--json",), ("--no-workspace", "--", "true")])
@pytest.mark.parametrize(
    "shell", ['exec "$@" 2>&-', 'exec "$@" 2>/dev/full', 'exec "$@" >/dev/full 2>&1', 'exec "$@" >&- 2>&-']
)
def test_crash_with_closed_stderr_has_its_exit_code(package, shell, words, raised):
    """With stderr or stdout closed or full the exit code still tells, and nothing lands where it does not belong."""
    broken(package, RAISES.get(raised, "raise KeyboardInterrupt"))
    done = start(package, *words, shell=shell)
    assert (125 if raised == "ValueError" else 130) == done.returncode
    assert b"Traceback" not in done.stdout
    assert done.stdout.count(b"\n") <= 1


@pytest.mark.parametrize(("words", "code"), [(("--", "true"), b""), (("--json",), b"E6007")])
def test_crash_report_needs_no_module(package, words, code):
    """Where even the module for it is broken, as without memory, there is one line or one response all the same."""
    broken(package, "raise MemoryError")
    (package / "cli" / "crash.py").write_text("raise MemoryError")
    done = start(package, *words)
    assert 125 == done.returncode
    if code:
        assert code.decode() == json.loads(done.stdout)["error"]["code"]
    else:
        assert (b"", True) == (
            done.stdout,
            done.stderr.endswith(b"capsule-run: E6003: capsule-run itself is out of memory\n"),
        )


@pytest.mark.parametrize("place", PLACES)
def test_crash_interrupt_is_130_without_output(package, place):
    """KeyboardInterrupt is no error: nothing is said, wherever it comes."""
    broken(package, "raise KeyboardInterrupt", PLACES[place])
    done = start(package, "--no-workspace", "--", "true")
    assert (130, b"", b"") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("words", [("-v",), ()])
def test_crash_traceback_is_shown_on_request(package, words):
    """`-v` or a variable shows where it was, on stderr, beside the line."""
    broken(package, RAISES["ValueError"])
    variables = {} if words else {"CAPSULE_RUN_TRACEBACK": "1"}
    done = start(package, *words, "--no-workspace", "--", "true", env={"PATH": "/usr/bin", **variables})
    assert 125 == done.returncode
    assert b"execute.py" in done.stderr
    assert b"Traceback" in done.stderr
    assert b"capsule-run: E6007: " in done.stderr


@pytest.mark.parametrize("words", [("doctor",), ("policy", "show"), ("exec", "--lang", "bash"), ("mcp",), ("--help",)])
def test_crash_in_a_subcommand_is_one_line(package, words):
    """A subcommand that fails unexpectedly ends as a run does."""
    for module in ("seccomp/catalogue.py", "doctor/diagnose.py", "engine/code.py", "mcp/session.py", "cli/help.py"):
        source = package / module
        source.write_text(
            source.read_text().replace(
                "from __future__ import annotations\n", "from __future__ import annotations\n1 / 0\n"
            )
        )
    done = start(package, *words)
    assert (125, b"") == (done.returncode, done.stdout)
    assert done.stderr.startswith(b"capsule-run: E6007: ")
    assert b"Traceback" not in done.stderr
