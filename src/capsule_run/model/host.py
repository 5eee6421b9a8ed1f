"""Values for facts about the host; `host.survey.survey` collects them."""

from __future__ import annotations

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.optional import Copy, ToolMounts, Upper, WorkspaceFile
    from capsule_run.model.source import CopiedFile, Source


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
    proc_covers: tuple[tuple[str, str], ...]  # names in /proc: "ro", or masked as a "dir" or a "file"
    localtime: str
    etc_paths: tuple[str, ...]
    etc_copied: tuple[CopiedFile, ...]
    etc_links: tuple[tuple[str, str], ...]
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
    workspace_names: tuple[str, ...]  # paths that lead to the workspace's directory; empty if they are to stay hidden
    processors: int  # all that the host has; 1 if the request does not need the number
    page_bytes: int = 4096
    memory_bytes: int = 1 << 62


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
