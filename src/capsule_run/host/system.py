"""Read facts that no request changes: the system's files and links, this process's ids, and the Python that we run on.

Decides nothing and changes nothing. Called by `survey`, which keeps the answers for a second. `read` and `read_bytes` are the
only readers of small files whose path is not the caller's; for those see `caller_files`.
"""

from __future__ import annotations

import posix
import sys
from _stat import S_ISDIR
from errno import EMFILE, ENFILE

from capsule_run._base.known_paths import (
    ETC_CREDENTIALS,
    ETC_HIDDEN,
    ETC_TABLES,
    GITCONFIG,
    OCI_MASKED,
    PROC_MASKED,
    PROC_READ_ONLY,
    SECRET_ENDINGS,
    SECRET_PARTS,
    SECRET_WORDS,
)
from capsule_run._base.lexical_paths import trees_of, within
from capsule_run.host import path_resolution

KEPT_NS = 1_000_000_000  # how long facts about the host are kept
_READ = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
_AT_A_TIME = 1 << 13  # bytes; a larger buffer is allocated and freed for each small file
MAX_NAMES = 1000  # in a directory of a package; a larger one is not shown
SYSTEM_LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")


def read_bytes(path: str, limit: int, *, follow: bool = True) -> bytes:
    """Read the first `limit` bytes of a file of the host; return b"" if it cannot be read. Waits for nobody.

    :param follow: whether a symbolic link at `path` is followed.

    Raises OSError if this process or the host has no free descriptor: an empty answer would be a false fact.
    """
    try:
        fd = posix.open(path, _READ if follow else _READ | posix.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (ENFILE, EMFILE):
            raise
        return b""
    try:
        parts = []
        while limit > 0 and (part := posix.read(fd, min(limit, _AT_A_TIME))):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        posix.close(fd)


def read(path: str, limit: int = 1 << 16) -> str:
    """Read the first `limit` bytes of a file of the host as text, as `read_bytes` does."""
    return read_bytes(path, limit).decode("utf-8", "surrogateescape")


def read_whole(path: str) -> str:
    """Read a file of the kernel's that can be long, such as a list of mounts, as `read` does."""
    return read(path, 1 << 24)


def kernel_version(release: str) -> tuple[int, int]:
    """Parse the first two numbers of a kernel release such as `6.8.0-45-generic` or `6.1-rc2`."""
    major, _dot, rest = release.partition(".")
    digits = ""
    for letter in rest:
        if not letter.isdigit():
            break
        digits += letter
    return int(major or 0), int(digits or 0)


def kernel() -> tuple[int, int]:
    """Return the first two numbers of this kernel's release."""
    return kernel_version(posix.uname().release)


def capabilities() -> int:
    """Return the effective capabilities of this process as a bit set."""
    _before, _name, rest = read("/proc/self/status").partition("\nCapEff:")
    return int(rest.partition("\n")[0] or "0", 16)


def id_ranges(file: str) -> list[tuple[int, int, int]]:
    """Parse an id map of /proc: for each range the first id inside, the first id outside, and the count."""
    return [
        (int(inside), int(outside), int(count)) for inside, outside, count in map(str.split, read(file).splitlines())
    ]


def python(home: str) -> tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the interpreter that runs us, the trees that it needs outside /usr, and the symbolic links on the paths to them."""
    executable = sys.executable or "/usr/bin/python3"
    prefixes = [sys.prefix, sys.base_prefix]
    environment = executable.rpartition("/")[0].rpartition("/")[0]
    if path_resolution.exists(f"{environment}/pyvenv.cfg"):  # under -S, sys.prefix is not set for the environment
        prefixes.insert(0, environment)
    try:
        _real, links = path_resolution.real_and_links(executable)
    except PermissionError:  # the caller has dropped privileges since it was started: other commands can still run
        return executable, (), ()
    trees: dict[str, None] = {}
    for prefix in dict.fromkeys(prefixes):
        real, more = path_resolution.real_and_links(prefix)
        links += more
        trees.update(dict.fromkeys(trees_of(real, home)))
    return executable, tuple(trees), tuple(links)


def system_links() -> dict[str, str]:
    """Return for /bin and the like the target of the link, or "" for a real directory."""
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
    """Return the directories in /etc that the trees of Debian's JDKs link to."""
    try:
        homes = posix.listdir("/usr/lib/jvm")
    except FileNotFoundError:
        return []
    # of java-17-openjdk-amd64 it is /etc/java-17-openjdk
    return sorted({f"/etc/{'-'.join(home.split('-')[:3])}" for home in homes if home.startswith("java-")})


def _is_public(seen: posix.stat_result) -> bool:
    """Return whether root owns it, everybody may read it, and nobody else may write it."""
    needed = 0o005 if S_ISDIR(seen.st_mode) else 0o004
    return seen.st_uid == 0 and seen.st_mode & needed == needed and not seen.st_mode & 0o022


def _names_secret(name: str) -> bool:
    lower = name.lower()
    words = lower.replace("-", ".").replace("_", ".").split(".")
    return name in ETC_CREDENTIALS or lower.endswith(SECRET_ENDINGS) or not SECRET_WORDS.isdisjoint(words)


class _Parts:
    """Finds the parts of a directory that may be shown: all of it, unless something in it is not public or a secret by name."""

    def __init__(self) -> None:
        self._left = MAX_NAMES
        # With no group but its own, the sandbox reads what everybody may read, and no mode has to be looked at.
        self._has_groups = bool(set(posix.getgroups()) - {posix.getegid()}) and posix.geteuid() != 0

    def of(self, tree: str) -> list[str]:
        """Return the parts of `tree`; [`tree`] if it may be shown whole."""
        try:
            with posix.scandir(tree) as entries:
                found = list(entries)
        except OSError:  # the caller may not read it
            return []
        self._left -= len(found)
        if self._left < 0:
            return []
        text = "/".join([entry.name for entry in found]).lower()
        suspicious = any(word in text for word in SECRET_PARTS)
        parts: list[str] = []
        whole = True
        for entry in found:
            if suspicious and _names_secret(entry.name):
                whole = False
            elif entry.is_symlink():  # what it leads to is shown if that is shown itself
                continue
            elif self._has_groups and not _is_public(entry.stat(follow_symlinks=False)):
                whole = False
            elif entry.is_dir():
                inner = self.of(entry.path)
                whole = whole and inner == [entry.path]
                parts += inner
            else:
                parts.append(entry.path)
        return [] if self._left < 0 else [tree] if whole else parts


def _names_in(directory: str) -> set[str]:
    try:
        return set(posix.listdir(directory))
    except OSError:
        return set()


def _has_data(name: str) -> bool:
    return path_resolution.exists(f"/usr/share/{name}") or path_resolution.exists(f"/usr/lib/{name}")


def package_settings() -> tuple[list[str], list[str], dict[str, str]]:
    """Return what packages keep in /etc for everybody: paths to show, tables to copy, and links into /usr.

    A directory is shown if it is of a program whose data is in /usr (`/usr/share/NAME` or `/usr/lib/NAME`; for `NAME.d`, too)
    and of no service. What has the name of a secret in it, and what the caller may read only by a group, is not.
    docs/decisions/etc-of-packages.md has the reasons.
    """
    names = _names_in("/etc")
    tables: list[str] = []
    links: dict[str, str] = {}
    for path in [f"/etc/{name}" for name in names & ETC_TABLES]:
        try:
            target = path_resolution.join("/etc", posix.readlink(path))
        except OSError:  # not a link
            tables.append(path)
            continue
        if within(target, "/usr"):
            links[path] = target
    # a name with a dot is a file or a version of Python's, which does without
    found = [
        name
        for name in names - ETC_HIDDEN
        if ("." not in name or name[-2:] == ".d") and _has_data(name.removesuffix(".d"))
    ]
    if not found:
        return [], tables, links
    services = _names_in("/etc/init.d")
    paths: list[str] = []
    for name in sorted(found):
        stem, path = name.removesuffix(".d"), f"/etc/{name}"
        units = (f"/usr/lib/systemd/system/{stem}.service", f"/usr/lib/systemd/system/{stem}d.service")
        if stem in services or _names_secret(name) or any(path_resolution.exists(unit) for unit in units):
            continue
        try:
            seen = posix.lstat(path)
        except OSError:
            continue
        if S_ISDIR(seen.st_mode) and _is_public(seen):
            paths += _Parts().of(path)
    return paths, tables, links


def localtime() -> str:
    """Return the target of /etc/localtime, or "" if it is not a link into /usr and is shown as a file."""
    try:
        target = path_resolution.join("/etc", posix.readlink("/etc/localtime"))
    except OSError:
        return ""
    return target if within(target, "/usr") else ""


def proc_covers() -> tuple[tuple[str, str], ...]:
    """Return the names in /proc to cover that this kernel has: masked as "dir" or "file", or made "ro".

    Masks of files that only root may access are skipped, because the sandbox has no root of the host. The names that OCI
    containers mask are masked always, in case a kernel sets a wrong mode.
    """
    found = []
    for name in PROC_MASKED:
        try:
            mode = posix.stat(f"/proc/{name}").st_mode
        except OSError:
            continue
        if mode & 0o007 or name in OCI_MASKED:
            found.append((name, "dir" if S_ISDIR(mode) else "file"))
    found += [(name, "ro") for name in PROC_READ_ONLY if path_resolution.exists(f"/proc/{name}")]
    return tuple(found)


def gitconfig() -> str:
    """Return the system-wide git configuration of the sandbox, or "" without git."""
    return GITCONFIG if path_resolution.exists("/usr/bin/git") else ""
