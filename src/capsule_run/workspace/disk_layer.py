"""The upper layer of a workspace on the host's disk: create, fill, watch and remove it.

Each run has one private directory (mode 0700), whose name says whether its owner is dead (`host.owner_tag`). The sandbox
sees `layer` in it: `upper`, which is written to, and `work`, which overlayfs needs. docs/decisions/upper-on-disk.md
explains the limits.
"""

from __future__ import annotations

import _thread
import posix
from _stat import S_ISVTX

from capsule_run._base.errors import CapsuleError
from capsule_run._base.statuses import KILLED
from capsule_run._base.value import replace
from capsule_run.host.caller_files import open_directory, reason_of, resolve, write_all
from capsule_run.host.input_files import open_plain
from capsule_run.host.owner_tag import own_name
from capsule_run.host.path_resolution import DIRECTORY_FLAGS
from capsule_run.host.survey import stat_path
from capsule_run.host.system import capabilities
from capsule_run.host.tree_walk import used_bytes
from capsule_run.launcher import SIGKILL
from capsule_run.model.optional import Upper
from capsule_run.plan.room import WORKSPACE_DIR, layer_steps
from capsule_run.workspace.remove_tree import remove, sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from capsule_run.launcher import Run
    from capsule_run.model.optional import WorkspaceFile
    from capsule_run.model.policy import Policy
    from capsule_run.model.request import WorkspaceUpper
    from capsule_run.model.result import Result
    from capsule_run.model.source import Source

FIELD = "isolation.workspace_upper"
LAYER, UPPER, WORK = "layer", "upper", "work"
SAMPLE_SECONDS = 0.05
MAX_INCOMPLETE = (
    20  # incomplete sums in a row after which the run is ended, if the disk has lost as much as the run may take
)
KILLED_EXIT, CANCELLED = 137, "E3007"
_NEW = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
_CAPABILITIES = (("CAP_CHOWN", 0), ("CAP_DAC_OVERRIDE", 1), ("CAP_FOWNER", 3))
_COPY_BYTES = 1 << 30


def _error(path: str, why: str, *, code: str = "E2008", hint: str | None = None) -> CapsuleError:
    return CapsuleError(code, f"{FIELD}: {why}", details={"path": path}, hint=hint)


def _free_bytes(fd: int) -> int:
    found = posix.fstatvfs(fd)
    return found.f_bavail * found.f_frsize


def upper_facts(asked: WorkspaceUpper) -> Upper:
    """Check the directory and return its facts, before anything is created in it. Raises CapsuleError E2004 or E2008."""
    try:
        source = stat_path(resolve(asked.directory))
    except OSError as error:
        why, hint = reason_of(error)
        raise _error(asked.directory, f"`{asked.directory}`: {why}", code="E2004", hint=hint) from None
    if source.error:
        raise _error(source.path, f"`{asked.directory}`: {posix.strerror(source.error).lower()}", code="E2004")
    if not source.is_directory:
        raise _error(source.path, f"`{asked.directory}` is not a directory", code="E2004")
    found = posix.statvfs(source.path)
    free = found.f_bavail * found.f_frsize
    most = free // 2 if asked.bytes is None else asked.bytes
    if most > free // 4 * 3:
        raise _error(
            source.path,
            f"{most} bytes are requested, but three quarters of the free space in `{source.path}` are {free // 4 * 3}",
            hint="request less, or use a directory on a larger file system",
        )
    return Upper(directory=source.path, source=source, bytes=most, made=False)


