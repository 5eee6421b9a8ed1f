"""What the launcher said of a run: its report, its record, and all that is known of a finished run. `result` reads it.

A value that is one line of the record has the columns of that line as its fields, in their order: `int` is a number, `str` a
text. See docs/plan-format.md; `result/report.py` has the table that names the lines.
"""

from __future__ import annotations

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run.model.changes import Change, NotApplied
    from capsule_run.model.policy import Policy
    from capsule_run.model.report_details import (
        DeniedCall,
        DeniedCount,
        FailedStep,
        ProcessEnded,
        ProcessSeen,
        RejectedPlan,
        Sample,
        StreamError,
        ThreadSeen,
    )
    from capsule_run.model.result_parts import CollectedFile, NotCollected

_NO_FILES: Mapping[str, str] = {}


class WorkspaceOutput(Value):
    """What came out of the workspace of a run. `changes` is None if they were not asked for."""

    collected: tuple[CollectedFile, ...]
    not_collected: tuple[NotCollected, ...]
    changes: tuple[Change, ...] | None
    changes_truncated: bool
    diff: str | None
    diff_truncated: bool
    not_applied: tuple[NotApplied, ...]


class StreamCount(Value):
    """What came through stdout or stderr: bytes passed on, bytes in all, and whether the output limit was passed."""

    kept: int
    total: int
    over: bool


class RecordSize(Value):
    """Bytes written to the record, and how many lines had no room in it."""

    bytes: int
    lost_lines: int


class Report(Value):
    """The launcher's report; see docs/plan-format.md. Times are nanoseconds of CLOCK_MONOTONIC, 0 for never."""

    times: dict[str, int]
    usage: dict[str, int]
    killed: str
    rejected: RejectedPlan | None
    failed: FailedStep | None
    lifted: int | None  # the number of the guard whose place the host has changed
    started: bool  # the command was executed
    landlock_abi: int  # the version of Landlock that confines it; 0 for none
    exited: int | None
    signalled: int | None
    stdout: StreamCount
    stderr: StreamCount
    memory_peak_kib: int
    record: RecordSize
    stream_errors: tuple[StreamError, ...] = ()
    copied: bool = False  # the workspace is a copy, and no overlay


class PayloadFacts(Value):
    """What the kernel said of the payload before it executed the command, behind its filter: core/attest.c.

    Capability sets are bit masks, namespaces inode numbers; an id map is the inside id, the outside id and the count.
    """

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int
    no_new_privs: int
    seccomp_mode: int
    seccomp_filters: int
    user_namespace: int
    mount_namespace: int
    pid_namespace: int
    net_namespace: int
    ipc_namespace: int
    uts_namespace: int
    cgroup_namespace: int
    uid_inside: int
    uid_outside: int
    uid_count: int
    gid_inside: int
    gid_outside: int
    gid_count: int
    cgroups: int


class CallerFacts(Value):
    """The same of the process that started the launcher, as far as it is compared."""

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int
    no_new_privs: int
    seccomp_mode: int
    seccomp_filters: int
    user_namespace: int
    mount_namespace: int
    pid_namespace: int
    net_namespace: int
    ipc_namespace: int
    uts_namespace: int
    cgroup_namespace: int


class RoomIdMaps(Value):
    """The id maps of the room's first user namespace, as the host sees them."""

    uid_inside: int
    uid_outside: int
    uid_count: int
    gid_inside: int
    gid_outside: int
    gid_count: int


class SetupTime(Value):
    """Processor time that setting up took; `uncounted_us` of it was spent before the cgroups counted."""

    user_us: int
    system_us: int
    uncounted_us: int


class TaskPeak(Value):
    """What the launcher's samples saw at most: processes and threads; the largest process, and its mapped files."""

    most: int
    largest_kib: int
    largest_files_kib: int


class DiskUse(Value):
    """The room's memory file system after the end."""

    used_bytes: int
    free_bytes: int
    files: int
    free_files: int


class SampledCpu(Value):
    """Processor time without a cgroup that counts it: seen by samples, known to be lost, and whether some was not seen."""

    seen_us: int
    lost_us: int
    untracked: int


class Record(Value):
    """The launcher's record, line by line. What was not written is None, False or empty."""

    attest: PayloadFacts | None = None
    attest_caller: CallerFacts | None = None
    attest_room: RoomIdMaps | None = None
    setup: SetupTime | None = None
    tasks: TaskPeak | None = None
    disk: DiskUse | None = None
    sampled_cpu: SampledCpu | None = None
    plain_sum_kib: int = (
        0  # the memory sum that ended the run and counts for each process what processes share; 0 for none
    )
    stderr_tail: tuple[str, ...] = ()  # the last 12 KiB of stderr in parts, as surrogate-escaped UTF-8
    net_counters: str = ""  # /proc/net/snmp of the room at the timeout
    spent_us: tuple[int, ...] = ()  # the processor time for which the run was killed; a race writes it twice
    cgroup_files: Mapping[str, str] = _NO_FILES  # name to content
    listening: bool = False  # the filter asks the launcher about calls that it denies
    denied: tuple[DeniedCall, ...] = ()
    denied_counts: tuple[DeniedCount, ...] = ()
    denied_others: int = 0  # denied calls of kinds beyond those that are listed
    process_events: tuple[ProcessSeen | ProcessEnded, ...] = ()
    threads: tuple[ThreadSeen, ...] = ()
    threads_complete: bool = False


class FinishedRun(Value):
    """All that is known of a run whose command started: the verdict and the metrics are made of this."""

    policy: Policy
    report: Report
    record: Record
    program: str  # the filter as it went to the kernel, in hexadecimal
    cancelled_by: int  # the signal to us that ended it, or 0
    stdout: bytes
    stderr: bytes
    host_load: tuple[Sample, Sample] | None = None  # before and after; None if the run was short
    output: WorkspaceOutput | None = None  # None if nothing of the workspace was wanted
