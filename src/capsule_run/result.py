"""The values that come out: what a run came to, in all its parts.

Rank 0: imports nothing but `_value`. Units are in the names. Of `model`, what was asked, it knows nothing.
"""

from __future__ import annotations

from ._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from mmap import mmap

CREATED, MODIFIED, DELETED = "created", "modified", "deleted"
SUCCESS, ERROR, TIMEOUT, KILLED = "success", "error", "timeout", "killed"


class Failure(Value):
    """Why a run did not end cleanly. `cause` is one word for machines, `details` the evidence, `hint` what to do."""

    code: str
    message: str
    cause: str
    details: Mapping[str, object]
    hint: str


class Output(Value):
    """One captured stream: the bytes kept, how many the command wrote while it was read, and whether some are missing."""

    data: bytes
    total_bytes: int
    truncated: bool


class CollectedFile(Value):
    """One file that came out. `data` is bytes, or the file itself mapped into memory where it is large.

    Both can be read, sliced and written like bytes; `bytes(file)` is a copy.
    """

    path: str
    data: bytes | mmap
    mode: int
    saved: str | None = None  # where `collect_to` wrote it on the host

    @property
    def text(self) -> str:
        """The content as text; bytes that are not UTF-8 become U+FFFD."""
        return bytes(self).decode("utf-8", "replace")

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)


class NotCollected(Value):
    """A file that `collect` names and that did not come out: one word says why (docs/files.md)."""

    path: str
    reason: str
    bytes: int


class Change(Value):
    """One thing that the command left otherwise than it was; `type` is what it is now, or was if it is gone."""

    path: str
    kind: str  # created, modified, deleted
    bytes: int
    type: str = "file"  # or directory, symlink, special


class NotApplied(Value):
    """A change, or a collected file, that was not written to the host: one word says why (docs/files.md)."""

    path: str
    reason: str


class Metrics(Value):
    """Measurements of one run. A field that is None could not be measured on this host, and is absent from the JSON.

    Milliseconds have a fraction; `startup` maps a phase to whole microseconds.
    """

    wall_ms: float
    user_ms: float
    system_ms: float
    cpu_ms: float
    max_memory_bytes: int | None = None
    memory_source: str | None = None
    max_process_memory_bytes: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    io_read_operations: int | None = None
    io_write_operations: int | None = None
    voluntary_context_switches: int | None = None
    involuntary_context_switches: int | None = None
    minor_page_faults: int | None = None
    major_page_faults: int | None = None
    max_processes: int | None = None
    disk_bytes: int | None = None
    throttled_ms: float | None = None
    pressure: Mapping[str, Mapping[str, float]] | None = None
    startup: Mapping[str, int] | None = None


class Result(Value):
    """What the caller gets. `exit_code` and the streams are there whenever the command started, however it ended."""

    execution_id: str
    status: str
    started_at: str
    finished_at: str
    exit_code: int | None
    signal: str | None
    stdout_stream: Output | None
    stderr_stream: Output | None
    metrics: Metrics | None
    isolation: Mapping[str, object]
    error: Failure | None
    collected: tuple[CollectedFile, ...] = ()
    not_collected: tuple[NotCollected, ...] = ()
    limits_hit: tuple[Mapping[str, object], ...] = ()
    postmortem: Mapping[str, object] | None = None
    changes: tuple[Change, ...] | None = None  # None: nobody looked
    changes_truncated: bool = False
    not_applied: tuple[NotApplied, ...] = ()
    measurement: Mapping[str, object] | None = None
    denied: tuple[Mapping[str, object], ...] = ()
    processes: tuple[Mapping[str, object], ...] | None = None  # None: no ledger was asked for, or none could be kept

    @property
    def files(self) -> dict[str, CollectedFile]:
        """What `collect` named, by path relative to the workspace."""
        return {file.path: file for file in self.collected}

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with exit code 0."""
        return self.status == SUCCESS

    @property
    def stdout(self) -> str:
        """Standard output as text; bytes that are not UTF-8 become U+FFFD (`stdout_data` has them exactly)."""
        return self.stdout_data.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text; bytes that are not UTF-8 become U+FFFD (`stderr_data` has them exactly)."""
        return self.stderr_data.decode("utf-8", "replace")

    @property
    def stdout_data(self) -> bytes:
        """The exact bytes of standard output that were kept; empty when it was streamed or never started."""
        return self.stdout_stream.data if self.stdout_stream is not None else b""

    @property
    def stderr_data(self) -> bytes:
        """The exact bytes of standard error that were kept; empty when it was streamed or never started."""
        return self.stderr_stream.data if self.stderr_stream is not None else b""
