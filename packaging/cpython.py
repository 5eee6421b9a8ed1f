"""CPython as a static library for the static file: Debian's source, compiled against musl, kept in the cache.

For another processor CPython is cross-compiled, by means of the one for this machine.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from targets import CACHE, BuildError, Target, apt, locked, run, target

# CPython: the name of Debian's source package, its version, and the SHA-256 of its .dsc, which has those of the other files.
PYTHON = "python3.11 3.11.2-6+deb12u8 197fa19ab45f41c820f40f6d9ead671c2ea29ddc53ba9424b36f1bf58458a10e"
SOURCE, VERSION, SHA256 = PYTHON.split()

JOBS = f"-j{os.cpu_count() or 1}"

# The modules in C, besides those that CPython always has.
MODULES = """\
*static*
_bisect _bisectmodule.c
_heapq _heapqmodule.c
_json _json.c
_opcode _opcode.c
_posixsubprocess _posixsubprocess.c
_queue _queuemodule.c
_random _randommodule.c
_sha256 sha256module.c
_sha512 sha512module.c
_socket socketmodule.c
_struct _struct.c
_typing _typingmodule.c
array arraymodule.c
binascii binascii.c
fcntl fcntlmodule.c
math mathmodule.c
mmap mmapmodule.c
resource resource.c
select selectmodule.c
termios termios.c
"""
# What a run does not spend its time in, the parser and the compiler above all: small instead of fast.
SMALL = """
Parser/%.o Modules/_sre/%.o Modules/_io/%.o Modules/posixmodule.o Modules/socketmodule.o Modules/selectmodule.o \\
Modules/mathmodule.o Modules/_struct.o Modules/mmapmodule.o Modules/itertoolsmodule.o Modules/_collectionsmodule.o \\
Modules/_tracemalloc.o Modules/faulthandler.o Modules/arraymodule.o Modules/timemodule.o Modules/signalmodule.o \\
Objects/memoryobject.o Objects/complexobject.o Objects/odictobject.o Objects/bytearrayobject.o Objects/exceptions.o \\
Objects/floatobject.o Objects/genobject.o Objects/unionobject.o Objects/genericaliasobject.o Objects/structseq.o \\
Python/Python-ast.o Python/Python-tokenize.o Python/ast.o Python/ast_opt.o Python/ast_unparse.o Python/compile.o \\
Python/symtable.o Python/traceback.o Python/hamt.o Python/suggestions.o Python/initconfig.o Python/pathconfig.o \\
Python/pylifecycle.o Python/sysmodule.o Python/pythonrun.o: PY_CORE_CFLAGS += -Os
"""
CONFIGURE = """
--disable-shared --disable-test-modules --without-doc-strings --without-ensurepip --with-computed-gotos
""".split()
# Each function in a section of its own, so that the linker leaves out what nothing calls.
CFLAGS = """
-O2 -fPIE -fwrapv -DNDEBUG -fno-semantic-interposition -ffunction-sections -fdata-sections
-fstack-protector-strong -fstack-clash-protection -fno-asynchronous-unwind-tables
""".split()
# Indirect jumps land on marked places only; on aarch64 return addresses are signed, too.
BRANCHES = {"x86_64": "-fcf-protection=full", "aarch64": "-mbranch-protection=standard"}
# What configure would find out by running a program, which a cross compiler cannot.
CROSS = """
ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no ac_cv_buggy_getaddrinfo=no ac_cv_working_tzset=yes
""".split()


def flags(tools: Target) -> list[str]:
    """Return the flags with which everything in the file is compiled."""
    return [*CFLAGS, BRANCHES[tools.machine], *tools.headers]


def versions(folder: Path) -> list[str]:
    """Return the versions of the source package that Debian has."""
    options = apt(folder)
    run("apt-get", *options, "update")
    return re.findall(r"(?m)^Version: (.*)$", run("apt-cache", *options, "showsrc", SOURCE))


def check_version() -> int:
    """Say whether Debian has a newer source package than the pinned one; 1 if so."""
    with tempfile.TemporaryDirectory() as scratch:
        found = versions(Path(scratch))
    newer = [
        version for version in found
        if subprocess.run(["dpkg", "--compare-versions", version, "gt", VERSION], check=False).returncode == 0
    ]  # fmt: skip
    if newer:
        print(
            f"Debian has {SOURCE} {', '.join(newer)}; packaging/cpython.py has {VERSION}: change its line with PYTHON"
        )
    else:
        print(f"{SOURCE} {VERSION} is Debian's newest")
    return 1 if newer else 0


def fetch(folder: Path) -> Path:
    """Download the pinned source package, check it, and unpack it with Debian's patches. Return the source tree."""
    found = versions(folder / "apt")
    if VERSION not in found:
        raise BuildError(
            f"Debian no longer has {SOURCE} {VERSION}, but {', '.join(found)}: change the line with PYTHON"
        )
    run("apt-get", *apt(folder / "apt"), "source", "--download-only", f"{SOURCE}={VERSION}", cwd=folder)
    description = folder / f"{SOURCE}_{VERSION}.dsc"
    digest = hashlib.sha256(description.read_bytes()).hexdigest()
    if digest != SHA256:
        raise BuildError(f"{description.name} has the SHA-256 {digest}, not {SHA256}")
    run("dpkg-source", "--require-strong-checksums", "-x", description, folder / "source", log=folder / "unpack.log")
    return folder / "source"


