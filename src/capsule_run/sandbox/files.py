"""The files of a living sandbox: `Sandbox.files`.

A path is absolute inside, or relative to /workspace. What the kernel refuses is the usual OSError (FileNotFoundError, ...)
with the path inside. A command may change the same files meanwhile.
"""

from __future__ import annotations

import os

from capsule_run.engine.execute import check_host_path
from capsule_run.host.caller_files import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike

    from capsule_run.engine.session import Session
    from capsule_run.workspace.live import FileInfo

_CHUNK = 1 << 20


class Files:
    """Read and write the files of a sandbox."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def read(self, path: str, *, offset: int = 0, size: int | None = None) -> str:
        """Return a file as text; what is no UTF-8 becomes U+FFFD.

        :param offset: the first byte to read.
        :param size: the most bytes to read; None reads to the end.
        :raises OSError: the kernel's error.
        :raises CapsuleError: the sandbox has ended.
        """
        return self.read_bytes(path, offset=offset, size=size).decode("utf-8", "replace")

    def read_bytes(self, path: str, *, offset: int = 0, size: int | None = None) -> bytes:
        """Return the bytes of a file; like `read` in all else."""
        return self._session.files().read(path, offset=offset, size=size)

    def write(self, path: str, content: str | bytes, *, append: bool = False, mode: int | None = None) -> None:
        """Write a file; directories that are missing are made.

        :param content: text, which is written as UTF-8, or bytes.
        :param append: write behind what is there.
        :param mode: permission bits; None leaves those of the file, or 0644 of a new one.
        :raises OSError: the kernel's error, such as ENOSPC when the sandbox's disk limit is reached.
        :raises CapsuleError: the sandbox has ended.
        """
        data = content.encode() if isinstance(content, str) else content
        self._session.files().write(path, data, append=append, mode=mode)

    def list(self, path: str = ".") -> list[FileInfo]:
        """Return what a directory contains, in the order of the names."""
        return self._session.files().list(path)

    def stat(self, path: str) -> FileInfo:
        """Return the facts about a file. A link at the end of the path is not followed."""
        return self._session.files().info(path)

    def exists(self, path: str) -> bool:
        """Return whether there is something at this path."""
        return self._session.files().exists(path)

    def mkdir(self, path: str, *, parents: bool = True) -> None:
        """Make a directory. With `parents`, those above it too, and one that exists is fine."""
        self._session.files().make_directory(path, parents=parents)

    def rename(self, path: str, new_path: str) -> None:
        """Rename a file or a directory; a file at the new path is replaced."""
        self._session.files().rename(path, new_path)

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or an empty directory; with `recursive`, a directory with all that is in it."""
        self._session.files().remove(path, recursive=recursive)

    def upload(self, host_path: str | PathLike[str], path: str, *, mode: int | None = None) -> None:
        """Copy a file of the host into the sandbox, in pieces.

        :param mode: permission bits; None takes those of the file.
        """
        check_host_path("host_path", os.fspath(host_path), writes=False)
        files = self._session.files()
        with open(host_path, "rb", buffering=0) as source:
            fd = files.open_to_write(path)
            try:
                while piece := source.read(_CHUNK):
                    write_all(fd, piece)
            finally:
                os.close(fd)
            files.change_mode(path, os.fstat(source.fileno()).st_mode & 0o777 if mode is None else mode)

    def download(self, path: str, host_path: str | PathLike[str]) -> None:
        """Copy a file of the sandbox to the host, in pieces. A file at `host_path` is replaced when the copy is complete."""
        check_host_path("host_path", os.fspath(host_path), writes=True)
        fd = self._session.files().open_to_read(path)
        partial = f"{os.fspath(host_path)}.part-{os.getpid()}-{fd}"
        try:
            with open(partial, "xb", buffering=0) as target:
                while piece := os.read(fd, _CHUNK):
                    write_all(target.fileno(), piece)
            os.replace(partial, host_path)
        except BaseException:
            if os.path.lexists(partial):
                os.unlink(partial)
            raise
        finally:
            os.close(fd)
