"""What becomes of a run in which one call of the core fails: a sample of the table that `.ci/run error_injection` fills."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import injection
import pytest

CORE = Path(__file__).resolve().parents[2] / "core"
# Of the C library, what the core uses and what is no call of the kernel's that can fail.
NO_CALLS = {
    "_GLOBAL_OFFSET_TABLE_", "__errno_location", "__stack_chk_fail", "_exit", "clock_gettime", "htonl", "memchr", "memcmp",
    "memcpy", "memmove", "memset", "strchr", "strcmp", "strcspn", "strlen", "strncmp", "strnlen", "strpbrk", "strrchr", "strspn",
    "strstr", "sigaddset", "sigemptyset", "sigfillset", "umask", "getpid", "getppid", "getuid", "geteuid", "getgid", "getegid",
}  # fmt: skip
SAMPLE = 43  # each so many of the cases


@pytest.mark.needs("gcc")
def test_error_injection_counts_every_call_of_the_core(tmp_path):
    """No call of the kernel is left out: what the core needs of the C library is in `inject.h`, or cannot fail."""
    if not Path("/usr/bin/nm").exists():
        pytest.skip("needs gcc")
    files = sorted(map(str, CORE.glob("*.c")))
    subprocess.run(["gcc", "-std=gnu11", "-fno-builtin", "-O0", "-c", *files], cwd=tmp_path, check=True)
    objects = sorted(map(str, tmp_path.glob("*.o")))
    lines = subprocess.run(["nm", *objects], check=True, capture_output=True, text=True).stdout.splitlines()
    words = [line.split() for line in lines if line and not line.endswith(":")]
    wanted = {name for *_, kind, name in words if kind == "U"} - {name for *_, kind, name in words if kind in "TDBR"}
    header = Path(injection.HERE, "inject.h").read_text()
    counted = set(re.findall(r"^#define ([a-z]\w*)\(", header, re.MULTILINE))
    assert set() == {name.removeprefix("__isoc23_") for name in wanted} - counted - NO_CALLS


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    return injection.build(tmp_path_factory.mktemp("core") / "core")


@pytest.mark.slow
@pytest.mark.needs("cc")
@pytest.mark.limit(300)
@pytest.mark.parametrize("plan", injection.PLANS)
def test_error_injection_call_fails_ends_the_run_with_a_report(core, plan):
    """A run in which a call fails ends in a result before its set-up clock, leaves nothing, and skips no protection."""
    sampled = ["--plan", plan, "--sample", str(SAMPLE), "--workers", "2"]
    done = subprocess.run(
        [sys.executable, injection.__file__, core, *sampled],
        capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": "/var/tmp"},
    )  # fmt: skip
    print(done.stdout)
    assert (0, "") == (done.returncode, done.stderr), done.stdout[-4000:]
