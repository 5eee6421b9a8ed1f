"""Compile a policy to the payload's half of a plan: limits, identity, Landlock, the filter, and the command.

Pure. `room` compiles the first half.
"""

from __future__ import annotations

from capsule_run._base.lexical_paths import WORKSPACE
from capsule_run.model.request import COPY_ON_WRITE, READ_ONLY, READ_WRITE, UNLIMITED
from capsule_run.plan.preamble import GROUP_NAME
from capsule_run.policy import limits as policy_limits
from capsule_run.policy.mounts import scratch_places
from capsule_run.policy.resolve import DRAIN_MS
from capsule_run.seccomp import filters, prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.policy import Decision, Policy

    Step = tuple[str, ...]

LOCKED_BYTES, QUEUE_BYTES, PENDING_SIGNALS = 64 << 10, 819_200, 256
RECORD_BYTES = 1 << 20  # denied calls, processes and so on: enough for thousands, and too small to fill the host
# setrlimit(2)'s numbers, which all supported architectures share.
RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_NPROC = 0, 1, 2, 3, 4, 5, 6
RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, RLIMIT_SIGPENDING = 7, 8, 9, 10, 11
RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RTTIME = 12, 13, 14, 15
SPARE_PROCESSES = 16
RECORD_ONLY_MS = str(
    1 << 53
)  # ms that no run can use: the launcher only records CPU time of children that nobody waits for
RECORD_ONLY_BYTES = str(1 << 62)  # bytes that no process can use: the launcher records peak memory and never kills
# core(5): 1 writes no core and pipes none to a helper of the host, which 0 would still do.
NO_CORE = 1
# landlock(7). Rights that change a file system, by the ABI that added them; scopes (ABI 6): abstract sockets, signals.
LANDLOCK_WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12
# Truncation (ABI 3) is left to the mounts: handling it makes every open(2), also for reading, a third slower (bench/).
LANDLOCK_REFER, LANDLOCK_SCOPES = 1 << 13, 3
LANDLOCK_FILE_RIGHTS = 1 << 1


def _most_processes(policy: Policy) -> int:
    """Return RLIMIT_NPROC. It is higher than the limit if a cgroup holds it: only the cgroup counts denied forks."""
    spare = SPARE_PROCESSES if policy.limit_mechanisms.holds("processes") else 0
    return policy.max_pids + spare


