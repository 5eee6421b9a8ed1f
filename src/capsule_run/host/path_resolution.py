"""Resolve paths of the host, and decide which symbolic links in a path of the caller's may be followed.

An earlier run with a writable share may have created a link where the caller's next run resolves a path (CVE-2024-42472):
docs/decisions/links-in-sources.md. Also reads this process's environment variables.
"""

from __future__ import annotations

import posix
import sys
from _stat import S_ISDIR, S_ISREG, S_ISVTX
from errno import EINVAL, ELOOP, ENOENT, ENOTDIR

from capsule_run._base.lexical_paths import normal

# If the caller is root, modes protect nothing, so the place decides: these directories hold the system's own links.
ROOT_DIRECTORIES = ("/", "/var")


def only_root_can_create(link: str) -> bool:
    """Return whether only root can have created the link, and every directory above it."""
    return not possible_author(link)


def possible_author(link: str) -> str:
    """Say who besides root can have created the link, as half a sentence; "" if nobody.

    A run writes as the caller; if the caller is root, as the owner of what was shared, through an id map.
    """
    parent = link.rpartition("/")[0] or "/"
    if posix.geteuid() == 0:
        if parent in ROOT_DIRECTORIES:
            return ""
        return "an earlier run may have made it: runs by root write as the owner of a shared path"
    try:
        owner = posix.lstat(link).st_uid
        if owner:
            return f"an earlier run may have made it: it belongs to user {owner}"
        place = next((place for place in _with_parents(parent) if not _only_root_can_replace(place)), "")
    except OSError:
        return "it was changed during setup"
    return f"another user than root may have made it: `{place}` is not writable by root alone" if place else ""


def _with_parents(path: str) -> list[str]:
    """Return the directory and all above it."""
    names = path.split("/")[1:] if path != "/" else []
    return ["/", *("/" + "/".join(names[: at + 1]) for at in range(len(names)))]


def _only_root_can_replace(directory: str) -> bool:
    """Return whether root owns the directory and nobody else can replace its entries (in a sticky one, nobody can)."""
    seen = posix.stat(directory)
    return seen.st_uid == 0 and (not seen.st_mode & 0o022 or bool(seen.st_mode & S_ISVTX))


MAX_LINKS = 40  # path_resolution(7)
# For files that an attacker may have prepared: follow no link, never block.
READ_FLAGS = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
SYSTEM_FILE = "/etc/capsule-run/config.toml"  # of `engine.configuration`; no variable names another one
PROJECT_FILE = "capsule.toml"
OUR_VARIABLES = "CAPSULE_RUN_"  # prefix; then the name of an option, see `engine.variables`
DIRECTORY_FLAGS = READ_FLAGS | posix.O_DIRECTORY


def join(directory: str, path: str) -> str:
    """Return `path`, relative to `directory` unless absolute, in its shortest spelling; links are not resolved."""
    return normal(path if path.startswith("/") else f"{directory}/{path}")


def real(path: str) -> str:
    """Return the absolute path without links. Components that do not exist are kept.

    Raises OSError: ELOOP for more links than the kernel follows, else the error of readlink(2).
    """
    return real_and_links(path)[0]


def real_and_links(path: str) -> tuple[str, list[tuple[str, str]]]:
    """Return what `real` does, and each link that was followed: its real path and its target."""
    left, done = path.split("/")[::-1], ""
    links: list[tuple[str, str]] = []
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = done.rpartition("/")[0]
            continue
        try:
            target = posix.readlink(f"{done}/{part}")
        except OSError as error:
            if error.errno not in (EINVAL, ENOENT, ENOTDIR):  # EINVAL: not a link
                raise
            done = f"{done}/{part}"
            continue
        links.append((f"{done}/{part}", target))
        if len(links) > MAX_LINKS:
            raise OSError(ELOOP, posix.strerror(ELOOP), path)
        if target.startswith("/"):
            done = ""
        left += target.split("/")[::-1]
    return done or "/", links


def exists(path: str, *, follow: bool = True) -> bool:
    """Return whether `path` exists; without `follow`, a dangling link counts."""
    try:
        posix.stat(path, follow_symlinks=follow)
    except OSError:
        return False
    return True


def is_absent(path: str) -> bool:
    """Return whether there certainly is no `path`: one that cannot be looked for is not absent."""
    try:
        posix.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def is_writable(path: str) -> bool:
    """Return whether this process may write to `path`."""
    return posix.access(path, posix.W_OK, effective_ids=True)


def is_directory(path: str) -> bool:
    """Return whether `path` is a directory, or a link to one."""
    try:
        return S_ISDIR(posix.stat(path).st_mode)
    except OSError:
        return False


def is_executable(path: str) -> bool:
    """Return whether `path` is a plain file that the caller may execute."""
    try:
        plain = S_ISREG(posix.stat(path).st_mode)
    except OSError:
        return False
    return plain and posix.access(path, posix.X_OK)


def environment(name: str) -> str:
    """Return an environment variable, "" if unset. Changes by the program are seen only through `os`, so use it if loaded."""
    os = sys.modules.get("os")
    if os is not None:
        found: str = os.environ.get(name, "")
        return found
    return posix.environ.get(name.encode(), b"").decode("utf-8", "surrogateescape")


def variables(prefix: str = OUR_VARIABLES) -> dict[str, str]:
    """Return the environment variables whose names begin with `prefix`, read as in `environment`."""
    os = sys.modules.get("os")
    if os is not None:
        return {name: text for name, text in os.environ.items() if name.startswith(prefix)}
    return {
        name.decode("ascii", "replace"): posix.environ[name].decode("utf-8", "surrogateescape")
        for name in posix.environ
        if name.startswith(prefix.encode())
    }


def project_file() -> str:
    """Return the nearest `capsule.toml` in the current directory or above; "" if there is none."""
    try:
        directory = posix.getcwd().rstrip("/")
    except OSError:
        return ""
    while not posix.access(path := f"{directory}/{PROJECT_FILE}", posix.F_OK):
        if not directory:
            return ""
        directory = directory.rpartition("/")[0]
    return path


def user_file() -> str:
    """Return the path of the user's configuration file; "" without a home directory."""
    above = environment("XDG_CONFIG_HOME")
    if not above.startswith("/"):
        home = environment("HOME")
        above = f"{home}/.config" if home else ""
    return f"{above}/capsule-run/config.toml" if above else ""


def has_own_configuration() -> bool:
    """Return whether there is a configuration file of the caller's or of the project's: one system call for each place."""
    return bool(environment("CAPSULE_CONFIG") or project_file() or posix.access(user_file(), posix.F_OK))


def wants_traces() -> bool:
    """Return whether a standard variable of OpenTelemetry asks for spans."""
    names = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return (
        any(environment(name) not in ("", "none") for name in names)
        and environment("OTEL_TRACES_EXPORTER") != "none"
        and environment("OTEL_SDK_DISABLED").lower() != "true"
    )
