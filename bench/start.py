"""What it costs to start: from a Python process that runs, as a command, and as an import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from measure import Row, absent, interleaved, judged, median, milliseconds, percentile

SDK_SHARE_OF_BWRAP, SDK_SHARE_OF_BAREST = 0.7, 0.85
CLI_OVER_BARE_MS = 8.0

# The least that deserves the name: the namespaces, /usr, /proc, /dev, /tmp. No filter, nothing of /etc, uid 0 inside.
BWRAP = (
    "bwrap --unshare-user --unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try --ro-bind /usr /usr"
    " --proc /proc --dev /dev --tmpfs /tmp --dir /workspace --chdir /workspace --die-with-parent --new-session --clearenv"
    " --setenv PATH /usr/bin:/bin --cap-drop ALL"
).split()


def bwrap_argv() -> list[str]:
    """With the links and folders that this host has in its root."""
    links: list[str] = []
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        path = Path(name)
        if path.is_symlink():
            links += ["--symlink", str(path.readlink()), name]
        elif path.exists():
            links += ["--ro-bind", name, name]
    return [*BWRAP, *links]


def same_sandbox() -> tuple[list[str], int] | None:
    """bubblewrap with what a capsule has and bubblewrap can have, too; the descriptor is the filter's, ours to rewind.

    The same filter, the same files of the host, the same masks in /proc, an unprivileged id in a second user namespace,
    a private /dev/shm. Still missing: Landlock, the memory watch, the session keyring, the synthetic accounts.
    """
    try:
        from capsule_run.host import survey
        from capsule_run.model.request import Request
        from capsule_run.seccomp import filters
    except ImportError:
        return None
    facts = survey.survey(Request(command=("true",)))
    program = filters.program_hex("default", architecture=facts.architecture, network=False)
    filter_fd = os.memfd_create("filter")
    os.write(filter_fd, bytes.fromhex(program))
    argv = [*bwrap_argv(), "--uid", "1000", "--gid", "1000", "--disable-userns", "--hostname", "capsule"]
    argv += ["--tmpfs", "/dev/shm", "--seccomp", str(filter_fd)]
    for path in facts.etc_paths:
        argv += ["--ro-bind", path, path]
    for name, cover in facts.proc_covers:  # bubblewrap itself makes others read-only
        if cover in ("dir", "file"):
            argv += ["--tmpfs", f"/proc/{name}"] if cover == "dir" else ["--ro-bind", "/dev/null", f"/proc/{name}"]
    return argv, filter_fd


def run_same(argv: list[str], filter_fd: int) -> None:
    os.lseek(filter_fd, 0, os.SEEK_SET)
    subprocess.run([*argv, "true"], capture_output=True, check=True, pass_fds=(filter_fd,))


def captured(argv: list[str]) -> None:
    subprocess.run(argv, capture_output=True, check=True)


def bare(argv: list[str]) -> None:
    """The cheapest way to start a command and wait for it: what is measured is the command."""
    null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=null)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise RuntimeError(f"{argv} ended with {status}")


class Elsewhere:
    """A case in a Python of its own, which says the milliseconds of one more for each line that it reads."""

    PROGRAM = ""

    def __init__(self, *words: str, start: tuple[str, ...] = ()) -> None:
        argv = [*start, sys.executable, "-c", self.PROGRAM, *words]
        self._python = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __call__(self) -> float:
        self._python.stdin.write("again\n")
        answer = self._python.stdout.readline()
        try:
            return float(answer)
        except ValueError:
            raise RuntimeError(f"{type(self).__name__}: {answer or 'no answer'}") from None

    def close(self) -> None:
        self._python.communicate()


class WithoutGroups(Elsewhere):
    """`capsule_run.run(["true"])` that makes no control groups: bubblewrap makes none, either."""

    PROGRAM = """
import sys
from time import perf_counter_ns
sys.path.insert(0, sys.argv[1])
from capsule_run import run
from capsule_run.cgroup import discover
discover.forget(none=True)
for _ in sys.stdin:
    start = perf_counter_ns()
    result = run(["true"])
    print((perf_counter_ns() - start) / 1e6 if result.ok else result, flush=True)
"""


class CommandWithoutGroups(Elsewhere):
    """The command where root can make no control groups either, as an ordinary user mostly cannot: all hierarchies read-only.

    In a mount namespace of its own, which has as many mounts as ours.
    """

    PROGRAM = """
import os, subprocess, sys
from time import perf_counter_ns
for line in open("/proc/self/mountinfo"):
    if " - cgroup" in line:
        subprocess.run(["mount", "-o", "remount,bind,ro", line.split()[4]], check=True)
argv = sys.argv[1:]
null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
while sys.stdin.readline():
    start = perf_counter_ns()
    status = os.waitpid(os.posix_spawn(argv[0], argv, os.environ, file_actions=null), 0)[1]
    print((perf_counter_ns() - start) / 1e6 if status == 0 else f"ended with {status}", flush=True)
