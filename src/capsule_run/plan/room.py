"""Compile a policy to the room's half of a plan: the steps that build the sandbox, in order.

Pure. docs/plan-format.md lists the verbs, docs/order-of-operations.md explains their order. The core rejects a plan whose
steps are out of order, or that lacks a mandatory step.
"""

from __future__ import annotations

from capsule_run._base.lexical_paths import HOME, SCRATCH_PLACES, VAR_TMP, WORKSPACE, within
from capsule_run.model.plan import Plan
from capsule_run.model.policy import TRANSIENT
from capsule_run.model.request import COPY, COPY_ON_WRITE, READ_ONLY
from capsule_run.plan import payload
from capsule_run.plan.preamble import GROUP_NAME, preamble_steps
from capsule_run.policy.mounts import scratch_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Secrets
    from capsule_run.model.plan import Step
    from capsule_run.model.policy import Policy
    from capsule_run.model.source import CopiedFile, Source


# The build directory is one tmpfs: `new` is the future root, and the writable directories lie beside it.
NEW = "/new"
WORKSPACE_DIR, WORK_DIR, EMPTY_DIR = "/workspace", "/work", "/empty"
LOWER_DIR, NAMES_DIR = "/lower", "/names"  # of overlays, followed by a number: 0 is the workspace's
LAYER_DIR = "/layer"  # the disk layer, with `upper` and `work` in it
EMPTY_FILE = "/nothing"  # an empty file
MEMINFO_FILE = "/meminfo"
# In proc(5)'s order; what is not here is 0 for those who look for it, or left out as in older kernels.
_NOT_FREE = "Buffers Cached SwapCached Active Inactive SwapTotal SwapFree Shmem Slab SReclaimable".split()
SETUP_MS = 10_000
FILL_BYTES_PER_MS = 10_000  # slower than this, and set-up took too long
# Our own files and mount points are added to the limit, exact to the page and the inode, so that the program can use all of
# it. HIDDEN_INODES are those that file systems create themselves: their roots, an overlay's work directory.
LARGEST_PAGE = {"x86_64": 4096}  # elsewhere a kernel may have been built for pages of 64 KiB
HIDDEN_INODES = 17
# Without a network: a documentation address (RFC 5737), to which there is no route, so that every resolver is refused at
# once. musl waits for an answer all the same, for as long as `timeout` says, and other libraries read 0 as one second.
UNREACHABLE_RESOLVER = "nameserver 192.0.2.1\noptions timeout:0 attempts:1\n"


class _Sources:
    """Mount sources. Each is opened once; later steps refer to it by number."""

    def __init__(self, *, privileged: bool) -> None:
        self.verb = "source" if privileged else "inner-source"
        self.steps: list[Step] = []
        self.idmaps: list[Step] = []
        self._slots: dict[tuple[str, bool, str], str] = {}

    def slot(self, source: Source, mode: str, *, idmap: bool = False) -> str:
        """Return the number of a source. Mounts of one source share its flags, which are only ever added to."""
        key = (source.path, idmap, mode)
        if key not in self._slots:
            self._slots[key] = slot = str(len(self.steps))
            self.steps.append((self.verb, source.path, str(source.device), str(source.inode)))
            if idmap:
                self.idmaps.append(("idmap", slot, str(source.owner), str(source.group)))
        return self._slots[key]


