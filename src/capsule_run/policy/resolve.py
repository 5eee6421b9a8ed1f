"""Resolve a request and the facts about the host to a `Policy`: everything that will be enforced.

Pure. Fills every default (`limits.limits` fills those of `resources`, `workspace` those of collected files) and raises every
error that depends on the host. No field is optional after this.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.lexical_paths import HOME, normal
from capsule_run._base.value import replace
from capsule_run.model.host import NONE
from capsule_run.model.policy import UNCOVERED, Calls, OwnPath, Policy, Watched
from capsule_run.model.request import (
    COPY,
    COPY_ON_WRITE,
    DEFAULT_CPU_SHARES,
    DEFAULT_HOSTNAME,
    DEFAULT_PROFILE,
    DEFAULT_STACK_BYTES,
    DEFAULT_USER,
    DEFAULT_WORKING_DIRECTORY,
    KILL,
    KILL_ATTACKS,
    PROFILE_ALIASES,
    READ_ONLY,
    READ_WRITE,
    REFUSE,
)
from capsule_run.policy import limits as policy_limits
from capsule_run.policy import mounts, secret_masks, sysv
from capsule_run.policy import own_path as policy_own_path
from capsule_run.policy import workspace as policy_workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Cgroups, Host, Identity
    from capsule_run.model.optional import Recipe, Upper
    from capsule_run.model.policy import BoundPath, Cover, Limits
    from capsule_run.model.request import Request, Resources
    from capsule_run.model.source import Source


STRICT = "strict"
# Variables with the number of processors, which override the kernel's count: for nproc, OpenMP and numeric libraries; for
# Python from 3.13 on; for Go. With a quota they are the quota, rounded up (docs/decisions/processor-count.md).
PROCESSOR_COUNTS = ("OMP_NUM_THREADS", "PYTHON_CPU_COUNT", "GOMAXPROCS")
DRAIN_MS = 250
BEYOND_DISK = 1 << 20  # a file that fills the disk gets ENOSPC, not SIGXFSZ for its own limit


def size_variables(memory_bytes: int) -> dict[str, str]:
    """Return the heaps of runtimes that do not look for a limit themselves (docs/decisions/memory-size.md)."""
    return {
        "GOMEMLIMIT": str(memory_bytes // 8 * 7),
        "NODE_OPTIONS": f"--max-old-space-size={max(memory_bytes * 3 >> 22, 1)}",
    }


def _environment(request: Request, path: tuple[str, ...], user: int, memory_bytes: int) -> tuple[tuple[str, str], ...]:
    variables = {
        "PATH": ":".join(path),
        "HOME": HOME,
        "LANG": "C.UTF-8",
        "USER": "root" if user == 0 else "user",
        "TMPDIR": "/tmp",
        "PYTHONUNBUFFERED": "1",  # keeps output that was printed before a timeout or a kill (docs/decisions/partial-output.md)
        **size_variables(memory_bytes),
        # leak checkers stop their own threads by ptrace(2), which is refused, and then fail every program at its end
        "LSAN_OPTIONS": "detect_leaks=0",
    }
    quota = request.resources.cpu_quota
    if quota is not None:
        variables.update(dict.fromkeys(PROCESSOR_COUNTS, str(max(1, -int(-quota // 1)))))
    variables.update(request.environment)
    return tuple(variables.items())


def _watched(request: Request, host: Host) -> Watched:
    return Watched(
        cpu_time_ms=request.resources.cpu_time_ms,
        processors=host.processors,
        postmortem=request.postmortem is not False,
        ledger=bool(request.ledger),
    )


def _nice(shares: int) -> int:
    """Return the nice value with the weight nearest to `shares`: each level divides it by 1.25 (sched(7)). Never negative."""
    level, weight = 0, float(DEFAULT_CPU_SHARES)
    while level < 19 and weight / 1.25**0.5 > shares:
        level, weight = level + 1, weight / 1.25
    return level


def _ids_of(user: int | str) -> tuple[int, int]:
    """Return user and group id of a checked `user` field; one number is both."""
    first, colon, second = str(user).partition(":")
    return int(first), int(second if colon else first)


def _max_file_bytes(resources: Resources, limits: Limits, upper: Upper | None) -> int:
    private_bytes = limits.disk_bytes if upper is None else max(limits.disk_bytes, upper.bytes)
    return policy_limits.given_or(resources.max_file_bytes, private_bytes + BEYOND_DISK)


def resolve(
    request: Request, host: Host, *, cgroups: Cgroups = NONE, streams_stdin: bool = False, recipe: Recipe | None = None
) -> Policy:
    """Resolve a request on a host to the policy to enforce. `recipe` is the profile, if it is not a shipped one.

    :raises CapsuleError: E1005, E1009, E2004, E2007, E2008, E2009.
    """
    isolation, resources = request.isolation, request.resources
    _require(request, host)
    binds = mounts.every_bind(host, python_binds := mounts.python_binds(host), mounts.user_binds(request, host))
    user, group = _ids_of(DEFAULT_USER if isolation.user is None else isolation.user)
    kind, workspace, workspace_idmap = mounts.workspace(request, host)
    shown, directory = _own_path(request, host, (kind, workspace), binds, shims := mounts.shims(host, binds))
    limits, mechanisms = policy_limits.of_request(request, cgroups)
    visible_bytes = min(limits.memory_bytes, host.memory_bytes)
    environment = _environment(request, mounts.inside_path(host, python_binds, shims), user, visible_bytes)
    cover = _cover(host, kind, shown.binds, workspace)
    files = policy_workspace.resolve(request, host, kind, cover.places(shown.binds), limits)
    return Policy(
        architecture=host.architecture,
        command=request.command,
        candidates=mounts.candidates(request.command[0], dict(environment).get("PATH", ""), directory, host.lacking),
        environment=environment,
        working_directory=directory,
        has_stdin=streams_stdin or request.stdin is not None,
        timeout_ms=policy_limits.timeout_ms(request),
        watched=_watched(request, host),
        memory_bytes=limits.memory_bytes,
        visible_memory_bytes=visible_bytes,
        cpu_shares=limits.cpu_shares,
        nice=0 if mechanisms.holds("cpu_shares") else _nice(limits.cpu_shares),
        limit_mechanisms=policy_limits.subtract_brought_files(mechanisms, limits.memory_bytes, files.brought_bytes),
        max_output_bytes=limits.max_output_bytes,
        on_output_limit=request.on_output_limit or KILL,
        max_pids=limits.max_pids,
        max_open_files=limits.max_open_files,
        open_files_ceiling=limits.open_files_ceiling,
        stack_bytes=DEFAULT_STACK_BYTES if resources.stack_bytes is None else resources.stack_bytes,
        disk_bytes=limits.disk_bytes,
        network=bool(isolation.network),
        user=user,
        group=group,
        hostname=isolation.hostname or DEFAULT_HOSTNAME,
        identity=host.identity,
        calls=(calls := _calls(request, recipe)),
        landlock_required="landlock" in request.require,
        workspace_kind=kind,
        workspace=workspace,
        workspace_idmap=workspace_idmap,
        tree_copy=policy_workspace.tree_copy(request, host, kind, limits),
        upper=(upper := policy_workspace.upper(host, kind, workspace, shown.binds)),
        max_file_bytes=_max_file_bytes(resources, limits, upper),
        binds=shown.binds,
        devices=mounts.devices(host),
        proc_covers=host.proc_covers,
        proc_mode=READ_ONLY if calls.is_strict else READ_WRITE,
        localtime=host.localtime,
        resolv_conf=host.resolv_conf,
        etc_copied=host.etc_copied,
        gitconfig=host.gitconfig,
        links=shown.links,
        workspace_places=shown.places,
        notes=(*_notes(request, host, kind), *cover.notes, *shown.notes),
        transfer=files,
        cover=cover,
        sysctls=_sysctls(calls, host, limits.memory_bytes),
    )


def _own_path(
    request: Request,
    host: Host,
    shared: tuple[str, Source | None],
    binds: tuple[BoundPath, ...],
    shims: tuple[tuple[str, str], ...],
) -> tuple[OwnPath, str]:
    """Return the binds and links with the workspace's own path, and the working directory. `shared`: kind and directory."""
    unchanged, (kind, workspace) = OwnPath(binds=binds, links=mounts.links(host, binds, shims)), shared
    directory = normal(request.isolation.working_directory or DEFAULT_WORKING_DIRECTORY)
    if workspace is None or not host.workspace_names:
        return unchanged, directory
    return policy_own_path.resolve(host, kind, workspace, unchanged, directory)


