"""Advisory locks on what the host shows: which ones the host's programs meet, and which are refused or the sandbox's own."""

from __future__ import annotations

import fcntl
import os

import pytest

# Tries each kind of lock on a file, opened for reading and, where it may be, for writing.
TRIES = """
import errno, fcntl, os, struct, sys
path = sys.argv[1]
try: file = os.open(path, os.O_RDWR)
except OSError: file = os.open(path, os.O_RDONLY)
def attempt(name, act):
    try: act(); print(name, "taken")
    except OSError as error: print(name, errno.errorcode[error.errno])
def record(command, kind):
    def act():
        fcntl.fcntl(file, command, struct.pack("hhqqi", kind, 0, 0, 0, 0))
        fcntl.fcntl(file, command, struct.pack("hhqqi", fcntl.F_UNLCK, 0, 0, 0, 0))
    return act
attempt("flock", lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB))
attempt("posix-read", record(fcntl.F_SETLK, fcntl.F_RDLCK))
attempt("posix-write", record(fcntl.F_SETLK, fcntl.F_WRLCK))
attempt("ofd-read", record(37, fcntl.F_RDLCK))
attempt("ofd-write", record(37, fcntl.F_WRLCK))
attempt("lease-read", lambda: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK))
attempt("lease-write", lambda: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK))
attempt("notice", lambda: fcntl.fcntl(os.open("/usr", os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_MODIFY))
"""


@pytest.fixture
def file(place, inside):
    path = place / "file"
    path.write_text("shared")
    path.chmod(0o666)
    for owned in (place, path):
        os.chown(owned, inside.uid, -1)
    return path


def tries(inside, path, **isolation):
    lines = inside.says(["python3", "-c", TRIES, str(path)], isolation=isolation).splitlines()
    return dict(line.split() for line in lines)


def test_file_lease_and_notification_are_refused(inside):
    """A lease would hold up a program of the host that opens the file, and a notice would watch it: neither can be had."""
    answers = tries(inside, "/usr/bin/env")
    assert {"EINVAL"} == {answers[name] for name in ("lease-read", "lease-write", "notice")}


def test_file_lock_for_writing_needs_a_writable_file(inside, file):
    """On a file that is shown read-only no write lock is had, neither a process's nor a descriptor's: only readers' locks."""
    answers = tries(inside, file, readonly_paths=[str(file)])
    assert {"EBADF"} == {answers[name] for name in ("posix-write", "ofd-write")}
    assert {"taken"} == {answers[name] for name in ("posix-read", "ofd-read", "flock")}


@pytest.mark.parametrize("shared", ["readonly_paths", "writable_paths"])
def test_file_lock_on_a_share_is_the_hosts(inside, file, shared):
    """Not prevented: a lock on a shared file is the host's lock, so that a payload can hold it, and learn that it is held."""
    with file.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "EAGAIN" == tries(inside, file, **{shared: [str(file)]})["flock"]
        fcntl.flock(held, fcntl.LOCK_UN)
        fcntl.lockf(held, fcntl.LOCK_EX)
        answers = tries(inside, file, **{shared: [str(file)]})
        assert {"EAGAIN"} == {answers[name] for name in ("posix-read", "ofd-read")}


@pytest.mark.parametrize("mode", [0o666, 0o444])
def test_file_lock_on_a_copy_on_write_workspace_is_private(inside, file, mode):
    """In a copy-on-write workspace no lock of the host's is met, whether the file was opened for writing or not."""
    isolation = {"workspace": str(file.parent)}
    with file.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        fcntl.lockf(held, fcntl.LOCK_EX)
        file.chmod(mode)
        answers = tries(inside, "/workspace/file", **isolation)
    assert {"taken"} == {answers[name] for name in ("flock", "posix-read", "ofd-read")}


def test_file_lock_ends_with_the_run(inside, file):
    """A lock that is held when the clock ends a run is free when its result is there, whatever else it started."""
    code = (
        "import fcntl, os, time; fcntl.flock(os.open('{}', 0), fcntl.LOCK_EX); os.fork(); print('held'); time.sleep(60)"
    )
    response = inside(["python3", "-c", code.format(file)], timeout_ms=2000, isolation={"readonly_paths": [str(file)]})
    assert ("timeout", "held") == (response["status"], response["stdout"].strip()[:4])
    with file.open() as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)
