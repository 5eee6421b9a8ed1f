"""Judge the end of a run: status, exit code, signal and failure, from the launcher's report and record.

Every end that is not clean has one cause, and the numbers that prove it.
"""

from __future__ import annotations

from errno import (
    E2BIG,
    EACCES,
    EAGAIN,
    EEXIST,
    EINVAL,
    ENOENT,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    ENOTDIR,
    EOPNOTSUPP,
    EPERM,
    EPIPE,
    EPROTO,
    ERANGE,
)

from capsule_run._base import errno_words as base_errno_words
from capsule_run._base import shortage as base_shortage
from capsule_run._base.errors import BROKEN_PIPE_EXIT, EXHAUSTED, CapsuleError, exhaustion
from capsule_run._base.statuses import ERROR, KILLED, SUCCESS, TIMEOUT
from capsule_run._base.value import replace
from capsule_run.plan import describe as plan_describe
from capsule_run.policy.resolve import DRAIN_MS
from capsule_run.result import evidence, explaining_line, hints, metrics, stack_hint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run._base.errors import Failure
    from capsule_run._base.statuses import Status
    from capsule_run.model.plan import Plan
    from capsule_run.model.report import FinishedRun, Report


KILLED_EXIT = 137
# Appended to the message of a run that was killed before anything reached stdout.
LOST_OUTPUT = "; nothing was written to stdout, and any buffered output is lost"
# signal(7): the numbers are the same on x86_64 and aarch64.
SIGNALS = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
    16: "SIGSTKFLT", 17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP", 20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU",
    23: "SIGURG", 24: "SIGXCPU", 25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO",
    30: "SIGPWR", 31: "SIGSYS",
}  # fmt: skip
SIGSEGV, SIGSYS = 11, 31

# What `act_attest` in core/attest.c found, by its errno.
_ATTESTED = {
    EPERM: "a capability remains",
    EACCES: "no_new_privs is not set",
    EINVAL: "the system call filter is not active",
    EEXIST: "a namespace is shared with the caller, or the caller's is unknown",
    ERANGE: "an id map holds more than one id",
}


def signal_name(number: int) -> str:
    """The name of a signal. Real-time signals count from SIGRTMIN, which is 34: libc keeps two for itself."""
    return SIGNALS.get(number) or f"SIGRTMIN+{number - 34}"


def room_error(report: Report, plan: Plan) -> CapsuleError:
    """The error of a run whose command never started."""
    rejected, failed = report.rejected, report.failed
    if rejected is not None:
        return CapsuleError(
            "E6001", f"the launcher rejected the {rejected.half} plan at step {rejected.step}: {rejected.reason}"
        )
    if failed is not None:
        steps = plan.room if failed.half == "room" else plan.payload
        step = steps[failed.step] if failed.step < len(steps) else ("end",)
        return _guard_error(step, failed.errno) if step[0] == "guard" else _step_error(step, failed.errno, plan)
    if report.killed == "setup-clock":
        limit_ms = next((int(step[1]) for step in plan.room if step[0] == "setup-clock"), 0)
        return CapsuleError("E2006", f"setting up the sandbox took longer than {limit_ms / 1000:g} s")
    if report.killed == "memory":
        return CapsuleError("E4001", "the memory limit was reached before the command started")
    if report.killed == "guard":
        guarded = [step for step in plan.room if step[0] == "guard"][report.lifted or 0]
        return _replaced_path(guarded[1] + guarded[4])
    if report.killed == "lost":
        return CapsuleError("E6002", "the sandbox's init process exited during setup without a report")
    return CapsuleError("E6001", f"the core exited without a valid reason (`{report.killed or 'none'}`)")


def _replaced_path(path: str) -> CapsuleError:
    return CapsuleError(
        "E5002",
        f"`{path}` was replaced, moved or removed on the host during the run, which removed its mask in the sandbox",
        details={"path": path},
    )


# Steps that a container's defaults deny.
_NOT_PERMITTED = {
    "proc": "the kernel allows a new /proc only if the caller's /proc is unmasked; in Docker, start the container with "
    "`--security-opt systempaths=unconfined`, in Podman with `--security-opt unmask=ALL`",
    "hostname": "a seccomp profile around this process denies `sethostname`: in a container, start it with "
    "`--security-opt seccomp=unconfined`, or with a profile that permits this call",
}


