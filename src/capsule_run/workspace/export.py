"""Export what a run left to the host: its changes to the shared directory, or collected files to another one.

Writes through descriptors, beneath one directory, and reports what was not written and why.
"""

from __future__ import annotations

import posix
from _stat import S_ISREG
from errno import EACCES, EBUSY, EISDIR, ELOOP, ENOENT, ENOTDIR, EXDEV

from capsule_run._base.errors import CapsuleError
from capsule_run.host.caller_files import open_directory, reason_of, replace_file, replace_link
from capsule_run.host.path_resolution import DIRECTORY_FLAGS, READ_FLAGS
from capsule_run.host.tree_walk import delete, open_parent
from capsule_run.model.changes import DELETED, MODIFIED, NotApplied
from capsule_run.workspace import stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from capsule_run.model.changes import Change
    from capsule_run.model.result_parts import CollectedFile
    from capsule_run.workspace.diff import Comparison


MAX_LISTED = 1000


def open_place(path: str, field: str) -> int:
    """Open the host's directory `path`; create it and its parents if missing. Raises CapsuleError E2004."""
    try:
        return open_directory(path, make=True)
    except OSError as error:
        why, hint = reason_of(error)
        hint = hint or "name a directory that this account may write to"
        raise CapsuleError(
            "E2004", f"{field}: cannot write to `{path}`: {why}", details={"path": path}, hint=hint
        ) from None


def apply_changes(changes: Iterable[Change], layer: int, place: int, *, deletions: bool) -> list[NotApplied]:
    """Apply changes from an open layer to an open directory. Return what was not applied, and why.

    :param deletions: whether deletions are applied.
    """
    not_applied: list[NotApplied] = []
    tree = HostTree(place)

    def apply(change: Change, *, mode_only: bool) -> None:
        try:
            _apply_change(change, layer, tree, mode_only=mode_only)
        except NotAppliedError as error:
            if len(not_applied) < MAX_LISTED:
                not_applied.append(NotApplied(path=change.path, reason=str(error.args[0])))

    modes: list[Change] = []  # of directories: set last, because a new mode may forbid to write into the directory
    with stage.now.begin(stage.APPLYING):
        for change in changes:
            stage.now.done += 1
            if change.kind != DELETED or deletions:
                apply(change, mode_only=False)
            if change.kind == MODIFIED and change.type == "directory":
                modes.append(change)
    for change in reversed(modes):
        apply(change, mode_only=True)
    return not_applied


def skipped_directories(comparison: Comparison) -> list[NotApplied]:
    """Return the directories that the comparison skipped: nothing in them was exported."""
    return [NotApplied(path=path, reason=why) for path, why in comparison.skipped]


def save_files(files: Iterable[CollectedFile], place: int) -> list[NotApplied]:
    """Write collected files into an open directory, under their own paths. Return what was not written, and why."""
    not_applied: list[NotApplied] = []
    tree = HostTree(place)
    with stage.now.begin(stage.SAVING):
        for file in files:
            stage.now.done += 1
            try:
                with memoryview(file.data) as view:
                    tree.file(file.path, view, file.mode, None)
            except NotAppliedError as error:
                not_applied.append(NotApplied(path=file.path, reason=str(error.args[0])))
    return not_applied


_AT_A_TIME = 1 << 30
_MAPPED_AT_A_TIME, _PAGE, _DONTNEED = 1 << 24, 1 << 16, 4  # bytes, a multiple of every page size, MADV_DONTNEED


class NotAppliedError(Exception):
    """Raised if something is not written. `args[0]` is the reason, one word of the JSON API."""


def leaves_tree(path: str, target: str) -> bool:
    """Return whether a link at `path` may lead out of the tree that `path` is relative to.

    `..` is accepted only at the start of the target: after a name, that name could be a link itself, and then `..` could
    be any directory.
    """
    names = target.split("/")
    up = 0
    while up < len(names) and names[up] in ("..", "."):
        up += 1
    climbs = names[:up].count("..")
    return target.startswith("/") or climbs > path.count("/") or ".." in names[up:]


