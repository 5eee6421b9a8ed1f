"""The parts of a result: streams, files, changes and measurements.

Rank 0. Units are in the names. Each part knows its own form in the JSON response (docs/json-api.md).
"""

from __future__ import annotations

from binascii import b2a_base64

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from mmap import mmap
    from typing import Literal

    ChangeKind = Literal["created", "modified", "deleted"]
    FileType = Literal["file", "directory", "symlink", "special"]

CREATED: Literal["created"] = "created"
MODIFIED: Literal["modified"] = "modified"
DELETED: Literal["deleted"] = "deleted"


def plain(value: object) -> object:
    """A copy of a value as JSON would give it: objects and lists, nothing of ours."""
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    return value


class Output(Value):
    """One captured stream of the command."""

    data: bytes
    """The bytes that were kept."""
    total_bytes: int
    """How many bytes the command wrote while it was read."""
    truncated: bool
    """Whether bytes are missing, because the output limit was reached."""


class CollectedFile(Value):
    """One file that came out of the workspace. It can be read, sliced and written like bytes; `bytes(file)` is a copy."""

    path: str
    """Relative to the workspace."""
    data: bytes | mmap
    """The content; a large file is mapped into memory."""
    mode: int
    """Permission bits."""
    saved: str | None = None
    """Where `collect_to` wrote it on the host; None if it was not written there."""
    size_bytes: int | None = None
    """The size of a file whose content is on the host only (`from_dict` of a saved one); None if `data` has it."""

    @property
    def text(self) -> str:
        """The content as text; bytes that are not UTF-8 become U+FFFD."""
        return bytes(self).decode("utf-8", "replace")

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def to_dict(self) -> dict[str, object]:
        """One member of `files` of the JSON response."""
        size = len(self.data) if self.size_bytes is None else self.size_bytes
        fields: dict[str, object] = {"mode": f"{self.mode:04o}", "bytes": size}
        if self.saved is not None:
            return {**fields, "saved": self.saved}
        content = bytes(self)
        try:
            return {**fields, "text": content.decode()}
        except UnicodeDecodeError:
            return {**fields, "base64": b2a_base64(content, newline=False).decode("ascii")}


class NotCollected(Value):
    """A file that `collect` names and that did not come out."""

    path: str
    """Relative to the workspace."""
    reason: str
    """Why, in one word (docs/files.md)."""
    bytes: int
    """Its size."""


class Change(Value):
    """One thing in the workspace that the command changed."""

    path: str
    """Relative to the workspace."""
    kind: ChangeKind
    """What was done to it."""
    bytes: int
    """Its size now; 0 if it was deleted."""
    type: FileType = "file"
    """What it is now, or was if it was deleted."""

    def to_dict(self) -> dict[str, object]:
        """One member of `changes` of the JSON response."""
        fields: dict[str, object] = {"path": self.path, "kind": self.kind, "bytes": self.bytes}
        return fields if self.type == "file" else {**fields, "type": self.type}


class NotApplied(Value):
    """A change, or a collected file, that was not written to the host."""

    path: str
    """Relative to the workspace."""
    reason: str
    """Why, in one word (docs/files.md)."""


class Metrics(Value):
    """Measurements of one run. A field that is None could not be measured on this host, and is absent from the JSON."""

    wall_ms: float
    """From the command's start to its end."""
    user_ms: float
    """CPU time in user mode, of everything inside."""
    system_ms: float
    """CPU time in the kernel, of everything inside, without setting the sandbox up."""
    cpu_ms: float
    """All CPU time: `user_ms` + `system_ms`, or the cgroup's own count or what the launcher saw if that is higher."""
    cpu_ms_complete: bool | None = None
    """True if a cgroup counted `cpu_ms`, False if children were seen whose time nobody has; None if nobody can know."""
    max_memory_bytes: int | None = None
    """The most memory used at a time, as measured by `memory_source`."""
    memory_complete: bool | None = None
    """True if a cgroup counted all memory, False if shared memory that nobody maps and kernel memory are not in it."""
    memory_source: str | None = None
    """`cgroup` (exact), `watch` (highest sample of all processes) or `process` (the largest process)."""
    max_process_memory_bytes: int | None = None
    """Resident memory of the largest process, at its highest."""
    io_read_bytes: int | None = None
    """Bytes read from block devices."""
    io_write_bytes: int | None = None
    """Bytes written to block devices."""
    io_read_operations: int | None = None
    """Reads from block devices; only with a cgroup."""
    io_write_operations: int | None = None
    """Writes to block devices; only with a cgroup."""
    voluntary_context_switches: int | None = None
    """Times that a process waited."""
    involuntary_context_switches: int | None = None
    """Times that a process was made to wait."""
    minor_page_faults: int | None = None
    """Page faults that read no disk."""
    major_page_faults: int | None = None
    """Page faults that read from a disk."""
    max_processes: int | None = None
    """The most processes and threads at a time."""
    disk_bytes: int | None = None
    """Bytes in the private file systems when the run ended."""
    throttled_ms: float | None = None
    """Time for which the CPU quota held the run back; only with a cgroup."""
    pressure: Mapping[str, Mapping[str, float]] | None = None
    """By resource, the milliseconds in which `some_ms` or `full_ms` waited for it; only with cgroup v2."""
    startup: Mapping[str, int] | None = None
    """Microseconds of each phase before the command's first instruction."""

    def to_dict(self) -> dict[str, object]:
        """The `metrics` object of the JSON response: what was not measured is absent."""
        given = {name: field for name, field in self.__dict__.items() if field is not None}
        # a thousandth of a millisecond is what the clocks are good for
        return {name: round(x, 3) if isinstance(x, float) else plain(x) for name, x in given.items()}
