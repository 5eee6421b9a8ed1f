"""The files of a living sandbox on an event loop: as `sandbox.files`, each call in a thread, since a file may be large."""

from __future__ import annotations

from capsule_run.aio.thread import in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from os import PathLike

    from capsule_run.sandbox import Files as BlockingFiles
    from capsule_run.workspace.live import FileInfo


class Files:
    """Read and write the files of a sandbox: `capsule_run.sandbox.Files` for coroutines, with the same errors."""

    def __init__(self, files: BlockingFiles) -> None:
        self._files = files

    async def read(self, path: str, *, offset: int = 0, size: int | None = None) -> str:
        """Return a file as text; what is no UTF-8 becomes U+FFFD."""
        return await in_thread(lambda: self._files.read(path, offset=offset, size=size))

    async def read_bytes(self, path: str, *, offset: int = 0, size: int | None = None) -> bytes:
        """Return the bytes of a file."""
        return await in_thread(lambda: self._files.read_bytes(path, offset=offset, size=size))

    async def write(self, path: str, content: str | bytes, *, append: bool = False, mode: int | None = None) -> None:
        """Write a file; directories that are missing are made."""
        await in_thread(lambda: self._files.write(path, content, append=append, mode=mode))

    async def list(self, path: str = ".") -> builtins.list[FileInfo]:
        """Return what a directory contains, in the order of the names."""
        return await in_thread(lambda: self._files.list(path))

    async def stat(self, path: str) -> FileInfo:
        """Return the facts about a file. A link at the end of the path is not followed."""
        return await in_thread(lambda: self._files.stat(path))

    async def exists(self, path: str) -> bool:
        """Return whether there is something at this path."""
        return await in_thread(lambda: self._files.exists(path))

    async def mkdir(self, path: str, *, parents: bool = True) -> None:
        """Make a directory. With `parents`, those above it too, and one that exists is fine."""
        await in_thread(lambda: self._files.mkdir(path, parents=parents))

    async def rename(self, path: str, new_path: str) -> None:
        """Rename a file or a directory; a file at the new path is replaced."""
        await in_thread(lambda: self._files.rename(path, new_path))

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or an empty directory; with `recursive`, a directory with all that is in it."""
        await in_thread(lambda: self._files.remove(path, recursive=recursive))

    async def upload(self, host_path: str | PathLike[str], path: str, *, mode: int | None = None) -> None:
        """Copy a file of the host into the sandbox, in pieces."""
        await in_thread(lambda: self._files.upload(host_path, path, mode=mode))

    async def download(self, path: str, host_path: str | PathLike[str]) -> None:
        """Copy a file of the sandbox to the host, in pieces. A file at `host_path` is replaced when the copy is complete."""
        await in_thread(lambda: self._files.download(path, host_path))
