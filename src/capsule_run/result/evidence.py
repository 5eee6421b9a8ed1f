"""Which limit ended a run, or was hit and survived, and the counters that prove it.

`verdict` asks it about every end that is not clean, and about a clean one if something reached its limit. What a command
says about itself (exit code, stderr) is never enough: without a counter of ours or the kernel's there is no cause.
docs/limits.md says what each mechanism can prove.
"""

from __future__ import annotations

from errno import EBADF, EIO, EPIPE

from capsule_run._base import errno_words as base_errno_words
from capsule_run._base.error_codes import entry
from capsule_run._base.errors import CapsuleError
from capsule_run.model.request import KILL, TRUNCATE
from capsule_run.policy.mounts import private_mounts
from capsule_run.result import hints, next_limit
from capsule_run.result.metrics import counters, is_full, processor_ms, wall_ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run.model.policy import Policy
    from capsule_run.model.report import FinishedRun

SIGKILL, SIGXCPU, SIGXFSZ = 9, 24, 25
# No error, the command sees end-of-file: a terminal that was hung up or has another job in the foreground (EIO), and the
# unreadable stdin of nohup(1) (EBADF).
_NO_ERROR = (("stdin", EIO), ("stdin", EBADF))
# How programs say that a fork or a thread was refused: dash, Python, bash and make, Java, Go.
NO_FORK = (
    "Cannot fork", "can't start new thread", "fork: retry", "fork: Resource", "unable to create native thread",
    "failed to create new OS thread",
)  # fmt: skip
REFUSED_FORK = (*NO_FORK, "Resource temporarily unavailable", "EAGAIN")  # the last two also come from sockets
_FEWER = ", or start fewer at a time"
# Programs whose heap grows to a limit of their own, and how to set it.
_HEAPS = {
    **dict.fromkeys(("java", "javac", "mvn", "gradle", "sbt", "scala", "kotlin", "kotlinc"), "JAVA_TOOL_OPTIONS=-Xmx…"),
    **dict.fromkeys(("node", "npm", "npx", "yarn", "pnpm", "tsc"), "NODE_OPTIONS=--max-old-space-size=…"),
    "go": "GOMEMLIMIT=…",
}
FULL_DISK = ("No space left", "ENOSPC", "disk full", "Disk full")


def count(size: int, unit: str) -> str:
    """Format a number for people: 1 048 576 bytes."""
    return f"{size:,} {unit}".replace(",", " ")


def cpu_ms(finished: FinishedRun) -> float:
    """Processor time of the command and all its children."""
    return processor_ms(finished, counters(finished.record.cgroup_files))[2]


def stream(finished: FinishedRun) -> CapsuleError | None:
    """The error of a stream that failed on the caller's side. A reader that left is one only if no limit ended the run."""
    report = finished.report
    errors = [error for error in report.stream_errors if (error.stream, error.errno) not in _NO_ERROR]
    by_itself = not report.killed and (report.exited is not None or report.signalled is not None)
    if not by_itself and report.killed not in ("stdout", "stderr"):
        errors = [error for error in errors if error.errno != EPIPE]
    if not errors:
        return None
    error = next((each for each in errors if each.errno != EPIPE), errors[0])
    name, errno = error.stream, error.errno
    verb = "read" if name == "stdin" else "write"
    return CapsuleError(
        "E6006",
        f"cannot {verb} the command's {name}: {base_errno_words.errno_words(errno)}",
        details={"stream": name, "errno": errno, **_end_details(finished)},
        hint=base_errno_words.FILE_SIZE_HINT if errno == base_errno_words.EFBIG else None,
    )


def _end_details(finished: FinishedRun) -> dict[str, object]:
    """How the run ended, for the details of an error that takes precedence."""
    report = finished.report
    if report.killed:
        return {"killed": report.killed}
    return _exit_details(finished) if report.exited is not None or report.signalled is not None else {}


