"""Which symbolic links on the way to a path that the caller names may be followed.

Rank 2: looks at the system. Imported only where there is such a link. docs/decisions/links-in-sources.md says why: an
earlier run with a writable share may have put a link where the caller's next run looks (CVE-2024-42472).
"""

from __future__ import annotations

import posix
import sys
from _stat import S_ISDIR, S_ISREG, S_ISVTX
from errno import EINVAL, ELOOP, ENOENT, ENOTDIR

from capsule_run._base.lexical_paths import normal

# Where root is the caller nothing is out of reach by its mode, so the place decides: these hold the system's own links.
ROOTS_OWN = ("/", "/var")


def out_of_reach(link: str) -> bool:
    """Whether only root can have made the link at `link`, and every directory on the way to it."""
    return not maker(link)


def maker(link: str) -> str:
    """Who besides root can have made the link at `link`, as half a sentence; an empty string if nobody.

    A run writes as the caller; for root, through an id map, as whoever owns what it shared.
    """
    parent = link.rpartition("/")[0] or "/"
    if posix.geteuid() == 0:
        if parent in ROOTS_OWN:
            return ""
        return "an earlier run may have made it: runs by root write as the owner of a shared path"
    try:
        owner = posix.lstat(link).st_uid
        if owner:
            return f"an earlier run may have made it: it belongs to user {owner}"
        place = next((place for place in _upwards(parent) if not _is_roots(place)), "")
    except OSError:
        return "it was changed during setup"
    return f"another user than root may have made it: `{place}` is not writable by root alone" if place else ""


def _upwards(path: str) -> list[str]:
    """The directory and all above it."""
    names = path.split("/")[1:] if path != "/" else []
    return ["/", *("/" + "/".join(names[: at + 1]) for at in range(len(names)))]


def _is_roots(directory: str) -> bool:
    """Root's, and in it nobody else can put another thing in the place of one of root's (in a sticky one nobody can)."""
    seen = posix.stat(directory)
    return seen.st_uid == 0 and (not seen.st_mode & 0o022 or bool(seen.st_mode & S_ISVTX))


MOST_LINKS = 40  # path_resolution(7)
# For opening by name what somebody may have prepared: no link is followed, and nothing is waited for.
READ_FLAGS = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
OUR_VARIABLES = "CAPSULE_RUN_"  # and the name of an option, see the module `variables`
DIRECTORY_FLAGS = READ_FLAGS | posix.O_DIRECTORY


def join(directory: str, path: str) -> str:
    """`path`, which is relative to `directory` unless it is absolute, in its shortest spelling; no link is looked at."""
    return normal(path if path.startswith("/") else f"{directory}/{path}")


def real(path: str) -> str:
    """The absolute path without any link. What does not exist is kept as it is written.

    Raises OSError ELOOP for more links than the kernel follows, and what readlink(2) answers for a link that it refuses.
    """
    return real_and_links(path)[0]


def real_and_links(path: str) -> tuple[str, list[tuple[str, str]]]:
    """`real`, and each link on the way to it: where it is, by its real path, and what it says."""
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
        if len(links) > MOST_LINKS:
            raise OSError(ELOOP, posix.strerror(ELOOP), path)
        if target.startswith("/"):
            done = ""
        left += target.split("/")[::-1]
    return done or "/", links


def exists(path: str, *, follow: bool = True) -> bool:
    """Whether there is something at `path`; without `follow`, also a link that leads nowhere."""
    try:
        posix.stat(path, follow_symlinks=follow)
    except OSError:
        return False
    return True


def is_directory(path: str) -> bool:
    """Whether `path` leads to a directory."""
    try:
        return S_ISDIR(posix.stat(path).st_mode)
    except OSError:
        return False


def is_executable(path: str) -> bool:
    """Whether `path` is a file that the caller may execute."""
    try:
        plain = S_ISREG(posix.stat(path).st_mode)
    except OSError:
        return False
    return plain and posix.access(path, posix.X_OK)


def environment(name: str) -> str:
    """A variable of this process, empty where it is not set: as the program has changed it, if it has loaded `os`."""
    os = sys.modules.get("os")
    if os is not None:
        found: str = os.environ.get(name, "")
        return found
    return posix.environ.get(name.encode(), b"").decode("utf-8", "surrogateescape")


def variables(prefix: str = OUR_VARIABLES) -> dict[str, str]:
    """The variables of this process whose names begin so, as `environment` reads them."""
    os = sys.modules.get("os")
    if os is not None:
        return {name: text for name, text in os.environ.items() if name.startswith(prefix)}
    return {
        name.decode("ascii", "replace"): posix.environ[name].decode("utf-8", "surrogateescape")
        for name in posix.environ
        if name.startswith(prefix.encode())
    }
