"""Completions and manual pages: the shells accept them and complete what the table of options has."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time

import pytest

from capsule_run.cli import completion, man, subcommands
from capsule_run.request.option_table import OPTIONS

# words typed, the last one to complete → what is among the completions
COMPLETED = [
    (["--mem"], "--memory"),
    (["--profile", "st"], "strict"),
    (["--on-output-limit", "tr"], "truncate"),
    (["--preset", "data"], "data-science"),
    (["pol"], "policy"),
    (["policy", "le"], "learn"),
    (["config", "sh"], "show"),
    (["config", "show", "--ori"], "--origin"),
    (["exec", "--lang", "py"], "python"),
    (["exec", "--mem"], "--memory"),
    (["doctor", "--att"], "--attack"),
    (["completion", "fi"], "fish"),
    (["schema", "resp"], "response"),
    (["help", "pol"], "policy"),
    (["--workspace", "/us"], "/usr"),
    (["batch", "--res"], "--resume"),
    (["batch", "--mem"], "--memory"),
]
ids = [" ".join(words) for words, _ in COMPLETED]


def write(tmp_path, shell):
    path = tmp_path / f"completions.{shell}"
    path.write_text(completion.SHELLS[shell]())
    return path


def bash(path, words):
    script = """
    source "$1"; shift
    COMP_WORDS=(capsule-run "$@"); COMP_CWORD=$#; COMPREPLY=(); compopt() { :; }
    _capsule_run; printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", script, "bash", path, *words], capture_output=True, text=True, timeout=30)
    assert "" == done.stderr
    return done.stdout.splitlines()


def test_completion_offers_no_option_that_is_refused(tmp_path):
    """`mcp` and `exec` read no request, and a batch prints no result of its own."""
    for name in ("mcp", "exec", "batch"):
        assert "--json" not in bash(write(tmp_path, "bash"), [name, "--js"])
    assert "--pretty" not in bash(write(tmp_path, "bash"), ["batch", "--pre"])
    assert ["--idle-timeout"] == bash(write(tmp_path, "bash"), ["mcp", "--idle"])


@pytest.mark.parametrize(("words", "expected"), COMPLETED, ids=ids)
def test_completion_bash(words, expected, tmp_path):
    """bash completes options, their values, subcommands and theirs."""
    assert expected in bash(write(tmp_path, "bash"), words)


def test_completion_bash_leaves_the_program_alone(tmp_path):
    """After `--` no option of ours is offered."""
    assert [""] == bash(write(tmp_path, "bash"), ["--memory", "1G", "--", "ls", "--mem"])


@pytest.mark.needs("fish")
@pytest.mark.parametrize(("words", "expected"), COMPLETED, ids=ids)
def test_completion_fish(words, expected, tmp_path):
    """fish completes the same."""
    path = write(tmp_path, "fish")
    script = f"source {path}; complete -C'capsule-run {' '.join(words)}'"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(["fish", "-N", "-c", script], capture_output=True, text=True, timeout=60, env=environment)
    assert "" == done.stderr
    assert expected in [line.partition("\t")[0].rstrip("/") for line in done.stdout.splitlines()]


@pytest.mark.needs("zsh")
@pytest.mark.parametrize(("words", "expected"), COMPLETED, ids=ids)
def test_completion_zsh(words, expected, tmp_path):
    """zsh, at a terminal, puts the completed word into the line."""
    folder = tmp_path / "functions"
    folder.mkdir()
    folder.joinpath("_capsule-run").write_text(completion.SHELLS["zsh"]())
    start = (
        f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump; PS1=; unsetopt beep; "
        "print-line() { print -r -- \"LINE<$BUFFER>\" }; zle -N print-line; bindkey '^X' print-line; print READY$((1))\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(HOME=str(tmp_path), TERM="dumb", ZDOTDIR=str(tmp_path))
        os.execvp("zsh", ["zsh", "-f", "-i"])
    try:
        os.write(terminal, start.encode())
        wait_for(terminal, "READY1")
        os.write(terminal, f"capsule-run {' '.join(words)}\t".encode())
        os.write(terminal, b"\x18")
        line = wait_for(terminal, "LINE<").partition("LINE<")[2]
        while ">" not in line:
            line += wait_for(terminal, ">")
        assert expected in line.partition(">")[0].split()[-1]
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def wait_for(terminal, words):
    seen, deadline = "", time.monotonic() + 50
    while words not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 4096).decode("utf-8", "replace")
    assert words in seen
    return seen[seen.index(words) :]


def test_completion_has_every_option():
    """Each shell's text has every option of the command and of every subcommand."""
    for shell, text in ((name, make()) for name, make in completion.SHELLS.items()):
        for name in ("", *subcommands.SUBCOMMANDS):
            for option in completion.options_of(name):
                word = option.long if shell != "fish" else f"-l {option.long.removeprefix('--')}"
                assert word in text, (shell, name, option.long)


# Manual pages


def rendered(page):
    """The page as a terminal shows it; groff's warnings are errors."""
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-P-c"], input=page, capture_output=True, text=True, timeout=60
    )
    assert "" == done.stderr
    return re.sub(".\b", "", done.stdout)


@pytest.mark.needs("groff")
def test_manual_page_has_every_option():
    """The page is valid, and has each option, subcommand and error code."""
    text = rendered(man.page())
    for word in (*(option.long for option in OPTIONS), *subcommands.SUBCOMMANDS, "E1012", "CAPSULE_CONFIG"):
        assert word in text


@pytest.mark.needs("groff")
@pytest.mark.parametrize("name", subcommands.SUBCOMMANDS)
def test_manual_page_of_a_subcommand_is_its_help(name):
    """Each subcommand has a valid page with its help text."""
    first = subcommands.module(name).help_text().splitlines()[0].split("  ")[0]
    assert " ".join(first.split()) in " ".join(rendered(man.page(name)).split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["completion", "tcsh"], "E1007: completion: name one of `bash`, `zsh`, `fish`"),
        (["schema", "x"], 'E1007: schema: name `request` or `response`, got "x"'),
        (["man", "x"], 'E1007: man: "x" is no subcommand'),
    ],
)
def test_unknown_word_is_refused(words, message, capsule_cli):
    """A wrong word is named with what is accepted."""
    done = subprocess.run([capsule_cli, *words], capture_output=True, text=True, timeout=30)
    assert (2, True) == (done.returncode, message in done.stderr)
