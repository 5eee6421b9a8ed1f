"""The leftover check of conftest.py, seen to catch what it is there for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

import leftovers

BRIEFLY = 0.05
NESTED = ["-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore"]


def kinds(before, grace_seconds=BRIEFLY):
    return [leftover.kind for leftover in leftovers.left_behind(before, grace_seconds)]


def test_leftover_check_of_a_clean_test_passes():
    """A clean test passes at once."""
    before = leftovers.snapshot()
    subprocess.run(["true"], check=True)
    assert [] == kinds(before)


def test_leftover_child_is_seen():
    """A running child is a leftover, with its command line in the message."""
    before = leftovers.snapshot()
    with subprocess.Popen(["sleep", "60"]) as child:
        while (
            b"sleep" not in Path(f"/proc/{child.pid}/cmdline").read_bytes()
        ):  # within execve() it is not there for a moment
            time.sleep(0.001)
        found = leftovers.left_behind(before, BRIEFLY)
        child.kill()
    assert [("process", True)] == [(f.kind, "sleep 60" in str(f)) for f in found]


def test_leftover_zombie_is_seen():
    """A zombie of ours is a leftover: we started it, so we have to wait for it."""
    before = leftovers.snapshot()
    pid = os.posix_spawnp("true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    found = kinds(before)
    os.waitpid(pid, 0)
    assert ["process"] == found


def test_leftover_detached_grandchild_is_seen_and_ended():
    """A process that left its session and lost its parent comes back to us, and cleaning up ends it."""
    before = leftovers.snapshot()
    said = subprocess.run(
        ["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"], check=True, capture_output=True, text=True
    )
    found = leftovers.left_behind(before, BRIEFLY)
    leftovers.clean_up(found)
    assert [said.stdout.strip()] == [f.identity.split("@")[0] for f in found]
    assert [] == kinds(before)


def test_leftover_orphan_that_ended_is_none():
    """An orphan that ends is reaped in the place of the host's init; it is nobody's leak."""
    before = leftovers.snapshot()
    subprocess.run(["sh", "-c", "sleep 0.02 &"], check=True)
    assert [] == kinds(before, leftovers.GRACE_SECONDS)


def test_leftover_descriptor_is_seen():
    """A descriptor left open is a leftover."""
    before = leftovers.snapshot()
    reader, writer = os.pipe()
    found = kinds(before)
    os.close(reader)
    os.close(writer)
    assert ["descriptor", "descriptor"] == found


def test_leftover_thread_is_seen():
    """A thread left running is a leftover."""
    before = leftovers.snapshot()
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    found = kinds(before)
    end.set()
    thread.join()
    assert ["thread"] == found


@pytest.mark.parametrize("make", [tempfile.mkdtemp, lambda: tempfile.mkdtemp(prefix="capsule-", dir="/dev/shm")])
def test_leftover_temporary_directory_is_seen(make):
    """A directory in TMPDIR, or one of our name where everybody's are, is a leftover."""
    before = leftovers.snapshot()
    place = Path(make())
    found = leftovers.left_behind(before, BRIEFLY)
    place.rmdir()
    assert [("file", str(place))] == [(f.kind, f.identity) for f in found]


def test_leftover_cgroup_is_seen(tmp_path, monkeypatch):
    """An empty control group of our name is a leftover if it is of this process or of what it started, and that has ended."""
    monkeypatch.setattr(leftovers, "CGROUPS", str(tmp_path))
    before = leftovers.snapshot()

    def of(pid):
        return f"capsule-1-{pid}-{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}-ab"

    with subprocess.Popen(["true"]) as ended:
        pass
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as living:
        ours = {"capsule-1", of(os.getpid()), f"capsule-1-{ended.pid}-7-ab"}
        others = {"other", of(living.pid), of(1), "capsule-1-1-7-ab"}
        for name in [*ours, *others]:
            tmp_path.joinpath(name).mkdir()
            tmp_path.joinpath(name, "cgroup.procs").write_text("")
        tmp_path.joinpath("capsule-2").mkdir()
        tmp_path.joinpath("capsule-2", "cgroup.procs").write_text("4711\n")
        found = {Path(f.identity).name for f in leftovers.left_behind(before, BRIEFLY) if f.kind == "cgroup"}
    assert ours == found


def test_leftover_cgroup_of_a_reused_pid_is_a_strangers(tmp_path, monkeypatch):
    """Also when a process that we start happens to have the number of its owner."""
    monkeypatch.setattr(leftovers, "CGROUPS", str(tmp_path))
    tmp_path.joinpath("capsule-1-4194305-7-ab").mkdir()
    tmp_path.joinpath("capsule-1-4194305-7-ab", "cgroup.procs").write_text("")
    before = leftovers.snapshot()
    monkeypatch.setattr(leftovers, "ever_spawned", {4194305})
    assert [] == leftovers.left_behind(before, BRIEFLY)


@pytest.mark.parametrize(("owner", "expected"), [(os.getppid, []), (os.getpid, ["file"]), (lambda: 0, ["file"])])
def test_leftover_file_of_another_test_is_none(owner, expected):
    """A file that a living test process beside this one has put into a shared place is not ours; one of nobody's is seen."""
    before = leftovers.snapshot()
    with tempfile.NamedTemporaryFile(dir="/tmp", prefix=f"capsule-canary-{owner()}-"):
        assert expected == [kind for kind in kinds(before) if kind == "file"]


