"""What launcher and init keep in memory while a command runs: their PSS, from the kernel's own account."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from measure import Row, absent, interleaved, judged, median
from start import cli_path

PROCESSES = (2, 3)  # launcher and init; and the watcher, where no cgroup counts memory or CPU time
TARGET_MIB = {"musl": 0.4, "other": 1.0}


def core_file() -> Path:
    import capsule_run

    return Path(capsule_run.__file__).parent / "_core"


def is_small(core: Path) -> bool:
    """Whether this is the musl build: glibc's static one is over half a megabyte, and a dynamic one needs its libc."""
    text = core.read_bytes()
    return len(text) < 200_000 and b"ld-linux" not in text


def processes_of(core: Path, above: int) -> list[Path]:
    """The descendants of a process that run this very file, whatever they call it."""
    wanted = core.stat()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            exe = folder.joinpath("exe").stat()
        except OSError:
            continue  # gone, a kernel thread, or not ours to look at
        if (exe.st_dev, exe.st_ino) == (wanted.st_dev, wanted.st_ino) and is_below(int(folder.name), above):
            found.append(folder)
    return found


def is_below(pid: int, above: int) -> bool:
    """Whether a process is a descendant of another, by proc_pid_stat(5)."""
    while pid not in (0, above):
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == above


def pss_kib(process: Path) -> float:
    for line in process.joinpath("smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1])
    return 0.0  # a process that has just ended


def sample(cli: str, core: Path) -> float:
    """PSS of all of them, in MiB, while the command sleeps."""
    argv = [cli, "--", "sh", "-c", "echo up; exec sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        run.stdout.readline()
        time.sleep(0.05)  # init's last steps after it has let the command go
        try:
            found = processes_of(core, run.pid)
            if len(found) not in PROCESSES:
                raise RuntimeError(
                    f"{len(found)} processes run the core, expected launcher and init, and perhaps the watcher"
                )
            return sum(map(pss_kib, found)) / 1024
        finally:
            run.terminate()
            run.stdout.read()


def rows(rounds: int) -> list[Row]:
    cli = cli_path()
    name = "launcher + init, PSS"
    if cli is None:
        return [absent(name, "capsule-run is not installed")]
    core = core_file()
    libc = "musl" if is_small(core) else "other"
    try:
        figures = interleaved({name: lambda: sample(cli, core)}, rounds, warm_up=0)[name]
    except PermissionError:
        return [absent(name, "init is non-dumpable: needs root to look at")]
    return [judged(name, median(figures), "MiB", TARGET_MIB[libc], note=f"{libc} libc")]