def output(finished: FinishedRun) -> CapsuleError | None:
    """The error of a run that passed its output limit, if that kills a run."""
    report, policy = finished.report, finished.policy
    for name, stream in (("stdout", report.stdout), ("stderr", report.stderr)):
        if stream.over and policy.on_output_limit == KILL:
            return CapsuleError(
                "E4003",
                f"{name} passed the limit of {count(policy.max_output_bytes, 'bytes')}",
                details=_output_details(name, stream.total, policy, complete=False),
                hint=next_limit.hint(
                    {"resources.max_output_bytes": next_limit.FACTOR * stream.total},
                    otherwise=", or keep the command running with `--on-output-limit truncate` (`on_output_limit`)",
                ),
            )
    return None


def _output_details(name: str, total: int, policy: Policy, *, complete: bool) -> dict[str, object]:
    """The evidence of a stream over its limit. `complete`: the command ended by itself, so there was no more output."""
    return {
        "stream": name,
        "limit_bytes": policy.max_output_bytes,
        "observed_bytes": total,
        "source": "launcher",
        **next_limit.passing(
            {"resources.max_output_bytes": total if complete else next_limit.FACTOR * total}, at_least=not complete
        ),
    }


def timed_out(finished: FinishedRun) -> CapsuleError:
    """The error of a run that timed out. Little CPU time says that the command waited, much that it computed."""
    policy, used = finished.policy, cpu_ms(finished)
    longer = {"timeout_ms": next_limit.FACTOR * policy.timeout_ms}
    return CapsuleError(
        "E3006",
        f"timed out after {policy.timeout_ms} ms (used {used:.0f} ms of CPU time)",
        details={
            "limit_ms": policy.timeout_ms,
            "observed_ms": wall_ms(finished),
            "source": "timer",
            "cpu_ms": used,
            **next_limit.passing(longer),
        },
        hint=_seconds_meant(policy.timeout_ms)
        + (
            hints.of_timeout(finished, stderr(finished))
            or "; ".join(
                filter(None, (hints.of_crowd(finished), next_limit.hint(longer, otherwise=", or reduce the work")))
            )
        ),
    )


def _seconds_meant(timeout_ms: int) -> str:
    """The question whether a limit of less than a second was meant in seconds: most tools count in seconds."""
    if timeout_ms >= 1000:
        return ""
    return f"if {timeout_ms} seconds were meant, set `--timeout` (`timeout_ms`) to `{timeout_ms}s`; else "


def memory(finished: FinishedRun) -> CapsuleError:
    """The memory limit: proved by the kernel's count of processes that it killed, or by the launcher's own sample."""
    counted, limit = counters(finished.record.cgroup_files), finished.policy.memory_bytes
    details: dict[str, object] = {"limit_bytes": limit}
    used, what_is_counted, next_bytes = "used", "", 0
    if counted.oom_kills is not None:  # 0 if everything was killed before the kernel chose a process
        observed = (
            counted.memory_peak_bytes + finished.policy.limit_mechanisms.uncounted_bytes
            if counted.memory_peak_bytes
            else limit
        )
        details.update(observed_bytes=observed, source="cgroup", counter={"oom_kill": counted.oom_kills})
    else:
        plain_sum = finished.record.plain_sum_kib << 10
        observed = plain_sum or finished.report.memory_peak_kib << 10
        details.update(observed_bytes=observed, source="watch")
        if plain_sum:
            details["observed_is_upper_bound"] = True
            used, next_bytes = "used up to", max(plain_sum, next_limit.FACTOR * limit)
            what_is_counted = ", which counts for each process what processes share"
    more = {"resources.memory_bytes": next_limit.whole_mib(next_bytes or next_limit.doubled(observed, limit))}
    details.update(next_limit.passing(more))
    if finished.record.disk is not None:
        details["files_bytes"] = finished.record.disk.used_bytes
    return CapsuleError(
        "E4001",
        f"the command and its children {used} {count(observed, 'bytes')} of memory{what_is_counted}, "
        f"the limit is {count(limit, 'bytes')}",
        details=details,
        hint=next_limit.hint(more, otherwise=_heap_hint(finished.policy.command)),
    )


def _heap_hint(command: tuple[str, ...]) -> str:
    """What else helps a runtime that takes as much memory as it may before it collects garbage."""
    program = command[0].rpartition("/")[2] if command else ""
    return f", or limit the heap of the runtime with `{_HEAPS[program]}`" if program in _HEAPS else ""


