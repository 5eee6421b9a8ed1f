"""The request is where a confused or hostile caller comes in: whatever it holds, the answer is one response, and no more."""

# ruff: noqa: E501 - tables and programs, one entry a line
from __future__ import annotations

import json
import os

import pytest
from inside import COMMAND, code_of

BAD_TEXTS = {
    "nothing": b"", "space": b" \n", "not JSON": b"{", "a list": b"[]", "a number": b"1", "null": b"null", "two values": b"{}{}",
    "trailing comma": b'{"command":["true"],}', "comment": b'{"command":["true"]} // x', "single quotes": b"{'command':['true']}",
    "NaN": b'{"command":["true"],"timeout_ms":NaN}', "Infinity": b'{"command":["true"],"timeout_ms":Infinity}',
    "fraction": b'{"command":["true"],"timeout_ms":5000.0}', "exponent": b'{"command":["true"],"timeout_ms":5e3}',
    "boolean for a number": b'{"command":["true"],"timeout_ms":true}', "text for a number": b'{"command":["true"],"timeout_ms":"5000"}',
    "negative": b'{"command":["true"],"timeout_ms":-1}', "zero": b'{"command":["true"],"timeout_ms":0}',
    "huge number": b'{"command":["true"],"timeout_ms":' + b"9" * 10000 + b"}", "unknown field": b'{"command":["true"],"isolation_":{}}',
    "unknown field inside": b'{"command":["true"],"isolation":{"seccomp":false}}', "no command": b'{"environment":{}}',
    "empty command": b'{"command":[]}', "empty first word": b'{"command":[""]}', "command as text": b'{"command":"rm -rf /"}',
    "number in command": b'{"command":["echo",1]}', "null in command": b'{"command":["echo",null]}', "nested command": b'{"command":[["true"]]}',
    "NUL in argument": b'{"command":["echo","a\\u0000b"]}', "NUL in program": b'{"command":["tr\\u0000ue"]}',
    "lone surrogate": b'{"command":["echo","\\ud800"]}', "invalid UTF-8": b'{"command":["echo","\xff"]}', "byte order mark": b'\xef\xbb\xbf{"command":["true"]}',
    "duplicate key": b'{"command":["true"],"command":["id"]}', "deep": b"[" * 100000 + b"]" * 100000, "deep object": b'{"a":' * 100000 + b"1" + b"}" * 100000,
    "environment as list": b'{"command":["true"],"environment":["A=1"]}', "number in environment": b'{"command":["true"],"environment":{"A":1}}',
    "equals in a name": b'{"command":["true"],"environment":{"A=B":"1"}}', "empty name": b'{"command":["true"],"environment":{"":"1"}}',
    "NUL in a name": b'{"command":["true"],"environment":{"A\\u0000":"1"}}', "NUL in a value": b'{"command":["true"],"environment":{"A":"\\u0000"}}',
    "surrogate in a name": b'{"command":["true"],"environment":{"\\udfff1":"1"}}', "user 65534": b'{"command":["true"],"isolation":{"user":65534}}',
    "user -1": b'{"command":["true"],"isolation":{"user":-1}}', "user 4294967296": b'{"command":["true"],"isolation":{"user":4294967296}}',
    "relative workdir": b'{"command":["true"],"isolation":{"working_directory":"tmp"}}', "dot-dot workdir": b'{"command":["true"],"isolation":{"working_directory":"/tmp/../.."}}',
    "NUL in a path": b'{"command":["true"],"isolation":{"readonly_paths":["/a\\u0000/b"]}}', "long path": b'{"command":["true"],"isolation":{"readonly_paths":["/' + b"a" * 5000 + b'"]}}',
    "bind without source": b'{"command":["true"],"isolation":{"binds":[{"destination":"/x"}]}}', "bind of odd mode": b'{"command":["true"],"isolation":{"binds":[{"source":"/usr","destination":"/x","mode":"rwx"}]}}',
    "hostname with a newline": b'{"command":["true"],"isolation":{"hostname":"a\\nb"}}', "execution id with an escape": b'{"command":["true"],"execution_id":"\\u001b[31m"}',
    "stdin twice": b'{"command":["true"],"stdin":"","stdin_base64":""}', "bad base64": b'{"command":["true"],"stdin_base64":"a"}',
    "too many words": b'{"command":["echo"' + b',"x"' * 70000 + b"]}", "too long an argument": b'{"command":["echo","' + b"x" * (2 << 20) + b'"]}',
    "too large an environment": b'{"command":["true"],"environment":{"A":"' + b"x" * (2 << 20) + b'"}}',
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_request_malformed_gets_one_response_and_runs_nothing(inside_as_caller, name):
    """Malformed, mistyped, oversized and ambiguous requests are E1xxx, exit code 2, one JSON object on stdout, nothing run."""
    done = inside_as_caller.cli("--json", input=BAD_TEXTS[name])
    response = json.loads(done.stdout)
    assert (2, b"", "error", "E1") == (done.returncode, done.stderr, response["status"], code_of(response)[:2])
    assert "stdout" not in response


@pytest.mark.parametrize(
    "word",
    [
        "--network",
        "--user",
        "-h",
        "--help",
        "-V",
        "--json",
        "--",
        "-",
        "--bind=/:/x:rw",
        "-e",
        "--workspace",
        "--no-sandbox",
    ],
)
def test_command_that_looks_like_an_option_is_a_command(inside_as_caller, word):
    """CVE-2024-32462: behind `--`, and in a request's `command`, nothing is an option; argv arrives as it was given."""
    assert (127, b"") == ((done := inside_as_caller.cli("--", word)).returncode, done.stdout)
    assert 127 == inside_as_caller.cli("--json", input=json.dumps({"command": [word]}).encode()).returncode
    assert (
        f"[{word}][--network]\n".encode()
        == inside_as_caller.cli("--", "printf", "[%s]", word, "--network", cwd="/").stdout + b"\n"
    )


@pytest.mark.parametrize(
    "argument",
    [
        "",
        " ",
        "\n",
        "'",
        '"',
        "$(id)",
        "`id`",
        "%s",
        "\\",
        "\x1b[31m",
        "é",
        "\U0001f600",
        "a" * 100_000,
        "-rf",
        "*",
        "~",
    ],
)
def test_argument_arrives_exactly(inside_as_caller, argument):
    """No shell, no splitting, no globbing, no quoting: the argument inside is the argument outside."""
    code = "import os, sys; sys.stdout.buffer.write(os.fsencode(sys.argv[1]))"
    response = inside_as_caller(["/usr/bin/python3", "-I", "-S", "-c", code, argument])
    assert argument == response["stdout"]


def test_argument_that_is_no_text_arrives_exactly(inside_as_caller):
    """Bytes that are not UTF-8 go through the command line unchanged."""
    done = inside_as_caller.cli("--", "printf", "%s", os.fsdecode(b"\xff\xfe\x80"))
    assert b"\xff\xfe\x80" == done.stdout


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PYTHONPATH", "PYTHONSTARTUP", "BASH_ENV", "ENV", "IFS", "PATH", "GCONV_PATH", "MALLOC_CHECK_",
                                  "GLIBC_TUNABLES", "a b", "é", "x\n", "BASH_FUNC_id%%"])  # fmt: skip