class _Tree:
    """Directories, files and links to create on the tmpfs, each once."""

    def __init__(self) -> None:
        self._beneath: dict[str, list[Step]] = {}  # by parent directory
        self._filled: list[Step] = []
        self.copied_sizes: list[int] = []  # bytes
        self._made = {"/", NEW}

    def directory(self, path: str, mode: str = "0755") -> None:
        if path in self._made:
            return
        self._made.add(path)
        self._add(path, ("dir", path, mode))

    def file(self, path: str, text: str, mode: str = "0644") -> None:
        if path in self._made:
            return
        self._made.add(path)
        self._add(path, ("file", path, mode, text))

    def fill(self, path: str, stream: int, mode: int, size: int) -> None:
        self._made.add(path)
        self.directory(path.rpartition("/")[0] or "/")
        self._filled.append(("fill", str(stream), path, f"{mode:04o}", str(size)))

    def copy(self, copied: CopiedFile) -> None:
        place = NEW + copied.place
        self._add(place, ("copy", copied.path, str(copied.device), str(copied.inode), place, "0644"))
        self.copied_sizes.append(copied.size)

    def names(self, place: str, names: Secrets) -> None:
        """Create the overlay layer that hides secrets by name, whatever the host creates in the directory below it."""
        self.directory(place, f"{names.mode:04o}")
        for path, mode in names.directories:
            self.directory(f"{place}/{path}", f"{mode:04o}")
        for path, target in names.links:
            self.link(f"{place}/{path}", target)
        for path in names.absent:
            self._add(f"{place}/{path}", ("whiteout", f"{place}/{path}"))

    def link(self, path: str, target: str) -> None:
        self._add(path, ("symlink", path, target))

    def _add(self, path: str, step: Step) -> None:
        parent = path.rpartition("/")[0] or "/"
        if parent not in self._beneath:
            self.directory(parent)
            self._beneath[parent] = []
        self._beneath[parent].append(step)

    def steps(self) -> list[Step]:
        """Return the steps: parents first, siblings together (the core opens their directory once), filled files last."""
        made = [step for parent in sorted(self._beneath) for step in self._beneath[parent]]
        return made + self._filled


