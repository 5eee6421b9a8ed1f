"""Which symbolic links on the way to a path that the caller names may be followed.

Rank 2: looks at the system. Imported only where there is such a link. docs/decisions/links-in-sources.md says why: an
earlier run with a writable share may have put a link where the caller's next run looks (CVE-2024-42472).
"""

from __future__ import annotations

import posix

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
        return "an earlier run can have made it: root's runs write as whoever owns what they share"
    try:
        owner = posix.lstat(link).st_uid
        if owner:
            return f"an earlier run can have made it: it belongs to user {owner}"
        place = next((place for place in _upwards(parent) if not _is_roots(place)), "")
    except OSError:
        return "it has changed just now"
    return f"somebody else than root can have made it: `{place}` is not root's alone" if place else ""


def _upwards(path: str) -> list[str]:
    """The directory and all above it."""
    names = path.split("/")[1:] if path != "/" else []
    return ["/", *("/" + "/".join(names[: at + 1]) for at in range(len(names)))]


def _is_roots(directory: str) -> bool:
    """Root's, and in it nobody else can put another thing in the place of one of root's (in a sticky one nobody can)."""
    seen = posix.stat(directory)
    return seen.st_uid == 0 and (not seen.st_mode & 0o022 or bool(seen.st_mode & 0o1000))
