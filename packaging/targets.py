"""Where the static file runs: a processor, with the compiler and the musl that make programs for it.

For this machine both are Debian's, installed. For another one the compiler is Debian's cross compiler, and musl comes from the
package of the other architecture, which is unpacked in the cache and installed nowhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

CACHE = Path(os.environ.get("CAPSULE_CI_CACHE") or Path.home() / ".cache" / "capsule-ci")
# Debian's names of the processors that releases are made for.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# The keys that sign Debian's packages, by which its sources are told from others in /etc/apt.
DEBIAN_KEYS = "debian-archive-keyring"

# Nothing of the builder's comes in: no locale, no time, no seed of hashes, no option for compilers.
SETTINGS = "PATH=/usr/bin:/bin LC_ALL=C SOURCE_DATE_EPOCH=1 PYTHONHASHSEED=0 HOME=/nonexistent"
ENVIRONMENT = dict(setting.split("=", 1) for setting in SETTINGS.split())


class BuildError(Exception):
    """The file could not be built; the text says what to do."""


class Target(NamedTuple):
    """A processor, and what makes programs for it."""

    machine: str  # as `uname -m` says it
    cc: str  # a compiler that links with musl
    gcc: str  # the compiler below it, which knows its own start files
    musl: Path  # the directory with musl's libc.a and start files
    headers: tuple[str, ...]  # options for the kernel's headers, after musl's own

    @property
    def is_native(self) -> bool:
        """Whether programs for it run on this machine."""
        return self.machine == platform.machine()


def run(*words: str | Path, cwd: Path | None = None, log: Path | None = None) -> str:
    """Run a program and return what it prints; with `log`, that goes to a file, which a failure names."""
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("ab")) if log else subprocess.PIPE
        done = subprocess.run(
            [str(word) for word in words], cwd=cwd, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT if log else None, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        where = f"; its output: {log}" if log else ""
        raise BuildError(f"`{' '.join(str(word) for word in words[:3])} ...` ended with {done.returncode}{where}")
    return (done.stdout or b"").decode()


@contextlib.contextmanager
def locked(path: Path):
    """Hold a lock: two builds with one cache take turns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def version_of(package: str) -> str:
    """Return the version of one of Debian's packages on this machine."""
    return run("dpkg-query", "-W", "-f", "${Version}", package)


# --- Debian's archive ------------------------------------------------------------------------------------------------------


def debian_sources(kinds: str) -> dict[str, str]:
    """The host's own sources of Debian's packages, for packages of some kinds (`deb`, `deb-src`): file name to content."""
    stanzas = [
        re.sub(r"(?m)^Types:.*$", f"Types: {kinds}", stanza)
        for path in sorted(Path("/etc/apt/sources.list.d").glob("*.sources"))
        for stanza in path.read_text().split("\n\n")
        if DEBIAN_KEYS in stanza and re.search(r"(?m)^Types:.*\bdeb\b", stanza)
    ]
    one_line = Path("/etc/apt/sources.list")
    lines = re.findall(r"(?m)^deb (.*)$", one_line.read_text()) if one_line.exists() else []
    if not stanzas and not lines:
        raise BuildError(
            "no source of Debian's packages stands in /etc/apt: this needs a Debian that can install packages"
        )
    listed = "".join(f"{kind} {line}\n" for kind in kinds.split() for line in lines)
    return {"debian.sources": "\n\n".join(stanzas), "debian.list": listed}


def apt(folder: Path, *, kinds: str = "deb-src", architecture: str = "") -> list[str]:
    """Options of apt with lists of its own in `folder`, which no package of the host's changes."""
    for name in ("parts", "lists/partial", "cache/archives/partial"):
        folder.joinpath(name).mkdir(parents=True, exist_ok=True)
    for name, content in debian_sources(kinds).items():
        folder.joinpath("parts", name).write_text(content)
    options = [
        f"Dir::Etc::SourceList={os.devnull}", f"Dir::Etc::SourceParts={folder}/parts", f"Dir::State::Lists={folder}/lists",
        f"Dir::Cache={folder}/cache", "APT::Sandbox::User=root",
    ]  # fmt: skip
    if architecture:
        options += [f"APT::Architecture={architecture}", f"APT::Architectures={architecture}"]
    return ["-qq", *(word for option in options for word in ("-o", option))]


# --- musl for another processor ----------------------------------------------------------------------------------------------

# musl-gcc, whose gcc would name the triplet of glibc, and then CPython's configure finds two platforms in one.
WRAPPER = '#!/bin/sh\ncase "$1" in --print-multiarch) exit 0 ;; esac\nexec {compiler} "$@"{more}\n'


def foreign_musl(machine: str) -> Path:
    """Return the root of Debian's musl for another processor, from the cache where it is there: of this machine's version."""
    version = version_of("musl-dev")
    folder = CACHE / f"musl-{machine}-{version}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                place = Path(scratch)
                options = apt(place / "apt", kinds="deb", architecture=ARCHITECTURES[machine])
                run("apt-get", *options, "update")
                run("apt-get", *options, "download", f"musl-dev={version}", cwd=place)
                run("dpkg-deb", "-x", next(place.glob("musl-dev_*.deb")), place / "root")
                place.joinpath("root").rename(folder)
    return folder


def target(machine: str, folder: Path) -> Target:
    """Return the tools for a processor; the compiler's wrapper is written to `folder`."""
    triplet = f"{machine}-linux-musl"
    folder.mkdir(parents=True, exist_ok=True)
    wrapper = folder / f"{triplet}-gcc"
    if machine == platform.machine():
        wrapper.write_text(WRAPPER.format(compiler="musl-gcc", more=""))
        wrapper.chmod(0o755)
        headers = ("/usr/include", f"/usr/include/{machine}-linux-gnu")
        found = Target(machine, str(wrapper), "gcc", Path(f"/usr/lib/{triplet}"), headers)
    else:
        gcc = f"{machine}-linux-gnu-gcc"
        if shutil.which(gcc) is None:
            raise BuildError(f"Debian's cross compiler is needed: apt-get install gcc-{machine}-linux-gnu")
        root = foreign_musl(machine)
        musl = root / "usr" / "lib" / triplet
        specs = folder / f"{triplet}.specs"
        names = (f"/usr/lib/{triplet}", f"/usr/include/{triplet}")
        text = musl.joinpath("musl-gcc.specs").read_text()
        for name in names:
            text = text.replace(name, f"{root}{name}")
        specs.write_text(text)
        wrapper.write_text(WRAPPER.format(compiler=gcc, more=f" -specs {specs}"))
        wrapper.chmod(0o755)
        found = Target(machine, str(wrapper), gcc, musl, (f"/usr/{machine}-linux-gnu/include",))
    if not found.musl.joinpath("rcrt1.o").exists() or shutil.which("dpkg-source") is None:
        raise BuildError("Debian's packages are needed: apt-get install gcc make musl-tools dpkg-dev linux-libc-dev")
    return found._replace(headers=tuple(word for path in found.headers for word in ("-idirafter", path)))
