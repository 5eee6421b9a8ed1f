"""Find secrets in directories that a request shares, by their names, and the places where such names could appear later.

Called by `survey` for what the request shares.
"""

from __future__ import annotations

import posix
from _stat import S_IFDIR, S_IMODE, S_ISDIR, S_ISLNK

from capsule_run._base.known_paths import SECRETS
from capsule_run._base.lexical_paths import within
from capsule_run.host import path_resolution
from capsule_run.host.system import read
from capsule_run.model.host import Secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from capsule_run.model.source import Source


_NAMES: dict[str, list[str]] = {}  # the paths in SECRETS, by their first component
for _name in SECRETS:
    _NAMES.setdefault(_name.partition("/")[0], []).append(_name)
_SMALL_DIRECTORY = 4096  # the size of a directory with few names is at most this, on every file system
_MAX_LINKS = 40
_MAX_MOUNTS = 1 << 24  # bytes of the list of mounts
_ASSUMED_MODE = S_IFDIR | 0o755  # assumed for a directory that does not exist


def secrets_in(sources: Iterable[Source], unmask: tuple[str, ...]) -> dict[str, Secrets]:
    """Return what to mask in each shared directory, by its path."""
    directories = [source.path for source in sources if source.is_directory and not source.error]
    mounts = read("/proc/thread-self/mountinfo", _MAX_MOUNTS) if directories else ""
    return {path: _Search(path, unmask).secrets(has_mounts=_has_mounts(path, mounts)) for path in directories}


def _has_mounts(directory: str, mounts: str) -> bool:
    """Return whether something is mounted beneath the directory; True if the list of mounts is unavailable."""
    plain = directory.rstrip("/")
    for letter, octal in (("\\", "134"), (" ", "040"), ("\t", "011"), ("\n", "012")):
        plain = plain.replace(letter, f"\\{octal}")
    return not mounts or f" {plain}/" in mounts


def _listed(directory: str) -> frozenset[str] | None:
    """Return the casefolded names in a small directory (some file systems ignore case), or None if large or unreadable."""
    try:
        if posix.stat(directory).st_size <= _SMALL_DIRECTORY:
            return frozenset([name.casefold() for name in posix.listdir(directory)])
    except OSError:
        pass
    return None


class _Search:
    """The search in one directory: follows each path of SECRETS, through links as long as they stay in the directory.

    All paths that it keeps are relative to the directory.
    """

    def __init__(self, directory: str, unmask: tuple[str, ...]) -> None:
        self._directory, self._unmask = directory, unmask
        self._listed = _listed(directory)
        self._modes: dict[str, int] = {}  # by path; 0: nothing is there
        self._found: dict[str, bool] = {}
        self._absent: dict[str, None] = {}
        self._links: dict[str, str] = {}
        self._directories: dict[str, int] = {}

    def secrets(self, *, has_mounts: bool) -> Secrets:
        """Search all names."""
        shown = [name.partition("/")[0] for name in self._unmask]
        for top, names in _NAMES.items():
            if self._listed is not None and top not in shown and top.casefold() not in self._listed:
                self._absent[top] = None  # the usual case, without a system call
                continue
            for name in names:
                if name not in self._unmask:
                    self._walk(name)
        inner = tuple([f"{place}/" for place in self._found])  # a masked directory hides what is in it
        return Secrets(
            found=tuple([one for one in self._found.items() if not one[0].startswith(inner)]),
            absent=tuple([place for place in self._absent if not place.startswith(inner)]),
            links=tuple([one for one in self._links.items() if not one[0].startswith(inner)]),
            directories=tuple([one for one in self._directories.items() if not one[0].startswith(inner)]),
            mode=self._own_mode(),
            has_mounts=has_mounts,
        )

    def _own_mode(self) -> int:
        try:
            return S_IMODE(posix.stat(self._directory).st_mode)
        except OSError:  # removed meanwhile: the launcher reports it
            return S_IMODE(_ASSUMED_MODE)

    def _mode(self, place: str) -> int:
        if place not in self._modes:
            mode = 0
            if self._listed is None or place.partition("/")[0].casefold() in self._listed:
                try:
                    mode = posix.lstat(f"{self._directory}/{place}").st_mode
                except OSError:
                    pass
            self._modes[place] = mode
        return self._modes[place]

    def _walk(self, name: str) -> None:
        left, at, links = name.split("/")[::-1], "", 0
        while left:
            part = left.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not at:
                    return
                at = at.rpartition("/")[0]
                continue
            place = f"{at}/{part}" if at else part
            mode = self._mode(place)
            if not mode and left and any(within(f"/{shown}", f"/{place}") for shown in self._unmask):
                mode = _ASSUMED_MODE  # an unmasked path may appear in it
            if not mode:
                self._absent[place] = None
                return
            if S_ISLNK(mode):
                links += 1
                rest = self._follow(place)
                if rest is None or links > _MAX_LINKS:
                    return
                if rest.startswith("/"):
                    at = ""
                left += rest.split("/")[::-1]
            elif not left:
                self._found[place] = S_ISDIR(mode)
                return
            elif S_ISDIR(mode):
                self._directories[place] = S_IMODE(mode)
                at = place
            else:
                return

    def _follow(self, place: str) -> str | None:
        """Return a link's target, relative to the link or, with a leading `/`, to the directory; None if outside."""
        try:
            target = posix.readlink(f"{self._directory}/{place}")
            self._links[place] = target
            if not target.startswith("/"):
                return target
            real = path_resolution.real(target)
        except OSError:
            return None
        return real[len(self._directory) :] if real != self._directory and within(real, self._directory) else None
