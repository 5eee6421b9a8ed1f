"""Values for files and directories of the host; the core rejects any other at the same path."""

from __future__ import annotations

from capsule_run._base.value import Value


class Source(Value):
    """One file or directory on the host, identified by `device` and `inode`: the core rejects any other at this path.

    `asked` is the path as given, `path` the same without links; `error` is the errno of stat(2), 0 if it succeeded.
    """

    asked: str
    path: str
    device: int
    inode: int
    is_directory: bool
    owner: int
    group: int
    error: int


class CopiedFile(Value):
    """A host file that is copied to `place` in the sandbox. `path` is its path without links."""

    place: str
    path: str
    device: int
    inode: int
    size: int
