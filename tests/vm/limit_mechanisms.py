"""Who runs the promises of docs/limits.md, and on which mechanism: the caller and an ordinary user, here or in the guest.

In the guest (`CAPSULE_GUEST=1`, see guest.py) the user has a delegated subtree of version 2; here it has none, so it stands on
the memory watch, and root on whatever the machine has.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import capsule_run

# The system's own Python: the one that runs the tests may lie where only root comes.
COMMAND = ("/usr/bin/python3", "-I", "-S", str(Path(capsule_run.__file__).parent / "__main__.py"))
PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")
GUEST = os.environ.get("CAPSULE_GUEST") == "1"
GROUPS, USER = Path("/sys/fs/cgroup"), 1000
# Enters a group of its own, becomes the user, and goes on as the command: what a service manager would have done.
ENTER = """
import os, sys
group, uid = sys.argv[1], int(sys.argv[2])
open(f"{group}/cgroup.procs", "w").write(str(os.getpid()))
os.setgroups([]); os.setgid(uid); os.setuid(uid)
os.execv(sys.argv[3], sys.argv[3:])
"""


def delegate(name, *, leaf=True):
    """A subtree that belongs to the user, and the group in it where the user's own processes are."""
    GROUPS.joinpath("cgroup.subtree_control").write_text("+memory +pids +cpu +io")
    top = GROUPS / name
    for path in [top, *([top / "own"] if leaf else [])]:
        path.mkdir(exist_ok=True)
        for file in (path, path / "cgroup.procs", path / "cgroup.subtree_control", path / "cgroup.threads"):
            os.chown(file, USER, USER)
    return top / "own" if leaf else top


def _all_groups():
    # not by glob, which fails where a group of another run goes while it looks
    return [Path(top, name) for top, names, _files in os.walk(GROUPS) for name in names if name.startswith("capsule-")]


class Caller:
    """Runs requests as one account. `start(**fields)` begins, calling waits for the response."""

    def __init__(self, name, prefix=()):
        self.name, self.prefix, self.pids = name, tuple(map(str, prefix)), []
        self._before = set(_all_groups())  # what a run that was killed long ago left may have a number that comes again

    def start(self, command, **fields):
        process = subprocess.Popen(
            [*self.prefix, *COMMAND, "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd="/", env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"}, start_new_session=True,
        )  # fmt: skip
        self.pids.append(process.pid)
        process.stdin.write(json.dumps({"command": list(command), "timeout_ms": 60_000, **fields}).encode())
        process.stdin.close()
        process.stdin = None
        return process

    def end(self, process):
        out, err = process.communicate(timeout=120)
        assert out, err.decode()
        return json.loads(out)

    def __call__(self, command, **fields):
        return self.end(self.start(command, **fields))

    def python(self, code, **fields):
        return self([*PYTHON, code], **fields)

    def groups(self):
        """The groups of every run that this caller started, but the leaf that it moved itself to."""
        marks = [f"-{pid}-" for pid in self.pids]
        found = [
            path for path in _all_groups() if path not in self._before and any(mark in path.name for mark in marks)
        ]
        return [str(path) for path in found if not path.parent.name.startswith("alone-")]

    def mechanism(self, limit):
        """What a limit of this caller stands on."""
        return self(["true"])["isolation"]["limits"][limit]


def caller(name):
    """`root`, `user`, or `alone`: a user who is in the delegated group itself, and nobody else is."""
    if name == "root":
        return Caller(name)
    enter = [COMMAND[0], "-I", "-S", "-c", ENTER]
    if GUEST:
        return Caller(name, [*enter, delegate(f"{name}-{os.getpid()}", leaf=name == "user"), USER])
    return Caller(name, ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"])