def key(tools: Target) -> str:
    """Return what the compiled CPython depends on, as a short name."""
    compiler = run(tools.gcc, "--version").encode()
    parts = (VERSION, SHA256, MODULES, SMALL, str(CONFIGURE), str(CFLAGS), str(BRANCHES), str(CROSS), tools.machine)
    whole = b"\0".join([*(part.encode() for part in parts), compiler, (tools.musl / "libc.a").read_bytes()])
    return hashlib.sha256(whole).hexdigest()[:16]


def compile_cpython(tools: Target, folder: Path) -> None:
    """Fetch and compile CPython in `folder`: its library, its headers, its modules, and on this machine its interpreter."""
    source = fetch(folder)
    tools = target(tools.machine, folder)  # by relative names, as below
    source.joinpath("Modules", "Setup.local").write_text(MODULES)
    settings = [
        f"CC={tools.cc}",
        f"CFLAGS={' '.join(flags(tools))}",
        *"PKG_CONFIG=/bin/false OPT= LDFLAGS=-static".split(),
    ]
    options, goals = [*CONFIGURE], [f"lib{SOURCE}.a"]
    if tools.is_native:
        goals.append("python")
    else:
        settings += [*CROSS, f"AR={tools.machine}-linux-gnu-ar", f"READELF={tools.machine}-linux-gnu-readelf"]
        options += [f"--build={platform.machine()}-linux-gnu", f"--host={tools.machine}-linux-gnu"]
        options += [f"--with-build-python={builder() / 'python'}"]
    log = folder / "compile.log"
    # in the source tree, by relative names: no path of this machine comes into the objects
    run("env", *settings, "./configure", *options, cwd=source, log=log)
    with source.joinpath("Makefile").open("a") as makefile:
        makefile.write(SMALL)
    run("make", JOBS, *goals, cwd=source, log=log)


def cpython(tools: Target) -> Path:
    """Return the directory with the compiled CPython, from the cache where it is there."""
    folder = CACHE / f"static-{key(tools)}"
    with locked(folder.with_suffix(".lock")):
        if not folder.joinpath("complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            compile_cpython(tools, folder)
            for name in ("apt", "source/Doc", "source/debian", "source/Lib/test"):
                shutil.rmtree(folder / name)
            for path in [*folder.rglob("*.o"), *folder.glob("*.tar.*")]:
                path.unlink()
            folder.joinpath("complete").touch()
    return folder / "source"


def builder() -> Path:
    """Return the compiled CPython of this machine: its Python compiles modules for every processor."""
    with tempfile.TemporaryDirectory() as scratch:
        return cpython(target(platform.machine(), Path(scratch)))
