"""Limits of a process that programs change or outgrow themselves: stack, core files, and address space that is only reserved."""

from __future__ import annotations

import shutil
import subprocess

import pytest

MIB = 1 << 20
# 64 bytes and some a call; a million calls need about 100 MiB.
RECURSION = """
#include <stdio.h>
static long depth(long n)
{
	volatile char pad[64];

	pad[0] = (char)n;
	return n ? depth(n - 1) + 1 + pad[0] * 0 : 0;
}
int main(void)
{
	printf("%ld\\n", depth(1000000));
	return 0;
}
"""
RESERVE = """
import mmap
space = mmap.mmap(-1, 64 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
space[1 << 30] = 7
print(space[1 << 30])
"""
SANITIZED = '#include <stdlib.h>\n#include <stdio.h>\nint main(void) { free(malloc(9)); puts("clean"); return 0; }\n'
LOWER_CORE = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print("lowered")
"""


@pytest.fixture
def recursive(place, needs):
    """A place with a program that recurses deeply."""
    needs("gcc")
    (place / "deep.c").write_text(RECURSION)
    subprocess.run([shutil.which("gcc"), "-O0", "-o", place / "deep", place / "deep.c"], check=True)
    return str(place)


def test_stack_overflow_is_named_in_the_hint(inside, recursive):
    """A recursion that fills the stack ends by SIGSEGV, and the hint names the stack, its limit and the option."""
    response = inside(["./deep"], isolation={"workspace": recursive})
    assert ("E3005", "signal") == (response["error"]["code"], response["error"]["cause"])
    assert response["error"]["hint"].startswith("the stack may be full: it is limited to 8 MiB, and a process used ")
    assert "`resources.stack_bytes`" in response["error"]["hint"]


@pytest.mark.parametrize("stack", [256 * MIB, "unlimited"])
def test_stack_limit_is_the_requests(inside, recursive, stack):
    """With a larger stack, or an unlimited one, the same recursion ends well."""
    said = inside.says(["./deep"], isolation={"workspace": recursive}, resources={"stack_bytes": stack})
    assert "1000000" == said


def test_stack_can_be_raised_by_the_command(inside):
    """A program raises the limit of its own stack, as it does outside."""
    assert ["8192", "unlimited"] == inside.says(["bash", "-c", "ulimit -s; ulimit -s unlimited; ulimit -s"]).split()


@pytest.mark.parametrize(("stack", "kib"), [("64M", "65536"), ("unlimited", "unlimited")])
def test_stack_option_is_the_limit(inside, stack, kib):
    """`--stack` takes a size or `unlimited`."""
    done = inside.cli("--stack", stack, "--", "bash", "-c", "ulimit -s")
    assert kib.encode() == done.stdout.strip(), done.stderr


def test_core_limit_can_be_lowered(inside):
    """setrlimit(2) of core files to 0, which gpg, ssh-agent and sanitizers do at their start, succeeds."""
    assert "lowered" == inside.python_says(LOWER_CORE)


def test_address_space_can_be_reserved(inside):
    """A program reserves far more address space than its memory limit, as runtimes do, and uses some of it."""
    assert "7" == inside.python_says(RESERVE)


@pytest.mark.needs("gcc")
def test_sanitized_program_runs(inside, place):
    """A program compiled with AddressSanitizer, which reserves terabytes and looks for leaks, ends well by default."""
    (place / "clean.c").write_text(SANITIZED)
    subprocess.run([shutil.which("gcc"), "-fsanitize=address", "-o", place / "clean", place / "clean.c"], check=True)
    said = inside.says(["sh", "-c", "./clean"], isolation={"workspace": str(place)})
    assert "clean" == said


def test_allocation_that_is_touched_ends_at_the_memory_limit(inside):
    """One allocation beyond the memory limit ends the run as memory as soon as it is used."""
    response = inside.python("bytearray(1 << 30).translate(None)", resources={"memory_bytes": 64 * MIB})
    assert ("E4001", "memory") == (response["error"]["code"], response["error"]["cause"])
