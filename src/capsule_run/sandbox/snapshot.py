"""Keep the files of a sandbox, and put them into another: `Sandbox.snapshot` and `fork`.

A snapshot holds what differs from the start: the changes of the workspace, and everything in the other writable places.
Links are kept as links; the content lies in one file in memory.
"""

from __future__ import annotations

import os

from capsule_run._base.lexical_paths import HOME, WORKSPACE
from capsule_run._base.value import Value
from capsule_run.host.caller_files import write_all
from capsule_run.launcher import memory_file
from capsule_run.model.changes import DELETED
from capsule_run.workspace import live

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from capsule_run.model.changes import Change
    from capsule_run.workspace.live import FileInfo, LiveFiles

# Writable places besides the workspace.
PLACES = (HOME, "/tmp", "/var/tmp")
_CHUNK = 1 << 20


class _Entry(Value):
    """A file of the snapshot; of a regular one, where its content lies."""

    info: FileInfo
    at: int = 0


class Snapshot:
    """The files of a sandbox at one time. A context manager; closing it frees the memory that holds them."""

    def __init__(self, files: LiveFiles, changes: list[Change]) -> None:
        self._entries: list[_Entry] = []
        self._fd = memory_file("capsule-snapshot")
        self._size = 0
        self.deleted = tuple(f"{WORKSPACE}/{change.path}" for change in changes if change.kind == DELETED)
        try:
            for change in changes:
                if change.kind != DELETED:
                    self._add(files, files.info(f"{WORKSPACE}/{change.path}"))
            for place in PLACES:
                for info in live.walk(files, place):
                    self._add(files, info)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self._size

    def _add(self, files: LiveFiles, info: FileInfo) -> None:
        if info.type == "special":  # sockets and the like belong to processes that are not kept
            return
        self._entries.append(_Entry(info=info, at=self._size))
        if info.type != "file":
            return
        source = files.open_to_read(info.path)
        try:
            while piece := os.read(source, _CHUNK):
                write_all(self._fd, piece)
                self._size += len(piece)
        finally:
            os.close(source)

    def put(self, files: LiveFiles) -> None:
        """Put the files into a sandbox that was made with the same workspace."""
        for path in self.deleted:
            if files.exists(path):
                files.remove(path, recursive=True)
        for number, entry in enumerate(self._entries):
            info = entry.info
            if info.type == "directory":
                files.make_directory(info.path, parents=True)
            elif info.target is not None:
                if files.exists(info.path):
                    files.remove(info.path, recursive=True)
                files.make_link(info.path, info.target)
            else:
                end = self._entries[number + 1].at if number + 1 < len(self._entries) else self._size
                self._put_content(files, info, entry.at, end)
            if info.target is None:
                files.change_mode(info.path, info.mode)

    def _put_content(self, files: LiveFiles, info: FileInfo, at: int, end: int) -> None:
        target = files.open_to_write(info.path)
        try:
            while at < end:
                at += os.write(target, os.pread(self._fd, min(end - at, _CHUNK), at))
        finally:
            os.close(target)

    def close(self) -> None:
        """Free what the snapshot holds."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
