"""What no request changes: the system's own files and links, this process's ids, and the Python that we run on.

Rank 2: reads the system, decides nothing, changes nothing. Called by `host`, which keeps the answers for a second.
"""

from __future__ import annotations

import posix
import sys
from _stat import S_ISDIR
from errno import EMFILE, ENFILE

from capsule_run._base.lexical_paths import trees_of, within
from capsule_run.host import path_resolution
from capsule_run.host.known_paths import GITCONFIG, OCI_MASKED, PROC_MASKED

KEPT_NS = 1_000_000_000  # facts of the host are asked again after a second
_AT_A_TIME = 1 << 13  # bytes; more would be memory that Python takes and gives back for each small file
SYSTEM_LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")


def read(path: str, limit: int = 1 << 16) -> str:
    """The first `limit` bytes of a file, as text; empty where it cannot be read. Raises OSError without descriptors."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)  # a FIFO must not block us
    except OSError as error:
        if error.errno in (ENFILE, EMFILE):
            raise
        return ""
    try:
        parts = []
        while limit > 0 and (part := posix.read(fd, min(limit, _AT_A_TIME))):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    finally:
        posix.close(fd)


def kernel_version(release: str) -> tuple[int, int]:
    """The first two numbers of a kernel's release, `6.8.0-45-generic` or `6.1-rc2`."""
    major, _dot, rest = release.partition(".")
    digits = ""
    for letter in rest:
        if not letter.isdigit():
            break
        digits += letter
    return int(major or 0), int(digits or 0)


def kernel() -> tuple[int, int]:
    """The first two numbers of this kernel's release."""
    return kernel_version(posix.uname().release)


def capabilities() -> int:
    _before, _name, rest = read("/proc/self/status").partition("\nCapEff:")
    return int(rest.partition("\n")[0] or "0", 16)


def id_ranges(file: str) -> list[tuple[int, int, int]]:
    return [
        (int(inside), int(outside), int(count)) for inside, outside, count in map(str.split, read(file).splitlines())
    ]


def python(home: str) -> tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The interpreter that runs us, the trees it needs that lie outside /usr, and the links on the way to them."""
    executable = sys.executable or "/usr/bin/python3"
    prefixes = [sys.prefix, sys.base_prefix]
    environment = executable.rpartition("/")[0].rpartition("/")[0]
    if path_resolution.exists(f"{environment}/pyvenv.cfg"):  # under -S nobody has told sys.prefix
        prefixes.insert(0, environment)
    try:
        _real, links = path_resolution.real_and_links(executable)
    except PermissionError:  # a caller that has laid down its rights since it was started: others' commands still run
        return executable, (), ()
    trees: dict[str, None] = {}
    for prefix in dict.fromkeys(prefixes):
        real, more = path_resolution.real_and_links(prefix)
        links += more
        trees.update(dict.fromkeys(trees_of(real, home)))
    return executable, tuple(trees), tuple(links)


def system_links() -> dict[str, str]:
    """How /bin and its like are on this host: a link's target, or an empty string for a real directory."""
    found = {}
    for name in SYSTEM_LINKS:
        try:
            found[name] = posix.readlink(f"/{name}")
        except FileNotFoundError:
            continue
        except OSError:
            found[name] = ""
    return found


def java_settings() -> list[str]:
    """Debian's JDKs keep files in /etc that their tree links to."""
    try:
        homes = posix.listdir("/usr/lib/jvm")
    except FileNotFoundError:
        return []
    # java-17-openjdk-amd64 keeps them in /etc/java-17-openjdk
    return sorted({f"/etc/{'-'.join(home.split('-')[:3])}" for home in homes if home.startswith("java-")})


def localtime() -> str:
    """Where /etc/localtime leads; an empty string where it is to be shown as the file that it is."""
    try:
        target = path_resolution.join("/etc", posix.readlink("/etc/localtime"))
    except OSError:
        return ""
    return target if within(target, "/usr") else ""


def proc_masked() -> tuple[tuple[str, bool], ...]:
    """Which of the names to hide this kernel has, each with whether it is a directory.

    A file that its mode keeps for root is out of reach already: the sandbox is nobody's root. A container's list is
    masked all the same, for the day a kernel gets a mode wrong.
    """
    found = []
    for name in PROC_MASKED:
        try:
            mode = posix.stat(f"/proc/{name}").st_mode
        except OSError:
            continue
        if mode & 0o007 or name in OCI_MASKED:
            found.append((name, S_ISDIR(mode)))
    return tuple(found)


def gitconfig() -> str:
    """Git's settings for everybody, where there is git."""
    return GITCONFIG if path_resolution.exists("/usr/bin/git") else ""


def read_ascii(path: str) -> str:
    return read(path, 1 << 24)
