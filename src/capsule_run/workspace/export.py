"""Carrying over to the host what a run left: its changes to the directory that it was shown, or files to another one.

Rank 2. `outlet` writes; here is what is written in which order, and the account of what was not.
"""

from __future__ import annotations

import posix
from _stat import S_ISREG
from errno import EACCES, EBUSY, EISDIR, ELOOP, ENOENT, ENOTDIR, EXDEV

from capsule_run._base.errors import CapsuleError
from capsule_run.host.caller_files import open_directory, reason_of, replace_file, replace_link
from capsule_run.host.path_resolution import DIRECTORY_FLAGS, READ_FLAGS
from capsule_run.host.tree_walk import delete
from capsule_run.model.result_parts import DELETED, NotApplied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from capsule_run.model.result_parts import Change, CollectedFile
    from capsule_run.workspace.diff import Comparison


MOST_TOLD = 1000


def open_place(path: str, field: str) -> int:
    """A descriptor of the host's directory `path`, which is made with its parents if it is missing. Raises E2004."""
    try:
        return open_directory(path, make=True)
    except OSError as error:
        why, hint = reason_of(error)
        hint = hint or "name a directory that this account may write to"
        raise CapsuleError(
            "E2004", f"{field}: cannot write to `{path}`: {why}", details={"path": path}, hint=hint
        ) from None


def carry_over(changes: Iterable[Change], layer: int, place: int, *, deletions: bool) -> list[NotApplied]:
    """Make the directory `place` like the command left its copy. Returns what was not done, and why."""
    refused: list[NotApplied] = []
    outlet = Outlet(place)
    for change in changes:
        if change.kind == DELETED and not deletions:
            continue
        try:
            transfer(change, layer, outlet)
        except RefusedError as error:
            if len(refused) < MOST_TOLD:
                refused.append(NotApplied(path=change.path, reason=str(error.args[0])))
    return refused


def not_looked_into(comparison: Comparison) -> list[NotApplied]:
    """What the comparison could not look into, and so nothing was carried over of."""
    return [NotApplied(path=path, reason=why) for path, why in comparison.skipped]


def save_files(files: Iterable[CollectedFile], place: int) -> list[NotApplied]:
    """Write collected files into the directory `place`, under their own paths."""
    refused: list[NotApplied] = []
    outlet = Outlet(place)
    for file in files:
        try:
            with memoryview(file.data) as view:
                outlet.file(file.path, view, file.mode, None)
        except RefusedError as error:
            refused.append(NotApplied(path=file.path, reason=str(error.args[0])))
    return refused


_AT_A_TIME = 1 << 30
_MAPPED_AT_A_TIME, _PAGE, _DONTNEED = 1 << 24, 1 << 16, 4  # bytes, a multiple of every page, and MADV_DONTNEED


class RefusedError(Exception):
    """Something is not written; `args[0]` is one word for why."""


def leaves_tree(path: str, target: str) -> bool:
    """Whether a link at `path` may lead out of the tree that `path` is relative to.

    Only at the front of the target is `..` believed: behind a name, that name could be a link itself, and what `..` is
    would be another's choice.
    """
    names = target.split("/")
    up = 0
    while up < len(names) and names[up] in ("..", "."):
        up += 1
    climbs = names[:up].count("..")
    return target.startswith("/") or climbs > path.count("/") or ".." in names[up:]


