"""Values for facts about the host; `host.survey.survey` collects them."""

from __future__ import annotations

from capsule_run._base.value import Value


class Identity(Value):
    """The caller's ids, and the host ids that the sandbox gets (`outside_*`). `privileged`: the caller may create mounts."""

    uid: int
    gid: int
    outside_uid: int
    outside_gid: int
    privileged: bool

    @property
    def drops_groups(self) -> bool:
        """Whether supplementary groups are dropped: the sandbox must not have root's, and no other user can drop theirs."""
        return self.uid == 0 and self.outside_uid != 0


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


class Place(Value):
    """A host directory in which the caller may create cgroups, and the controllers that they will have."""

    version: int
    path: str
    controllers: tuple[str, ...]
    has_peak: bool = True  # version 2 has no peak of memory before Linux 5.19


class Cgroups(Value):
    """The cgroups that the host offers. `lacking`: by version, why it offers none and what its owner can do."""

    places: tuple[Place, ...] = ()
    lacking: tuple[tuple[str, str], ...] = ()
    disks: tuple[str, ...] = ()  # `MAJOR:MINOR` of the disks that the sandbox would use; looked up only for io limits


NONE = Cgroups()


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


class Upper(Value):
    """The directory on disk for files written to the workspace: `source`, beneath `directory`, at most `bytes`.

    `made` is false before it is created; `source` is then `directory` itself.
    """

    directory: str
    source: Source
    bytes: int
    made: bool


class Host(Value):
    """All facts about the host. `sources` has no missing paths, except requested ones, with an `error`."""

    architecture: str
    kernel: tuple[int, int]
    identity: Identity
    directory: str
    home: str
    search_path: tuple[str, ...]
    python: str
    python_prefixes: tuple[str, ...]
    python_links: tuple[tuple[str, str], ...]
    sources: dict[str, Source]
    devices: tuple[str, ...]
    system_links: dict[str, str]
    proc_masked: tuple[tuple[str, bool], ...]
    localtime: str
    etc_paths: tuple[str, ...]
    etc_copied: tuple[CopiedFile, ...]
    gitconfig: str
    resolv_conf: str
    overlay: bool
    unsupported: frozenset[str]
    lacking: tuple[str, ...]
    tools: tuple[ToolMounts, ...]
    input_files: tuple[WorkspaceFile, ...]
    secrets: dict[str, Secrets]
    upper: Upper | None  # None: in memory
    copy: Copy | None  # of the workspace's directory, if an overlay cannot show it
    processors: int  # all that the host has; 1 if the request does not need the number
    page_bytes: int = 4096


class Secrets(Value):
    """Names of secrets in a shared directory that must not be shown. Paths are relative to it.

    `absent`: paths at which a secret, or its first missing parent directory, could appear. `links` and `directories` (with
    their modes): those on the way to a secret or to such a path.
    """

    found: tuple[tuple[str, bool], ...]  # and whether each is a directory
    absent: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    directories: tuple[tuple[str, int], ...]
    mode: int  # of the shared directory itself
    has_mounts: bool  # something is mounted beneath it


class ToolMounts(Value):
    """The mounts of one tool: `sources` at the same place as on the host, `links` to them, `path` directories for PATH."""

    asked: str
    sources: tuple[Source, ...]
    links: tuple[tuple[str, str], ...]
    path: tuple[str, ...]
