"""What a sandbox and its processes use now: `Sandbox.metrics` and `Sandbox.processes`."""

from __future__ import annotations

from capsule_run._base.value import Value
from capsule_run.host import process_usage
from capsule_run.sandbox.snapshot import PLACES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.engine.session import Session
    from capsule_run.host.process_usage import SandboxProcess


class SandboxMetrics(Value):
    """What a sandbox uses now."""

    commands: int
    """Commands that run."""
    processes: int
    """Processes that they have started, themselves included."""
    cpu_ms: float
    """CPU time of all commands, with those that have ended."""
    memory_bytes: int
    """Memory now; files in memory count only if `memory_is_exact`."""
    memory_is_exact: bool
    """Whether a cgroup of the sandbox counted it; else it is the sum of what processes do not share with files."""
    memory_limit_bytes: int
    """The sandbox's limit."""
    disk_bytes: int
    """What lies in HOME and the temporary directories, and in a workspace that starts empty."""


def metrics_of(session: Session) -> SandboxMetrics:
    """Return what a sandbox uses now. Raises CapsuleError if it has ended."""
    files = session.files()
    used = [found for pid in session.launchers if (found := process_usage.of_tree(pid)) is not None]
    exact = process_usage.cgroup_memory_of(session.pid)
    return SandboxMetrics(
        commands=len(used),
        processes=sum(one.processes for one in used),
        cpu_ms=sum(one.cpu_ms for one in used) + session.ended_cpu_ms,
        memory_bytes=sum(one.memory_bytes or 0 for one in used) if exact is None else exact,
        memory_is_exact=exact is not None,
        memory_limit_bytes=session.policy.memory_bytes,
        disk_bytes=sum(dict(map(files.used_bytes, PLACES)).values()),
    )


def processes_of(session: Session) -> tuple[SandboxProcess, ...]:
    """Return the processes in a sandbox now. Raises CapsuleError if it has ended."""
    session.check_alive()
    return tuple(found for pid in session.launchers for found in process_usage.processes_of(pid))