def _rlimits(policy: Policy) -> list[Step]:
    limits: tuple[tuple[int, int | str], ...] = (
        # a second limit for each process; the launcher limits the sum of all processes exactly
        (RLIMIT_CPU, UNLIMITED if policy.watched.cpu_time_ms is None else policy.watched.cpu_time_ms // 1000 + 2),
        (RLIMIT_FSIZE, policy.max_file_bytes),
        # address space is not limited: sanitizers and runtimes reserve far more than they touch, which the memory limit counts
        (RLIMIT_DATA, UNLIMITED),
        (RLIMIT_STACK, policy.stack_bytes),
        (RLIMIT_CORE, NO_CORE),
        (RLIMIT_RSS, UNLIMITED),
        (RLIMIT_NPROC, _most_processes(policy)),
        (RLIMIT_NOFILE, policy.max_open_files),
        (RLIMIT_MEMLOCK, LOCKED_BYTES),
        (RLIMIT_AS, UNLIMITED),
        (RLIMIT_LOCKS, UNLIMITED),
        (RLIMIT_SIGPENDING, PENDING_SIGNALS),
        (RLIMIT_MSGQUEUE, QUEUE_BYTES),
        (RLIMIT_NICE, 0),
        (RLIMIT_RTPRIO, 0),
        (RLIMIT_RTTIME, UNLIMITED),
    )
    # what may be raised is no limit; but the stack is memory, which is limited, and programs raise theirs as they do outside
    hard = {RLIMIT_STACK: UNLIMITED, RLIMIT_NOFILE: policy.open_files_ceiling}
    return [("rlimit", str(which), str(limit), str(hard.get(which, limit))) for which, limit in limits]


def _shares_writable(policy: Policy) -> bool:
    """Return whether the sandbox can create files in a directory of the host."""
    return any(bound.mode != READ_ONLY for bound in policy.binds) or (
        policy.workspace_kind == READ_WRITE or policy.upper is not None
    )


def _landlock(policy: Policy) -> list[Step]:
    """Return the Landlock steps, a second layer behind the mounts.

    Landlock denies signals and abstract sockets to the outside. If a host directory is writable, it also denies changes
    outside the writable places. Otherwise every host mount is read-only anyway, and file rights would make each open(2) 6 %
    slower (docs/decisions/landlock.md). In /dev only existing files can be written: devices and terminals.
    """
    changes = LANDLOCK_WRITE | LANDLOCK_REFER
    abis = ((6, changes if _shares_writable(policy) else 0, LANDLOCK_SCOPES), (2, changes, 0))
    steps: list[Step] = [("landlock", str(abi), str(rights), str(scopes)) for abi, rights, scopes in abis]
    if policy.landlock_required:
        steps.append(("landlock-required",))
    writable = {place: True for place, _scratch, _mode in scratch_places(policy.binds)}
    writable.update({WORKSPACE: True, "/dev": False, **({"/proc": False} if policy.proc_mode != READ_ONLY else {})})
    for bound in policy.binds:
        if bound.mode != READ_ONLY:
            writable[bound.destination] = bound.source.is_directory
    for path, whole in writable.items():
        steps.append(("landlock-allow", path, str(changes if whole else LANDLOCK_FILE_RIGHTS)))
    return steps


def _groups(held: Decision, name: str, first_fd: int) -> list[Step]:
    """Return the cgroup steps of the payload.

    Descriptors are numbered as in `create.ControlGroups.fds`: a parent for each cgroup, then the eventfd of version 1's memory.
    A payload that joins a room has no cgroups of its own.
    """
    steps: list[Step] = [
        ("cgroup-join", str(fd), name) for fd, group in enumerate(held.room_groups, first_fd) if group.version == 1
    ]
    for fd, group in enumerate(held.groups, first_fd):
        if group.version == 1:
            steps.append(("cgroup-enter", str(fd), name))
        steps += [("cgroup-file", str(fd), name, file) for file in group.files]
    if any(group.gives_notice for group in held.groups):
        steps.append(("memory-notice", str(first_fd + len(held.groups))))
    return steps


def _command(policy: Policy) -> list[Step]:
    return [
        *[("exe", path) for path in policy.candidates],
        *[("arg", word) for word in policy.command],
        *[("env", f"{name}={text}") for name, text in policy.environment],
    ]


def _watches(policy: Policy) -> list[Step]:
    """Return the launcher's own watches: what no cgroup of the payload alone counts, and what nothing else limits."""
    held = policy.limit_mechanisms
    steps: list[Step] = []
    if not (held.holds("memory") or held.is_within_room_memory):
        steps.append(("memory-watch", str(policy.memory_bytes)))
    elif not held.has_peak:
        steps.append(("memory-watch", RECORD_ONLY_BYTES))
    cpu_time_ms = policy.watched.cpu_time_ms
    if cpu_time_ms is not None or not held.counts_cpu:
        limit = RECORD_ONLY_MS if cpu_time_ms is None else str(cpu_time_ms)
        steps.append(("cpu-watch", limit, str(policy.watched.processors)))
    return steps


def confinement_steps(policy: Policy, *, group_name: str = GROUP_NAME, first_group_fd: int = 0) -> tuple[Step, ...]:
    """Return the first steps of the second half: all that confines the payload, which may be done before its command is known.

    :param group_name: the name of the cgroups; of a payload that joins a room, of the room's.
    :param first_group_fd: the number of the first of their descriptors.
    """
    calls = policy.calls
    program = filters.program_hex(
        calls.recipe or calls.profile,
        architecture=policy.architecture,
        network=policy.network,
        shared=_shares_writable(policy),
        on_violation=policy.calls.on_violation,
        root_inside=policy.user == 0,
    )
    if policy_limits.withholds_sysv(policy):
        program = filters.withhold_sysv(program)
    if not policy.limit_mechanisms.holds("memory"):
        program = filters.withhold_memfd(program)
    if policy.workspace is not None and policy.workspace_kind == COPY_ON_WRITE:
        program = filters.ask_for_help(program, policy.architecture)
    if policy.watched.ledger:
        program = prefix.notify_prefix(policy.architecture) + program
    steps = _groups(policy.limit_mechanisms, group_name, first_group_fd)
    steps += [("id", str(policy.user), str(policy.group)), ("umask", "0022")]
    if policy.nice:
        steps.append(("nice", str(policy.nice)))
    steps += _rlimits(policy)
    steps += (("cwd", policy.working_directory), ("new-keyring",), ("no-new-privs",), ("no-capabilities",))
    steps += _landlock(policy)
    if policy.calls.listener_required:
        steps.append(("listener-required",))
    steps += (("filter", program), ("attest",))
    return tuple(steps)


def command_steps(
    policy: Policy,
    *,
    first_fd: int = 0,
    hold: bool = False,
    keep: bool = False,
    terminal: bool = False,
    is_late: bool = False,
) -> tuple[Step, ...]:
    """Return the last steps of the second half: the command, its streams and the launcher's watches.

    :param first_fd: the number of the first of their descriptors: stdout, stderr, the record, then stdin if any, and the
        caller's terminal if the command gets one of its own.
    :param hold: run no command: the payload is confined, and then keeps the room until it is killed.
    :param keep: let live on what the command leaves running; the launcher sends `exited N` or `signalled N` when it ends.
    :param is_late: the payload was confined before; its directory may be another one now.
    """
    steps: list[Step] = [("command-cwd", policy.working_directory)] if is_late else []
    steps += [("hold",)] if hold else _command(policy)
    if policy.has_stdin:
        steps.append(("stdin", str(first_fd + 3)))
    if terminal:
        steps.append(("terminal", str(first_fd + 3 + policy.has_stdin)))
    cap, action = str(policy.max_output_bytes), policy.on_output_limit
    steps += (("stdout", str(first_fd), cap, action), ("stderr", str(first_fd + 1), cap, action))
    steps += (("clock", str(policy.timeout_ms)), ("drain", str(DRAIN_MS)))
    if keep:
        steps.append(("keep",))
    steps += _watches(policy)
    if policy.watched.postmortem:
        steps.append(("postmortem",))
    steps.append(("record", str(first_fd + 2), str(RECORD_BYTES)))
    return tuple(steps)


def payload_steps(
    policy: Policy,
    *,
    group_name: str = GROUP_NAME,
    hold: bool = False,
    keep: bool = False,
    terminal: bool = False,
) -> tuple[Step, ...]:
    """Return the second half. Descriptors sent with it: those of the command, and then the cgroups'."""
    return (
        *confinement_steps(policy, group_name=group_name, first_group_fd=3 + policy.has_stdin + terminal),
        *command_steps(policy, hold=hold, keep=keep, terminal=terminal),
    )