class UpperDirectory:
    """The disk layer of one attempt. A context manager that removes it, however the run ends."""

    def __init__(self, asked: WorkspaceUpper) -> None:
        """Create the directories. Raises CapsuleError E2004 or E2008."""
        found = upper_facts(asked)
        self.full = ""  # why the run was ended, if it was
        self._incomplete = 0  # in a row
        self._name = own_name()
        self._parent = _open(found.directory)
        self._layer = -1
        self._stop, self._stopped = _thread.allocate_lock(), _thread.allocate_lock()
        self._stop.acquire()
        try:
            self._open(found)
        except OSError as error:
            self.close()
            why = posix.strerror(error.errno or 0).lower()
            raise _error(
                found.directory, f"cannot create a directory in `{found.directory}`: {why}", code="E2004"
            ) from None
        except BaseException:
            self.close()
            raise

    def _open(self, found: Upper) -> None:
        seen = posix.fstat(self._parent)
        if (seen.st_dev, seen.st_ino) != (found.source.device, found.source.inode):
            raise _error(found.directory, f"`{found.directory}` was replaced during setup", code="E2004")
        if seen.st_mode & 0o022 and not seen.st_mode & S_ISVTX:
            raise _error(
                found.directory,
                f"other users may rename files in `{found.directory}`",
                hint="remove their write permission",
            )
        sweep(self._parent)
        free = _free_bytes(self._parent)
        self._free_at_start, self._floor = free, free // 4
        posix.mkdir(self._name, 0o700, dir_fd=self._parent)
        # through descriptors: a parent directory may be replaced at any time
        own = posix.open(self._name, DIRECTORY_FLAGS, dir_fd=self._parent)
        try:
            _make_directory(LAYER, own)
            self._layer = posix.open(LAYER, DIRECTORY_FLAGS, dir_fd=own)
        finally:
            posix.close(own)
        for name in (UPPER, WORK):
            _make_directory(name, self._layer)
        source = self._source(f"{found.directory}/{self._name}/{LAYER}")
        self.facts = replace(found, source=source, made=True)

    def _source(self, path: str) -> Source:
        found = stat_path(path)
        seen = posix.fstat(self._layer)
        if (seen.st_dev, seen.st_ino) != (found.device, found.inode):
            raise _error(path, f"`{path}` was replaced during setup", code="E2004")
        return found

    def create_entries(self, policy: Policy) -> None:
        """Create what the plan has in the workspace's layer, owned by the sandbox. The sandbox does not run yet."""
        files = iter(policy.transfer.files)
        layer = f"/proc/self/fd/{self._layer}/."
        start = f"{layer}/{UPPER}"
        ids = (policy.identity.outside_uid, policy.identity.outside_gid)
        made = [layer, start, f"{layer}/{WORK}"]
        for step in layer_steps(policy):
            place = start + step[2 if step[0] == "fill" else 1].removeprefix(WORKSPACE_DIR)
            if step[0] == "dir":
                posix.mkdir(place)
                posix.chmod(place, int(step[2], 8))
            elif step[0] == "symlink":
                posix.symlink(step[2], place)
            elif step[0] == "file":
                _write(place, int(step[2], 8), step[3].encode("utf-8", "surrogateescape"))
            else:
                _create_file(place, next(files))
            made.append(place)
        if ids != (posix.geteuid(), posix.getegid()):
            _check_capabilities(self.facts.directory)
            for place in made:
                posix.chown(place, *ids, follow_symlinks=False)

    def watch(self, run: Run) -> None:
        """Check the disk in a thread until `close`, and end the run if it uses too much."""
        self._stopped.acquire()
        _thread.start_new_thread(self._watch, (run,))

    def _watch(self, run: Run) -> None:
        try:
            while not self._stop.acquire(timeout=SAMPLE_SECONDS):
                self.full = self._why_full()
                if self.full:
                    run.cancel(SIGKILL)
                    return
        finally:
            self._stopped.release()

    def _why_full(self) -> str:
        free = _free_bytes(self._parent)
        if free < self._floor:
            return f"the disk has less than {self._floor} bytes left, a quarter of the space that was free"
        if self._free_at_start - free < self.facts.bytes:  # less was written in all than this run may write
            return ""
        used, whole = used_bytes(self._layer, self.facts.bytes, stop=self._must_stop)
        if used > self.facts.bytes:
            return f"the workspace took more than {self.facts.bytes} bytes"
        self._incomplete = 0 if whole else self._incomplete + 1
        if self._incomplete < MAX_INCOMPLETE:
            return ""
        return f"the disk has {self.facts.bytes} bytes less, and the share of the workspace cannot be determined"

    def _must_stop(self) -> bool:
        """Return whether to stop counting a large layer: the run has ended, or the disk is nearly full."""
        return not self._stop.locked() or _free_bytes(self._parent) < self._floor

    def judged(self, result: Result) -> Result:
        """Return the result; if the watch ended the run, with the error E4005 in the place of the cancellation."""
        if not self.full or result.error is None or result.error.code != CANCELLED:
            return result
        error = CapsuleError(
            "E4005",
            self.full,
            details={"mount": "/workspace", "limit_bytes": self.facts.bytes},
            hint="raise SIZE in `--upper DIR:SIZE` (`isolation.workspace_upper`), or name a directory on a larger file system",
        )
        return replace(result, status=KILLED, exit_code=KILLED_EXIT, signal="SIGKILL", error=error.failure())

    def close(self) -> None:
        """Stop the watch and remove everything. What cannot be removed is left to the sweep of the next run."""
        if self._stop.locked():
            self._stop.release()
        with self._stopped:
            pass
        if self._layer >= 0:
            posix.close(self._layer)
            self._layer = -1
        if self._parent >= 0:
            try:
                remove(self._name, self._parent)
            except OSError:
                pass
            posix.close(self._parent)
            self._parent = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _check_capabilities(path: str) -> None:
    """Check that root can give the layer to the sandbox's user, and remove that user's files. Raises CapsuleError E2009."""
    has = capabilities()
    lacks = [name for name, number in _CAPABILITIES if not has >> number & 1]
    if lacks:
        raise _error(
            path,
            f"root cannot give a layer to the sandbox and remove it again without {' and '.join(lacks)}",
            code="E2009",
            hint="give the container these capabilities, run as an ordinary user, or write to memory",
        )


def _open(directory: str) -> int:
    try:
        return open_directory(directory)
    except OSError as error:
        why, hint = reason_of(error)
        raise _error(directory, f"`{directory}`: {why}", code="E2004", hint=hint) from None


def _make_directory(name: str, parent: int) -> None:
    posix.mkdir(name, 0o755, dir_fd=parent)
    posix.chmod(name, 0o755, dir_fd=parent)  # independent of the umask


def _write(place: str, mode: int, content: bytes) -> None:
    fd = posix.open(place, _NEW, 0o600)
    try:
        write_all(fd, content)
        posix.fchmod(fd, mode)
    finally:
        posix.close(fd)


def _create_file(place: str, file: WorkspaceFile) -> None:
    if file.content is not None:
        _write(place, file.mode, file.content)
        return
    source = open_plain(file.source)
    try:
        seen, at = posix.fstat(source), 0
        if (seen.st_dev, seen.st_ino) != (file.device, file.inode):
            raise CapsuleError("E2004", f"files: cannot read `{file.source}`: it was replaced by another file")
        target = posix.open(place, _NEW, 0o600)
        try:
            while at < file.size and (moved := posix.sendfile(target, source, at, min(file.size - at, _COPY_BYTES))):
                at += moved
            if at < file.size:
                raise CapsuleError("E2004", f"files: cannot read `{file.source}`: it became shorter while it was read")
            posix.fchmod(target, file.mode)
        finally:
            posix.close(target)
    finally:
        posix.close(source)