def _cover(host: Host, kind: str, binds: tuple[BoundPath, ...], workspace: Source | None) -> Cover:
    if not host.secrets:
        return UNCOVERED

    return secret_masks.resolve(host, kind, binds, workspace)


def with_cgroups(policy: Policy, request: Request, cgroups: Cgroups) -> Policy:
    """Return the policy with the cgroups that the host offers. Raises CapsuleError E2007 as `resolve` does."""
    limits, limit_mechanisms = policy_limits.of_request(request, cgroups)
    nice = 0 if limit_mechanisms.holds("cpu_shares") else policy.nice
    return replace(
        policy,
        nice=nice,
        limit_mechanisms=policy_limits.subtract_brought_files(
            limit_mechanisms, limits.memory_bytes, policy.transfer.brought_bytes
        ),
    )


def adapted(policy: Policy, request: Request, identity: Identity, lacking: tuple[str, ...]) -> Policy:
    """Return the policy for a request that differs only in command and input, with the identity of this run.

    `lacking`: the directories that do not have the command, as in `Host`.
    """
    path = dict(policy.environment).get("PATH", "")
    return replace(
        policy,
        command=request.command,
        candidates=mounts.candidates(request.command[0], path, policy.working_directory, lacking),
        identity=identity,
    )


def _notes(request: Request, host: Host, kind: str) -> tuple[str, ...]:
    wanted = request.isolation.workspace
    if wanted is None or wanted.mode != COPY_ON_WRITE:
        return ()
    why = "has another owner than the sandbox" if host.overlay else "cannot be overlaid on this host"
    if kind == COPY:
        return (f"the workspace is a private copy, because the directory {why}",)
    if kind != COPY_ON_WRITE:
        return (f"the workspace is read-only, because the directory {why} and is too large to copy",)
    return ()


