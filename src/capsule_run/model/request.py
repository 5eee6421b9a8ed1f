"""The values of a request: a command, and what it may use.

A field that is None was *not given*. `policy.resolve.resolve` fills every field, and nothing after it is optional. Units are
in the names.
"""

from __future__ import annotations

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    BindMode = Literal["ro", "rw"]

    WorkspaceMode = Literal["cow", "copy", "ro", "rw"]

    OnOutputLimit = Literal["kill", "truncate"]

    OnViolation = Literal["kill_attacks", "kill", "refuse"]

    ProfileName = Literal["strict", "default", "build"]

    Unlimited = Literal["unlimited"]

    Language = Literal["python", "javascript", "typescript", "bash", "ruby", "perl", "c", "c++", "java", "go", "rust"]


# All defaults. README, `--help` and the documents are tested against them.
DEFAULT_TIMEOUT_MS = 30_000
DEFAULT_MEMORY_BYTES = 512 << 20  # of all processes together
DEFAULT_CPU_SHARES = 1024  # the weight of a run among others
DEFAULT_MAX_OUTPUT_BYTES = 1 << 20  # of each stream
DEFAULT_MAX_PIDS = 100  # processes and threads at a time
DEFAULT_MAX_OPEN_FILES = 1024
DEFAULT_OPEN_FILES_CEILING = 4096  # as the kernel's own default: servers and runtimes raise their limit to it
DEFAULT_STACK_BYTES = 8 << 20
DEFAULT_COLLECT_BYTES = 64 << 20  # of all collected files together
DEFAULT_WORKING_DIRECTORY = "/workspace"  # where the command starts
DEFAULT_USER = 1000
DEFAULT_HOSTNAME = "capsule"
DEFAULT_PROFILE = "default"
# Names that profiles had before: accepted wherever a profile is named.
PROFILE_ALIASES = {"build": DEFAULT_PROFILE}

KILL: Literal["kill"] = "kill"  # end the run: at the output limit, or on any forbidden call
UNLIMITED: Literal["unlimited"] = "unlimited"
TRUNCATE: Literal["truncate"] = "truncate"  # at the output limit: drop the rest of the output and run on
REFUSE: Literal["refuse"] = "refuse"  # on a forbidden call: the call fails, and the run goes on
KILL_ATTACKS: Literal["kill_attacks"] = "kill_attacks"  # on a forbidden call: end the run if only an attack makes it
READ_ONLY: Literal["ro"] = "ro"  # the mode of a bind or a workspace: the command cannot write to it
READ_WRITE: Literal["rw"] = "rw"  # the mode of a bind or a workspace: what the command writes is on the host
COPY_ON_WRITE: Literal["cow"] = "cow"  # the mode of a workspace: what the command writes is private
COPY: Literal["copy"] = "copy"


class Resources(Value):
    """Limits of a request."""

    memory_bytes: int | None = None
    """Memory of all processes together, including files in memory."""
    cpu_shares: int | None = None
    """Weight of CPU time relative to other runs (default 1024)."""
    max_output_bytes: int | None = None
    """Bytes kept of each output stream."""
    max_pids: int | None = None
    """Maximum number of processes and threads at a time."""
    max_open_files: int | None = None
    """Open descriptors of each process."""
    max_file_bytes: int | None = None
    """The largest file that a process may write."""
    disk_bytes: int | None = None
    """Bytes of the private file systems."""
    stack_bytes: int | Unlimited | None = None
    """Bytes of the stack of each process, or `unlimited`."""
    cpu_quota: float | None = None
    """Maximum number of processors used at a time, such as 0.5."""
    io_read_bps: int | None = None
    """Bytes read from block devices a second; needs the cgroup controller."""
    io_write_bps: int | None = None
    """Bytes written to block devices a second."""
    io_read_iops: int | None = None
    """Reads from block devices a second."""
    io_write_iops: int | None = None
    """Writes to block devices a second."""
    cpu_time_ms: int | None = None
    """CPU time of all processes together."""

    @property
    def has_io_limits(self) -> bool:
        """Whether any of the four io limits is given."""
        rates = (self.io_read_bps, self.io_write_bps, self.io_read_iops, self.io_write_iops)
        return any(rate is not None for rate in rates)


