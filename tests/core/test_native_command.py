"""The native command: who it is whatever it is called, and what of the caller's environment its interpreter gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import capsule_run

PACKAGE = Path(capsule_run.__file__).parent
VERSION = f"python3.{sys.version_info.minor}"
NAMES = ("", "-capsule-run", "-", "sh", "capsule-core", "/", "capsule-run/", "x" * 5000, "\udcff\n")
LOADER = {
    "LD_PRELOAD": "/no/such.so", "LD_LIBRARY_PATH": ":", "LD_AUDIT": "/no/such.so", "LD_DEBUG": "libs",
    "GLIBC_TUNABLES": "glibc.malloc.check=3", "GCONV_PATH": ".", "LOCPATH": ".", "MALLOC_TRACE": "/no/file",
    "OPENSSL_CONF": "./openssl.cnf",
}  # fmt: skip
PYTHON = {
    "PYTHONPATH": ".", "PYTHONHOME": "/no", "PYTHONSTARTUP": "./x.py", "PYTHONWARNINGS": "error", "PYTHONVERBOSE": "1",
    "PYTHONINSPECT": "1", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONSAFEPATH": "", "PYTHONDEBUG": "1",
    "PYTHONMALLOC": "debug", "PYTHONPROFILEIMPORTTIME": "1", "PYTHONPYCACHEPREFIX": ".", "PYTHONBREAKPOINT": "x.y",
}  # fmt: skip


@pytest.fixture
def command(tmp_path):
    """The native command in an environment as pip makes it."""
    package = tmp_path / "lib" / VERSION / "site-packages" / "capsule_run"
    (tmp_path / "bin").mkdir()
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE / "_core", tmp_path / "bin" / "capsule-run")
    (tmp_path / "bin" / VERSION).symlink_to(sys.executable)
    return tmp_path / "bin" / "capsule-run"


def start(command, *words, **options):
    return subprocess.run(
        [*words], executable=command, capture_output=True, timeout=60, cwd="/", check=False, **options
    )


@pytest.mark.parametrize("called", NAMES)
def test_native_command_under_any_name_is_the_command(command, called):
    """Whatever its caller puts in the place of its name, it is `capsule-run`, and never the core's usage."""
    done = start(command, called, "--version")
    assert (0, b"capsule-run ", b"") == (done.returncode, done.stdout[:12], done.stderr)


def test_native_command_without_any_word_is_the_command(command):
    """With an empty argv it says what is missing, as without a command."""
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", 'exec "$0" 2>/dev/null', str(command)], os.environ)
    expected = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = (
        "import ctypes, os\n"
        "os.dup2(os.open('/dev/null', os.O_WRONLY), 2)\n"
        f"ctypes.CDLL(None).execve({os.fsencode(command)!r}, (ctypes.c_char_p * 1)(None), (ctypes.c_char_p * 1)(None))"
    )
    assert (2, 2) == (expected, subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode)


@pytest.mark.parametrize("name", ["cr", "capsule-core", "_core"])
def test_native_command_through_a_link_is_the_command(command, tmp_path, name):
    """A symbolic link of any name runs the same command, and finds the same package."""
    (tmp_path / name).symlink_to(command)
    done = start(tmp_path / name, str(tmp_path / name), "--version")
    assert (0, b"capsule-run ", b"") == (done.returncode, done.stdout[:12], done.stderr)


def test_interpreter_gets_no_variable_that_loads_code(command):
    """Variables of the dynamic linker and of the C library stay out of our interpreter; all others reach it."""
    printing = "import posix, sys; print(*[name.decode() for name in posix.environ], file=sys.stderr)\n"
    bundle = command.parent.parent / "lib" / VERSION / "site-packages" / "capsule_run" / "_bundle.py"
    bundle.write_text(printing + "def begin(): pass\n")
    done = start(command, "capsule-run", "--version", env={**LOADER, "HOME": "/", "CAPSULE_RUN_X": "1", "LDX": "1"})
    # Python itself sets the last one
    assert {"CAPSULE_RUN_X", "HOME", "LDX"} == set(done.stderr.decode().split()) - {"LC_CTYPE"}


@pytest.mark.parametrize("variables", [LOADER, PYTHON], ids=["loader", "python"])
def test_hostile_variables_change_nothing(command, tmp_path, variables):
    """A library or module that lies in the current directory is not loaded, and the output stays the command's alone."""
    for planted in ("x.py", "site.py", "sitecustomize.py", "libc.so.6", "libpython.so"):
        (tmp_path / planted).write_text("raise SystemExit(9)")
    words = ["capsule-run", "--no-workspace", "--", "/bin/echo", "x"]
    done = subprocess.run(
        words,
        executable=command,
        capture_output=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": "/usr/bin", **variables},
        check=False,
    )
    assert (0, b"x\n", b"") == (done.returncode, done.stdout, done.stderr)
