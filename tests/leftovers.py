"""What a test left behind: processes, threads, descriptors, mounts, control groups and files.

Used by the autouse fixture of `conftest.py` around every test. It may not guess: everything that it reports belongs to
this test process, also when other test processes work on the same machine.

How each kind is distinguished from somebody else's:

processes    this process is a child subreaper, so an orphan of whatever a test started comes back to it, however it
             detached itself. What is not a descendant is not ours; what is a descendant cannot hide.
files        `TMPDIR` is a directory of this process alone; any new name in it counts. In /tmp and /dev/shm, which all
             share, only names that begin with `capsule` count.
mounts       of this mount namespace. Nothing of ours ever mounts there.
cgroups      directories `capsule-*` with no process in them, which no living run has, of this process or of one that it
             started: their names say whose they are. What a killed owner left waits for the next start to sweep it, and
             that may take a while; of such of other test processes nothing is known here.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 2.0  # the kernel takes down namespaces and closes sockets after the last process is gone
SHARED_PLACES = ("/tmp", "/dev/shm")
CGROUPS = "/sys/fs/cgroup"

# What this process itself started, since the last snapshot: pid and start time, since numbers come again in a long test.
spawned: set[str] = set()
ever_spawned: set[int] = set()


@dataclass(frozen=True, order=True)
class Leftover:
    """One thing; equal to itself in two snapshots, different from its successor under the same number."""

    kind: str
    identity: str
    seen: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.identity} {self.seen}".rstrip()


def adopt_orphans() -> None:
    """From now on every orphan below this process becomes its child, and children it starts itself are known by pid."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
    _record_spawns()


def _record_spawns() -> None:
    # A zombie child is a leak if we started it and forgot to wait, and nothing at all if it is an orphan that ended:
    # then it is for us to reap, in the place of the host's init. The kernel keeps no difference, so note who we started.
    import _posixsubprocess
    import posix
    import subprocess

    def recording(start):
        def start_and_note(*args, **kwargs):
            pid = start(*args, **kwargs)
            if pid > 0:
                spawned.add(_identity(pid))
                ever_spawned.add(pid)
            return pid

        start_and_note.is_recording = True
        return start_and_note

    names = ("posix_spawn", "posix_spawnp", "fork")
    places = [(module, name) for module in (os, posix) for name in names]
    for module, name in [*places, (_posixsubprocess, "fork_exec"), (subprocess, "_fork_exec")]:
        start = getattr(module, name, None)
        if start is not None and not hasattr(start, "is_recording"):
            setattr(module, name, recording(start))


def _identity(pid: int) -> str:
    try:
        return f"{pid}@{Path(f'/proc/{pid}/stat').read_text(errors='replace').rpartition(')')[2].split()[19]}"
    except OSError:  # another thread has reaped it
        return ""


def snapshot() -> frozenset[Leftover]:
    """Everything there is now. `spawned` starts afresh."""
    spawned.clear()
    # a group that a killed stranger left may get an owner of the same number: it was there before, no matter who that is
    return frozenset(_everything(groups_of_anybody=True))


def left_behind(before: frozenset[Leftover], grace_seconds: float | None = None) -> list[Leftover]:
    """What there is now and was not `before`. Waits only if there is something, and only until it is gone."""
    end = time.monotonic() + (GRACE_SECONDS if grace_seconds is None else grace_seconds)
    while True:
        found = sorted(set(_everything()) - before)
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.005)


def clean_up(found: list[Leftover]) -> None:
    """End the processes among `found`, so that the next test does not pay for this one."""
    for leftover in found:
        if leftover.kind == "process":
            pid = int(leftover.identity.split("@")[0])
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass  # it ended meanwhile, or its own parent is still there to reap it


def _everything(*, groups_of_anybody: bool = False) -> Iterator[Leftover]:
    yield from processes()
    yield from threads()
    yield from descriptors()
    yield from mounts()
    yield from cgroups(of_anybody=groups_of_anybody)
    yield from files()


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def processes() -> Iterator[Leftover]:
    """Every descendant. Ended orphans are reaped on the way."""
    found: list[Leftover] = []
    # No child at all is the usual case, and a thousand times cheaper to see than all of /proc. Where there are some,
    # a listing can miss what forks and ends meanwhile: then the kernel still says that there are children.
    while not found and _has_children():
        found = list(_descendants())
    yield from found