def _step_error(step: tuple[str, ...], errno: int, plan: Plan) -> CapsuleError:

    verb, why = step[0], base_errno_words.errno_words(errno)
    details: dict[str, object] = {"step": verb, "errno": errno}
    error = _error_without_step(step, errno, plan)
    if error is not None:
        return error
    if verb == "exe":
        return _exec_error(step[1], errno, plan)
    if verb in ("cwd", "command-cwd"):
        return CapsuleError("E3009", f"working directory `{step[1]}`: {why}", details={"path": step[1], "errno": errno})
    if verb == "landlock-required":
        return CapsuleError(
            "E2007", "required `landlock`, but the kernel does not support it or has it disabled", details=details
        )
    if verb == "filter" and errno == EOPNOTSUPP:
        why = "required `seccomp_notify`, but denied calls cannot be observed here: the surrounding container does that"
        return CapsuleError("E2007", why, details=details)
    if verb == "attest":
        what = _ATTESTED.get(errno, f"its status could not be read ({why})")
        return CapsuleError("E6004", f"the kernel does not confirm the sandbox: {what}", details=details)
    if verb == "copy-tree":
        return _copy_error(step, errno, plan)
    if verb in ("source", "inner-source"):
        return CapsuleError("E2004", f"cannot share `{step[1]}`: {why}", details={"path": step[1], "errno": errno})
    if verb in ("namespace", "uid-map", "gid-map", "id") or (errno == ENOSPC and verb == "namespace"):
        return CapsuleError("E2001", f"{plan_describe.describe(step, plan)}: {why}", details=details)
    if verb in _NOT_PERMITTED and errno == EPERM:
        hint = _NOT_PERMITTED[verb]
        return CapsuleError("E2002", f"{plan_describe.describe(step, plan)}: {why}", details=details, hint=hint)
    if verb == "bind" and errno in (ENOENT, ENOTDIR):
        place = step[2].removeprefix("/new")
        return CapsuleError(
            "E2002",
            f"{plan_describe.describe(step, plan)}: {why}",
            details=details,
            hint=f"`{place}` is below another shared path and must already exist: create it on the host, a file for a file "
            "and a directory for a directory",
        )
    code = "E2005" if errno == ENOSYS else "E2002"
    return CapsuleError(code, f"{plan_describe.describe(step, plan)}: {why}", details=details)


def _copy_error(step: tuple[str, ...], errno: int, plan: Plan) -> CapsuleError:
    sources = [one[1] for one in plan.room if one[0] in ("source", "inner-source")]
    path = next(sources[int(one[1])] for one in plan.room if one[0] == "bind" and one[2] == step[2])
    why = {
        E2BIG: f"it has more than {step[5]} entries or {step[6]} bytes, is very deep, or holds a device",
        EACCES: "it holds a file that cannot be read",
        ENOSPC: "it does not fit into the disk limit",
    }.get(errno, base_errno_words.errno_words(errno))
    return CapsuleError(
        "E2008",
        f"the workspace `{path}` cannot be copied: {why}",
        details={"path": path, "errno": errno},
        hint="share it as `cow`, or raise `--memory` (`resources.memory_bytes`) and `--disk` (`resources.disk_bytes`) if it is "
        "too large",
    )


def _guard_error(step: tuple[str, ...], errno: int) -> CapsuleError:
    path, why = step[1] + step[4], base_errno_words.errno_words(errno)
    details: dict[str, object] = {"step": "guard", "path": path, "errno": errno}
    if errno == ENOSPC or errno in EXHAUSTED:
        hint = (
            "raise `fs.inotify.max_user_instances` and `fs.inotify.max_user_watches`, or run fewer sandboxes at a time"
        )
        return CapsuleError("E6003", f"cannot watch `{path}`: {why}", details=details, hint=hint)
    hint = "share the directory `ro` or copy-on-write, where a mask needs no watch"
    return CapsuleError(
        "E2004", f"cannot watch `{path}`, which is masked in the sandbox: {why}", details=details, hint=hint
    )


