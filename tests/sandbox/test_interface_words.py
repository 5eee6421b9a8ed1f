"""Errors name what the caller wrote: an option on the command line, a field in JSON, an argument in Python."""

from __future__ import annotations

import json
import subprocess

import pytest

import capsule_run
from capsule_run._base.errors import CapsuleError
from capsule_run.request.interface_words import ARGUMENT_NAMES, OPTION_NAMES, renamed

# The request, the same on the command line and in Python, and the beginning of the message in each. None: there is no argument.
CASES = [
    (
        {"isolation": {"binds": [{"source": "/none", "destination": "/x"}]}}, ["--bind", "/none:/x"], None,
        "isolation.binds[0]: cannot share `/none`", "--bind: cannot share `/none`", None,
    ),
    (
        {"isolation": {"tools": ["sh", "no-such-tool"]}}, ["--tool", "sh", "--tool", "no-such-tool"],
        {"tools": ["sh", "no-such-tool"]},
        "isolation.tools[1]: `no-such-tool`", "--tool: `no-such-tool`", "tools[1]: `no-such-tool`",
    ),
    (
        {"isolation": {"workspace": "/etc/passwd"}}, ["--workspace", "/etc/passwd"], {"workspace": "/etc/passwd"},
        "isolation.workspace: `/etc/passwd`", "--workspace: `/etc/passwd`", "workspace: `/etc/passwd`",
    ),
    (
        {"collect_to": "/tmp/x"}, ["--collect-to", "/tmp/x"], {"collect_to": "/tmp/x"},
        "collect_to: there are no files", "--collect-to: there are no files", "collect_to: there are no files",
    ),
    (
        {"files": {"a": {"source": "/none"}}}, ["--file", "a=/none"], {"files": {"a": {"source": "/none"}}},
        "files: cannot read `/none`", "--file: cannot read `/none`", "files: cannot read `/none`",
    ),
    (
        {"collect": ["/a"]}, ["--collect", "/a"], {"collect": ["/a"]},
        "collect[0]: must be relative", "--collect: must be relative", "collect[0]: must be relative",
    ),
    (
        {"files": {"../a": "x"}}, ["--file", "../a=/etc/passwd"], {"files": {"../a": "x"}},
        "files path: must not contain `..`", "--file path: must not contain `..`", "files path: must not contain `..`",
    ),
]  # fmt: skip


@pytest.mark.sandbox
@pytest.mark.parametrize("case", CASES, ids=[case[3] for case in CASES])
def test_error_names_what_the_interface_calls_it(capsule_cli, tmp_path, case):
    """The field in JSON, the option on the command line and with `--pretty`, the argument in Python."""
    fields, words, arguments, json_says, cli_says, python_says = case

    def run(*command, text=""):
        return subprocess.run([capsule_cli, *command], input=text, capture_output=True, text=True, cwd=tmp_path)

    answer = json.loads(run("--json", text=json.dumps({"command": ["true"], **fields})).stdout)
    assert answer["error"]["message"].startswith(json_says)
    assert f": {cli_says}" in run(*words, "--", "true").stderr
    assert json.loads(run("--pretty", *words, "--", "true").stdout)["error"]["message"].startswith(cli_says)
    if arguments is None:
        return
    try:
        said = capsule_run.run(["true"], **arguments).error.message
    except CapsuleError as error:
        said = error.message
    assert said.startswith(python_says)


@pytest.mark.sandbox
def test_error_of_a_code_run_names_the_argument():
    """`run_code` has the arguments of `run`."""
    with pytest.raises(CapsuleError) as caught:
        capsule_run.run_code("1", "python", collect_to="/tmp/x")
    assert caught.value.message.startswith("collect_to: ")


def test_error_hint_names_options_once():
    """A field alone in a hint becomes the option; one in parentheses after its option stays; other texts stay."""
    hint = "set `collect` as well, or `--network` (`isolation.network`), for `files.txt`"
    error = renamed(CapsuleError("E1009", "collect_to: x", hint=hint), OPTION_NAMES)
    assert "set `--collect` as well, or `--network` (`isolation.network`), for `files.txt`" == error.hint
    assert "--collect-to: x" == error.message


def test_error_about_no_field_is_unchanged():
    """A message that begins with no field is left alone, whatever it quotes."""
    error = CapsuleError("E3001", "command not found: `files`", hint="`collect`")
    assert error is renamed(error, OPTION_NAMES)
    assert error is renamed(error, ARGUMENT_NAMES)
