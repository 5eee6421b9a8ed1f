"""How the project is built, shipped and installed."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = '#include <unistd.h>\nint main(void)\n{\n\treturn write(1, "ok", 2) != 2;\n}\n'
BUILD = [sys.executable, str(REPOSITORY / "core" / "build.py")]


@pytest.fixture
def tiny(tmp_path):
    """A folder with one small C program in the place of core/."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    folder.joinpath("main.c").write_text(TINY)
    return folder


@pytest.fixture
def project():
    return tomllib.loads(REPOSITORY.joinpath("pyproject.toml").read_text())["project"]


def compile_tiny(tiny, *options, **variables):
    env = {**os.environ, **variables}
    argv = [*BUILD, str(tiny / "out"), "--source", str(tiny), *options]
    return subprocess.run(argv, capture_output=True, text=True, env=env, check=False)


def test_package_has_no_run_time_dependency(project):
    """The standard library is enough."""
    assert [] == project["dependencies"]


def test_version_is_in_one_place(project):
    """The version is a line of the package that both a person and the build can read."""
    assert ["version"] == project["dynamic"]
    text = REPOSITORY.joinpath("src/capsule_run/__init__.py").read_text()
    assert 1 == len(re.findall(r'(?m)^__version__ = "\d+\.\d+\.\d+"$', text))


@pytest.mark.needs("musl-gcc")
def test_build_prefers_musl(tiny):
    """With musl-gcc the core is small and static."""
    said = compile_tiny(tiny, "--werror", CC="")
    assert "static, musl-gcc" in said.stdout, said.stderr
    assert tiny.joinpath("out").stat().st_size < 50_000


@pytest.mark.parametrize("cc", [pytest.param(cc, marks=pytest.mark.needs(cc)) for cc in ("gcc", "clang", "musl-gcc")])
def test_build_honours_cc(tiny, cc):
    """A set CC is the compiler, whatever else is there."""
    said = compile_tiny(tiny, "--werror", CC=cc)
    assert f", {cc}, " in said.stdout, said.stderr
    assert b"ok" == subprocess.run([str(tiny / "out")], capture_output=True, check=True).stdout


@pytest.mark.needs("cc")
def test_build_without_static_libc_is_dynamic(tiny, tmp_path):
    """A toolchain that cannot link statically still builds a core."""
    cc = tmp_path / "cc-dynamic-only"
    cc.write_text('#!/bin/sh\ncase "$*" in *-static*) exit 1;; esac\nexec cc "$@"\n')
    cc.chmod(0o755)
    said = compile_tiny(tiny, CC=str(cc))
    assert ": dynamic, " in said.stdout, said.stderr
    assert b"ok" == subprocess.run([str(tiny / "out")], capture_output=True, check=True).stdout


@pytest.mark.needs("cc")
def test_build_honours_cflags(tiny):
    """CFLAGS reach the compiler, after our own flags."""
    said = compile_tiny(tiny, CFLAGS="-DA_FLAG -Werror -include /nonexistent.h")
    assert 1 == said.returncode
    assert "/nonexistent.h" in said.stderr


@pytest.mark.parametrize(
    ("variables", "options", "expected"),
    [
        ({"CC": "no-such-compiler"}, (), "a C compiler is needed"),
        ({}, ("--source", "/var/empty"), "no C file in /var/empty"),
        ({"CFLAGS": "-DTWICE=1 -Werror -include /nonexistent.h"}, (), "could not compile the core"),
    ],
)
def test_build_failure_is_explained(tiny, variables, options, expected):
    """A build that fails ends with a sentence for a newcomer, and no traceback."""
    said = compile_tiny(tiny, *options, **variables)
    assert 1 == said.returncode
    assert expected in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.needs("cc")
def test_build_replaces_a_running_core(tiny):
    """A rebuild replaces the file, so a core that runs is never written to, and no scratch file stays."""
    compile_tiny(tiny)
    first = tiny.joinpath("out").stat().st_ino
    compile_tiny(tiny)
    assert first != tiny.joinpath("out").stat().st_ino
    assert ["main.c", "out"] == sorted(path.name for path in tiny.iterdir())


@pytest.mark.needs("cc")
def test_core_is_hardened(core_path):
    """No executable stack, and the table of calls read-only before main: seen in the file's program headers."""
    headers = program_headers(core_path.read_bytes())
    assert 0x6474E552 in headers, "PT_GNU_RELRO"
    assert 0 == headers[0x6474E551] & 1, "PT_GNU_STACK is executable"
    assert not [kind for kind, flags in headers.items() if kind == 1 and flags & 3 == 3], "writable and executable"


def program_headers(elf):
    """Kind → flags of a 64-bit little-endian ELF file."""
    at, size, count = (int.from_bytes(elf[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
    rows = [elf[at + n * size :][:8] for n in range(count)]
    return {int.from_bytes(row[:4], "little"): int.from_bytes(row[4:], "little") for row in rows}


def test_core_may_be_run_by_everybody(core_path):
    """An install by root is usable by all."""
    assert 0o555 == stat.S_IMODE(core_path.stat().st_mode) & 0o555


def test_command_is_the_core(core_path, capsule_cli):
    """`capsule-run` on PATH is the very same file as the core."""
    if "CAPSULE_TEST_CORE" not in os.environ:
        assert core_path.read_bytes() == capsule_cli.read_bytes()


@pytest.mark.needs("wheel")
def test_wheel_has_core_and_command():
    """The wheel is for every Python of the platform, and both copies of the core can be run after an install."""
    path = os.environ["CAPSULE_TEST_WHEEL"]
    assert "-py3-none-" in path
    with zipfile.ZipFile(path) as wheel:
        modes = {entry.filename.rpartition("/")[2]: entry.external_attr >> 16 for entry in wheel.infolist()}
    assert {"_core": 0o111, "capsule-run": 0o111} == {name: modes[name] & 0o111 for name in ("_core", "capsule-run")}
    assert "py.typed" in modes
