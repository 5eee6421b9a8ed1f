"""Compile the core: the one place that knows compilers, flags and what to do without musl.

Used by the build hook (`hatch_build.py`), by CI and by the tests; runnable: `python core/build.py OUT`.
Standard library only, and nothing of `capsule_run`: it runs before the package exists.

The ladder: musl static (18 KB, 0.15 ms to start) > glibc static > dynamic. A set CC replaces the choice of
compiler, not the choice of linkage: static where that compiler can link it, else dynamic.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent

NO_COMPILER = """\
a C compiler is needed to build the core of capsule-run, and {tried} did not work

hint: Debian, Ubuntu: apt-get install gcc libc6-dev   (and, for a core a third the start time: musl-tools)
      Fedora:         dnf install gcc glibc-devel
      Alpine:         apk add gcc musl-dev linux-headers
      another compiler: set CC, for example CC=clang"""

NO_HEADERS = """\
`{cc}` works, but the Linux kernel's headers (linux/seccomp.h, linux/landlock.h) are missing or older than 5.13

hint: Debian, Ubuntu: apt-get install linux-libc-dev · Fedora: dnf install kernel-headers · Alpine: apk add linux-headers"""

DID_NOT_COMPILE = """\
`{cc}` could not compile the core; its messages are above

hint: gcc 10 or clang 12 and newer are known to work; CFLAGS is `{cflags}`, try without it.
      The command was: {command}"""

WARNINGS = (
    "-Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wundef"
    " -Wpointer-arith -Wwrite-strings -Wcast-qual -Wvla -Wformat=2 -Wimplicit-fallthrough"
    " -Wno-sign-conversion"  # the C libraries' own CMSG_* macros mix signs
).split()

HARDENING = (
    "-fstack-protector-strong",  # an overflow of a buffer on the stack ends the core instead of steering it
    "-fno-strict-aliasing",  # cmsg and dirent buffers are read through other types
    "-fno-delete-null-pointer-checks",  # a check that was written stays
    "-fno-common",  # two globals of one name are an error
)

# Each is tried first, because compilers and architectures differ.
HARDENING_IF_KNOWN = (
    "-fstack-clash-protection",  # a large frame cannot jump over the guard page
    "-ftrivial-auto-var-init=zero",  # a forgotten initialiser leaks nothing of an earlier plan
    "-fcf-protection=full",  # x86: indirect jumps land on marked places only
    "-mbranch-protection=standard",  # aarch64: the same, and signed return addresses
)

LINK_HARDENING = (
    "-Wl,-z,noexecstack",
    "-Wl,-z,relro",  # with `now`: the table of calls is read-only before main
    "-Wl,-z,now",
    "-Wl,--build-id=none",  # the same source gives the same bytes
)

FORTIFY = ("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2")  # glibc's checks; musl has none

# musl without position independence: `musl-gcc -static-pie` makes a file that wants musl's dynamic linker, and a real
# one relocates itself at each start (0.2 ms instead of 0.12). Stack, heap and vdso are at random places all the same.
STATIC = ("-static", "-fno-pie")
STATIC_PIE = ("-static-pie", "-fPIE")
DYNAMIC = ("-pie", "-fPIE", "-fno-plt")  # no-plt: with `now`, a call needs no writable detour

SANITIZE = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-g",
    "-O1",
)
# The core is spawned with an empty environment, so ASAN_OPTIONS cannot reach it. Leaks are not looked for: the
# core never frees, and the search needs ptrace.
SANITIZE_OPTIONS = """\
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0:exitcode=99:handle_abort=1"; }
"""

HELLO = "int main(void) { return 0; }\n"
HEADERS = "#include <linux/seccomp.h>\n#include <linux/landlock.h>\n" + HELLO


class BuildError(Exception):
    """The core could not be built; the text is for a person who has never seen this project."""


class Toolchain(NamedTuple):
    """A compiler with the flags that make it link on this machine."""

    cc: tuple[str, ...]
    linkage: str  # "static" or "dynamic"
    flags: tuple[str, ...]


class Built(NamedTuple):
    """What was built, and with what."""

    path: Path
    cc: str
    linkage: str


def words(variable: str) -> list[str]:
    return shlex.split(os.environ.get(variable, ""))


def compiles(cc: tuple[str, ...], flags: tuple[str, ...], source: str) -> bool:
    """Whether this compiler turns `source` into an executable with these flags, without a warning."""
    with tempfile.TemporaryDirectory(prefix="core-build-") as scratch:
        command = [*cc, "-Werror", *flags, "-x", "c", "-", "-o", str(Path(scratch, "probe"))]
        try:
            return subprocess.run(command, input=source.encode(), capture_output=True, check=False).returncode == 0
        except OSError:
            return False


def is_musl_gcc(cc: tuple[str, ...]) -> bool:
    """Debian's wrapper around a gcc that was made for glibc."""
    return "musl" in Path(cc[0]).name


def libc_flags(cc: tuple[str, ...], arch: str) -> tuple[str, ...]:
    """What the C library of this compiler needs. `musl-gcc` does not look where the kernel's headers are."""
    if not is_musl_gcc(cc):
        return FORTIFY
    found = ["/usr/include", *map(str, Path("/usr/include").glob(f"{arch}-linux-*"))]
    if arch != platform.machine():  # where Debian's cross compilers have them
        found = [f"/usr/{arch}-linux-gnu/include"]
    return tuple(flag for folder in found for flag in ("-idirafter", folder))


