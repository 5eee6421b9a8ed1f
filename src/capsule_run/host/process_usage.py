"""Read what the processes of a running sandbox use now, from its control group and from /proc.

What cannot be read (no CONFIG_PROC_CHILDREN, a /proc that hides processes, no control group) is absent.
"""

from __future__ import annotations

import posix

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PROCESSES = 2000  # that are looked at
_TICKS = posix.sysconf("SC_CLK_TCK")
_PAGE = posix.sysconf("SC_PAGESIZE")
_READ_BYTES = 1 << 16
_CGROUPS = "/sys/fs/cgroup"


class SandboxProcess(Value):
    """A process in a sandbox, as the host sees it now. Its name and words are what it made of them."""

    pid: int
    """Its process id on the host."""
    pid_inside: int
    """Its process id in the sandbox, in the pid namespace of its command."""
    parent_pid: int
    """The process id of its parent on the host."""
    launcher_pid: int
    """Which command it belongs to: `Process.pid`."""
    name: str
    """The name of its program, as `ps` shows it."""
    command: tuple[str, ...]
    """Its words; empty if they cannot be read."""
    state: str
    """`R` runs, `S` waits, `D` waits for a device, `T` is stopped, `Z` has ended."""
    threads: int
    """How many it has."""
    cpu_ms: int
    """Its CPU time, with that of its children that have ended."""
    memory_bytes: int
    """What it does not share with files."""


class Usage(Value):
    """What a sandbox uses now."""

    processes: int  # without our own
    cpu_ms: int  # of all processes, ended ones too
    memory_bytes: int | None
    memory_is_exact: bool  # counted by the control group; else the sum of what processes do not share with files


def of_tree(launcher: int) -> Usage | None:
    """Return the use of the sandbox that a launcher has started; None if it cannot be read."""
    init = next(_children(launcher), None)
    if init is None:
        return None
    found = _descendants(init)
    pages = ticks = 0
    for pid in (init, *found):
        ticks += _ticks(pid)
        pages += _private_pages(pid) if pid != init else 0
    memory = _cgroup_memory(init)
    return Usage(
        processes=len(found),
        cpu_ms=ticks * 1000 // _TICKS,
        memory_bytes=pages * _PAGE if memory is None else memory,
        memory_is_exact=memory is not None,
    )


def processes_of(launcher: int) -> list[SandboxProcess]:
    """Return the processes of the command that a launcher has started; those that end meanwhile are left out."""
    init = next(_children(launcher), None)
    found = [] if init is None else [_process(pid, launcher) for pid in _descendants(init)]
    return [process for process in found if process is not None]


def _process(pid: int, launcher: int) -> SandboxProcess | None:
    status = dict(line.split(":\t", 1) for line in _text(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    if "NSpid" not in status:
        return None
    return SandboxProcess(
        pid=pid,
        pid_inside=int(status["NSpid"].split()[-1]),
        parent_pid=int(status["PPid"]),
        launcher_pid=launcher,
        name=status["Name"],
        command=tuple(_text(f"/proc/{pid}/cmdline").split("\0")[:-1]),
        state=status["State"][0],
        threads=int(status["Threads"]),
        cpu_ms=_ticks(pid) * 1000 // _TICKS,
        memory_bytes=_private_pages(pid) * _PAGE,
    )


def _text(path: str) -> str:
    return _read(path).decode("utf-8", "replace")


def _read(path: str) -> bytes:
    """Return the start of a file of the kernel; empty if it cannot be read."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return posix.read(fd, _READ_BYTES)
    except OSError:
        return b""
    finally:
        posix.close(fd)


def _children(pid: int) -> Iterator[int]:
    try:
        threads = posix.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        yield from map(int, _read(f"/proc/{pid}/task/{thread}/children").split())


def _descendants(init: int) -> list[int]:
    found: list[int] = []
    waiting = [init]
    while waiting and len(found) < MAX_PROCESSES:
        children = list(_children(waiting.pop()))
        found += children
        waiting += children
    return found


def _ticks(pid: int) -> int:
    """Return the CPU time of a process and of its children that have ended and been waited for."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return sum(map(int, fields[11:15]))


def _private_pages(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return max(int(fields[1]) - int(fields[2]), 0) if len(fields) > 2 else 0


def cgroup_memory_of(launcher: int) -> int | None:
    """Return the memory that the control group of a launcher's sandbox counts; None if it has none."""
    init = next(_children(launcher), None)
    return None if init is None else _cgroup_memory(init)


def _cgroup_memory(pid: int) -> int | None:
    """Return the memory of a process's control group, of version 1 or 2; None if it has none of its own."""
    for line in _read(f"/proc/{pid}/cgroup").decode("utf-8", "replace").splitlines():
        _number, controllers, path = line.split(":", 2)
        if not path.rpartition("/")[2].startswith("capsule-"):
            continue
        if not controllers:  # version 2
            files = (f"{_CGROUPS}{path}/memory.current", f"{_CGROUPS}/unified{path}/memory.current")
        elif controllers == "memory":
            files = (f"{_CGROUPS}/memory{path}/memory.usage_in_bytes", "")
        else:
            continue
        text = next((text for file in files if (text := _read(file).strip())), b"")
        if text.isdigit():
            return int(text)
    return None