class Outlet:
    """A directory of the host to write into, by a descriptor that stays the caller's."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._as_root = posix.geteuid() == 0

    def _parent(self, path: str, *, make: bool) -> int:
        """A descriptor of the directory that `path` lies in. The caller closes it."""
        if ".." in path.split("/"):  # no name in a directory is that; should one come, it must not climb
            raise RefusedError("leaves_tree")
        at = posix.open(".", DIRECTORY_FLAGS, dir_fd=self._root)
        for name in path.split("/")[:-1]:
            try:
                if make:
                    self._make_directory(name, at)
                inner = posix.open(name, DIRECTORY_FLAGS, dir_fd=at)
            except OSError as error:
                raise RefusedError("symlink" if error.errno in (ELOOP, ENOTDIR) else "missing") from None
            finally:
                posix.close(at)
            at = inner
        return at

    def _make_directory(self, name: str, parent: int, mode: int = 0o755) -> None:
        try:
            posix.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:
            return
        if (
            self._as_root
        ):  # what root makes in somebody's directory is that somebody's; by name, a link could have its place
            made = posix.open(name, DIRECTORY_FLAGS, dir_fd=parent)
            try:
                seen = posix.fstat(parent)
                posix.chown(made, seen.st_uid, seen.st_gid)
            finally:
                posix.close(made)

    def directory(self, path: str, mode: int) -> None:
        """Make a directory, unless it is there."""
        parent = self._parent(path, make=True)
        try:
            self._make_directory(path.rpartition("/")[2], parent, mode & 0o777 | 0o700)
        except OSError as error:
            raise RefusedError("symlink" if error.errno in (ELOOP, ENOTDIR) else "unwritable") from None
        finally:
            posix.close(parent)

    def link(self, path: str, target: str) -> None:
        """Make a link, in the place of whatever file lies there, if it stays in the tree."""
        if leaves_tree(path, target):
            raise RefusedError("leaves_tree")
        parent = self._parent(path, make=True)
        try:
            replace_link(parent, path.rpartition("/")[2], target)
        except OSError as error:
            raise RefusedError("directory" if error.errno == EISDIR else "unwritable") from None
        finally:
            posix.close(parent)

    def file(self, path: str, content: int | memoryview, mode: int, mtime_ns: int | None) -> None:
        """Write a file, of an open one's content or of bytes, in the place of whatever file or link lies there."""
        parent = self._parent(path, make=True)
        try:
            name = path.rpartition("/")[2]

            def fill(fd: int) -> None:
                _copy(content, fd)
                self._dress(fd, name, parent, mode)
                if mtime_ns is not None:
                    posix.utime(fd, ns=(mtime_ns, mtime_ns))

            replace_file(parent, name, fill)
        except OSError as error:
            raise RefusedError("directory" if error.errno == EISDIR else "unwritable") from None
        finally:
            posix.close(parent)

    def _dress(self, fd: int, name: str, parent: int, mode: int) -> None:
        """The mode, and where root writes, the owner: that of the file that is replaced, else of the directory."""
        if self._as_root:
            try:
                old = posix.stat(name, dir_fd=parent, follow_symlinks=False)
            except OSError:
                old = posix.fstat(parent)
            posix.fchown(fd, old.st_uid, old.st_gid)
        posix.fchmod(fd, mode & 0o777)

    def remove(self, path: str) -> None:
        """Remove a file, a link, or a directory with all that lies in it. What is gone already is no failure."""
        parent = self._parent(path, make=False)
        try:
            delete(path.rpartition("/")[2], parent)
        except OSError as error:
            raise RefusedError("mount" if error.errno in (EXDEV, EBUSY) else "unwritable") from None
        finally:
            posix.close(parent)


def _copy(content: int | memoryview, to: int) -> None:
    if isinstance(content, int):
        at = 0
        while moved := posix.sendfile(to, content, at, _AT_A_TIME):
            at += moved
        return
    at = 0
    while at < len(content):
        at += posix.write(to, content[at : at + _MAPPED_AT_A_TIME])
        if (
            hasattr(content.obj, "madvise") and at >= _PAGE
        ):  # a file mapped into memory: what was read need not stay there
            content.obj.madvise(_DONTNEED, 0, at // _PAGE * _PAGE)


def transfer(change: Change, layer: int, outlet: Outlet) -> None:
    """Carry one change over from the layer. Raises RefusedError."""
    if change.kind == "deleted":
        outlet.remove(change.path)
        return
    if change.type == "special":
        raise RefusedError("special")
    *directories, name = change.path.split("/")
    at = posix.open(".", DIRECTORY_FLAGS, dir_fd=layer)
    try:
        for directory in directories:
            inner = posix.open(directory, DIRECTORY_FLAGS, dir_fd=at)
            posix.close(at)
            at = inner
        _transfer_from(at, name, change, outlet)
    except OSError as error:
        raise RefusedError("unwritable" if error.errno not in (ENOENT, EACCES) else "unreadable") from None
    finally:
        posix.close(at)


def _transfer_from(at: int, name: str, change: Change, outlet: Outlet) -> None:
    if change.type == "directory":
        outlet.directory(change.path, posix.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
        return
    if change.type == "symlink":
        outlet.link(change.path, posix.readlink(name, dir_fd=at))
        return
    fd = posix.open(name, READ_FLAGS, dir_fd=at)
    try:
        seen = posix.fstat(fd)
        if not S_ISREG(seen.st_mode):
            raise RefusedError("special")
        outlet.file(change.path, fd, seen.st_mode, seen.st_mtime_ns)
    finally:
        posix.close(fd)