def candidates(cc: str | None, arch: str, *, dynamic: bool) -> list[Toolchain]:
    """The ladder, best first."""
    if cc is None and arch != platform.machine() and not words("CC"):
        cc = f"{arch}-linux-gnu-gcc"
    named = tuple(shlex.split(cc)) if cc else tuple(words("CC"))
    compilers = [named] if named else [("musl-gcc",), ("cc",), ("gcc",), ("clang",)]
    static = [] if dynamic else [("static", STATIC_PIE), ("static", STATIC)]
    toolchains = [
        Toolchain(c, linkage, flags + libc_flags(c, arch))
        for linkage, flags in [*static, ("dynamic", DYNAMIC)]
        for c in compilers
        if not (is_musl_gcc(c) and flags == STATIC_PIE)
    ]
    # musl-gcc first; but never dynamic by itself, because musl's linker is seldom where the result will run
    by_preference = sorted(toolchains, key=lambda t: (t.linkage == "dynamic", not is_musl_gcc(t.cc)))
    return [t for t in by_preference if named or t.linkage == "static" or not is_musl_gcc(t.cc)]


def choose(ladder: list[Toolchain]) -> Toolchain:
    """The first step that this machine can link."""
    without_headers = None
    for tool in ladder:
        if shutil.which(tool.cc[0]) and compiles(tool.cc, tool.flags, HELLO):
            if compiles(tool.cc, tool.flags, HEADERS):
                return tool
            without_headers = without_headers or tool
    if without_headers:
        raise BuildError(NO_HEADERS.format(cc=" ".join(without_headers.cc)))
    tried = dict.fromkeys("`" + " ".join(tool.cc) + "`" for tool in ladder)
    raise BuildError(NO_COMPILER.format(tried=", ".join(tried)))


def flags_for(tool: Toolchain, *, sanitize: bool, werror: bool) -> list[str]:
    """Every flag but the files. CFLAGS come after ours, so that the packager has the last word."""
    hardening = [*HARDENING, *(f for f in HARDENING_IF_KNOWN if compiles(tool.cc, (f,), HELLO))]
    if sanitize:  # they watch the same things; the fortified calls would hide some from the sanitizer
        tool = tool._replace(flags=tuple(f for f in tool.flags if f not in FORTIFY))
        hardening = list(SANITIZE)
    return [
        "-std=gnu11",
        "-O2",
        *WARNINGS,
        *(["-Werror"] if werror else []),
        *hardening,
        *tool.flags,
        *LINK_HARDENING,
        *([] if sanitize else ["-s"]),
        *words("CPPFLAGS"),
        *words("CFLAGS"),
        *words("LDFLAGS"),
    ]


def build(
    out: Path,
    *,
    cc: str | None = None,
    arch: str = platform.machine(),
    sanitize: bool = False,
    dynamic: bool = False,
    werror: bool = False,
    source: Path = HERE,
) -> Built:
    """Compile `source`/*.c into the executable `out`, in one step and atomically."""
    if sys.platform != "linux":
        raise BuildError(f"capsule-run needs Linux 5.10 or newer, this is {sys.platform}")
    files = sorted(map(str, source.glob("*.c")))
    if not files:
        raise BuildError(f"no C file in {source}")
    tool = choose(candidates(cc, arch, dynamic=dynamic or sanitize))
    flags = flags_for(tool, sanitize=sanitize, werror=werror or os.environ.get("CAPSULE_WERROR") == "1")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Several builds of one tree may run at once, and a running core cannot be written to: replace, never overwrite.
    with tempfile.TemporaryDirectory(prefix=".core-build-", dir=out.parent) as scratch:
        if sanitize:
            options = Path(scratch, "options.c")
            options.write_text(SANITIZE_OPTIONS)
            files.append(str(options))
        fresh = Path(scratch, "core")
        command = [*tool.cc, *flags, *files, "-o", str(fresh)]
        if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            cflags = os.environ.get("CFLAGS", "")
            raise BuildError(DID_NOT_COMPILE.format(cc=tool.cc[0], cflags=cflags, command=shlex.join(command)))
        fresh.chmod(0o755)
        fresh.replace(out)
    return Built(out, " ".join(tool.cc), tool.linkage)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="the executable to write")
    parser.add_argument("--cc", help="the compiler, with its flags if any (default: $CC, else the ladder)")
    parser.add_argument("--arch", default=platform.machine(), help="cross-compile for this machine (aarch64)")
    parser.add_argument("--sanitize", action="store_true", help="with address and undefined-behaviour sanitizers")
    parser.add_argument("--dynamic", action="store_true", help="linked dynamically even where static would work")
    parser.add_argument("--werror", action="store_true", help="warnings are errors (also: CAPSULE_WERROR=1)")
    parser.add_argument("--source", type=Path, default=HERE, help=argparse.SUPPRESS)
    try:
        built = build(**vars(parser.parse_args()))
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{built.path}: {built.linkage}, {built.cc}, {built.path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
