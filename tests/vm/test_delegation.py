"""Where an account may make groups of version 2: in containers, in a systemd user session. In the guest alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from limit_mechanisms import COMMAND, ENTER, GROUPS, PYTHON, USER, Caller, delegate

MIB = 1 << 20
pytestmark = [pytest.mark.sandbox, pytest.mark.limit(240), pytest.mark.needs("guest", "root")]
CONTAINER = (COMMAND[0], "-I", "-S", str(Path(__file__).with_name("container.py")))
HOG = [*PYTHON, "held = bytearray(b'x') * (160 << 20)"]
# What an entrypoint is: process 1 of the container, which stays, and starts what was asked for as a child.
ENTRYPOINT = """
import os, subprocess, sys
if sys.argv[1]:
    os.mkdir(f"/sys/fs/cgroup/{sys.argv[1]}")
    open(f"/sys/fs/cgroup/{sys.argv[1]}/cgroup.procs", "w").write("0")
sys.exit(subprocess.run(sys.argv[2:]).returncode)
"""


@pytest.fixture
def group(request):
    """A group such as an engine gives a container: nothing above gives less than the host has; removed with all that is in it."""
    GROUPS.joinpath("cgroup.subtree_control").write_text("+memory +pids +cpu +io")
    place = GROUPS / f"container-{os.getpid()}-{abs(hash(request.node.name))}"
    place.mkdir()
    yield place
    for path in sorted(place.glob("**/"), reverse=True):
        path.rmdir()


def contained(group, kind, *, uid=0, entrypoint=None):
    """A caller who is process 1 of a container, or a child of an entrypoint that stays in the group `entrypoint`."""
    started_by = [] if entrypoint is None else [COMMAND[0], "-I", "-S", "-c", ENTRYPOINT, entrypoint]
    return Caller("container", [*CONTAINER, group, kind, uid, *started_by])


def left(group):
    """Groups of ours that are still there, but the leaf of a caller who has moved to one: it is one, and empty."""
    return [path.name for path in group.glob("**/capsule-*")]


@pytest.mark.parametrize("kind", ["writable", "host"])
@pytest.mark.parametrize("uid", [0, USER], ids=["root", "user"])
def test_delegation_alone_in_a_container_moves_itself(group, kind, uid):
    """Process 1 of a container that may write its own group moves itself to a leaf of it, and all limits are the kernel's.

    Also where it could make groups beside its own, in which the container's limit would not hold.
    """
    (group / "memory.max").write_text(str(512 * MIB))
    for path in (group, group / "cgroup.procs", group / "cgroup.subtree_control", group / "cgroup.threads"):
        os.chown(path, uid, uid)
    response = contained(group, kind, uid=uid)(HOG, resources={"memory_bytes": 64 * MIB}, require=["cgroup2"])
    assert ("E4001", "cgroup", 64 * MIB) == (
        response["error"]["code"],
        response["error"]["details"].get("source"),
        response["error"]["details"].get("observed_bytes"),
    ), response["error"]
    assert 1 == len(left(group))


def test_delegation_moves_no_other_process(group):
    """With the entrypoint in the same group nothing can be given to its children: it stays there, and the hint says so."""
    caller = contained(group, "writable", entrypoint="")
    assert "watch" == caller.mechanism("memory")
    error = caller(["true"], require=["cgroup2"])["error"]
    assert ("E2007", True) == (error["code"], "processes in a leaf group" in error["hint"])
    assert ([], "") == (left(group), (group / "cgroup.subtree_control").read_text().strip())


def test_delegation_with_entrypoint_in_a_leaf_works(group):
    """What the hint asks for is enough: with the entrypoint in a leaf, the container's own root gives its children limits."""
    response = contained(group, "writable", entrypoint="init")(
        HOG, resources={"memory_bytes": 64 * MIB}, require=["cgroup2"]
    )
    assert "E4001" == response["error"]["code"], response["error"]
    assert ([], {"memory", "pids"}) == (
        left(group),
        {"memory", "pids"} & {*(group / "cgroup.subtree_control").read_text().split()},
    )


def test_delegation_with_read_only_mount_uses_the_last_mechanism(group):
    """The default of container engines gives nothing: the memory watch holds the limits, and the hint says what to change."""
    caller = contained(group, "readonly")
    response = caller(HOG, resources={"memory_bytes": 96 * MIB})
    assert ("E4001", "watch") == (response["error"]["code"], response["isolation"]["limits"]["memory"])
    assert "/sys/fs/cgroup writable" in caller(["true"], require=["cgroup2"])["error"]["hint"]


# --- systemd ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def session(needs, monkeypatch):
    """An ordinary user's systemd, with the subtree that belongs to it, and the environment of a login."""
    needs("systemd")
    home = Path(f"/run/user/{USER}")
    for path in (home, Path("/run/systemd/system")):
        path.mkdir(parents=True, exist_ok=True)
    os.chown(home, USER, USER)
    home.chmod(0o700)
    enter = [COMMAND[0], "-I", "-S", "-c", ENTER, delegate(f"alone-{os.getpid()}-session"), USER]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "XDG_RUNTIME_DIR": str(home)}
    argv = [*map(str, enter), "/lib/systemd/systemd", "--user", "--log-target=null"]
    manager = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (home / "systemd/private").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    yield enter, environment
    manager.send_signal(signal.SIGTERM)
    manager.wait()
    Path("/run/systemd/system").rmdir()


def test_delegation_hint_command_works(session):
    """On a host with systemd the hint names a command, which, typed as it stands, gives an ordinary account its groups."""
    enter, environment = session
    login = Caller("login", ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"])
    error = login(["true"], require=["cgroup2"])["error"]
    (command,) = re.findall("`(systemd-run --user .*?) capsule-run …`", error["hint"])
    assert "E2007" == error["code"]
    run = [
        *map(str, enter),
        "/usr/bin/env",
        *command.split(),
        *COMMAND,
        "--require",
        "cgroup2",
        "--memory",
        "64M",
        "--pretty",
        "--",
    ]
    ended = subprocess.run(
        [*run, *HOG], env=environment, capture_output=True, text=True, check=False, timeout=120, cwd="/"
    )
    assert '"code": "E4001"' in ended.stdout, ended
    assert {"cgroup2"} == {*re.findall('"(?:memory|processes|cpu_shares)": "(.*?)"', ended.stdout)}