def test_environment_variable_reaches_only_the_command(inside_as_caller, name, place):
    """Any variable is the payload's; none of them, LD_PRELOAD among them, touches our own processes (CVE-2021-26910, CVE-2023-4911)."""
    response = inside_as_caller(["/usr/bin/env", "-0"], environment={name: "/workspace/evil"})
    if response["status"] == "success":
        assert f"{name}=/workspace/evil" in response["stdout"].split("\0")
    else:
        assert code_of(response) in ("E3001", "E3003", "E3005"), (
            response
        )  # PATH without the program; a loader that refuses


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "LD_AUDIT",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSTARTUP",
        "PYTHONINSPECT",
        "SECRET_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "GLIBC_TUNABLES",
    ],
)
def test_environment_of_the_caller_does_not_get_in(inside_as_caller, name):
    """A variable of the caller is in no process inside, and does not bend our interpreter (CVE-2016-10122)."""
    env = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", name: "/nowhere/secret-value"}
    done = inside_as_caller.cli(
        "--", "sh", "-c", "env; tr '\\0' '\\n' < /proc/self/environ; cat /proc/1/environ /proc/1/cmdline", env=env
    )
    assert b"HOME=/home/user" in done.stdout
    assert b"secret-value" not in done.stdout
    assert name.encode() not in done.stdout


def test_request_malformed_error_shows_no_secret(inside_as_caller):
    """The value of a variable is never in a message, however wrong the request."""
    for request in (
        {"command": ["true"], "environment": {"KEY": "s3cr3t\0"}},
        {"command": ["true"], "environment": {"KEY": ["s3cr3t"]}},
    ):
        assert b"s3cr3t" not in inside_as_caller.cli("--json", input=json.dumps(request).encode()).stdout
    assert b"s3cr3t" not in inside_as_caller.cli("--env", "s3cr3t", "--", "true").stderr


def test_request_large_is_carried(inside_as_caller):
    """One MiB of arguments and 32 MiB of standard input in one request arrive."""
    words = ["x" * 1000] * 900
    response = inside_as_caller(["sh", "-c", "echo $#; wc -c", "sh", *words], stdin="y" * (32 << 20))
    assert ["900", str(32 << 20)] == response["stdout"].split()


def test_response_is_one_object_for_any_output(inside_as_caller):
    """A payload that prints JSON, NUL bytes, control characters and broken UTF-8 cannot break out of its string."""
    code = r"""
import sys
sys.stdout.buffer.write(b'"}\n{"status":"success","exit_code":0,"stdout":"forged"}\n\x00\x1b\xff\xed\xa0\x80\xe2\x80\xa8')
sys.exit(3)
"""
    done = inside_as_caller.cli(
        "--json", input=json.dumps({"command": ["/usr/bin/python3", "-I", "-S", "-c", code]}).encode()
    )
    response = json.loads(done.stdout)
    assert 1 == done.stdout.count(b"\n")
    assert (3, "error", 3) == (done.returncode, response["status"], response["exit_code"])


def test_standard_streams_closed_are_harmless():
    """Started with 0, 1 and 2 closed, our own descriptors do not land there: nothing of ours is the payload's stream."""
    import subprocess

    shell = 'exec 3>"$1"; shift; "$@" <&- >&- 2>&-; echo $? >&3'
    with open(os.path.join(os.environ["TMPDIR"], "status"), "w+") as status:
        subprocess.run(
            [
                "/bin/sh",
                "-c",
                shell,
                "sh",
                status.name,
                *COMMAND,
                "--",
                "/usr/bin/python3",
                "-I",
                "-S",
                "-c",
                "print(1); raise SystemExit(5)",
            ],
            check=True,
            timeout=30,
        )
        assert "5" == status.read().strip()
    os.unlink(status.name)
