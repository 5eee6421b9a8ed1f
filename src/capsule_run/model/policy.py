"""Values for everything that will be enforced; `policy.resolve.resolve` makes them."""

from __future__ import annotations

from capsule_run._base.value import Value
from capsule_run.model.request import COPY, COPY_ON_WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Identity, Secrets
    from capsule_run.model.optional import Guard, Recipe, Upper, WorkspaceFile
    from capsule_run.model.request import BindMode, Unlimited
    from capsule_run.model.source import CopiedFile, Source


_USAGE = "cpuacct.usage"


class Setting(Value):
    """A cgroup file to write. An `optional` one may be missing: the kernel then has nothing to limit (swap)."""

    file: str
    text: str
    optional: bool = False


class Group(Value):
    """A cgroup to create beneath `parent`: settings to write, in order, and files to read at the end."""

    version: int
    parent: str
    settings: tuple[Setting, ...]
    files: tuple[str, ...]

    @property
    def gives_notice(self) -> bool:
        """Whether to listen for the kernel's out-of-memory notice: version 1 kills one process and not the whole cgroup."""
        return self.version == 1 and "memory.oom_control" in self.files


class Limits(Value):
    """The limits of a request with their defaults. The first six are held by cgroups where the host has them."""

    memory_bytes: int
    max_pids: int
    cpu_shares: int
    cpu_quota: float | None  # processors; None: no quota
    io: tuple[tuple[str, int], ...]  # only the rates that the request gives
    counts_cpu: bool = False  # CPU time is limited, so all of it must be counted
    disk_bytes: int
    max_output_bytes: int
    max_open_files: int
    open_files_ceiling: int


class Decision(Value):
    """The cgroups to create, and the mechanism of each limit: pairs of limit and mechanism."""

    groups: tuple[Group, ...]
    mechanisms: tuple[tuple[str, str], ...]
    has_peak: bool = True  # the memory cgroup records its peak; if not, the launcher samples it
    uncounted_bytes: int = 0  # memory that counts for the limit and that the cgroup does not count
    # of a payload in a room of several: the cgroups that it enters and does not own; the room's memory limit holds for it
    room_groups: tuple[Group, ...] = ()
    is_within_room_memory: bool = False

    def of(self, limit: str) -> str:
        """Return the mechanism of a limit; empty if the limit is not set."""
        return dict(self.mechanisms).get(limit, "")

    @property
    def counts_cpu(self) -> bool:
        """Whether a cgroup counts CPU time: version 2 always does, version 1 with the controller `cpuacct`."""
        return any(_USAGE in group.files or (group.version == 2 and "cpu.stat" in group.files) for group in self.groups)

    def holds(self, limit: str) -> bool:
        """Return whether a cgroup enforces the limit."""
        return self.of(limit).startswith("cgroup")


class Watched(Value):
    """What the launcher watches besides memory, while the command runs and at its end."""

    cpu_time_ms: int | None  # None: unlimited
    processors: int
    postmortem: bool
    ledger: bool


class Calls(Value):
    """The system call policy. `recipe` defines `profile` if that is not a shipped one."""

    profile: str
    recipe: Recipe | None
    on_violation: str
    listener_required: bool
    makes_sysv: bool = False  # the profile may have calls that make System V objects

    @property
    def is_strict(self) -> bool:
        """Whether the profile is `strict`, or built on it or on nothing."""
        return (self.recipe.extends if self.recipe else self.profile) in ("strict", "none")