def _launcher_error(errno: int, sources: int = 0) -> CapsuleError:
    """The error of a launcher that could not go on, if no step of the plan failed."""
    what = "the sandbox could not continue"
    if errno == EPROTO:
        return CapsuleError("E6002", "a process that builds the sandbox was killed during setup")
    if errno in EXHAUSTED:
        return exhaustion(errno, what, sources=sources)
    if errno == base_errno_words.EFBIG:
        return base_shortage.short_of(errno)
    code = "E6003" if errno in (EAGAIN, ENOSPC) else "E2002"
    return CapsuleError(code, f"{what}: {base_errno_words.errno_words(errno)}", details={"errno": errno})


def _error_without_step(step: tuple[str, ...], errno: int, plan: Plan) -> CapsuleError | None:
    """The error if the step is not to blame: the host is short of something, or a process was killed. None otherwise."""
    verb = step[0]
    if verb == "end" or errno == EPROTO:
        return _launcher_error(errno, _sources(plan))
    if errno in EXHAUSTED and not (verb == "exe" and errno == ENOMEM):
        return exhaustion(errno, plan_describe.describe(step, plan), sources=_sources(plan))
    if errno in (EAGAIN, base_errno_words.EFBIG) and verb not in ("exe", "attest"):
        hint = base_errno_words.FILE_SIZE_HINT if errno == base_errno_words.EFBIG else None
        message = f"{plan_describe.describe(step, plan)}: {base_errno_words.errno_words(errno)}"
        return CapsuleError("E6003", message, details={"step": verb, "errno": errno}, hint=hint)
    return None


def _sources(plan: Plan) -> int:
    return sum(step[0] in ("source", "inner-source") for step in plan.room)


def _exec_error(path: str, errno: int, plan: Plan) -> CapsuleError:
    command = next(step[1] for step in plan.payload if step[0] == "arg")
    details: dict[str, object] = {"command": command, "errno": errno}
    if errno == E2BIG:
        return CapsuleError("E3008", "arguments and environment are too long for the kernel", details=details)
    if errno == ENOENT:
        return CapsuleError(
            "E3001", f"command not found: `{command}`", details=details,
        )  # fmt: skip
    return CapsuleError("E3002", f"cannot execute `{path}`: {base_errno_words.errno_words(errno)}", details=details)


def judge(finished: FinishedRun) -> tuple[Status, int, str | None, Failure | None]:
    """Status, exit code, signal name and failure of a run whose command started. The first reason is the cause."""
    report = finished.report
    streams_held_open = _streams_held_open(report)
    if report.lifted is not None:
        return (
            KILLED,
            KILLED_EXIT,
            "SIGKILL",
            _replaced_path(finished.policy.cover.guards[report.lifted].place).failure(),
        )
    if report.exited == 0 and not (
        report.killed or report.stdout.over or report.stderr.over or report.stream_errors or streams_held_open
    ):
        return SUCCESS, 0, None, None
    status, code, signal, failure = _judge_unclean(finished, streams_held_open=streams_held_open)
    if failure is not None and status in (KILLED, TIMEOUT) and signal is not None and report.stdout.total == 0:
        failure = replace(failure, message=failure.message + LOST_OUTPUT)
    return status, code, signal, failure


