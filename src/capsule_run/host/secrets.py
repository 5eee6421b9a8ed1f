"""Secrets in directories that a request shares: found by their names, and where others of these names could appear.

Rank 2: looks at the host, decides nothing but by name. Called by `host.survey.survey` for what the request shares.
"""

from __future__ import annotations

import posix
from _stat import S_IFDIR, S_IMODE, S_ISDIR, S_ISLNK

from capsule_run._base.lexical_paths import within
from capsule_run._base.secret_names import SECRETS
from capsule_run.host import path_resolution
from capsule_run.host.system import read
from capsule_run.model.host import Secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from capsule_run.model.host import Source


_NAMES: dict[str, list[str]] = {}  # by the first part of their paths
for _name in SECRETS:
    _NAMES.setdefault(_name.partition("/")[0], []).append(_name)
_SMALL = 4096  # bytes of a directory that has few names, on every file system
_MOST_LINKS = 40
_MOST_MOUNTS = 1 << 24  # bytes of the kernel's list of mounts
_MADE = S_IFDIR | 0o755  # the mode of a directory that the host does not have


def secrets_in(sources: Iterable[Source], unmask: tuple[str, ...]) -> dict[str, Secrets]:
    """By the path of each shared directory: what is to be masked in it."""
    directories = [source.path for source in sources if source.is_directory and not source.error]
    mounts = read("/proc/thread-self/mountinfo", _MOST_MOUNTS) if directories else ""
    return {path: _Search(path, unmask).secrets(has_mounts=_has_mounts(path, mounts)) for path in directories}


def _has_mounts(directory: str, mounts: str) -> bool:
    """Whether something is mounted beneath it, by the kernel's list; also where that cannot be known."""
    plain = directory.rstrip("/")
    for letter, octal in (("\\", "134"), (" ", "040"), ("\t", "011"), ("\n", "012")):
        plain = plain.replace(letter, f"\\{octal}")
    return not mounts or f" {plain}/" in mounts


def _listed(directory: str) -> frozenset[str] | None:
    """The names in a small directory, whatever their case, since there are directories in which that does not matter.

    None for one that would take long to read, or may not be.
    """
    try:
        if posix.stat(directory).st_size <= _SMALL:
            return frozenset([name.casefold() for name in posix.listdir(directory)])
    except OSError:
        pass
    return None


class _Search:
    """One walk along each name of the table, through the links on its way as far as they stay in the directory.

    All places are relative to the directory.
    """

    def __init__(self, directory: str, unmask: tuple[str, ...]) -> None:
        self._directory, self._unmask = directory, unmask
        self._listed = _listed(directory)
        self._modes: dict[str, int] = {}  # of what was looked at; 0: nothing is there
        self._found: dict[str, bool] = {}
        self._absent: dict[str, None] = {}
        self._links: dict[str, str] = {}
        self._directories: dict[str, int] = {}

    def secrets(self, *, has_mounts: bool) -> Secrets:
        """Walk along all names."""
        shown = [name.partition("/")[0] for name in self._unmask]
        for top, names in _NAMES.items():
            if self._listed is not None and top not in shown and top.casefold() not in self._listed:
                self._absent[top] = None  # most are: no need to walk
                continue
            for name in names:
                if name not in self._unmask:
                    self._walk(name)
        inner = tuple(
            [f"{place}/" for place in self._found]
        )  # what lies in a directory that is masked needs nothing more
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
        except OSError:  # gone meanwhile: the core will say so
            return S_IMODE(_MADE)

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
                mode = _MADE  # what is shown by name may appear in it
            if not mode:
                self._absent[place] = None
                return
            if S_ISLNK(mode):
                links += 1
                rest = self._follow(place)
                if rest is None or links > _MOST_LINKS:
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
        """Where a link leads: relative to where it lies, or behind a `/` to the directory. None: nowhere inside."""
        try:
            target = posix.readlink(f"{self._directory}/{place}")
            self._links[place] = target
            if not target.startswith("/"):
                return target
            real = path_resolution.real(target)
        except OSError:
            return None
        return real[len(self._directory) :] if real != self._directory and within(real, self._directory) else None
