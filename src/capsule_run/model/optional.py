"""Values that only some requests need: input files, a private copy, tools, a layer on disk, a profile, guards."""

from __future__ import annotations

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.source import Source


class WorkspaceFile(Value):
    """One file to create, with `content` or the content of the host file `source`, which `device` and `inode` identify."""

    path: str
    mode: int
    size: int
    content: bytes | None
    source: str
    device: int
    inode: int


class Copy(Value):
    """A private copy of a directory: paths relative to it, parents first, without unreadable and special files."""

    directories: tuple[tuple[str, int], ...]
    links: tuple[tuple[str, str], ...]
    files: tuple[WorkspaceFile, ...]

    @property
    def paths(self) -> frozenset[str]:
        """All paths in the copy."""
        pairs = (*self.directories, *self.links)
        return frozenset([*(path for path, _rest in pairs), *(file.path for file in self.files)])

    def without(self, taken: frozenset[str]) -> Copy:
        """Return the copy without paths at, beneath or above those in `taken`, which something else fills."""

        def stays(path: str, *, is_directory: bool) -> bool:
            above = {path[:at] for at, letter in enumerate(path) if letter == "/"}
            if path in taken or above & taken:
                return False
            return is_directory or not any(other.startswith(f"{path}/") for other in taken)

        return Copy(
            directories=tuple([pair for pair in self.directories if stays(pair[0], is_directory=True)]),
            links=tuple([pair for pair in self.links if stays(pair[0], is_directory=False)]),
            files=tuple([file for file in self.files if stays(file.path, is_directory=False)]),
        )


class ToolMounts(Value):
    """The mounts of one tool: `sources` at the same place as on the host, `links` to them, `path` directories for PATH."""

    asked: str
    sources: tuple[Source, ...]
    links: tuple[tuple[str, str], ...]
    path: tuple[str, ...]


class Upper(Value):
    """The directory on disk for files written to the workspace: `source`, beneath `directory`, at most `bytes`.

    `made` is false before it is created; `source` is then `directory` itself.
    """

    directory: str
    source: Source
    bytes: int
    made: bool


class Recipe(Value):
    """The definition of a profile. `extends` names a shipped profile, or is `none`."""

    name: str
    extends: str
    groups: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class Guard(Value):
    """A mount of the sandbox that lies in a host directory shown without an overlay: `path` is relative to `source`."""

    source: Source
    path: str
    place: str  # inside
