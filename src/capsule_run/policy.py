"""From what was asked and what the host offers to what will be enforced, with nothing left open.

Rank 1: pure. Every default is filled here, every refusal that needs the host is raised here, and nothing behind this
module is optional.
"""

from __future__ import annotations

from ._value import value
from .errors import CapsuleError
from .model import (
    COPY_ON_WRITE,
    DEFAULT_CPU_SHARES,
    DEFAULT_MAX_OUTPUT_BYTES,
    DEFAULT_MAX_PIDS,
    DEFAULT_MEMORY_BYTES,
    DEFAULT_TIMEOUT_MS,
    DEFAULT_WORKING_DIRECTORY,
    KILL,
    READ_ONLY,
    READ_WRITE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import Host, Source
    from .model import Request

WORKSPACE = "/workspace"
ELOOP = 40
DEFAULT_MAX_OPEN_FILES = 1024
DEFAULT_USER = 1000
DEFAULT_HOSTNAME = "capsule"
DRAIN_MS = 250
SETUP_MS = 10_000
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
SHIM_DIRECTORY = "/run/capsule/bin"
SHIMMED = ("python", "python3")
# Directories that are the sandbox's own: nothing of the host may be put over them.
SYSTEM_DIRECTORIES = (
    "/",
    "/bin",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
)
# Beneath these, too: they are read-only trees of the host, or the kernel's own.
SYSTEM_TREES = ("/bin", "/dev", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run/capsule", "/sbin", "/sys", "/usr")
# Writable, private and empty in every sandbox: asking for one of them asks for what is there already.
PRIVATE_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm", WORKSPACE)
# How the workspace came about; the result says which.
PRIVATE = "private"


@value
class BoundPath:
    """A host object at a place inside. `idmap`: shown as the sandbox's own, though root owns it on the host."""

    source: Source
    destination: str
    mode: str
    idmap: bool


@value
class Policy:
    """What will be enforced. The plan is made from this and nothing else."""

    architecture: str
    command: tuple[str, ...]
    candidates: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    working_directory: str
    has_stdin: bool
    timeout_ms: int
    memory_bytes: int
    cpu_shares: int
    nice: int
    cpu_mechanism: str
    max_output_bytes: int
    on_output_limit: str
    max_pids: int
    max_open_files: int
    max_file_bytes: int
    disk_bytes: int
    network: bool
    user: int
    hostname: str
    outside_uid: int
    outside_gid: int
    privileged: bool
    drop_groups: bool
    profile: str
    landlock_required: bool
    workspace_kind: str
    workspace: Source | None
    workspace_idmap: bool
    binds: tuple[BoundPath, ...]
    devices: tuple[tuple[str, Source], ...]
    system_links: tuple[tuple[str, str], ...]
    proc_masked: tuple[tuple[str, bool], ...]
    localtime: str
    resolv_conf: str
    etc_texts: tuple[tuple[str, str], ...]
    python_shims: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def within(path: str, tree: str) -> bool:
    """Whether `path` is `tree` or lies beneath it (by whole components: /homestead is not within /home)."""
    return path == tree or path.startswith(tree if tree.endswith("/") else tree + "/")


def normal(path: str) -> str:
    """The absolute path without empty, `.` and `..` components, by its text alone."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _existing(host: Host, asked: str, field: str) -> Source:
    source = host.sources[asked]
    if source.error == ELOOP:
        raise CapsuleError(
            "E2004",
            f"{field}: `{asked}` leads through a symbolic link to `{source.path}`",
            details={"path": source.path, "errno": ELOOP},
            hint=f"name `{source.path}` itself, if that is what you mean",
        )
    if source.error:
        reason = {2: "no such file or directory", 13: "permission denied"}.get(source.error, f"errno {source.error}")
        raise CapsuleError(
            "E2004", f"{field}: cannot show `{asked}`: {reason}", details={"path": source.path, "errno": source.error}
        )
    return source


def _destination(path: str, field: str) -> str:
    path = normal(path)
    if path in SYSTEM_DIRECTORIES or any(within(path, tree) for tree in SYSTEM_TREES):
        raise CapsuleError(
            "E1005",
            f"{field}: `{path}` belongs to the sandbox itself",
            hint="choose a destination such as `/data` or one beneath `/workspace`",
        )
    return path


def _shown_already(path: str) -> bool:
    """Whether a read-only path is part of every sandbox: /usr and what /bin and its like lead to."""
    return any(within(path, tree) for tree in SYSTEM_TREES if tree not in ("/dev", "/proc", "/sys", "/run/capsule"))


def _user_binds(request: Request, host: Host) -> list[BoundPath]:
    wanted: list[tuple[str, str, str, str]] = []
    isolation = request.isolation
    for index, path in enumerate(isolation.readonly_paths):
        if not _shown_already(normal(path)):
            wanted.append((path, path, READ_ONLY, f"isolation.readonly_paths[{index}]"))
    for index, path in enumerate(isolation.writable_paths):
        if normal(path) not in PRIVATE_DIRECTORIES:
            wanted.append((path, path, READ_WRITE, f"isolation.writable_paths[{index}]"))
    for index, bind in enumerate(isolation.binds):
        wanted.append((bind.source, bind.destination, bind.mode, f"isolation.binds[{index}]"))
    bound: list[BoundPath] = []
    for asked, destination, mode, field in wanted:
        source = _existing(host, asked, field)
        place = _destination(destination, field)
        if any(other.destination == place for other in bound):
            raise CapsuleError("E1009", f"{field}: `{place}` is bound already")
        bound.append(BoundPath(source=source, destination=place, mode=mode, idmap=_owned_by_root(source, host)))
    return bound


def _owned_by_root(source: Source, host: Host) -> bool:
    """A privileged caller's own files would be a stranger's inside, where root is not root: show them as the sandbox's."""
    return host.privileged and host.idmap and source.owner == 0


def _python_binds(host: Host) -> list[BoundPath]:
    """The interpreter's trees that lie outside /usr, each where it is on the host: its files name each other by path."""
    bound: list[BoundPath] = []
    for prefix in sorted(host.python_prefixes):
        source = host.sources.get(prefix)
        home = normal(host.home) if host.home.startswith("/") else "/root"
        if source is None or within(prefix, "/usr") or within(home, prefix) or prefix in SYSTEM_DIRECTORIES:
            continue
        if not any(within(prefix, other.destination) for other in bound):
            bound.append(BoundPath(source=source, destination=prefix, mode=READ_ONLY, idmap=False))
    return bound


def _workspace(request: Request, host: Host) -> tuple[str, Source | None, bool]:
    """The workspace's kind, source, and whether it is shown through an id map: the best that this host allows."""
    wanted = request.isolation.workspace
    if wanted is None:
        return PRIVATE, None, False
    source = _existing(host, wanted.source, "isolation.workspace")
    if not source.is_directory:
        raise CapsuleError("E2008", f"isolation.workspace: `{wanted.source}` is not a directory")
    mode = wanted.mode if wanted.mode != COPY_ON_WRITE or host.overlay else READ_ONLY
    return mode, source, _owned_by_root(source, host)


def _inside_path(host: Host, binds: list[BoundPath], shims: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    python_directory = host.python.rsplit("/", 1)[0]
    first = [python_directory] if any(within(python_directory, bound.destination) for bound in binds) else []
    return (*first, *([SHIM_DIRECTORY] if shims else []), *SYSTEM_PATH)


def _shims(host: Host, binds: tuple[BoundPath, ...]) -> tuple[tuple[str, str], ...]:
    """`python` and `python3` as links to our interpreter where it is the system's, which may have no `python` at all."""
    if not within(host.python, "/usr") and any(within(host.python, bound.destination) for bound in binds):
        return ()
    return tuple((name, host.python) for name in SHIMMED)


def _candidates(command: str, path: str, directory: str, lacking: tuple[str, ...]) -> tuple[str, ...]:
    """Where to look for the command inside. Never empty: what is nowhere is tried once, and reported as not found."""
    if "/" in command:
        return (normal(command if command.startswith("/") else f"{directory}/{command}"),)
    parts = [part for part in path.split(":") if part.startswith("/") and part not in lacking]
    if command not in SHIMMED:
        parts = [part for part in parts if part != SHIM_DIRECTORY]
    places = dict.fromkeys(normal(f"{part}/{command}") for part in parts)
    return tuple(places) or (normal(f"/usr/bin/{command}"),)


def _environment(request: Request, path: tuple[str, ...], user: int) -> tuple[tuple[str, str], ...]:
    variables = {
        "PATH": ":".join(path),
        "HOME": WORKSPACE,
        "LANG": "C.UTF-8",
        "USER": "root" if user == 0 else "user",
        "TMPDIR": "/tmp",
    }
    variables.update(request.environment)
    return tuple(variables.items())


def _given(asked: int | None, default: int) -> int:
    return default if asked is None else asked


def _all_binds(host: Host, python: list[BoundPath], user: list[BoundPath]) -> tuple[BoundPath, ...]:
    """The system's trees and files, then the others from the root outwards. What the request binds wins over Python's."""
    paths = ["/usr", *(f"/{name}" for name, target in host.system_links.items() if not target), *host.etc_paths]
    system = [
        BoundPath(source=host.sources[path], destination=path, mode=READ_ONLY, idmap=False)
        for path in paths
        if path in host.sources
    ]
    taken = {bound.destination for bound in user}
    others = [bound for bound in python if bound.destination not in taken] + user
    return (*system, *sorted(others, key=lambda one: one.destination.count("/")))


def _nice(shares: int) -> int:
    """The nice value whose weight is nearest to `shares`: each level is 1.25 times less (sched(7)); never more than usual."""
    level, weight = 0, float(DEFAULT_CPU_SHARES)
    while level < 19 and weight / 1.25**0.5 > shares:
        level, weight = level + 1, weight / 1.25
    return level


def _devices(host: Host) -> tuple[tuple[str, Source], ...]:
    return tuple((path[5:], source) for path, source in host.sources.items() if path in host.devices)


def resolve(request: Request, host: Host, *, streams_stdin: bool = False) -> Policy:
    """Decide everything; `streams_stdin` says that the door has a descriptor for the command to read from.

    Raises CapsuleError: E1005, E1009 for contradictions, E2004, E2008 for paths, E2007 for `require`.
    """
    isolation, resources = request.isolation, request.resources
    _require(request, host)
    python_binds = _python_binds(host)
    binds = _all_binds(host, python_binds, _user_binds(request, host))
    shims = _shims(host, binds)
    user = _given(isolation.user, DEFAULT_USER)
    environment = _environment(request, _inside_path(host, python_binds, shims), user)
    directory = normal(isolation.working_directory or DEFAULT_WORKING_DIRECTORY)
    kind, workspace, workspace_idmap = _workspace(request, host)
    shares = _given(resources.cpu_shares, DEFAULT_CPU_SHARES)
    nice = _nice(shares)
    memory_bytes = _given(resources.memory_bytes, DEFAULT_MEMORY_BYTES)
    disk_bytes = _given(resources.disk_bytes, memory_bytes)
    return Policy(
        architecture=host.architecture,
        command=request.command,
        candidates=_candidates(request.command[0], dict(environment).get("PATH", ""), directory, host.lacking),
        environment=environment,
        working_directory=directory,
        has_stdin=streams_stdin or request.stdin is not None,
        timeout_ms=_given(request.timeout_ms, DEFAULT_TIMEOUT_MS),
        memory_bytes=memory_bytes,
        cpu_shares=shares,
        nice=nice,
        cpu_mechanism="nice" if shares <= DEFAULT_CPU_SHARES else "none",
        max_output_bytes=_given(resources.max_output_bytes, DEFAULT_MAX_OUTPUT_BYTES),
        on_output_limit=request.on_output_limit or KILL,
        max_pids=_given(resources.max_pids, DEFAULT_MAX_PIDS),
        max_open_files=_given(resources.max_open_files, DEFAULT_MAX_OPEN_FILES),
        max_file_bytes=_given(resources.max_file_bytes, disk_bytes),
        disk_bytes=disk_bytes,
        network=bool(isolation.network),
        user=user,
        hostname=isolation.hostname or DEFAULT_HOSTNAME,
        outside_uid=host.outside_uid,
        outside_gid=host.outside_gid,
        privileged=host.privileged,
        drop_groups=host.uid == 0 and host.outside_uid != 0,
        profile="default",
        landlock_required="landlock" in request.require,
        workspace_kind=kind,
        workspace=workspace,
        workspace_idmap=workspace_idmap,
        binds=binds,
        devices=_devices(host),
        system_links=tuple((name, target) for name, target in host.system_links.items() if target),
        proc_masked=host.proc_masked,
        localtime=host.localtime,
        resolv_conf=host.resolv_conf,
        etc_texts=host.etc_texts,
        python_shims=shims,
        notes=_notes(request, kind),
    )


def _notes(request: Request, kind: str) -> tuple[str, ...]:
    wanted = request.isolation.workspace
    if wanted is not None and wanted.mode == COPY_ON_WRITE and kind != COPY_ON_WRITE:
        return ("this host has no overlay file system for ordinary users: the workspace is read-only",)
    return ()


def _require(request: Request, host: Host) -> None:
    """Preconditions that can be judged before anything runs; what only the core can tell is judged from its report."""
    for name in request.require:
        if name == "overlay" and not host.overlay:
            raise CapsuleError(
                "E2007", "required `overlay`, but this host has no overlay file system for ordinary users"
            )
        if name in ("cgroup2", "cgroup1", "seccomp_notify"):
            raise CapsuleError("E2007", f"required `{name}`, but no limit of this run would stand on it")
