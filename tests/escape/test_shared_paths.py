"""What lies in a shared path, planted by anyone who may write there, gives the command nothing more than the path itself."""

from __future__ import annotations

import os
import shutil
import socket
import threading

import pytest


def shared(place, mode="ro"):
    return {"binds": [{"source": str(place), "destination": "/data", "mode": mode}]}


@pytest.mark.root
@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_shared_device_does_not_open(inside, place, mode):
    """A device node that root left in a shared folder, or shares itself, cannot be opened: the mount is nodev."""
    node = place / "disk"
    os.mknod(node, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero, which would be harmless to read
    node.chmod(0o666)
    os.chown(node, inside.uid, -1)
    for isolation, path in ((shared(place, mode), "/data/disk"), (shared(node, mode), "/data")):
        response = inside(["head", "-c", "1", path], isolation=isolation)
        assert "Permission denied" in response["stderr"], response


def test_shared_fifo_does_not_block_setup_or_end(inside, place):
    """A FIFO in a shared folder blocks anyone who opens it until the clock, and neither set-up nor the end of the run."""
    os.mkfifo(place / "pipe")
    os.chmod(place / "pipe", 0o666)
    response = inside(["cat", "/data/pipe"], isolation=shared(place), timeout_ms=300)
    assert "timeout" == response["status"]
    assert "success" == inside(["test", "-p", "/data"], isolation=shared(place / "pipe"))["status"]


def test_shared_read_only_file_cannot_be_changed_another_way(inside, place):
    """A file of a read-only share is not changed through a hard link, a rename or a second, writable share beside it."""
    for name in ("ro", "rw"):
        place.joinpath(name).mkdir()
        place.joinpath(name).chmod(0o777)
    victim = place / "ro" / "victim"
    victim.write_text("as it was")
    victim.chmod(0o666)
    if os.geteuid() == 0:
        for each in (place / "ro", place / "rw", victim):
            os.chown(each, inside.uid, -1)
    binds = [
        {"source": str(place / "ro"), "destination": "/ro"},
        {"source": str(place / "rw"), "destination": "/rw", "mode": "rw"},
    ]
    code = """
import os
def attempt(action, *words):
    try:
        action(*words)
        print(action.__name__, "worked")
    except OSError as error:
        print(action.__name__, error.strerror)
attempt(os.link, "/ro/victim", "/rw/link")
attempt(os.rename, "/ro/victim", "/rw/moved")
attempt(os.link, "/proc/self/cwd/../ro/victim", "/rw/link2")
attempt(os.truncate, "/ro/victim", 0)
attempt(os.symlink, "/ro/victim", "/rw/soft")
attempt(os.truncate, "/rw/soft", 0)
attempt(os.chmod, "/ro/victim", 0o777)
attempt(os.utime, "/ro/victim")
"""
    said = inside.python_says(code, isolation={"binds": binds}).splitlines()
    assert ["symlink worked"] == [line for line in said if line.endswith("worked")]
    assert ("as it was", 1) == (victim.read_text(), victim.stat().st_nlink)


def test_shared_socket_is_reached_by_its_own_folder_only(inside, place):
    """A listening socket of the host's is reached only where its own folder is shared, by no name of its neighbour."""
    place.joinpath("shared").mkdir()
    place.joinpath("private").mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(place / "private" / "socket"))
    os.chmod(place / "private" / "socket", 0o777)
    server.listen()
    place.joinpath("shared", "up").symlink_to("../private/socket")
    place.joinpath("shared", "full").symlink_to(place / "private" / "socket")
    code = """
import socket
for path in ("/data/up", "/data/full", "/data/../private/socket", PATH):
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print("connected", path)
    except OSError as error:
        print("refused")
""".replace("PATH", repr(str(place / "private" / "socket")))
    try:
        assert ["refused"] * 4 == inside.python_says(code, isolation=shared(place / "shared")).splitlines()
    finally:
        server.close()


def test_shared_mount_point_swapped_during_start_stays_inside(inside_as_caller, place):
    """A destination in a writable share that turns into a link while runs start never lets a mount land elsewhere."""
    outer, inner, elsewhere = place / "outer", place / "inner", place / "elsewhere"
    for folder in (outer, inner, elsewhere):
        folder.mkdir()
        folder.chmod(0o777)
    inner.joinpath("mark").write_text("bound")
    elsewhere.joinpath("mark").write_text("not bound")
    stop = threading.Event()

    def swap():
        point, link = outer / "point", outer / "link"
        while not stop.is_set():
            point.mkdir(exist_ok=True)
            link.symlink_to(elsewhere)
            while point.exists():  # where the mount has gone with its mount point, the command writes there
                shutil.rmtree(point, ignore_errors=True)
            os.rename(link, point)
            point.unlink()

    swapper = threading.Thread(target=swap)
    swapper.start()
    binds = [
        {"source": str(outer), "destination": "/outer", "mode": "rw"},
        {"source": str(inner), "destination": "/outer/point", "mode": "rw"},
    ]
    try:
        said = {
            inside_as_caller(["sh", "-c", "echo written > /outer/point/new"], isolation={"binds": binds})["status"]
            for _ in range(40)
        }
    finally:
        stop.set()
        swapper.join()
    assert said <= {"success", "error", "killed"}  # killed: the mount point was taken away during the run
    assert ["mark"] == sorted(os.listdir(elsewhere))