def _root(policy: Policy, made: list[Step], copied_sizes: list[int]) -> Step:
    """Return the step for the tmpfs: its size is the disk limit plus our own files. Files of the request count as used.

    One inode for each 4 KiB, between bounds: an empty file costs the kernel about 1 KiB.
    """
    ours = [step for step in made if step[0] != "fill"]
    page = LARGEST_PAGE.get(policy.architecture, 65_536)
    texts = [step[3].encode("utf-8", "surrogateescape") for step in ours if step[0] == "file"]
    pages = sum([-(-size // page) for size in [*map(len, texts), *copied_sizes]])
    inodes = min(max(policy.disk_bytes >> 12, 1024), 1 << 20) + len(ours) + HIDDEN_INODES
    return ("root", str(policy.disk_bytes + pages * page), str(inodes))


def _etc(policy: Policy, tree: _Tree) -> None:
    """Create the sandbox's own accounts, groups and name lookup in /etc."""
    user, group, name = policy.user, policy.group, "root" if policy.user == 0 else "user"
    groups = [("root" if group == 0 else "user", group), ("nogroup", 65534)]
    accounts = [
        (name, user, group, HOME, "/bin/sh"),
        ("nobody", 65534, 65534, "/nonexistent", "/usr/sbin/nologin"),
    ]
    if user != 0:
        accounts.insert(0, ("root", 0, 0, "/root", "/usr/sbin/nologin"))
    if group != 0:
        groups.insert(0, ("root", 0))
    texts = {
        "passwd": "".join(
            f"{account}:x:{uid}:{gid}:{account}:{home}:{shell}\n" for account, uid, gid, home, shell in accounts
        ),
        "group": "".join(f"{account}:x:{gid}:\n" for account, gid in groups),
        "hostname": f"{policy.hostname}\n",
        "host.conf": "multi on\n",  # else glibc finds one address of `localhost` only
        "hosts": f"127.0.0.1\tlocalhost {policy.hostname}\n::1\tlocalhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
        "resolv.conf": policy.resolv_conf if policy.network else UNREACHABLE_RESOLVER,
    }
    taken = {bound.destination for bound in policy.binds}
    if policy.gitconfig:
        texts["gitconfig"] = policy.gitconfig
    for file, text in texts.items():
        if f"/etc/{file}" not in taken:
            tree.file(f"{NEW}/etc/{file}", text)
    for copied in policy.etc_copied:
        if copied.place not in taken:
            tree.copy(copied)
    if policy.localtime:
        tree.link(f"{NEW}/etc/localtime", policy.localtime)


def _meminfo(policy: Policy) -> str:
    """Return the /proc/meminfo of a machine that has as much memory as the command may use, nearly all of it free.

    Programs take it for granted that something is used; libuv's own tests do.
    """
    total = policy.visible_memory_bytes >> 10
    sizes = {"MemTotal": total, **dict.fromkeys(("MemFree", "MemAvailable"), total - total // 64)}
    sizes.update(dict.fromkeys(_NOT_FREE, 0))
    return "".join(f"{name + ':':<15} {kib:>8} kB\n" for name, kib in sizes.items())


def _dev(policy: Policy, tree: _Tree) -> None:
    for name, _source in policy.devices:
        tree.file(f"{NEW}/dev/{name}", "")
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        tree.link(f"{NEW}/dev/{name}", f"/proc/self/fd{target}")
    tree.link(f"{NEW}/dev/ptmx", "pts/ptmx")


def _build_path(policy: Policy, path: str) -> str:
    """Return where a path of the sandbox is created: in the new root, or beside it if a writable directory shows it."""
    for place, scratch, _mode in (*SCRATCH_PLACES, VAR_TMP):
        if within(path, place):
            return scratch + path[len(place) :]
    if within(path, WORKSPACE) and policy.workspace_kind in TRANSIENT:
        return WORKSPACE_DIR + path[len(WORKSPACE) :]
    return NEW + path


def _overlays(policy: Policy) -> dict[int, Secrets]:
    """Return the hidden names of each overlay by its number: 0 is the workspace's, binds count from 1."""
    found = {number: bound.names for number, bound in enumerate(policy.binds, 1) if bound.names is not None}
    return found if policy.cover.workspace_names is None else {0: policy.cover.workspace_names, **found}


def _mount_points(policy: Policy, tree: _Tree) -> None:
    for place in ("/proc", "/dev/pts", WORKSPACE):
        tree.directory(NEW + place)
    for place, scratch, mode in scratch_places(policy.binds):
        tree.directory(NEW + place)
        tree.directory(scratch, mode)
    tree.directory(WORKSPACE_DIR)
    if policy.workspace_kind == COPY_ON_WRITE:
        tree.directory(WORK_DIR)
    for number, names in _overlays(policy).items():
        tree.directory(f"{LOWER_DIR}{number}")
        tree.names(f"{NAMES_DIR}{number}", names)
    if policy.upper is not None:
        tree.directory(LAYER_DIR)
    trees = tuple([f"{bound.destination}/" for bound in policy.binds])
    for bound in policy.binds:
        if bound.destination.startswith(trees):
            continue  # it lies in another bind, which must contain the mount point
        path = _build_path(policy, bound.destination)
        if bound.source.is_directory:
            tree.directory(path)
        else:
            tree.file(path, "")
    if within(policy.working_directory, WORKSPACE) and policy.workspace_kind in TRANSIENT:
        tree.directory(_build_path(policy, policy.working_directory))


def _links(policy: Policy, tree: _Tree) -> None:
    var_tmp = VAR_TMP in scratch_places(policy.binds)
    for path, target in policy.links:
        in_tmp = not var_tmp and within(path, VAR_TMP[0])  # which is then a link to /tmp
        tree.link(_build_path(policy, f"/tmp{path[len(VAR_TMP[0]) :]}" if in_tmp else path), target)
    if not var_tmp:
        tree.link(f"{NEW}/var/tmp", "../tmp")


_WRITABLE = tuple([f"{place}/" for place in (WORKSPACE, "/tmp", "/dev/shm", HOME, "/var/tmp")])


def _binds(policy: Policy, sources: _Sources, *, in_writable: bool) -> list[Step]:
    """Return the steps for the binds in writable directories, which must be mounted first, or for the others."""
    steps: list[Step] = []
    for number, bound in enumerate(policy.binds, 1):
        if f"{bound.destination}/".startswith(_WRITABLE) != in_writable:
            continue
        slot = sources.slot(bound.source, bound.mode, idmap=bound.idmap)
        place = NEW + bound.destination
        steps += _read_only_overlay(slot, number, place) if bound.names else [("bind", slot, place, bound.mode)]
    return steps


def _read_only_overlay(slot: str, number: int, place: str) -> list[Step]:
    names, lower = f"{NAMES_DIR}{number}", f"{LOWER_DIR}{number}"
    return [("bind", slot, lower, READ_ONLY), ("overlay-ro", names, lower, place)]


def _mounts(policy: Policy, sources: _Sources) -> list[Step]:
    """Return the mounts, outer before inner, so that each mount point exists."""
    steps = _binds(policy, sources, in_writable=False)
    for name, source in policy.devices:
        steps.append(("bind", sources.slot(source, "dev"), f"{NEW}/dev/{name}", "dev"))
    for place, scratch, _mode in scratch_places(policy.binds):
        steps.append(("inner-bind", scratch, NEW + place, "rw"))
    steps += _workspace_mounts(policy, sources)
    steps += _binds(policy, sources, in_writable=True)
    for place, is_directory in policy.cover.masks:
        steps.append(("inner-bind", EMPTY_DIR if is_directory else EMPTY_FILE, NEW + place, READ_ONLY))
    for place in policy.workspace_places:  # after all that is mounted in the workspace, which comes along
        steps.append(("inner-bind", NEW + WORKSPACE, NEW + place, "rw"))
    steps += (("proc", f"{NEW}/proc", policy.proc_mode), ("devpts", f"{NEW}/dev/pts"))
    return steps + _proc_covers(policy, sources)


def _proc_covers(policy: Policy, sources: _Sources) -> list[Step]:
    """Return the steps that mask names in /proc, and make others read-only unless all of it is."""
    steps: list[Step] = [("inner-bind", MEMINFO_FILE, f"{NEW}/proc/meminfo", READ_ONLY)]
    null = sources.slot(dict(policy.devices)["null"], "dev")
    for name, cover in policy.proc_covers:
        place = f"{NEW}/proc/{name}"
        if cover != READ_ONLY:
            steps.append(
                ("inner-bind", EMPTY_DIR, place, READ_ONLY) if cover == "dir" else ("bind", null, place, READ_ONLY)
            )
        elif policy.proc_mode != READ_ONLY:
            steps.append(("inner-bind", place, place, READ_ONLY))
    return steps


def _workspace_mounts(policy: Policy, sources: _Sources) -> list[Step]:
    place = NEW + WORKSPACE
    layer: list[Step] = []
    upper, work = WORKSPACE_DIR, WORK_DIR
    if policy.upper is not None:
        layer.append(("bind", sources.slot(policy.upper.source, "rw"), LAYER_DIR, "rw"))
        upper, work = f"{LAYER_DIR}/upper", f"{LAYER_DIR}/work"
    if policy.workspace is None or (policy.workspace_kind == COPY and policy.tree_copy is None):
        return [*layer, ("inner-bind", upper, place, "rw")]
    slot = sources.slot(policy.workspace, policy.workspace_kind, idmap=policy.workspace_idmap)
    names, lower = f"{NAMES_DIR}0", f"{LOWER_DIR}0"
    if policy.workspace_kind in (COPY, COPY_ON_WRITE):
        steps: list[Step] = [*layer, ("bind", slot, lower, READ_ONLY)]
        if policy.tree_copy is not None:
            entries, most_bytes = policy.tree_copy
            steps.append(("copy-tree", names, lower, upper, place, str(entries), str(most_bytes)))
        if policy.workspace_kind == COPY_ON_WRITE:
            steps.append(("overlay", names, lower, upper, work, place))
        return steps
    if policy.cover.workspace_names is not None:
        return _read_only_overlay(slot, 0, place)
    return [("bind", slot, place, policy.workspace_kind)]


def _tree(policy: Policy, stream_fd: int) -> _Tree:
    """Return everything that is created before the first mount."""
    tree = _Tree()
    tree.directory(EMPTY_DIR, "0555")
    tree.file(MEMINFO_FILE, _meminfo(policy), "0444")
    if policy.cover.masks:
        tree.file(EMPTY_FILE, "", "0444")
    for path, mode in policy.transfer.directories:
        tree.directory(f"{WORKSPACE_DIR}/{path}", f"{mode:04o}")
    _mount_points(policy, tree)
    _etc(policy, tree)
    _dev(policy, tree)
    _links(policy, tree)
    for path, target in policy.transfer.links:
        tree.link(f"{WORKSPACE_DIR}/{path}", target)
    for file in policy.transfer.files:
        tree.fill(f"{WORKSPACE_DIR}/{file.path}", stream_fd, file.mode, file.size)
    return tree


def _in_layer(step: Step) -> bool:
    return step[2 if step[0] == "fill" else 1].startswith(f"{WORKSPACE_DIR}/")


def layer_steps(policy: Policy) -> list[Step]:
    """Return the steps that lie in the workspace's writable layer; `workspace.disk_layer` carries them out if that is on disk."""
    return [step for step in _tree(policy, 0).steps() if _in_layer(step)]


def steps_after_preamble(policy: Policy, *, stream_fd: int = 0, share: bool = False) -> tuple[Step, ...]:
    """Return the steps of the first half after the preamble, up to where the sandbox waits for a payload.

    :param stream_fd: the number of the descriptor that `fill` steps read from.
    :param share: send descriptors of the root and of the namespaces with `ready`, for those who join it (`plan.join`).
    """
    sources, tree = _Sources(privileged=policy.identity.privileged), _tree(policy, stream_fd)
    made = tree.steps()
    if policy.upper is not None:
        made = [step for step in made if not _in_layer(step)]
    mounts = _mounts(policy, sources)
    filling_ms = sum([file.size for file in policy.transfer.files]) // FILL_BYTES_PER_MS
    if policy.tree_copy is not None and policy.workspace_kind == COPY:
        filling_ms += policy.tree_copy[1] // FILL_BYTES_PER_MS
    steps: list[Step] = [("setup-clock", str(SETUP_MS + filling_ms))]
    steps += [
        ("guard", guard.source.path, str(guard.source.device), str(guard.source.inode), guard.path)
        for guard in policy.cover.guards
    ]
    if policy.identity.privileged:
        steps += sources.steps + sources.idmaps
    else:
        steps += sources.steps
    steps.append(_root(policy, made, tree.copied_sizes))
    steps += made
    steps += mounts
    steps += [("sysctl", name, value) for name, value in policy.sysctls]
    if not policy.network:
        steps.append(("network",))
    steps += (("readonly",), ("pivot",), ("hostname", policy.hostname))
    if share or policy.transfer.offers_workspace:
        steps.append(("offer", "/" if share else WORKSPACE))
    if policy.transfer.offers_layer:
        steps.append(("offer-layer", WORKSPACE_DIR))
    if share:
        steps.append(("share",))
    return tuple(steps)


def room_steps(policy: Policy, *, group_name: str = GROUP_NAME) -> tuple[Step, ...]:
    """Return the first half. `group_name` is the name of the cgroup that init is cloned into, if any."""
    preamble = preamble_steps(policy.identity, policy.limit_mechanisms.groups, network=policy.network, name=group_name)
    return (*preamble, *steps_after_preamble(policy))


def compile_plan(policy: Policy) -> Plan:
    """Compile the plan that enforces `policy`."""
    return Plan(room=room_steps(policy), payload=payload.payload_steps(policy))