def _judge_unclean(finished: FinishedRun, *, streams_held_open: bool) -> tuple[Status, int, str | None, Failure | None]:
    report = finished.report
    error = evidence.stream(finished)
    if error is not None:
        broken_pipe = error.details["errno"] == EPIPE
        return ERROR, BROKEN_PIPE_EXIT if broken_pipe else 125, None, error.failure()
    error = evidence.output(finished)
    if error is None and (report.killed == "clock" or (streams_held_open and not report.killed)):
        error = evidence.fork_storm(finished)
    if error is None and report.killed == "clock":
        return TIMEOUT, 124, "SIGKILL", evidence.timed_out(finished).failure()
    if error is None and report.killed == "memory":
        error = evidence.memory(finished)
    if error is None and report.killed == "cpu":
        error = evidence.cpu_time(finished, "watch")
    if error is None and report.killed == "syscall":
        error = CapsuleError("E5001", "the command made a system call that the policy forbids")
    if error is not None:
        return KILLED, KILLED_EXIT, "SIGKILL", error.failure()
    if report.killed == "caller" or (report.signalled is not None and report.signalled == finished.cancelled_by):
        number = finished.cancelled_by or 15
        error = CapsuleError("E3007", f"cancelled by {signal_name(number)}", details={"signal": number})
        return KILLED, 128 + number, "SIGKILL" if report.killed else signal_name(number), error.failure()
    if report.killed == "failed" and report.failed is not None:
        return ERROR, 125, None, _launcher_error(report.failed.errno).failure()
    if report.exited is None and report.signalled is None:
        if evidence.out_of_memory(finished):  # the kernel killed init along with the command
            return KILLED, KILLED_EXIT, "SIGKILL", evidence.memory(finished).failure()
        error = CapsuleError(
            "E6002",
            "the sandbox's init process was killed from outside: no process is left running",
            hint="the usual cause is that the host ran out of memory: check its kernel log",
        )
        return ERROR, 125, None, error.failure()
    return _judge_exit(finished)


def _streams_held_open(report: Report) -> bool:
    """Whether a process still held the streams open `DRAIN_MS` after the command ended."""
    times = report.times
    return times["ended"] > 0 and times["reported"] - times["ended"] >= DRAIN_MS * 1_000_000


def _judge_exit(finished: FinishedRun) -> tuple[Status, int, str | None, Failure | None]:
    report = finished.report
    if report.signalled is None:
        code = report.exited or 0
        if code == 0:  # it exited before it could be killed
            return SUCCESS, 0, None, None
        error = evidence.limit_behind_exit(finished)
        if error is not None:
            return KILLED, KILLED_EXIT, None, error.failure()
        stderr = evidence.stderr(finished)
        line = explaining_line.quoted(stderr, finished.stdout)
        message = f"the command exited with code {code}" + (f": {line}" if line else "")
        hint = hints.of_run(finished, stderr)
        if not hint and code == 128 + SIGSEGV:  # a shell says so of its child
            hint = stack_hint.stack_hint(finished)
        hint = hint or hints.of_crowd(finished)
        return ERROR, code, None, CapsuleError("E3003", message, details={"exit_code": code}, hint=hint).failure()
    number, name = report.signalled, signal_name(report.signalled)
    if number == SIGSYS:
        error = CapsuleError(
            "E5001", "the command made a system call that the policy forbids", details={"signal": name}
        )
        return KILLED, KILLED_EXIT, name, error.failure()
    error = evidence.limit_behind_signal(finished, number) or evidence.limit_behind_exit(finished)
    if error is not None:
        return KILLED, KILLED_EXIT, name, error.failure()
    hint = hints.of_run(finished, evidence.stderr(finished))
    if not hint and number == SIGSEGV:
        hint = stack_hint.stack_hint(finished)
    hint = hint or hints.of_crowd(finished)
    details: dict[str, object] = {"signal": name, "number": number}
    error = CapsuleError("E3005", f"the command was terminated by {name}", details=details, hint=hint)
    return ERROR, 128 + number, name, error.failure()


def _none_counted(file: str, content: str) -> bool:
    """Whether a cgroup file counts neither a refused fork nor a process killed for memory."""
    if file == "pids.events":
        return content.startswith("max 0")
    return file not in ("memory.events", "memory.oom_control") or "oom_kill 0" in content


def limits_hit(finished: FinishedRun, failure: Failure | None) -> tuple[dict[str, object], ...]:
    """The limits that were reached but did not end the run. Most runs reach none, and then `evidence` is not loaded."""
    record, report = finished.record, finished.report
    is_near_a_limit = (
        report.stdout.over
        or report.stderr.over
        or (record.disk is not None and metrics.is_full(record.disk))
        or (record.tasks is not None and record.tasks.most >= finished.policy.max_pids)
        or not all(_none_counted(file, content) for file, content in record.cgroup_files.items())
    )
    if not is_near_a_limit:
        return ()
    return evidence.limits_hit(finished, failure.code if failure is not None else "")
