"""Check the input files of a request: read the status of those that are files of the host.

Writes nothing. The sandbox's init creates the files from bytes that `workspace.copy_in` sends through a pipe.
"""

from __future__ import annotations

import posix

from capsule_run._base.errors import CapsuleError
from capsule_run.host import caller_files, path_resolution
from capsule_run.model.optional import WorkspaceFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.request import InputFile


DEFAULT_MODE = 0o644


def stat_files(files: tuple[InputFile, ...], directory: str) -> tuple[WorkspaceFile, ...]:
    """Describe each file. Raises CapsuleError E2004 for a source that is missing, a link, or not a plain file."""
    return tuple([_stat_file(file, directory) for file in files])


def unreadable(path: str, why: str, errno: int, *, hint: str | None = None) -> CapsuleError:
    """Build the error of an input file that cannot be read."""
    return CapsuleError(
        "E2004", f"files: cannot read `{path}`: {why}", details={"path": path, "errno": errno}, hint=hint
    )


def _stat_file(file: InputFile, directory: str) -> WorkspaceFile:
    mode = DEFAULT_MODE if file.mode is None else file.mode
    if file.source is None:
        content = file.content or b""
        return WorkspaceFile(
            path=file.path, mode=mode, size=len(content), content=content, source="", device=0, inode=0
        )
    plain = path_resolution.join(directory, file.source)
    fd = open_plain(plain)
    try:
        seen = posix.fstat(fd)
    finally:
        posix.close(fd)
    return WorkspaceFile(
        path=file.path,
        mode=seen.st_mode & 0o777 if file.mode is None else mode,
        size=seen.st_size,
        content=None,
        source=plain,
        device=seen.st_dev,
        inode=seen.st_ino,
    )


def open_plain(path: str) -> int:
    """Open a plain file of the caller's by its absolute path, for reading. The caller closes it. Raises CapsuleError E2004."""
    try:
        return caller_files.open_plain(path)
    except OSError as error:
        why, hint = caller_files.reason_of(error)
        if path_resolution.is_directory(path) and hint is None:
            hint = "show a directory with `--bind`"
        raise unreadable(path, why, error.errno or 0, hint=hint) from None
