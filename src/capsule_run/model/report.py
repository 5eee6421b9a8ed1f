"""What the launcher reported and what is known of a finished run; `result` reads it."""

from __future__ import annotations

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run.model.policy import Policy
    from capsule_run.model.result_parts import Change, CollectedFile, NotApplied, NotCollected


class WorkspaceOutput(Value):
    """What came out of the workspace of a run. `changes` is None where nobody looked."""

    collected: tuple[CollectedFile, ...]
    not_collected: tuple[NotCollected, ...]
    changes: tuple[Change, ...] | None
    changes_truncated: bool
    not_applied: tuple[NotApplied, ...]


class Sample(Value):
    """The host's counters at one moment. `waited_us` has the totals of /proc/pressure, absent where there is none."""

    at_ns: int
    processors: int
    steal_ticks: int
    waited_us: Mapping[str, int]


class Report(Value):
    """What the core said, by name; see docs/plan-format.md. Times are nanoseconds of CLOCK_MONOTONIC, 0 for never."""

    times: dict[str, int]
    usage: dict[str, int]
    killed: str
    refused: tuple[str, int, str] | None
    failed: tuple[str, int, int] | None
    lifted: int | None  # the number of the guard whose place the host has changed
    started: bool  # the command was executed
    landlock_abi: int  # the version of Landlock that confines it; 0 for none
    exited: int | None
    signalled: int | None
    stdout: tuple[int, int, bool]
    stderr: tuple[int, int, bool]
    memory_peak: int
    record: tuple[int, int]  # bytes written down, and lines for which there was no room
    stream_errors: tuple[tuple[str, int], ...] = ()  # caller's streams that failed: the name and the errno


class FinishedRun(Value):
    """All that is known of a run whose command started: verdict and accounts are made of this."""

    policy: Policy
    report: Report
    record: list[list[str]]  # see `parse_record`
    program: str  # the filter as it went to the kernel, in hexadecimal
    cancelled_by: int  # the signal to us that ended it, or 0
    stdout: bytes
    stderr: bytes
    host_load: tuple[Sample, Sample] | None = None  # before and after; None if the run was short
    output: WorkspaceOutput | None = None  # None if nothing of the workspace was wanted