class HostTree:
    """A directory of the host to write into. The caller closes its descriptor `root`."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._as_root = posix.geteuid() == 0

    def _parent(self, path: str, *, make: bool) -> int:
        """Open the directory that contains `path`; with `make`, create it. The caller closes it. Raises NotAppliedError."""
        if ".." in path.split("/"):  # cannot be a directory entry; must never leave the tree
            raise NotAppliedError("leaves_tree")
        at = posix.open(".", DIRECTORY_FLAGS, dir_fd=self._root)
        for name in path.split("/")[:-1]:
            try:
                if make:
                    self._make_directory(name, at)
                inner = posix.open(name, DIRECTORY_FLAGS, dir_fd=at)
            except OSError as error:
                raise NotAppliedError("symlink" if error.errno in (ELOOP, ENOTDIR) else "missing") from None
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
        ):  # give it the owner of its parent; through a descriptor, since the name may be replaced by a link
            made = posix.open(name, DIRECTORY_FLAGS, dir_fd=parent)
            try:
                seen = posix.fstat(parent)
                posix.chown(made, seen.st_uid, seen.st_gid)
            finally:
                posix.close(made)

    def directory(self, path: str, mode: int) -> None:
        """Create a directory, unless it exists. Raises NotAppliedError."""
        parent = self._parent(path, make=True)
        try:
            self._make_directory(path.rpartition("/")[2], parent, mode & 0o777 | 0o700)
        except OSError as error:
            raise NotAppliedError("symlink" if error.errno in (ELOOP, ENOTDIR) else "unwritable") from None
        finally:
            posix.close(parent)

    def mode(self, path: str, mode: int) -> None:
        """Set the permissions of a directory, which keeps its set-id bits. Raises NotAppliedError."""
        parent = self._parent(path, make=False)
        try:
            own = posix.open(path.rpartition("/")[2], DIRECTORY_FLAGS, dir_fd=parent)
            try:
                posix.fchmod(own, mode & 0o1777 | posix.fstat(own).st_mode & 0o6000)
            finally:
                posix.close(own)
        except OSError as error:
            raise NotAppliedError("symlink" if error.errno in (ELOOP, ENOTDIR) else "unwritable") from None
        finally:
            posix.close(parent)

    def link(self, path: str, target: str) -> None:
        """Create a link, or replace a file, if its target stays in the tree. Raises NotAppliedError."""
        if leaves_tree(path, target):
            raise NotAppliedError("leaves_tree")
        parent = self._parent(path, make=True)
        try:
            replace_link(parent, path.rpartition("/")[2], target)
        except OSError as error:
            raise NotAppliedError("directory" if error.errno == EISDIR else "unwritable") from None
        finally:
            posix.close(parent)

    def file(self, path: str, content: int | memoryview, mode: int, mtime_ns: int | None) -> None:
        """Create a file, or replace a file or link, from an open file or from bytes. Raises NotAppliedError."""
        parent = self._parent(path, make=True)
        try:
            name = path.rpartition("/")[2]

            def fill(fd: int) -> None:
                _copy(content, fd)
                self._set_mode_and_owner(fd, name, parent, mode)
                if mtime_ns is not None:
                    posix.utime(fd, ns=(mtime_ns, mtime_ns))

            replace_file(parent, name, fill)
        except OSError as error:
            raise NotAppliedError("directory" if error.errno == EISDIR else "unwritable") from None
        finally:
            posix.close(parent)

    def _set_mode_and_owner(self, fd: int, name: str, parent: int, mode: int) -> None:
        """Set the mode and, if root writes, the owner: that of the replaced file, else of the directory."""
        if self._as_root:
            try:
                old = posix.stat(name, dir_fd=parent, follow_symlinks=False)
            except OSError:
                old = posix.fstat(parent)
            posix.fchown(fd, old.st_uid, old.st_gid)
        posix.fchmod(fd, mode & 0o777)

    def remove(self, path: str) -> None:
        """Remove a file, a link, or a directory with its contents. Ignore what is already gone. Raises NotAppliedError."""
        parent = self._parent(path, make=False)
        try:
            delete(path.rpartition("/")[2], parent)
        except OSError as error:
            raise NotAppliedError("mount" if error.errno in (EXDEV, EBUSY) else "unwritable") from None
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
        if hasattr(content.obj, "madvise") and at >= _PAGE:  # a mapped file: release the pages that were written
            content.obj.madvise(_DONTNEED, 0, at // _PAGE * _PAGE)


def _apply_change(change: Change, layer: int, tree: HostTree, *, mode_only: bool) -> None:
    """Apply one change from the layer. Raises NotAppliedError.

    :param mode_only: set only the mode of a directory.
    """
    if change.kind == "deleted":
        tree.remove(change.path)
        return
    if change.type == "special":
        raise NotAppliedError("special")
    at = -1
    try:
        at, name = open_parent(layer, change.path)
        if mode_only:
            tree.mode(change.path, posix.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
        else:
            _apply_entry(at, name, change, tree)
    except OSError as error:
        raise NotAppliedError("unwritable" if error.errno not in (ENOENT, EACCES) else "unreadable") from None
    finally:
        if at >= 0:
            posix.close(at)


def _apply_entry(at: int, name: str, change: Change, tree: HostTree) -> None:
    if change.type == "directory":
        tree.directory(change.path, posix.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
        return
    if change.type == "symlink":
        tree.link(change.path, posix.readlink(name, dir_fd=at))
        return
    fd = posix.open(name, READ_FLAGS, dir_fd=at)
    try:
        seen = posix.fstat(fd)
        if not S_ISREG(seen.st_mode):
            raise NotAppliedError("special")
        tree.file(change.path, fd, seen.st_mode, seen.st_mtime_ns)
    finally:
        posix.close(fd)