"""
    START = ("unshare", "--mount", "--propagation", "private")


def cli_path() -> str | None:
    """The installed command beside this interpreter."""
    path = Path(sys.executable).parent / "capsule-run"
    return str(path) if path.exists() else None


def cases() -> tuple[dict, list[Row]]:
    """What can be measured here, and rows for what cannot."""
    python = [sys.executable, "-I", "-S", "-c"]
    usable = {
        "subprocess.run, no sandbox": milliseconds(lambda: captured(["true"])),
        "python3 -I -S -c pass": milliseconds(lambda: bare([*python, "pass"])),
    }
    missing = []
    if shutil.which("bwrap"):
        argv = [*bwrap_argv(), "true"]
        usable["subprocess.run, bubblewrap"] = milliseconds(lambda: captured(argv))
        same = same_sandbox()
        if same is not None:
            usable["subprocess.run, bubblewrap, same sandbox"] = milliseconds(lambda: run_same(*same))
    else:
        missing.append(absent("subprocess.run, bubblewrap", "needs bwrap"))
    try:
        import capsule_run

        run, place = capsule_run.run, str(Path(capsule_run.__file__).parent.parent)
    except (ImportError, AttributeError) as error:
        return usable, [*missing, absent("capsule_run", str(error))]
    usable["capsule_run.run"] = milliseconds(lambda: succeed(run(["true"])))
    usable["capsule_run.run, no control groups"] = WithoutGroups(place)
    path = f"import sys; sys.path.insert(0, {place!r}); "
    usable["import capsule_run"] = milliseconds(lambda: bare([*python, path + "import capsule_run"]))
    usable["from capsule_run import run"] = milliseconds(lambda: bare([*python, path + "from capsule_run import run"]))
    cli = cli_path()
    if cli:
        usable["capsule-run -- true"] = milliseconds(lambda: bare([cli, "--", "true"]))
        if os.geteuid() == 0 and shutil.which("unshare"):
            usable["capsule-run -- true, no control groups"] = CommandWithoutGroups(
                cli, "--", "true", start=CommandWithoutGroups.START
            )
    else:
        missing.append(absent("capsule-run -- true", f"not installed beside {sys.executable}"))
    return usable, missing


def succeed(result) -> None:
    if result.status != "success":
        raise RuntimeError(f"capsule_run.run: {result}")


def rows(rounds: int) -> list[Row]:
    usable, missing = cases()
    for name, case in list(usable.items()):
        try:
            case()
        except (RuntimeError, subprocess.CalledProcessError) as error:
            missing.append(absent(name, str(error)))
            del usable[name]
    try:
        samples = interleaved(usable, rounds)
    finally:
        for case in usable.values():
            if isinstance(case, Elsewhere):
                case.close()
    middle = {name: median(figures) for name, figures in samples.items()}
    plain, bwrap = middle["subprocess.run, no sandbox"], middle.get("subprocess.run, bubblewrap")
    table = []
    for name, value in middle.items():
        ratios = f"{value / plain:.2f} × plain" + (f", {value / bwrap:.2f} × bubblewrap" if bwrap else "")
        table.append(Row(name, value, "ms", percentile(samples[name], 0.25), ratios))
    return [*table, *missing, *verdicts(middle)]


def verdicts(middle: dict[str, float]) -> list[Row]:
    """The targets, as far as both sides were measured."""
    table = []
    floor = middle["python3 -I -S -c pass"]
    if "capsule_run.run" in middle and "subprocess.run, bubblewrap, same sandbox" in middle:
        same, barest = middle["subprocess.run, bubblewrap, same sandbox"], middle["subprocess.run, bubblewrap"]
        # like against like: what groups cost is judged by itself (cgroups.py)
        alike, usual = middle["capsule_run.run, no control groups"], middle["capsule_run.run"]
        table.append(judged("SDK cold run, share of an equivalent bubblewrap", alike / same, "×", SDK_SHARE_OF_BWRAP))
        table.append(judged("SDK cold run, share of the barest bubblewrap", alike / barest, "×", SDK_SHARE_OF_BAREST))
        table.append(Row("with control groups, of the equivalent one", usual / same, "×"))
    if "capsule-run -- true" in middle:
        usual = middle["capsule-run -- true"]
        alike = middle.get("capsule-run -- true, no control groups", usual)
        table.append(judged("CLI cold, over the bare interpreter", alike - floor, "ms", CLI_OVER_BARE_MS))
        table.append(Row("with control groups", usual - floor, "ms"))
    imports = [name for name in ("import capsule_run", "from capsule_run import run") if name in middle]
    return [*table, *(Row(f"{name}, alone", middle[name] - floor, "ms") for name in imports)]