def out_of_memory(finished: FinishedRun) -> bool:
    """Whether the kernel killed a process for the cgroup's limit."""
    return bool(counters(finished.record.cgroup_files).oom_kills)


def cpu_time(finished: FinishedRun, source: str) -> CapsuleError:
    """The CPU time limit. `source` is the launcher's `watch`, or the `rlimit` of one process."""
    limit, used = finished.policy.watched.cpu_time_ms or 0, cpu_ms(finished)
    more = {"resources.cpu_time_ms": next_limit.doubled(round(used), limit)}
    return CapsuleError(
        "E4004",
        f"the command and its children used {used:.0f} ms of CPU time, the limit is {limit} ms",
        details={
            "limit_ms": limit,
            "observed_ms": used,
            "source": source,
            "wall_ms": wall_ms(finished),
            **next_limit.passing(more),
        },
        hint=next_limit.hint(more, otherwise=", or reduce the computation"),
    )


def limit_behind_signal(finished: FinishedRun, number: int) -> CapsuleError | None:
    """The limit for which the kernel sends this signal, if the run had it and, for CPU time, reached it."""
    policy = finished.policy
    if number == SIGXFSZ:
        larger = {"resources.max_file_bytes": next_limit.FACTOR * policy.max_file_bytes}
        return CapsuleError(
            "E4006",
            f"the command wrote a file larger than {count(policy.max_file_bytes, 'bytes')}",
            details={
                "limit_bytes": policy.max_file_bytes,
                "signal": "SIGXFSZ",
                "source": "rlimit",
                **next_limit.passing(larger),
            },
            hint=next_limit.hint(larger),
        )
    if (
        number in (SIGKILL, SIGXCPU)
        and policy.watched.cpu_time_ms is not None
        and cpu_ms(finished) >= policy.watched.cpu_time_ms
    ):
        return cpu_time(finished, "rlimit")
    return None


def _disk_full(finished: FinishedRun) -> dict[str, object] | None:
    disk, limit = finished.record.disk, finished.policy.disk_bytes
    if disk is None or not is_full(disk):
        return None
    return {
        "limit_bytes": limit,
        "observed_bytes": min(disk.used_bytes, limit),
        "source": "tmpfs",
        "mounts": private_mounts(finished.policy),
        "counter": {"free_bytes": disk.free_bytes, "files": disk.files, "free_files": disk.free_files},
        **next_limit.passing(_larger_disk(finished.policy)),
    }


