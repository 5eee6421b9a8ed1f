"""Fail every call that the core makes, one at a time, and see what becomes of the run.

`python tests/faults/injection.py CORE`, for a core that `build()` made: that is the core with `inject.h` in front of each of
its files. For each plan of `PLANS` the calls of each process of the core are counted, and then each of them fails with each
errno of `ERRORS`, in a run of its own. These are the rules; a run that breaks one is printed:

- a result comes, before the set-up clock, and it is not E6001 (our bug), nor an exception;
- nothing stays behind: no process, descriptor, mount, control group or file;
- what a command sees of its sandbox is what it sees when nothing fails, to the byte; a success has all that was asked for.

Prints a table of outcomes, a row for each plan, process and outcome. The exit code is 1 if a rule was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib.util
import json
import os
import re
import shutil
import signal
import struct
import sys
import tempfile
import time
import tty
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import leftovers  # noqa: E402
from capsule_run.engine import attempt, execute, fallbacks, output_pipe, session, spare  # noqa: E402
from capsule_run.engine.streams import Streams  # noqa: E402
from capsule_run.launcher import Launcher  # noqa: E402
from capsule_run.plan import room as plans  # noqa: E402
from capsule_run.policy.workspace import SMALL_ENTRIES  # noqa: E402
from capsule_run.request.arguments import request_from_arguments  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capsule_run.model.request import Request

ERRORS = ("EMFILE", "ENOMEM", "EAGAIN", "EINTR", "ENOSPC")
PROCESSES, CALLS = 640, 1024
HEAD = struct.Struct("=IIII240s")  # struct injection of inject.h: process, at, error, hit, where
SIZE = HEAD.size + 4 * PROCESSES + 4 * PROCESSES * CALLS
NAMES = {
    0: "launcher",
    1: "init",
    2: "watcher",
    3: "post-mortem",
    9: "network",
    10: "payload",
}  # of a plan that shares no network
NAMES_OF_JOINING = {0: "launcher", 1: "first", 2: "watcher", 9: "second", 73: "init", 585: "payload"}
JOINED = "joined"
TERMINAL = "terminal"
CONFINED = "confined"
SETUP_MS = 2_000
HANG_SECONDS = 8.0
PROTOCOL = "E6001"

# What a command can say of its sandbox.
_LOOK = """
cat /proc/self/status /proc/self/limits /proc/self/mountinfo /proc/self/uid_map /proc/self/gid_map
cat /proc/self/oom_score_adj /proc/sys/kernel/hostname
for name in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$name; done
nice; umask; ls /proc/self/fd /dev /; cut -d: -f1 /proc/net/dev
echo all is said
"""
_OF_STATUS = ("Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp", "Umask", "Threads")
_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
PLANS: dict[str, dict[str, object]] = {
    "plain": {"command": ["sh", "-c", _LOOK]},
    "files": {
        "command": ["sh", "-c", _LOOK + "cat in.txt kept.txt; echo new > kept.txt; echo out > out.txt"],
        "workspace": "project",
        "files": {"in.txt": "in\n"},
        "collect": ["out.txt"],
        "changes": True,
        "readonly": ["project"],
    },
    "copy": {
        "command": ["sh", "-c", _LOOK + "cat tool kept.txt; readlink link; rm tool"],
        "workspace": {"source": "copied", "mode": "copy"},
    },
    "renames": {
        "command": ["sh", "-c", _LOOK + "mv -T inner moved; cat moved/deep; ln kept.txt linked; cat linked"],
        "workspace": "project",
    },
    "watched": {
        "command": ["sh", "-c", _LOOK + "/bin/true; exec sleep 5"],
        "timeout_ms": 200,
        "ledger": True,
        "postmortem": True,
        "cpu_time_ms": 5000,
    },
    # in a room that another launcher holds, which is not injected into
    JOINED: {"command": ["sh", "-c", _LOOK], "cpu_time_ms": 5000},
    # as in a pool: the payload is confined before its command comes
    CONFINED: {"command": ["sh", "-c", _LOOK + "cat"], "stdin": b"in\n"},
    "host-net": {"command": ["sh", "-c", _LOOK], "network": True, "stdin": b"in\n"},
    TERMINAL: {"command": ["sh", "-c", "tty && " + _LOOK]},
}


class _Terminal:
    """A terminal of the caller's, of which the command's is a copy, and which nothing is passed on to."""

    def __init__(self) -> None:
        self._screen, self.fd = os.openpty()
        tty.setraw(self.fd)  # so that a line of output ends as everywhere
        self._keys, self._typed = os.pipe()
        self.streams = Streams(stdin=self._keys, on_stdout=lambda _piece: None, terminal=self)

    def started(self) -> None:
        """Leave it as it is."""

    def ended(self) -> None:
        """Leave it as it is."""

    def wait(self, control: int, outputs: list[output_pipe.OutputPipe]) -> None:
        """Keep the output."""
        output_pipe.wait_readable(control, outputs)

    def close(self) -> None:
        """Close all of it."""
        for fd in (self._screen, self.fd, self._keys, self._typed):
            os.close(fd)


class Case(NamedTuple):
    """One run: which call of which process fails with what; at 0 none does."""

    plan: str
    process: int
    at: int
    error: str


class Outcome(NamedTuple):
    """What became of a case. `broken` are the rules that it broke."""

    case: Case
    where: str
    end: str
    broken: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        plan, process, at, error = self.case
        broken = "".join(f"\n    {rule}" for rule in self.broken)
        return f"{plan} {process_name(plan, process)} call {at} {error} at {self.where} -> {self.end} {self.message}{broken}"


def process_name(plan: str, process: int) -> str:
    """Which process of the core it is."""
    if plan == JOINED:
        return NAMES_OF_JOINING.get(process, str(process))
    if process == 9 and "network" in PLANS[plan]:  # nobody makes one
        return "payload"
    return NAMES.get(process, str(process))


class HangError(Exception):
    """A run took longer than any may."""


def _hang(*_: object) -> None:
    raise HangError


def build(out: Path) -> Path:
    """The core that fails a call when it is asked to."""
    spec = importlib.util.spec_from_file_location("core_build", HERE.parent.parent / "core" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before = os.environ.get("CPPFLAGS", "")
    os.environ["CPPFLAGS"] = f"{before} -include {HERE}/inject.h"
    try:
        path: Path = module.build(out, werror=True).path
    finally:
        os.environ["CPPFLAGS"] = before
    return path


def _normal(text: str) -> str:
    """What a command says of its sandbox, without what is different in every run."""
    kept: list[str] = []
    mounts: list[str] = []
    host = {os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES}
    for line in text.splitlines():
        if re.match(r"\w+:\t", line):
            kept += [line] if line.startswith(_OF_STATUS) else []
        elif re.match(r"\w+:\[\d+\]$", line):
            kept.append(line.partition(":")[0] + (" the host's" if line in host else " its own"))
        elif re.match(r"\d+ \d+ \d+:\d+ ", line):
            mounts.append(line.split(" ", 3)[3])
        elif not line.startswith("Max pending signals"):
            kept.append(line)
    return re.sub(r"\b1[89]\d{8}\b", "OUTSIDE", "\n".join(kept + sorted(mounts)))


class Injector:
    """Runs plans on a core that `build` made. Must be in the directory that has `project`."""

    def __init__(self, core: Path) -> None:
        self.core = str(core)
        self.usual: dict[
            str, tuple[str, str, object]
        ] = {}  # how a plan ends, what its command sees, what else is reported
        self.shared = -1
        self.is_room = False
        self.seconds = 0.0  # that the last run took
        for module in (attempt, session, spare):
            module.Launcher = self._start  # type: ignore[attr-defined]  # the only way to a core's stderr
        plans.SETUP_MS = SETUP_MS
        signal.signal(signal.SIGALRM, _hang)

    def _start(self, *, path: str) -> Launcher:
        return Launcher(path=path, stderr=None if self.is_room else self.shared)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds = time.monotonic() - began

    def _perform(self, plan: str, request: Request) -> object:
        if plan == TERMINAL:
            with contextlib.closing(_Terminal()) as terminal, self._timed():
                return execute.perform(request, streams=terminal.streams, core_path=self.core)
        if plan == CONFINED:
            with self._timed(), spare.SpareRoom.build(request, core_path=self.core) as room:
                room.confine(request)
                return execute.wait(room.steps(request))
        if plan != JOINED:
            with self._timed():
                return execute.perform(request, core_path=self.core)
        self.is_room = True
        with session.Session(request, lease_ms=60_000, core_path=self.core) as holder:
            self.is_room = False
            with self._timed():
                result = execute.wait(holder.steps(request))
            assert not holder.has_ended()
            return result

    def use_own_file(self) -> None:
        """Once in each process that runs cases."""
        self.shared = os.memfd_create("injection", os.MFD_CLOEXEC)
        os.ftruncate(self.shared, SIZE)

    def _execute(self, case: Case) -> tuple[object, str]:
        """The result of one run, or the exception that a caller would see; and which call failed."""
        number = getattr(errno, case.error) if case.at else 0
        os.pwrite(self.shared, HEAD.pack(case.process, case.at, number, 0, b"") + bytes(4 * PROCESSES), 0)
        fallbacks.unsupported.clear()  # what one run has learned of the host is not for the next
        request = request_from_arguments(**PLANS[case.plan])
        signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
        try:
            result = self._perform(case.plan, request)
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            result = error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        *_, hit, where = HEAD.unpack(os.pread(self.shared, HEAD.size, 0))
        return result, where.rstrip(b"\0").decode().rpartition("/core/")[2] if hit else ""

    def _sites(self) -> dict[int, list[int]]:
        raw = os.pread(self.shared, SIZE, 0)
        counts = struct.unpack_from(f"={PROCESSES}I", raw, HEAD.size)
        start = HEAD.size + 4 * PROCESSES
        return {
            process: list(struct.unpack_from(f"={min(count, CALLS)}i", raw, start + 4 * CALLS * process))
            for process, count in enumerate(counts)
            if count
        }

    def sites(self, plan: str) -> dict[int, list[int]]:
        """Of each process, where its calls stand, of the run with most calls; learns what is usual for the plan."""
        most: dict[int, list[int]] = {}
        tries = 0
        while tries < 4 or "all is said" not in self.usual[plan][1]:  # on a busy machine a clock may come before that
            tries += 1
            if tries > 50:
                raise HangError(f"{plan}: {self.usual[plan]}")
            result, _where = self._execute(Case(plan, 0, 0, "none"))
            if isinstance(result, BaseException):
                raise result
            for process, calls in self._sites().items():
                most[process] = max(most.get(process, []), calls, key=len)
            self.usual[plan] = (_end(result), _normal(result.stdout), _facts(result))
        return most

    def run(self, case: Case) -> Outcome | None:
        """None where the call was not made this time: then nothing failed."""
        before = leftovers.snapshot()
        result, where = self._execute(case)
        broken = self._broken(case.plan, result)
        if self.seconds > SETUP_MS / 1000:
            broken.append(f"it took {self.seconds:.1f} s")
        left = leftovers.left_behind(before, 1.0)
        leftovers.clean_up(left)
        # others' control groups come and go meanwhile: ours have our number in their name
        ours = [one for one in left if one.kind != "cgroup" or f"-{os.getpid()}-" in one.identity]
        broken += [f"left behind: {one}" for one in ours]
        if not where and not broken:
            return None
        message = getattr(getattr(result, "error", None), "message", "")
        return Outcome(case, where or "no call", _end(result), tuple(broken), message)

    def _broken(self, plan: str, result: object) -> list[str]:
        if isinstance(result, BaseException):
            return ["an exception instead of a result"]
        end, text = _end(result), _normal(result.stdout)
        usual_end, usual_text, usual_facts = self.usual[plan]
        broken = [result.error.message] if end == PROTOCOL else []
        if end != "success":  # cut short: what it saw until then, without the line that was cut
            text = _normal(result.stdout.rpartition("\n")[0])
        if not (text == usual_text or (end != "success" and set(text.splitlines()) <= set(usual_text.splitlines()))):
            broken.append("the command saw another sandbox")
        if end == usual_end and _facts(result) != usual_facts:
            broken.append(f"not as asked for: {_facts(result)}, usually {usual_facts}")
        return broken


def _end(result: object) -> str:
    if isinstance(result, HangError):
        return "hang"
    if isinstance(result, BaseException):
        return f"{type(result).__name__}: {result}"
    return result.error.code if result.error is not None else result.status


def _facts(result: object) -> object:
    isolation = {name: fact for name, fact in result.isolation.items() if name not in ("attested", "user")}
    return json.loads(json.dumps([isolation, sorted(result.files), result.changes and len(result.changes)]))


def _chosen(sites: list[int], *, every: bool) -> list[int]:
    """Which calls to fail: every one, or the first and the last at each place in the source."""
    if every:
        return list(range(1, len(sites) + 1))
    first = {site: at for at, site in reversed(list(enumerate(sites, 1)))}
    last = {site: at for at, site in enumerate(sites, 1)}
    return sorted({*first.values(), *last.values()})


def _spread(injector: Injector, cases: list[Case], workers: int) -> list[Outcome]:
    """Run the cases in several processes: each has leftovers of its own."""
    readers = []
    for worker in range(workers):
        reader, writer = os.pipe()
        if os.fork() == 0:
            status = 1
            try:
                os.close(reader)
                tempfile.tempdir = tempfile.mkdtemp(prefix="injection-", dir=Path.cwd())
                leftovers.adopt_orphans()
                injector.use_own_file()
                found = [outcome for case in cases[worker::workers] if (outcome := injector.run(case)) is not None]
                with os.fdopen(writer, "w") as pipe:
                    json.dump(found, pipe)
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        readers.append(reader)
    outcomes = []
    for reader in readers:
        with os.fdopen(reader) as pipe:
            outcomes += [
                Outcome(Case(*case), where, end, tuple(broken), message)
                for case, where, end, broken, message in json.load(pipe)
            ]
    for _ in readers:
        os.wait()
    return sorted(outcomes)


def cases_of(injector: Injector, plan: str, *, every: bool, errors: tuple[str, ...] = ERRORS) -> list[Case]:
    """What there is to fail in a plan."""
    return [
        Case(plan, process, at, error)
        for process, sites in injector.sites(plan).items()
        for at in _chosen(sites, every=every)
        for error in errors
    ]


def table(outcomes: list[Outcome]) -> str:
    """How many runs of each plan ended in which way, by the process whose call failed."""
    counted = Counter((o.case.plan, process_name(o.case.plan, o.case.process), o.end) for o in outcomes)
    return "".join(
        f"{plan:10}{process:14}{number:6}  {end}\n" for (plan, process, end), number in sorted(counted.items())
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("core", type=Path)
    parser.add_argument("--plan", action="append", choices=PLANS, help="only this plan")
    parser.add_argument("--every", action="store_true", help="every call also of the plans after the first")
    parser.add_argument("--sample", type=int, default=1, help="of the runs each so many")
    parser.add_argument("--error", action="append", help="this errno instead of the five")
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--all", action="store_true", help="print each run")
    asked = parser.parse_args()
    core, back, folder = asked.core.resolve(), Path.cwd(), Path(tempfile.mkdtemp(prefix="injection-", dir="/var/tmp"))
    (folder / "project").mkdir()
    (folder / "project" / "kept.txt").write_text("kept\n")
    (folder / "project" / "inner").mkdir()
    (folder / "project" / "inner" / "deep").write_text("deep\n")
    for number in range(SMALL_ENTRIES):
        (folder / "project" / f"{number}").touch()
    (folder / "copied" / "inner").mkdir(parents=True)
    (folder / "copied" / "kept.txt").write_text("kept\n")
    (folder / "copied" / "tool").write_text("tool\n")
    (folder / "copied" / "inner" / "second").hardlink_to(folder / "copied" / "tool")
    (folder / "copied" / "link").symlink_to("tool")
    with open(folder / "copied" / "holes", "wb") as holes:
        holes.truncate(100_000)
    began = time.monotonic()
    os.chdir(folder)
    try:
        injector = Injector(core)
        injector.use_own_file()
        cases: list[Case] = []
        for plan in asked.plan or PLANS:
            cases += cases_of(
                injector,
                plan,
                every=asked.every or (plan == "plain" and asked.sample == 1),
                errors=tuple(asked.error or ERRORS),
            )
        outcomes = _spread(injector, cases[:: asked.sample], asked.workers)
    finally:
        os.chdir(back)
        shutil.rmtree(folder)
    if asked.all:
        print(*outcomes, sep="\n")
    print(table(outcomes), end="")
    broken = [outcome for outcome in outcomes if outcome.broken]
    print(*broken, sep="\n")
    print(f"{len(outcomes)} calls failed in {time.monotonic() - began:.0f} s, {len(broken)} runs broke a rule")
    return 1 if broken or not outcomes else 0  # a table without a row shows nothing


if __name__ == "__main__":
    sys.exit(main())
