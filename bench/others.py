"""What a start costs with other sandboxes, each with the least options that isolate: those that are on PATH, interleaved.

docs/comparison.md has the figures. Debian has packages of bubblewrap, firejail, runsc (gVisor) and docker.io; nsjail, minijail
and isolate are measured where they were built by hand.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Row, absent, interleaved, median, milliseconds, percentile
from start import bwrap_argv, captured

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGE = "capsule-run-bench"
# Name → the program that must be on PATH, and the command line before `true`.
OTHERS = {
    "firejail": ("firejail", "firejail --noprofile --quiet --private --net=none --caps.drop=all --seccomp"),
    "gVisor, runsc do": ("runsc", "runsc --rootless --network=none do"),
    "nsjail": ("nsjail", "nsjail -Q -Mo -R /usr -R /bin -R /lib -R /lib64 --disable_rlimits --"),
    "minijail": ("minijail0", "minijail0 -U -m -M -v -p -e -l -N -n --"),
}


def docker_argv() -> list[str]:
    """A container without network that sees the host's /usr read-only. Raises RuntimeError if no daemon answers."""
    answer = subprocess.run(["docker", "version", "-f", "{{.Server.Version}}"], capture_output=True, text=True)
    if answer.returncode != 0:
        raise RuntimeError("no daemon answers")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("usr", "proc", "sys", "dev", "tmp", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        for name in ("bin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
    subprocess.run(["docker", "import", "-", IMAGE], input=archive.getvalue(), capture_output=True, check=True)
    return ["docker", "run", "--rm", "--network", "none", "-v", "/usr:/usr:ro", IMAGE]


def cases() -> tuple[dict[str, Callable[[], float]], list[Row]]:
    """The cases that work here, each tried once, and the rows of the others with the reason."""
    found: dict[str, list[str]] = {"no sandbox": []}
    missing: list[Row] = []
    if shutil.which("bwrap"):
        found["bubblewrap"] = bwrap_argv()
    else:
        missing.append(absent("bubblewrap", "bwrap is not on PATH"))
    for name, (program, line) in OTHERS.items():
        if shutil.which(program):
            found[name] = line.split()
        else:
            missing.append(absent(name, f"{program} is not on PATH"))
    if shutil.which("docker"):
        try:
            found["Docker, docker run"] = docker_argv()
        except (RuntimeError, subprocess.CalledProcessError) as error:
            missing.append(absent("Docker, docker run", str(error)))
    else:
        missing.append(absent("Docker, docker run", "docker is not on PATH"))
    working: dict[str, Callable[[], float]] = {}
    for name, argv in found.items():
        try:
            subprocess.run([*argv, "/bin/true"], capture_output=True, check=True, timeout=60)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            missing.append(absent(name, str(error)))
        else:
            working[name] = milliseconds(lambda argv=argv: captured([*argv, "/bin/true"]))
    return working, missing


def rows(rounds: int) -> list[Row]:
    """Medians, and each as a multiple of the start of `capsule_run.run` in the same run."""
    try:
        from capsule_run import Pool, run
    except ImportError:
        return [absent("others", "capsule-run is not installed")]
    working, missing = cases()
    working["capsule_run.run"] = milliseconds(lambda: run(["/bin/true"]).check())
    command = Path(shutil.which("capsule-run") or "")
    if command.is_file():
        working["capsule-run -q -- true"] = milliseconds(
            lambda: captured([str(command), "-q", "--no-workspace", "--", "/bin/true"])
        )
    with Pool(size=2) as pool:
        pool.wait_ready()

        def pooled() -> float:
            timed = milliseconds(lambda: pool.run(["/bin/true"]).check())()
            pool.wait_ready()  # what fills the pool again must not slow the next case
            return timed

        working["capsule_run.Pool"] = pooled
        samples = interleaved(working, rounds)
    ours = median(samples["capsule_run.run"])
    table = [
        Row(name, median(figures), "ms", percentile(figures, 0.25), f"{median(figures) / ours:.2f} × capsule_run.run")
        for name, figures in samples.items()
    ]
    return [*sorted(table, key=lambda row: row.value or 0), *missing]