def _larger_disk(policy: Policy) -> dict[str, int]:
    """A disk of twice the size, and a memory limit that it fits into: files are memory."""
    disk_bytes = next_limit.FACTOR * policy.disk_bytes
    memory_bytes = next_limit.whole_mib(disk_bytes * 8 // 7)
    larger = {"resources.disk_bytes": disk_bytes}
    return larger if memory_bytes <= policy.memory_bytes else {**larger, "resources.memory_bytes": memory_bytes}


def _most_tasks(finished: FinishedRun) -> int:
    return finished.record.tasks.most if finished.record.tasks is not None else 0


def _processes(finished: FinishedRun) -> dict[str, object] | None:
    """Proof of the process limit: refused forks that the cgroup counted, or as many tasks in a sample as are allowed."""
    limit, most = finished.policy.max_pids, _most_tasks(finished)
    refused = counters(finished.record.cgroup_files).failed_forks
    if refused:
        counted: dict[str, object] = {"source": "cgroup", "counter": {"refused": refused}}
    elif refused is None and most >= limit:
        counted = {"source": "watch", "observed": most}
    else:
        return None
    return {"limit": limit, **counted, **next_limit.passing(_more_processes(limit))}


def _more_processes(limit: int) -> dict[str, int]:
    return {"resources.max_pids": next_limit.FACTOR * limit}


def fork_storm(finished: FinishedRun) -> CapsuleError | None:
    """The process limit, for a run that did not end by itself: at least half as many forks refused as processes allowed.

    Without a cgroup that counts, stderr must say so as often, and a sample must have seen half of the allowed number at once:
    in a storm some processes have just ended at any moment.
    """
    limit, most = finished.policy.max_pids, _most_tasks(finished)
    counted = counters(finished.record.cgroup_files).failed_forks
    refused = _fork_errors_in_stderr(finished) if counted is None else counted
    if not refused or 2 * refused < limit or (counted is None and 2 * most < limit):
        return None
    proof: dict[str, object] = (
        {"source": "cgroup", "counter": {"refused": refused}}
        if counted is not None
        else {"source": "watch", "observed": most, "said": refused}
    )
    own = {} if finished.report.exited is None and finished.report.signalled is None else _exit_details(finished)
    return CapsuleError(
        "E4002",
        f"the command and its children kept starting processes beyond the limit of {limit}: {refused} were refused",
        details={
            "limit": limit,
            **proof,
            **next_limit.passing(_more_processes(limit)),
            "wall_ms": wall_ms(finished),
            **own,
        },
        hint=next_limit.hint(_more_processes(limit), otherwise=_FEWER),
    )


def _fork_errors_in_stderr(finished: FinishedRun) -> int:
    text = stderr(finished).decode("utf-8", "replace")
    return sum(any(word in line for word in NO_FORK) for line in text.splitlines())


def limit_behind_exit(finished: FinishedRun) -> CapsuleError | None:
    """The limit that made the command fail by itself, with a non-zero exit code or a signal of its own."""
    if out_of_memory(finished):
        return memory(finished)
    details = _disk_full(finished)
    if details is not None:
        return CapsuleError(
            "E4005",
            f"the private disk of {count(finished.policy.disk_bytes, 'bytes')} ({', '.join(private_mounts(finished.policy))}) "
            f"is full{_stderr_line(finished, FULL_DISK)}",
            details={**details, **_exit_details(finished)},
            hint=next_limit.hint(_larger_disk(finished.policy)),
        )
    details = _processes(finished)
    said = _stderr_line(finished, REFUSED_FORK)
    if details is not None and (said or details["source"] == "cgroup"):
        return CapsuleError(
            "E4002",
            f"the command could not start another process, the limit is {finished.policy.max_pids}{said}",
            details={**details, **_exit_details(finished)},
            hint=next_limit.hint(_more_processes(finished.policy.max_pids), otherwise=_FEWER),
        )
    return None


def _exit_details(finished: FinishedRun) -> dict[str, object]:
    report = finished.report
    return {"exit_code": report.exited} if report.signalled is None else {"signal_number": report.signalled}


def stderr(finished: FinishedRun) -> bytes:
    """The captured stderr; of one that was streamed or truncated, its last 12 KiB."""
    if finished.stderr and not finished.report.stderr.over:
        return finished.stderr
    return b"".join(part.encode("utf-8", "surrogateescape") for part in finished.record.stderr_tail) or finished.stderr


def _stderr_line(finished: FinishedRun, words: tuple[str, ...]) -> str:
    """The last line of stderr that has one of these words, for the message; empty if there is none."""
    text = stderr(finished)[-65536:].decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if any(word in line for word in words)]
    return f": {lines[-1][:300]}" if lines else ""


def limits_hit(finished: FinishedRun, code: str) -> tuple[dict[str, object], ...]:
    """The limits that were reached but did not end the run, each with its evidence; `code` is what ended it."""
    hits: list[tuple[str, Mapping[str, object] | None]] = [
        ("E4001", memory(finished).details if out_of_memory(finished) else None),
        ("E4005", _disk_full(finished)),
        ("E4002", _processes(finished)),
    ]
    if finished.policy.on_output_limit == TRUNCATE:
        for name, stream in (("stdout", finished.report.stdout), ("stderr", finished.report.stderr)):
            complete = not finished.report.killed
            hits.append(
                (
                    "E4003",
                    _output_details(name, stream.total, finished.policy, complete=complete) if stream.over else None,
                )
            )
    return tuple(
        {"code": found, "cause": entry(found).cause, "details": details}
        for found, details in hits
        if details is not None and found != code
    )
