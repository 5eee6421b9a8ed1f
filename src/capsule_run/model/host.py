"""Facts about the host, as values; `host.survey.survey` collects them."""

from __future__ import annotations

from capsule_run._base.value import Value


class Identity(Value):
    """Who calls, and which ids of the host the sandbox gets. `privileged`: the caller may open mounts for it."""

    uid: int
    gid: int
    outside_uid: int
    outside_gid: int
    privileged: bool

    @property
    def drops_groups(self) -> bool:
        """Root's supplementary groups are not for the sandbox; nobody else can drop theirs."""
        return self.uid == 0 and self.outside_uid != 0


class Delivery(Value):
    """One file to be made. `content`, or what `source` held when it was looked at: `device` and `inode` say which that is."""

    path: str
    mode: int
    size: int
    content: bytes | None
    source: str
    device: int
    inode: int


class Copy(Value):
    """What will be made: paths relative to the workspace, parents first. What cannot be read or is special is left out."""

    directories: tuple[tuple[str, int], ...]
    links: tuple[tuple[str, str], ...]
    files: tuple[Delivery, ...]

    @property
    def paths(self) -> frozenset[str]:
        """Everything in it."""
        pairs = (*self.directories, *self.links)
        return frozenset([*(path for path, _rest in pairs), *(file.path for file in self.files)])

    def without(self, taken: frozenset[str]) -> Copy:
        """Without what lies at, beneath, or in the way of a path that something else takes."""

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
    """A directory of the host's in which this caller may make groups, and the controllers that they will have."""

    version: int
    path: str
    controllers: tuple[str, ...]
    has_peak: bool = True  # before 5.19 the kernel of version 2 keeps no peak of memory


class Cgroups(Value):
    """What the host offers; `lacking` says per version why it offers nothing, and what its owner would have to do."""

    places: tuple[Place, ...] = ()
    lacking: tuple[tuple[str, str], ...] = ()
    disks: tuple[str, ...] = ()  # that carry what the sandbox would see, looked up only for io limits


NONE = Cgroups()


class Source(Value):
    """One object on the host, as seen now: the core refuses any other that has taken its place.

    `asked` is the path as given, `path` the same without links; `error` is an errno where it cannot be looked at.
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
    """A file of the host's, of which the sandbox has a copy at `place`: `path` is where it lies, without links."""

    place: str
    path: str
    device: int
    inode: int
    size: int


class Upper(Value):
    """Where what is written to the workspace lies on disk: beneath `directory`, in `source`, so many bytes at the most.

    `made` is false while nothing is: then `source` is the directory itself.
    """

    directory: str
    source: Source
    bytes: int
    made: bool


class Host(Value):
    """The facts. Paths that do not exist are absent from `sources`, or there with an `error` if they were asked for."""

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
    refused: frozenset[str]
    lacking: tuple[str, ...]
    tools: tuple[ToolMounts, ...]
    deliveries: tuple[Delivery, ...]
    secrets: dict[str, Secrets]
    upper: Upper | None  # None: in memory
    copy: Copy | None  # of the directory that is to be the workspace, where an overlay would not do
    processors: int  # those that are there, whoever may use them: 1 where nobody asked


class Secrets(Value):
    """What of a shared directory is not to be shown, for its name. Places are relative to it.

    `absent` is where a secret's name, or the first directory on the way to it that is missing, could appear; `links` and
    `directories` (with their modes) lie on the way to a secret or to such a place.
    """

    found: tuple[tuple[str, bool], ...]  # and whether each is a directory
    absent: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    directories: tuple[tuple[str, int], ...]
    mode: int  # of the shared directory itself
    has_mounts: bool  # something is mounted beneath it


class ToolMounts(Value):
    """One tool. `sources` go where they are on the host, `links` lead to them, `path` are directories for PATH."""

    asked: str
    sources: tuple[Source, ...]
    links: tuple[tuple[str, str], ...]
    path: tuple[str, ...]
