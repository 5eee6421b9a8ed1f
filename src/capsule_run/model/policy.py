"""Everything that will be enforced, as values; `policy.resolve.resolve` makes them."""

from __future__ import annotations

from capsule_run._base.value import Value
from capsule_run.model.request import COPY_ON_WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import CopiedFile, Delivery, Identity, Secrets, Source, Upper


_USAGE = "cpuacct.usage"


class Setting(Value):
    """One file to write. An `optional` one may be missing, where the kernel then has nothing to limit (swap)."""

    file: str
    text: str
    optional: bool = False


class Group(Value):
    """One group to make beneath `parent`: what to write, in order, and what to read at the end."""

    version: int
    parent: str
    group_settings: tuple[Setting, ...]
    files: tuple[str, ...]

    @property
    def gives_notice(self) -> bool:
        """Whether the kernel can say that it is out of memory: version 1 must, since it ends one process and not all."""
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


class Decision(Value):
    """The groups to make, and for each limit the mechanism that it stands on."""

    groups: tuple[Group, ...]
    mechanisms: tuple[tuple[str, str], ...]
    has_peak: bool = True  # of the group that holds the memory; without one the launcher looks, and ends nothing for it
    uncounted_bytes: int = 0  # what the group does not know of, and the limit holds for as well

    def of(self, limit: str) -> str:
        """The mechanism of a limit; empty for one that was not asked for."""
        return dict(self.mechanisms).get(limit, "")

    @property
    def counts_cpu(self) -> bool:
        """Whether a group counts processor time: version 2 always, version 1 where `cpuacct` is ours."""
        return any(_USAGE in group.files or (group.version == 2 and "cpu.stat" in group.files) for group in self.groups)

    def holds(self, limit: str) -> bool:
        """Whether a group enforces this limit."""
        return self.of(limit).startswith("cgroup")


class Watched(Value):
    """What the launcher looks at besides memory, while the command runs and at its end."""

    cpu_time_ms: int | None  # None: unlimited
    processors: int
    postmortem: bool
    ledger: bool


class Calls(Value):
    """Which system calls there are. `recipe` is what `profile` means where it is not a shipped one."""

    profile: str
    recipe: Recipe | None
    on_violation: str
    listener_required: bool


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
    cpu_shares: int
    nice: int
    limit_mechanisms: Decision
    max_output_bytes: int
    on_output_limit: str
    max_pids: int
    max_open_files: int
    max_file_bytes: int
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
    upper: Upper | None
    binds: tuple[BoundPath, ...]
    devices: tuple[tuple[str, Source], ...]
    proc_masked: tuple[tuple[str, bool], ...]
    localtime: str
    resolv_conf: str
    etc_copied: tuple[CopiedFile, ...]
    gitconfig: str
    links: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    transfer: Transfer
    cover: Cover


class Recipe(Value):
    """What to make a profile of. `extends` names a shipped profile, or is `none`."""

    name: str
    extends: str
    groups: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


PAGE = 4096  # what a file in memory takes at least, of bytes or of the number of files


class Transfer(Value):
    """Files in, and what of the workspace is wanted when the command has ended. Empty paths: nowhere."""

    deliveries: tuple[Delivery, ...]
    directories: tuple[tuple[str, int], ...]  # of a private copy, with their modes
    links: tuple[tuple[str, str], ...]  # likewise, with their targets
    copied: frozenset[str]  # all that was copied: what of it is missing behind the run was deleted
    collect: tuple[str, ...]
    collect_bytes: int
    collect_file_bytes: int
    collect_to: str
    lists_changes: bool
    applies_changes: bool
    save_changes: str
    layer_on_disk: bool
    has_layer: bool  # what was written lies apart from what it was written over
    mount_points: frozenset[str]  # in the workspace, where something else is shown

    @property
    def brought_bytes(self) -> int:
        """What the files that are brought take of memory, in whole pages."""
        if self.layer_on_disk:
            return 0
        return sum([-(-delivery.size // PAGE) * PAGE for delivery in self.deliveries])

    @property
    def needs_changes(self) -> bool:
        """Whether what the command changed is to be found out."""
        return self.lists_changes or self.applies_changes or bool(self.save_changes)

    @property
    def offers_workspace(self) -> bool:
        """Whether the workspace itself is to be read when the run is over."""
        return bool(self.collect) or (self.needs_changes and not self.has_layer)

    @property
    def offers_layer(self) -> bool:
        """Whether the layer that the command wrote to is to be read when the run is over."""
        return self.needs_changes and self.has_layer and not self.layer_on_disk

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.deliveries) or self.needs_changes or self.offers_workspace


# How the workspace came about; the result says which.
PRIVATE, COPY = "private", "copy"
TRANSIENT = (PRIVATE, COPY, COPY_ON_WRITE)  # kinds of which the host keeps nothing


class BoundPath(Value):
    """A host object at a place inside. `idmap`: what its owner owns is shown as the sandbox's own.

    `names`: it is shown through an overlay that decides these names, so that nothing on the host can uncover them.
    """

    source: Source
    destination: str
    mode: str
    idmap: bool
    names: Secrets | None = None


class Guard(Value):
    """A place in a directory of the host's, shown live, on which the sandbox mounts something: `path` is relative to it."""

    source: Source
    path: str
    place: str  # inside


class Cover(Value):
    """All of it, for one run. `notes` say where a secret could still appear."""

    masks: tuple[tuple[str, bool], ...]  # places inside, and whether each is a directory
    workspace_names: Secrets | None  # that an overlay decides
    guards: tuple[Guard, ...]
    notes: tuple[str, ...]

    def places(self, binds: tuple[BoundPath, ...]) -> tuple[str, ...]:
        """The places at which something is shown that is not what lies there."""
        return (*(bound.destination for bound in binds), *(place for place, _is_directory in self.masks))


UNCOVERED = Cover(masks=(), workspace_names=None, guards=(), notes=())