def _calls(request: Request, recipe: Recipe | None) -> Calls:
    profile = request.profile or DEFAULT_PROFILE
    name = recipe.extends if recipe else profile
    if name == STRICT and request.on_violation == REFUSE:
        raise CapsuleError("E1009", "`on_violation`: `refuse` contradicts profile `strict`, which always kills")
    return Calls(
        profile=PROFILE_ALIASES.get(profile, profile),
        recipe=recipe,
        on_violation=request.on_violation or KILL_ATTACKS,
        listener_required="seccomp_notify" in request.require,
        makes_sysv=profile != STRICT if recipe is None else sysv.may_make(recipe),
    )


def _sysctls(calls: Calls, host: Host, memory_bytes: int) -> tuple[tuple[str, str], ...]:
    """Return the limits of System V objects, if the profile can make them and the kernel lets us limit them."""
    if not calls.makes_sysv or host.kernel < policy_limits.SYSV_WRITABLE_SINCE:
        return ()
    return policy_limits.sysv_sysctls(memory_bytes, host.page_bytes)


def _require(request: Request, host: Host) -> None:
    """Raise E2007 for a required mechanism that the host lacks. What only the core can find out is in its report."""
    for name in request.require:
        if name == "overlay" and not host.overlay:
            raise CapsuleError(
                "E2007", "required `overlay`, but this host has no overlay file system for ordinary users"
            )