class Policy(Value):
    """What will be enforced. The plan is made from this and nothing else."""

    architecture: str
    command: tuple[str, ...]
    candidates: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    working_directory: str
    has_stdin: bool
    timeout_ms: int
    watched: Watched
    memory_bytes: int
    visible_memory_bytes: int  # what programs that size themselves by the machine see
    cpu_shares: int
    nice: int
    limit_mechanisms: Decision
    max_output_bytes: int
    on_output_limit: str
    max_pids: int
    max_open_files: int
    open_files_ceiling: int
    max_file_bytes: int
    stack_bytes: int | Unlimited
    disk_bytes: int
    network: bool
    user: int
    group: int
    hostname: str
    identity: Identity
    calls: Calls
    landlock_required: bool
    workspace_kind: str
    workspace: Source | None
    workspace_idmap: bool
    tree_copy: (
        tuple[int, int] | None
    )  # entries and bytes of the directory that may be copied; kind `copy`: or the run fails
    upper: Upper | None
    binds: tuple[BoundPath, ...]
    devices: tuple[tuple[str, Source], ...]
    proc_covers: tuple[tuple[str, str], ...]
    proc_mode: BindMode
    localtime: str
    resolv_conf: str
    etc_copied: tuple[CopiedFile, ...]
    gitconfig: str
    links: tuple[tuple[str, str], ...]
    workspace_places: tuple[str, ...]  # besides /workspace, at which it is mounted
    notes: tuple[str, ...]
    transfer: TransferPolicy
    cover: Cover
    sysctls: tuple[tuple[str, str], ...] = ()  # of the room's ipc namespace


PAGE = 4096  # bytes; the least that a file in memory takes


class TransferPolicy(Value):
    """Files to copy in, and what to collect from the workspace after the command has ended. An empty path is not given."""

    files: tuple[WorkspaceFile, ...]
    directories: tuple[tuple[str, int], ...]  # of a private copy, with their modes
    links: tuple[tuple[str, str], ...]  # of a private copy, with their targets
    copied: frozenset[str]  # all paths of the private copy: those missing after the run were deleted
    collect: tuple[str, ...]
    collect_bytes: int
    collect_file_bytes: int
    collect_to: str
    lists_changes: bool
    makes_diff: bool
    applies_changes: bool
    save_changes: str
    layer_on_disk: bool
    has_layer: bool  # written files lie in a layer apart from the original directory
    mount_points: frozenset[str]  # in the workspace, where something else is shown
    hidden: frozenset[str]  # in the workspace's directory, and not shown to the command

    @property
    def brought_bytes(self) -> int:
        """Memory that the copied files take, in whole pages."""
        if self.layer_on_disk:
            return 0
        return sum([-(-file.size // PAGE) * PAGE for file in self.files])

    @property
    def needs_changes(self) -> bool:
        """Whether to find out what the command changed."""
        return self.lists_changes or self.makes_diff or self.applies_changes or bool(self.save_changes)

    @property
    def offers_workspace(self) -> bool:
        """Whether the workspace is read after the run."""
        return bool(self.collect) or (self.needs_changes and not self.has_layer)

    @property
    def offers_layer(self) -> bool:
        """Whether the layer that the command wrote to is read after the run."""
        return self.needs_changes and self.has_layer and not self.layer_on_disk

    @property
    def is_needed(self) -> bool:
        """Whether any file goes in or out."""
        return bool(self.files) or self.needs_changes or self.offers_workspace


# Kinds of workspace besides the modes of a request; the result reports the kind.
PRIVATE = "private"
TRANSIENT = (PRIVATE, COPY, COPY_ON_WRITE)  # kinds whose files are discarded after the run


class BoundPath(Value):
    """A host path shown at a place inside. `idmap`: files of its owner are shown as the sandbox's own.

    `names`: names that an overlay over it hides, so that no change on the host can uncover them.
    """

    source: Source
    destination: str
    mode: str
    idmap: bool
    names: Secrets | None = None


class OwnPath(Value):
    """The binds and links of a sandbox with the workspace's own path: `links` lead there, and so do mounts at `places`."""

    binds: tuple[BoundPath, ...]
    links: tuple[tuple[str, str], ...]
    places: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Cover(Value):
    """How secrets are hidden in one run. `notes` say where a secret could still appear."""

    masks: tuple[tuple[str, bool], ...]  # places inside, and whether each is a directory
    workspace_names: Secrets | None  # that the workspace's overlay hides
    guards: tuple[Guard, ...]
    notes: tuple[str, ...]

    def places(self, binds: tuple[BoundPath, ...]) -> tuple[str, ...]:
        """Return the places inside that a bind or a mask covers."""
        return (*(bound.destination for bound in binds), *(place for place, _is_directory in self.masks))


UNCOVERED = Cover(masks=(), workspace_names=None, guards=(), notes=())
