"""Map limits to cgroup controllers: files to write before the run and counters to read after it, for v1 and v2.

Pure. `cgroup.discover` finds where cgroups can be created, `cgroup.create` creates what is decided here, and
`result.metrics` and `result.verdict` read the counters.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.model.policy import _USAGE, Decision, Group, Limits, Setting
from capsule_run.model.request import (
    DEFAULT_CPU_SHARES,
    DEFAULT_MAX_OPEN_FILES,
    DEFAULT_MAX_OUTPUT_BYTES,
    DEFAULT_MAX_PIDS,
    DEFAULT_MEMORY_BYTES,
    DEFAULT_OPEN_FILES_CEILING,
    DEFAULT_TIMEOUT_MS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Cgroups, Place
    from capsule_run.model.policy import Policy
    from capsule_run.model.request import Request, Resources


CGROUP1, CGROUP2 = "cgroup1", "cgroup2"
PERIOD_US = 100_000  # the kernel's own default for quotas
OWN_PROCESSES = 1  # init is a member of the cgroup, and does not count for the command
MIN_CGROUP_BYTES = (
    1 << 20
)  # smallest limit of a cgroup that init can enter and in which the kernel finds a process to kill
MEMORY, PROCESSES, CPU, IO, ACCOUNT = (
    "memory",
    "pids",
    "cpu",
    "io",
    "cpuacct",
)  # cpuacct: only version 1, and only for counting

# System V objects (shared memory, semaphores, message queues) hold memory that no process shows. The room's own ipc
# namespace limits them by sysctls; message queues of POSIX are limited by RLIMIT_MSGQUEUE.
SYSV_WRITABLE_SINCE = (6, 9)  # the first kernel that lets the root of an ipc namespace write its sysctls
# The classic defaults are 32,000 semaphores in sets of 250. A semaphore takes 64 to 128 bytes, and a process that uses
# SEM_UNDO twice as many bytes a set as the set has semaphores: 16 KiB at most, as much as its kernel stack.
SEMAPHORES = "64 4096 32 64"  # in a set, in all, operations in a call, sets
# A queue holds as many messages as bytes, and the shortest message takes 64: 8 MiB in all.
QUEUES, QUEUE_BYTES, MESSAGE_BYTES, SEGMENTS = 16, 8192, 8192, 256

NEEDED = (MEMORY, PROCESSES)  # in a hierarchy of version 2; the others are optional


_FILES2 = {
    MEMORY: ("memory.peak", "memory.events", "memory.pressure"),
    PROCESSES: ("pids.events", "pids.peak"),
    CPU: ("cpu.stat", "cpu.pressure"),
    IO: ("io.stat", "io.pressure"),
}
_FILES1 = {
    MEMORY: ("memory.max_usage_in_bytes", "memory.oom_control"),
    PROCESSES: ("pids.events", "pids.peak"),
    CPU: ("cpu.stat", _USAGE),  # the second if cpu and cpuacct are one hierarchy, as is usual
    IO: ("blkio.throttle.io_service_bytes", "blkio.throttle.io_serviced"),
    ACCOUNT: (_USAGE,),
}


def given_or(value: int | None, default: int) -> int:
    """Return a field of a request, or its default if it was not given."""
    return default if value is None else value


def timeout_ms(request: Request) -> int:
    """Return the wall-clock limit of a request: the only place with its default."""
    return given_or(request.timeout_ms, DEFAULT_TIMEOUT_MS)


def limits(resources: Resources) -> Limits:
    """Return the limits of a request: the only place with the defaults of `resources`."""
    memory_bytes = given_or(resources.memory_bytes, DEFAULT_MEMORY_BYTES)
    asked = (
        ("rbps", resources.io_read_bps),
        ("wbps", resources.io_write_bps),
        ("riops", resources.io_read_iops),
        ("wiops", resources.io_write_iops),
    )
    return Limits(
        memory_bytes=memory_bytes,
        max_pids=given_or(resources.max_pids, DEFAULT_MAX_PIDS),
        cpu_shares=given_or(resources.cpu_shares, DEFAULT_CPU_SHARES),
        cpu_quota=resources.cpu_quota,
        io=tuple((name, rate) for name, rate in asked if rate is not None),
        counts_cpu=resources.cpu_time_ms is not None,
        # files are memory: the disk has to be full before the memory is
        disk_bytes=given_or(resources.disk_bytes, memory_bytes // 8 * 7),
        max_output_bytes=given_or(resources.max_output_bytes, DEFAULT_MAX_OUTPUT_BYTES),
        max_open_files=given_or(resources.max_open_files, DEFAULT_MAX_OPEN_FILES),
        open_files_ceiling=given_or(resources.max_open_files, DEFAULT_OPEN_FILES_CEILING),
    )


def weight(shares: int) -> int:
    """Return cpu.weight for cpu.shares, as container engines convert it: 2–262144 → 1–10000."""
    return 1 + (shares - 2) * 9999 // 262_142


def _quota_us(quota: float | None) -> int | None:
    return None if quota is None else max(round(quota * PERIOD_US), 1000)  # the kernel accepts no less than 1 ms


def _settings2(controller: str, limits: Limits, disks: tuple[str, ...]) -> list[Setting]:
    quota = _quota_us(limits.cpu_quota)
    if controller == MEMORY:
        swap = Setting(file="memory.swap.max", text="0", optional=True)
        return [
            Setting(file="memory.max", text=str(limits.memory_bytes)),
            swap,
            Setting(file="memory.oom.group", text="1"),
        ]
    if controller == PROCESSES:
        return [Setting(file="pids.max", text=str(limits.max_pids + OWN_PROCESSES))]
    if controller == CPU:
        most = f"{'max' if quota is None else quota} {PERIOD_US}"
        return [Setting(file="cpu.weight", text=str(weight(limits.cpu_shares))), Setting(file="cpu.max", text=most)]
    rates = " ".join(f"{name}={rate}" for name, rate in limits.io)
    return [Setting(file="io.max", text=f"{disk} {rates}") for disk in disks if rates]


_BLKIO = {
    "rbps": "blkio.throttle.read_bps_device",
    "wbps": "blkio.throttle.write_bps_device",
    "riops": "blkio.throttle.read_iops_device",
    "wiops": "blkio.throttle.write_iops_device",
}


def _settings1(controller: str, limits: Limits, disks: tuple[str, ...]) -> list[Setting]:
    quota = _quota_us(limits.cpu_quota)
    if controller == MEMORY:
        memory = str(limits.memory_bytes)
        return [
            Setting(file="memory.limit_in_bytes", text=memory),
            # memory and swap together: the same number leaves no swap; without swap accounting, swappiness 0 avoids it
            Setting(file="memory.memsw.limit_in_bytes", text=memory, optional=True),
            Setting(file="memory.swappiness", text="0", optional=True),
            # version 1 counts TCP buffers nowhere else: without this limit they held gigabytes
            Setting(file="memory.kmem.tcp.limit_in_bytes", text=str(limits.memory_bytes), optional=True),
        ]
    if controller == PROCESSES:
        return [Setting(file="pids.max", text=str(limits.max_pids + OWN_PROCESSES))]
    if controller == CPU:
        return [
            Setting(file="cpu.shares", text=str(limits.cpu_shares)),
            Setting(file="cpu.cfs_period_us", text=str(PERIOD_US), optional=quota is None),
            Setting(file="cpu.cfs_quota_us", text=str(-1 if quota is None else quota), optional=quota is None),
        ]
    if controller == ACCOUNT:
        return []
    return [Setting(file=_BLKIO[name], text=f"{disk} {rate}") for disk in disks for name, rate in limits.io]


def _group(place: Place, controllers: tuple[str, ...], limits: Limits, disks: tuple[str, ...]) -> Group:
    settings, files = (_settings2, _FILES2) if place.version == 2 else (_settings1, _FILES1)
    return Group(
        version=place.version,
        parent=place.path,
        settings=tuple(setting for name in controllers for setting in settings(name, limits, disks)),
        files=tuple(
            {
                file: None  # cpu and cpuacct are usually one hierarchy, with a file in common
                for name in controllers
                for file in files[name]
                if (place.has_peak or file != "memory.peak") and (file != _USAGE or ACCOUNT in place.controllers)
            }
        ),
    )


def _nice_or_none(shares: int) -> str:
    return "nice" if shares <= DEFAULT_CPU_SHARES else "none"


def decide(limits: Limits, offered: Cgroups, *, required: tuple[str, ...] = ()) -> Decision:
    """Choose the best mechanism that the host has for each limit.

    Raises CapsuleError E2007 for a limit that only a cgroup can hold if there is none, and if `required` (`cgroup1`,
    `cgroup2`) does not hold all limits.
    """
    controllers = [MEMORY, PROCESSES, CPU, *((IO,) if limits.io else ()), *((ACCOUNT,) if limits.counts_cpu else ())]
    limit_mechanisms: dict[str, str] = {}
    groups: list[Group] = []
    has_peak = True
    for place in sorted(offered.places, key=lambda one: -one.version):
        if limit_mechanisms.get(CPU) == CGROUP2:  # which counts CPU time, too
            controllers = [name for name in controllers if name != ACCOUNT]
        new = tuple(name for name in place.controllers if name in controllers and name not in limit_mechanisms)
        if new:
            groups.append(_group(place, new, limits, offered.disks))
            has_peak = has_peak and (place.has_peak or MEMORY not in new)
            limit_mechanisms.update((name, f"cgroup{place.version}") for name in new)
    mechanisms = [
        ("memory", limit_mechanisms.get(MEMORY, "watch")),
        ("processes", limit_mechanisms.get(PROCESSES, "rlimit")),
        ("cpu_shares", limit_mechanisms.get(CPU, _nice_or_none(limits.cpu_shares))),
    ]
    if limits.cpu_quota is not None:
        mechanisms.append(("cpu_quota", _only(limit_mechanisms.get(CPU), "resources.cpu_quota", offered)))
    if limits.io:
        if not offered.disks:
            raise CapsuleError("E2007", "an io limit was requested, but no disk holds the files that the sandbox sees")
        mechanisms.append(("io", _only(limit_mechanisms.get(IO), "resources.io_*", offered)))
    decision = Decision(groups=tuple(groups), mechanisms=tuple(mechanisms), has_peak=has_peak)
    for name in required:
        if name in (CGROUP1, CGROUP2):
            _require(name, decision, offered)
    return decision


def subtract_brought_files(decision: Decision, memory_bytes: int, brought_bytes: int) -> Decision:
    """Return the decision for a run that copies `brought_bytes` of files in, which are memory.

    A cgroup of version 1 is entered after the files were copied in and does not count them: its limit is what is left.
    """
    if not brought_bytes or decision.of(MEMORY) != CGROUP1:
        return decision
    left = str(max(memory_bytes - brought_bytes, MIN_CGROUP_BYTES))
    settings = {"memory.limit_in_bytes": left, "memory.memsw.limit_in_bytes": left}
    groups = [
        replace(
            group,
            settings=tuple(
                replace(setting, text=settings.get(setting.file, setting.text)) for setting in group.settings
            ),
        )
        for group in decision.groups
    ]
    return replace(decision, groups=tuple(groups), uncounted_bytes=brought_bytes)


def of_request(request: Request, offered: Cgroups) -> tuple[Limits, Decision]:
    """Return the limits of a request and their mechanisms. Raises as `decide` does."""
    asked = limits(request.resources)
    return asked, decide(asked, offered, required=request.require)


def _only(mechanism: str | None, field: str, offered: Cgroups) -> str:
    if mechanism is None:
        raise CapsuleError(
            "E2007", f"`{field}` needs a cgroup, and this host provides none", hint=_lacking(offered, CGROUP2)
        )
    return mechanism


def _lacking(offered: Cgroups, name: str) -> str | None:
    return dict(offered.lacking).get(name) or None


def _require(name: str, decision: Decision, offered: Cgroups) -> None:
    weak = [limit for limit, mechanism in decision.mechanisms if mechanism != name]
    if weak:
        raise CapsuleError(
            "E2007",
            f"required `{name}`, but on this host it cannot enforce {', '.join(weak)}",
            details={"required": name, "mechanisms": dict(decision.mechanisms)},
            hint=_lacking(offered, name),
        )


def sysv_sysctls(memory_bytes: int, page_bytes: int) -> tuple[tuple[str, str], ...]:
    """Names and values: shared memory is a quarter of the memory limit in all, the rest a few MiB."""
    pages = memory_bytes // 4 // page_bytes
    return (
        ("shmall", str(pages)),
        ("shmmax", str(pages * page_bytes)),
        ("shmmni", str(SEGMENTS)),
        ("sem", SEMAPHORES),
        ("msgmni", str(QUEUES)),
        ("msgmnb", str(QUEUE_BYTES)),
        ("msgmax", str(MESSAGE_BYTES)),
    )


def withholds_sysv(policy: Policy) -> bool:
    """Whether nothing would limit System V objects: neither sysctls nor a cgroup that counts their memory."""
    return policy.calls.makes_sysv and not policy.sysctls and not policy.limit_mechanisms.holds("memory")
