"""Secrets in directories that a request shares: found by their names, and shown as empty.

Rank 2: looks at the host, decides nothing but by name. Called by `host.survey` for what the request shares.
"""

from __future__ import annotations

import posix

from . import paths
from .data.secrets import SECRETS
from .view import within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .host import Source

_KIND, _DIRECTORY, _LINK = 0o170000, 0o040000, 0o120000
_SMALL = 4096  # bytes of a directory that has few names, on every file system
_TOPS = frozenset([name.partition("/")[0].casefold() for name in SECRETS])


def secrets_in(sources: Iterable[Source], unmask: tuple[str, ...]) -> dict[str, tuple[tuple[str, bool], ...]]:
    """By the path of each shared directory: its secrets, relative to it, and whether each is a directory."""
    return {
        source.path: secrets
        for source in sources
        if source.is_directory and not source.error and (secrets := _look(source.path, unmask))
    }


def _tops(directory: str) -> frozenset[str]:
    """Which first names of secrets may be there: read off a small directory, and all for one that would take long to read.

    Whatever their case, since there are directories in which that does not matter.
    """
    try:
        if posix.stat(directory).st_size <= _SMALL:
            return _TOPS.intersection([name.casefold() for name in posix.listdir(directory)])
    except OSError:
        pass
    return _TOPS


def _look(directory: str, unmask: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    tops = _tops(directory)
    if not tops:
        return ()
    here: dict[str, bool] = {"": True}  # by place: it has to be there for a secret to be in it
    found: dict[str, bool] = {}
    for name in SECRETS:
        place = name.rpartition("/")[0]
        if name in unmask or name.partition("/")[0].casefold() not in tops:
            continue
        if place not in here:
            here[place] = paths.exists(f"{directory}/{place}", follow=False)
        if not here[place]:
            continue
        try:
            kind = posix.lstat(f"{directory}/{name}").st_mode & _KIND
        except OSError:
            continue
        shown, is_directory = _target(directory, name) if kind == _LINK else (name, kind == _DIRECTORY)
        if shown:
            found[shown] = is_directory
    outermost = [
        place for place in found if not any(place != other and within(f"/{place}", f"/{other}") for other in found)
    ]
    return tuple((place, found[place]) for place in outermost)


def _target(directory: str, name: str) -> tuple[str, bool]:
    """What a link by a secret's name leads to, if that lies in the directory: elsewhere it leads nowhere inside."""
    try:
        real = paths.real(f"{directory}/{name}")
        kind = posix.stat(real).st_mode & _KIND
    except OSError:
        return "", False
    if real == directory or not within(real, directory):
        return "", False
    return real[len(directory) + 1 :], kind == _DIRECTORY