class Bind(Value):
    """A host path shown at another place in the sandbox."""

    source: str
    """A host path; a relative one starts at the caller's directory."""
    destination: str
    """An absolute path inside."""
    mode: BindMode = READ_ONLY
    """`ro` or `rw`."""
    force: bool | None = None
    """True lets the destination be one of the system's own directories."""


class Workspace(Value):
    """A host directory shown at the workspace: `cow` (private copy on write), `copy`, `ro`, or `rw`."""

    source: str
    """A host directory."""
    mode: WorkspaceMode = COPY_ON_WRITE
    """`cow` (changes stay private), `copy` (the same, copied whole however large), `ro`, or `rw`."""
    hide_path: bool | None = None
    """True hides the directory's own path, which is otherwise a link to the workspace."""


class WorkspaceUpper(Value):
    """A host directory on disk that holds the files written to the workspace, and their size limit."""

    directory: str
    """A host directory that holds the written files during the run."""
    bytes: int | None = None
    """Limit of all written files."""


class InputFile(Value):
    """A file in the workspace when the command starts. Exactly one of `content` and `source` is given."""

    path: str
    """Relative to the workspace."""
    content: bytes | None = None
    """The bytes of the file; None if `source` is given."""
    source: str | None = None
    """A host file with the content; None if `content` is given."""
    mode: int | None = None
    """Permission bits; None is 0644."""


class Isolation(Value):
    """What the command may see of the host."""

    network: bool | None = None
    """True gives the command the host's network."""
    readonly_paths: tuple[str, ...] = ()
    """Host paths shown read-only at the same place."""
    writable_paths: tuple[str, ...] = ()
    """Host paths shown writable at the same place."""
    binds: tuple[Bind, ...] = ()
    """Host paths shown at another place."""
    working_directory: str | None = None
    """The directory that the command starts in."""
    workspace: Workspace | None = None
    """The host directory shown at /workspace; None is an empty one."""
    workspace_upper: WorkspaceUpper | None = None
    """Where the files written to the workspace lie on disk; None keeps them in memory."""
    user: int | str | None = None
    """User id inside, or "UID:GID"."""
    hostname: str | None = None
    """The host name inside."""
    tools: tuple[str, ...] = ()
    """Programs from outside /usr, shown read-only with what they need."""
    unmask: tuple[str, ...] = ()
    """Names of secrets that are shown and not masked."""


class Request(Value):
    """A command and what it may use. `request.parse` checks it, `policy.resolve` fills what is not given."""

    command: tuple[str, ...]
    """The program and its arguments; no shell is involved."""
    environment: tuple[tuple[str, str], ...] = ()
    """Names and values; nothing of the caller's environment is passed on."""
    stdin: bytes | None = None
    """The command's standard input; None is end-of-file at once."""
    timeout_ms: int | None = None
    """Wall-clock limit."""
    resources: Resources = Resources()
    """Limits."""
    isolation: Isolation = Isolation()
    """What of the host the command may see."""
    on_output_limit: OnOutputLimit | None = None
    """`kill` or `truncate`: what happens when a stream reaches its limit."""
    execution_id: str | None = None
    """Names the run in its result and in logs; None is a random UUID."""
    traceparent: str | None = None
    """The span that a span of this run belongs to (W3C Trace Context); None is that of the environment."""
    require: tuple[str, ...] = ()
    """Mechanisms that the host must have, such as `cgroup2`; without them nothing runs."""
    profile: ProfileName | str | None = None
    """System call profile: a name, NAME+GROUP or the path of a TOML file."""
    on_violation: OnViolation | None = None
    """`kill` or `refuse`: what happens when the command makes a forbidden system call."""
    postmortem: bool | None = None
    """False leaves out what each thread was doing at a timeout."""
    ledger: bool | None = None
    """True lists every process in the result."""
    files: tuple[InputFile, ...] = ()
    """Files in the workspace when the command starts."""
    collect: tuple[str, ...] = ()
    """Patterns of the files to collect after the run."""
    collect_bytes: int | None = None
    """Limit of all collected files together, in bytes."""
    collect_file_bytes: int | None = None
    """Limit of one collected file, in bytes."""
    collect_to: str | None = None
    """A host directory that collected files are written to."""
    changes: bool | None = None
    """Whether the result lists what changed in the workspace."""
    diff: bool | None = None
    """Whether the result has a unified diff of what changed."""
    apply_changes: bool = False
    """Whether the changes are applied to the shared directory."""
    save_changes: str | None = None
    """A host directory that changed files are written to."""
