"""The values of a request: what was asked. What comes of it is `result`.

Rank 0: imports nothing but `_value`. A field that is None was *not given*; `policy.resolve` fills every one of them,
and nothing after it is optional. Units are in the names.
"""

from __future__ import annotations

from ._value import Value

TYPE_CHECKING = False

# The seed's defaults, in one place: README, `--help` and the documents are tested against them.
DEFAULT_TIMEOUT_MS = 30_000
DEFAULT_MEMORY_BYTES = 256 << 20
DEFAULT_CPU_SHARES = 1024
DEFAULT_MAX_OUTPUT_BYTES = 1 << 20
DEFAULT_MAX_PIDS = 100
DEFAULT_COLLECT_BYTES = 64 << 20
DEFAULT_WORKING_DIRECTORY = "/workspace"

KILL, TRUNCATE, REFUSE = "kill", "truncate", "refuse"
READ_ONLY, READ_WRITE, COPY_ON_WRITE = "ro", "rw", "cow"


class Resources(Value):
    """Limits, as asked for."""

    memory_bytes: int | None = None
    cpu_shares: int | None = None
    max_output_bytes: int | None = None
    max_pids: int | None = None
    max_open_files: int | None = None
    max_file_bytes: int | None = None
    disk_bytes: int | None = None
    cpu_quota: float | None = None
    io_read_bps: int | None = None
    io_write_bps: int | None = None
    io_read_iops: int | None = None
    io_write_iops: int | None = None
    cpu_time_ms: int | None = None

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
    destination: str
    mode: str = READ_ONLY
    force: bool | None = None


class Workspace(Value):
    """A host directory shown at the workspace: `cow` (private copy on write), `ro`, or `rw`."""

    source: str
    mode: str = COPY_ON_WRITE


class WorkspaceUpper(Value):
    """A host directory beneath which what is written to the workspace lies, and how much that may be."""

    directory: str
    bytes: int | None = None


class InputFile(Value):
    """One file that is there when the command starts. `path` is relative to the workspace.

    Its bytes are `content`, or those of the host's file `source`; the other one is None. `mode` None is 0644.
    """

    path: str
    content: bytes | None = None
    source: str | None = None
    mode: int | None = None


class Isolation(Value):
    """What of the host the command may see, as asked for."""

    network: bool | None = None
    readonly_paths: tuple[str, ...] = ()
    writable_paths: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()
    working_directory: str | None = None
    workspace: Workspace | None = None
    workspace_upper: WorkspaceUpper | None = None
    user: int | str | None = None
    hostname: str | None = None
    tools: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()


class Request(Value):
    """What was asked: a command and what it may use. Made by the doors, checked by `jsonapi`, filled by `policy`."""

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    stdin: bytes | None = None
    timeout_ms: int | None = None
    resources: Resources = Resources()
    isolation: Isolation = Isolation()
    on_output_limit: str | None = None
    execution_id: str | None = None
    require: tuple[str, ...] = ()
    profile: str | None = None
    on_violation: str | None = None
    postmortem: bool | None = None
    ledger: bool | None = None
    files: tuple[InputFile, ...] = ()
    collect: tuple[str, ...] = ()
    collect_bytes: int | None = None
    collect_file_bytes: int | None = None
    collect_to: str | None = None
    changes: bool | None = None
    apply_changes: bool = False
    save_changes: str | None = None
