"""The parts of a result: streams, files and measurements.

Units are in the names. `to_dict` of a part returns its form in the JSON response (docs/json-api.md).
"""

from __future__ import annotations

from binascii import b2a_base64

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from mmap import mmap
    from typing import Literal

    StreamName = Literal["stdout", "stderr"]
    # Seconds since the run started, the stream, and the text that arrived.
    OutputPiece = tuple[float, StreamName, str]


def plain(value: object) -> object:
    """Copy a value to what JSON can hold: dictionaries and lists."""
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    return value


def base64_text(data: bytes) -> str:
    """Bytes in base64 (RFC 4648), on one line."""
    return b2a_base64(data, newline=False).decode("ascii")


class Output(Value):
    """One captured stream of the command."""

    data: bytes
    """The bytes that were kept."""
    total_bytes: int
    """How many bytes the command wrote until reading stopped."""
    truncated: bool
    """Whether bytes are missing, because the output limit was reached."""


class CollectedFile(Value):
    """A file collected from the workspace. `data` can be sliced and written like bytes; `bytes(file)` is a copy."""

    path: str
    """Relative to the workspace."""
    data: bytes | mmap
    """The content; a large file is mapped into memory."""
    mode: int
    """Permission bits."""
    saved: str | None = None
    """Where `collect_to` wrote it on the host; None if it was not written there."""
    size_bytes: int | None = None
    """The size, if the content is only on the host (a saved file read by `from_dict`); None if `data` has the content."""

    @property
    def text(self) -> str:
        """The content as text; bytes that are not UTF-8 become U+FFFD."""
        return bytes(self).decode("utf-8", "replace")

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def to_dict(self) -> dict[str, object]:
        """Return one member of `files` of the JSON response."""
        size = len(self.data) if self.size_bytes is None else self.size_bytes
        fields: dict[str, object] = {"mode": f"{self.mode:04o}", "bytes": size}
        if self.saved is not None:
            return {**fields, "saved": self.saved}
        content = bytes(self)
        try:
            return {**fields, "text": content.decode()}
        except UnicodeDecodeError:
            return {**fields, "base64": base64_text(content)}


class NotCollected(Value):
    """A file that `collect` names and that was not collected."""

    path: str
    """Relative to the workspace."""
    reason: str
    """Why, in one word (docs/files.md)."""
    bytes: int
    """Its size."""


class Metrics(Value):
    """Measurements of one run. A field that is None could not be measured on this host, and is absent from the JSON."""

    wall_ms: float
    """From the command's start to its end."""
    user_ms: float
    """CPU time in user mode of all processes inside."""
    system_ms: float
    """CPU time in the kernel of all processes inside, without set-up."""
    cpu_ms: float
    """All CPU time: the highest of `user_ms` + `system_ms`, the cgroup's count, and what the launcher sampled."""
    cpu_ms_complete: bool | None = None
    """True if a cgroup counted `cpu_ms`; False if the CPU time of some processes is missing; None if unknown."""
    max_memory_bytes: int | None = None
    """Peak memory, as measured by `memory_source`."""
    memory_complete: bool | None = None
    """True if a cgroup counted all memory; False if kernel memory and unmapped shared memory are missing."""
    memory_source: str | None = None
    """`cgroup` (exact), `watch` (highest sample of all processes) or `process` (the largest process)."""
    max_process_memory_bytes: int | None = None
    """Peak resident memory of the largest process."""
    io_read_bytes: int | None = None
    """Bytes read from block devices."""
    io_write_bytes: int | None = None
    """Bytes written to block devices."""
    io_read_operations: int | None = None
    """Reads from block devices; only with a cgroup."""
    io_write_operations: int | None = None
    """Writes to block devices; only with a cgroup."""
    voluntary_context_switches: int | None = None
    """How often a process waited."""
    involuntary_context_switches: int | None = None
    """How often a process was preempted."""
    minor_page_faults: int | None = None
    """Page faults that read no disk."""
    major_page_faults: int | None = None
    """Page faults that read from a disk."""
    max_processes: int | None = None
    """Peak number of processes and threads."""
    disk_bytes: int | None = None
    """Bytes in the private file systems when the run ended."""
    throttled_ms: float | None = None
    """Time for which the CPU quota held the run back; only with a cgroup."""
    pressure: Mapping[str, Mapping[str, float]] | None = None
    """By resource, milliseconds in which some (`some_ms`) or all (`full_ms`) processes waited; only with cgroup v2."""
    startup: Mapping[str, int] | None = None
    """Microseconds of each phase before the command's first instruction."""

    def to_dict(self) -> dict[str, object]:
        """Return the `metrics` object of the JSON response: what was not measured is absent."""
        given = {name: field for name, field in self.__dict__.items() if field is not None}
        # the clocks are precise to 1 µs
        return {name: round(x, 3) if isinstance(x, float) else plain(x) for name, x in given.items()}


def output_fields(name: str, output: Output | None) -> dict[str, object]:
    """Return the members of a stream called `name`; none if it was not captured."""
    if output is None:
        return {}
    fields: dict[str, object]
    try:
        fields = {name: output.data.decode()}
    except UnicodeDecodeError:
        exact = base64_text(output.data)
        fields = {name: output.data.decode("utf-8", "replace"), f"{name}_base64": exact}
    return {**fields, f"{name}_bytes": output.total_bytes, f"{name}_truncated": output.truncated}
