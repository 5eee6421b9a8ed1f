"""For the escape tests: the fixtures of the sandbox tests, and the attack program, compiled once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
AT_FDCWD, RENAME_EXCHANGE = -100, 2
sys.path.insert(0, str(HERE.parent / "sandbox"))

from inside import Inside  # noqa: E402 - its folder is put on the path above


def start(argv, **options):
    """subprocess.run as the caller, with the settings of the `as_user` runner."""
    settings = {
        "capture_output": True,
        "timeout": 60,
        "cwd": "/",
        "check": False,
        "env": {"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
    }
    return subprocess.run([str(word) for word in argv], **{**settings, **options})


@pytest.fixture(params=["caller", "user"])
def inside(request):
    """Runs attacks inside, as the account that runs the tests and as an ordinary user."""
    return Inside(start if request.param == "caller" else request.getfixturevalue("as_user"))


@pytest.fixture
def inside_as_caller():
    """Runs attacks inside, as the account that runs the tests alone."""
    return Inside(start)


@pytest.fixture
def place():
    """A folder of the host that every account may read and write."""
    path = Path(tempfile.mkdtemp(prefix="place-", dir="/var/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def attack_folder():
    """The folder of the compiled attack programs, which every account may read, with a file of 99 MB."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    folder = Path(tempfile.mkdtemp(prefix="attack-", dir="/var/tmp"))
    folder.chmod(0o755)
    for name in ("attack", "stall"):
        subprocess.run(["gcc", "-O1", "-static", "-pthread", "-o", folder / name, HERE / f"{name}.c"], check=True)
    folder.joinpath("large").write_bytes(bytes(99_000_000))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def attack(inside, attack_folder):
    """`attack("sys", "mount", ...)` inside returns the response; the program prints `ok N` or an errno's name."""

    def run(*words, **fields):
        return inside(
            ["/attack/attack", *words],
            isolation={"binds": [{"source": str(attack_folder), "destination": "/attack"}]},
            **fields,
        )

    return run


@contextlib.contextmanager
def exchanging(one, other):
    """Meanwhile another thread exchanges what two paths name, as fast as it can, until one of them is gone."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    names = [os.fsencode(one), os.fsencode(other)]
    stop = threading.Event()

    def exchange():
        while not stop.is_set() and renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
            pass

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(name="exchanging")
def _exchanging():
    return exchanging


@pytest.fixture
def swapped(tmp_path):
    """`out`, which is by turns a directory and a link to `elsewhere`, where `precious` lies."""
    for name in ("elsewhere", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("p")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with exchanging(tmp_path / "out", tmp_path / "link"):
        yield tmp_path / "out"


@pytest.fixture
def x86_64(needs):
    """For attacks that only an x86_64 processor knows."""
    needs("x86_64", present=os.uname().machine == "x86_64")
