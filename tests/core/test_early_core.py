"""The native command starts the core beside Python (docs/decisions/early-core.md), and Python takes it over or lets it go."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import capsule_run

PACKAGE = Path(capsule_run.__file__).parent
VERSION = f"python3.{sys.version_info[1]}"
# Says what it was started with, and what is true of the core then; closing the socket must end it.
TELLS = """
import os, sys
option = sys._xoptions.get("capsule-core")
print(sys.argv[1:])
if option:
    fd, pid = map(int, option.split(":"))
    proc = f"/proc/{pid}"
    while open(f"{proc}/cmdline").read() != "capsule-core\\0":  # it is on its way there
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    print(open(f"{proc}/environ").read() == "", os.path.samefile(f"{proc}/exe", CORE), sys.flags.utf8_mode)
    os.close(fd)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def begin(): ...
"""


@pytest.fixture
def prefix(tmp_path):
    """An environment as pip makes it: the command, an interpreter beside it, and a package."""
    package = tmp_path / "lib" / VERSION / "site-packages" / "capsule_run"
    (tmp_path / "bin").mkdir()
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE / "_core", tmp_path / "bin" / "capsule-run")
    (tmp_path / "bin" / VERSION).symlink_to(sys.executable)
    return tmp_path


def package_of(prefix):
    return prefix / "lib" / VERSION / "site-packages" / "capsule_run"


@pytest.fixture
def telling(prefix):
    """The same with a program that tells instead of ours."""
    main = package_of(prefix) / "_bundle.py"
    main.write_text(TELLS.replace("CORE", repr(str(main.with_name("_core")))))
    return prefix


def run(prefix, *words, **options):
    return subprocess.run(
        [prefix / "bin" / "capsule-run", *words], capture_output=True, text=True, timeout=60, check=False, **options
    )


def counting(prefix, body='exec -a capsule-core "$(dirname "$0")/real"'):
    """Puts a script in the core's place that counts its starts, and is the core."""
    core = package_of(prefix) / "_core"
    core.rename(core.with_name("real"))
    core.write_text(f'#!/bin/bash\nPATH=/usr/bin:/bin\necho >>"$0.starts"\n{body}\n')
    core.chmod(0o755)
    return core.with_name("_core.starts")


@pytest.mark.parametrize("words", [["--", "true"], ["--json"], ["--memory", "64M", "--", "true"]])
def test_early_core_is_started_before_python(telling, words):
    """It is the package's own, knows nothing of the caller's environment, and ends when the socket is closed. Words are bytes."""
    done = run(telling, *words)
    assert (done.stderr, done.stdout.splitlines()) == ("", [repr(words), "True True 1", "0"])


@pytest.mark.parametrize("words", [[], ["doctor"], ["policy", "show"], [""]])
def test_early_core_is_not_started_without_a_run(telling, words):
    """Subcommands start none."""
    done = run(telling, *words)
    assert (done.stderr, done.stdout.splitlines()) == ("", [repr(words)])


def test_early_core_with_closed_stdin_takes_no_standard_descriptor(telling):
    """With standard input closed its number would be the socket's, and so the command's input."""
    done = subprocess.run(
        ["sh", "-c", f"exec {telling}/bin/capsule-run -- true <&-"], capture_output=True, text=True, check=False
    )
    assert (done.stderr, done.stdout.splitlines()) == ("", ["['--', 'true']"])


def test_early_core_is_used_by_python(prefix):
    """One run, one core."""
    starts = counting(prefix)
    done = run(prefix, "--", "echo", "hi", cwd="/")
    assert (done.stdout, starts.read_text()) == ("hi\n", "\n")


@pytest.mark.parametrize(
    "words", [["--dry-run", "--", "true"], ["--no-such-option", "--", "true"], ["--"], ["--help"], ["-V"]]
)
def test_early_core_exits_if_no_run_follows(prefix, words):
    """Words that turn out to ask for no run leave no process, not for an instant: the leftover check sees to it."""
    starts = counting(prefix)
    run(prefix, *words, cwd="/")
    assert starts.read_text() == "\n"


@pytest.mark.parametrize("late", ["", "sleep 0.5; "])
def test_early_core_that_cannot_start_is_replaced(prefix, late):
    """What is not the core yet says so by its exit code, also where Python has taken it over by then."""
    first = f'[ "$(wc -l <"$0.starts")" = 1 ] && {{ {late}exit 127; }}\n'
    starts = counting(prefix, body=f'{first}exec -a capsule-core "$(dirname "$0")/real"')
    done = run(prefix, "--", "echo", "hi", cwd="/")
    assert (done.stdout, starts.read_text()) == ("hi\n", "\n\n")


def test_early_core_missing_is_e2003(prefix):
    """A missing core is E2003, with its path, as for the SDK."""
    core = package_of(prefix) / "_core"
    core.unlink()
    done = run(prefix, "--", "true", cwd="/")
    assert done.returncode == 125
    assert f"E2003: cannot run the core `{core}`" in done.stderr


@pytest.mark.parametrize("option", ["", "x", "1", "999999:1", "-1:1", "0:x"])
def test_early_core_option_that_is_foreign_is_ignored(prefix, option):
    """Anyone who starts Python by hand with something else there gets a run with a core of its own."""
    command = [sys.executable, "-I", "-S", "-X", f"capsule-core={option}", package_of(prefix) / "__main__.py"]
    done = subprocess.run(
        [*command, "--", "echo", "hi"], capture_output=True, text=True, cwd="/", stdin=subprocess.DEVNULL, check=False
    )
    assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr


def test_early_core_exits_if_python_is_killed(telling):
    """A core that was sent nothing exits when the socket is closed."""
    main = package_of(telling) / "_bundle.py"
    main.write_text(
        TELLS.partition("os.close")[0].replace("CORE", repr(str(main.with_name("_core")))) + "os.kill(os.getpid(), 9)\n"
    )
    done = run(telling, "--", "true")
    assert (done.returncode, done.stdout.splitlines()) == (-9, [])
    assert os.path.exists(main)


@pytest.mark.parametrize("words", [["--", "true"], ["--file", "f=/usr/bin/env", "--save-changes", ".", "--", "true"]])
def test_early_core_killed_during_setup_is_e6002(prefix, words):
    """Anyone who ends the core during set-up gets E6002 and exit code 125, with whatever files and changes were asked for."""
    counting(prefix, "exit 1")
    done = run(prefix, *words, cwd=prefix)
    assert (125, "", True) == (done.returncode, done.stdout, done.stderr.startswith("capsule-run: E6002: "))


def test_stdin_is_a_directory_is_refused(prefix):
    """`capsule-run < DIRECTORY`, with which no Python starts, is a wrong request and says so."""
    with_directory = os.open(prefix, os.O_RDONLY)
    try:
        done = run(prefix, "--", "true", stdin=with_directory, cwd="/")
    finally:
        os.close(with_directory)
    assert (2, "", "capsule-run: standard input is a directory\n") == (done.returncode, done.stdout, done.stderr)