@pytest.mark.needs("user-namespaces")
def test_leftover_mount_is_seen():
    """A mount left in the mount namespace is a leftover (shown in a namespace of its own)."""
    script = textwrap.dedent("""
        import subprocess, sys, leftovers
        before = leftovers.snapshot()
        subprocess.run(["mount", "-t", "tmpfs", "mine", "/mnt"], check=True)
        print(*leftovers.left_behind(before, 0.05))
    """)
    argv = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", script]
    env = {**os.environ, "PYTHONPATH": str(Path(leftovers.__file__).parent)}
    said = subprocess.run(argv, check=True, capture_output=True, text=True, env=env)
    assert "on /mnt tmpfs from mine\n" == said.stdout[said.stdout.index("on ") :]


def test_leftover_check_waits_for_a_slow_end():
    """The check gives the kernel time, and returns as soon as the thing is gone."""
    before = leftovers.snapshot()
    reader, writer = os.pipe()
    threading.Timer(0.1, lambda: (os.close(reader), os.close(writer))).start()
    start = time.monotonic()
    assert [] == kinds(before, leftovers.GRACE_SECONDS)
    assert time.monotonic() - start < leftovers.GRACE_SECONDS


LEAKY = {
    "process": "subprocess.Popen(['sleep', '60'])",
    "descriptor": "os.dup(0)",
    "file": "tempfile.mkdtemp()",
    "thread": "threading.Timer(60, print).start()",
}


@pytest.mark.slow
def test_leftover_check_fails_the_test_that_leaks(tmp_path):
    """A test that leaves something fails by itself; the one after it does not."""
    here = Path(__file__).resolve().parent.parent
    for name in ("conftest.py", "json_schema.py", "leftovers.py", "tiers.py"):
        tmp_path.joinpath(name).symlink_to(here / name)
    tests = "import leftovers, os, subprocess, tempfile, threading\nleftovers.GRACE_SECONDS = 0.05\n"
    for kind, leak in LEAKY.items():
        tests += f"def test_{kind}():\n    globals()['kept'] = {leak}\n\ndef test_after_{kind}():\n    pass\n\n"
    tests += (
        "def teardown_module():\n    [t.cancel() for t in threading.enumerate() if isinstance(t, threading.Timer)]\n"
    )
    tmp_path.joinpath("test_leaky.py").write_text(tests)
    argv = [sys.executable, "-m", "pytest", *NESTED, f"--basetemp={tmp_path}/base", "-rA", str(tmp_path)]
    said = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert {f"ERROR test_leaky.py::test_{kind}" for kind in LEAKY} == {
        line.partition(" - ")[0] for line in said.stdout.splitlines() if line.startswith("ERROR ")
    }, said.stdout
    assert "8 passed, 4 errors" in said.stdout


@pytest.mark.parametrize(
    ("reason", "in_ci", "status"),
    [("needs landlock", True, 0), ("needs strace", False, 0), ("needs strace", True, 1), ("not today", False, 1)],
)
@pytest.mark.slow
def test_skip_has_to_name_what_is_missing(tmp_path, reason, in_ci, status):
    """A skip without a capability fails the run, and one for something that CI must have fails it there."""
    here = Path(__file__).resolve().parent.parent
    for name in ("conftest.py", "json_schema.py", "leftovers.py", "tiers.py"):
        tmp_path.joinpath(name).symlink_to(here / name)
    tmp_path.joinpath("test_skips.py").write_text(f"import pytest\ndef test(): pytest.skip({reason!r})\n")
    argv = [sys.executable, "-m", "pytest", *NESTED, f"--basetemp={tmp_path}/base", str(tmp_path)]
    env = {**os.environ, "CI": "true" if in_ci else ""}
    said = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
    assert status == said.returncode, said.stdout
    assert "skipped, by what is missing" in said.stdout


@pytest.mark.slow
def test_hanging_test_fails(tmp_path):
    """A test that waits for ever fails at its limit, and the one after it runs."""
    here = Path(__file__).resolve().parent.parent
    for name in ("conftest.py", "json_schema.py", "leftovers.py", "tiers.py"):
        tmp_path.joinpath(name).symlink_to(here / name)
    tests = "import pytest, time\n@pytest.mark.limit(0.2)\ndef test(): time.sleep(60)\ndef test_after(): pass\n"
    tmp_path.joinpath("test_hangs.py").write_text(tests)
    argv = [sys.executable, "-m", "pytest", *NESTED, f"--basetemp={tmp_path}/base", str(tmp_path)]
    said = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "took more than 0.2 s" in said.stdout
    assert "1 failed, 1 passed" in said.stdout


def test_leftover_killed_child_is_reaped():
    """A child that a signal ended is reaped by who started it, and then is no leftover."""
    before = leftovers.snapshot()
    with subprocess.Popen(["sleep", "60"]) as child:
        child.send_signal(signal.SIGTERM)
    assert [] == kinds(before)
