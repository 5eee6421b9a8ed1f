"""The values of a request: what was asked. What comes of it is `result`.

Rank 0: imports nothing but `_value`. A field that is None was *not given*; `policy.resolve.resolve` fills every one of them,
and nothing after it is optional. Units are in the names.
"""

from __future__ import annotations

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    BindMode = Literal["ro", "rw"]

    WorkspaceMode = Literal["cow", "ro", "rw"]

    OnOutputLimit = Literal["kill", "truncate"]

    OnViolation = Literal["kill", "refuse"]

    ProfileName = Literal["strict", "default", "build"]

    Language = Literal["python", "javascript", "typescript", "bash", "ruby", "perl", "c", "c++", "java", "go", "rust"]


# The seed's defaults, in one place: README, `--help` and the documents are tested against them.
DEFAULT_TIMEOUT_MS = 30_000
DEFAULT_MEMORY_BYTES = 256 << 20
DEFAULT_CPU_SHARES = 1024
DEFAULT_MAX_OUTPUT_BYTES = 1 << 20
DEFAULT_MAX_PIDS = 100
DEFAULT_MAX_OPEN_FILES = 1024
DEFAULT_COLLECT_BYTES = 64 << 20
DEFAULT_WORKING_DIRECTORY = "/workspace"
DEFAULT_USER = 1000
DEFAULT_HOSTNAME = "capsule"
DEFAULT_PROFILE = "default"

KILL: Literal["kill"] = "kill"
TRUNCATE: Literal["truncate"] = "truncate"
REFUSE: Literal["refuse"] = "refuse"
READ_ONLY: Literal["ro"] = "ro"
READ_WRITE: Literal["rw"] = "rw"
COPY_ON_WRITE: Literal["cow"] = "cow"


class Resources(Value):
    """Limits, as asked for."""

    memory_bytes: int | None = None
    """Memory of all processes together, with files in memory."""
    cpu_shares: int | None = None
    """Weight of CPU time against other runs (default 1024)."""
    max_output_bytes: int | None = None
    """Bytes kept of each output stream."""
    max_pids: int | None = None
    """The most processes and threads at a time."""
    max_open_files: int | None = None
    """Open descriptors of each process."""
    max_file_bytes: int | None = None
    """The largest file that a process may write."""
    disk_bytes: int | None = None
    """Bytes of the private file systems."""
    cpu_quota: float | None = None
    """Processors used at a time, such as 0.5."""
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
        """Whether any of the four was asked for."""
        rates = (self.io_read_bps, self.io_write_bps, self.io_read_iops, self.io_write_iops)
        return any(rate is not None for rate in rates)


class Bind(Value):
    """One host path shown inside. `source` may be relative to the caller's directory; `destination` is absolute.

    `force` lets the destination be one of the system's own directories.
    """

    source: str
    """A host path; a relative one starts at the caller's directory."""
    destination: str
    """An absolute path inside."""
    mode: BindMode = READ_ONLY
    """`ro` or `rw`."""
    force: bool | None = None
    """True lets the destination be one of the system's own directories."""


class Workspace(Value):
    """A host directory shown at the workspace: `cow` (private copy on write), `ro`, or `rw`."""

    source: str
    """A host directory."""
    mode: WorkspaceMode = COPY_ON_WRITE
    """`cow` (changes stay private), `ro`, or `rw`."""


class WorkspaceUpper(Value):
    """A host directory beneath which what is written to the workspace lies, and how much that may be."""

    directory: str
    """A host directory beneath which the written files lie while the run lasts."""
    bytes: int | None = None
    """How much may be written."""


class InputFile(Value):
    """One file that is there when the command starts. `path` is relative to the workspace.

    Its bytes are `content`, or those of the host's file `source`; the other one is None. `mode` None is 0644.
    """

    path: str
    """Relative to the workspace."""
    content: bytes | None = None
    """The bytes of the file; None if `source` is given."""
    source: str | None = None
    """A host file with the content; None if `content` is given."""
    mode: int | None = None
    """Permission bits; None is 0644."""


class Isolation(Value):
    """What of the host the command may see, as asked for."""

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
    """Names of secrets to show nevertheless."""


class Request(Value):
    """What was asked: a command and what it may use. Made by the doors, checked by `jsonapi`, filled by `policy`."""

    command: tuple[str, ...]
    """The program and its arguments; no shell is involved."""
    environment: tuple[tuple[str, str], ...] = ()
    """Names and values; nothing of the caller's environment is passed on."""
    stdin: bytes | None = None
    """What the command reads; None is end-of-file at once, and empty is not absent."""
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
    require: tuple[str, ...] = ()
    """Mechanisms without which nothing runs, such as `cgroup2`."""
    profile: ProfileName | str | None = None
    """System call profile: a name, NAME+GROUP or the path of a TOML file."""
    on_violation: OnViolation | None = None
    """`kill` or `refuse`: what happens at a forbidden system call."""
    postmortem: bool | None = None
    """False leaves out what each thread was doing at a timeout."""
    ledger: bool | None = None
    """True lists every process in the result."""
    files: tuple[InputFile, ...] = ()
    """Files that lie in the workspace when the command starts."""
    collect: tuple[str, ...] = ()
    """Patterns of the files that come back."""
    collect_bytes: int | None = None
    """The most bytes that come back."""
    collect_file_bytes: int | None = None
    """The most bytes of one file."""
    collect_to: str | None = None
    """A host directory that collected files are written to."""
    changes: bool | None = None
    """Whether the result lists what changed in the workspace."""
    apply_changes: bool = False
    """Whether the changes are applied to the shared directory."""
    save_changes: str | None = None
    """A host directory that changed files are written to."""