def _descendants() -> Iterator[Leftover]:
    table = _process_table()
    ours = {os.getpid()}
    grown = True
    while grown:
        more = {pid for pid, (parent, *_) in table.items() if parent in ours} - ours
        ours |= more
        grown = bool(more)
    for pid in ours - {os.getpid()}:
        parent, state, start, name = table[pid]
        if state == "Z" and parent == os.getpid() and f"{pid}@{start}" not in spawned:
            os.waitpid(pid, os.WNOHANG)
            continue
        yield Leftover("process", f"{pid}@{start}", f"{name} ({state}) {_command_line(pid)}")


def _process_table() -> dict[int, tuple[int, str, str, str]]:
    """pid → parent, state, start time, name."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended since the listing
            name, _, rest = stat.partition("(")[2].rpartition(")")
            fields = rest.split()
            table[int(entry)] = (int(fields[1]), fields[0], fields[19], name)
    return table


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def threads() -> Iterator[Leftover]:
    for thread in threading.enumerate():
        yield Leftover("thread", f"{thread.name}@{thread.ident}")


def descriptors() -> Iterator[Leftover]:
    listing = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(listing):
            if int(name) != listing:
                try:
                    yield Leftover("descriptor", f"{name} → {os.readlink(name, dir_fd=listing)}")
                except FileNotFoundError:
                    pass  # the one that os.listdir itself had open
    finally:
        os.close(listing)


def mounts() -> Iterator[Leftover]:
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        yield from _mounts_of(table.read())


@functools.lru_cache(maxsize=2)  # it is the same after nearly every test
def _mounts_of(table: str) -> list[Leftover]:
    found = []
    for line in table.splitlines():
        fields = line.split()
        kind, source = fields[fields.index("-") + 1 :][:2]
        found.append(Leftover("mount", f"{fields[0]} on {fields[4]}", f"{kind} from {source}"))
    return found


def _owned_by_another(name: str) -> bool:
    """Whether the group is of another process: of one that lives, which makes and removes one for each run, or of a stranger."""
    parts = name.split("-")
    if len(parts) != 5 or not parts[2].isdigit() or int(parts[2]) == os.getpid():
        return False
    if int(parts[2]) not in ever_spawned:
        return True
    try:
        return Path(f"/proc/{parts[2]}/stat").read_text().rpartition(")")[2].split()[19] == parts[3]
    except OSError:
        return False


def _folders_below(top: str) -> Iterator[str]:
    """Every folder below `top`; what goes away meanwhile is passed over."""
    try:
        # A folder has one link for each folder in it, beside its own two. Most groups have none, and are dear to list.
        if os.stat(top).st_nlink == 2:
            return
        found = [entry.path for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for path in found:
        yield path
        yield from _folders_below(path)


def cgroups(*, of_anybody: bool = False) -> Iterator[Leftover]:
    for folder in _folders_below(CGROUPS):
        name = os.path.basename(folder)
        if name.startswith("capsule"):
            try:
                empty = not Path(folder, "cgroup.procs").read_text()
            except OSError:
                continue  # removed since the listing, or a threaded one that somebody uses
            if empty and (of_anybody or not _owned_by_another(name)):
                yield Leftover("cgroup", folder)


def _of_another_test(name: str) -> bool:
    """Whether it is a file `capsule-canary-PID-…` that a living test process beside this one has put there for a while."""
    parts = name.split("-")
    return len(parts) > 2 and parts[1] == "canary" and parts[2] != str(os.getpid()) and Path("/proc", parts[2]).exists()


def files() -> Iterator[Leftover]:
    private = tempfile.gettempdir()
    for place in {*SHARED_PLACES, private}:
        try:
            names = os.listdir(place)
        except FileNotFoundError:
            continue
        for name in names:
            if (name.startswith("capsule") and not _of_another_test(name)) or (
                place == private and place not in SHARED_PLACES
            ):
                yield Leftover("file", f"{place}/{name}")
