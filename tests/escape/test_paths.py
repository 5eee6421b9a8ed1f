"""Paths that the sandbox, or somebody beside it, bends between looking and opening: links, swaps, `..`, magic links."""

# ruff: noqa: E501 - tables and programs, one entry a line
from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from inside import code_of

import capsule_run
from capsule_run.request.parse import request_from_mapping


@pytest.fixture
def secret(place):
    """A folder of the host with a secret, which nobody binds."""
    folder = place / "secret"
    folder.mkdir()
    folder.joinpath("key").write_text("TOP SECRET")
    return folder


def test_planted_link_in_a_share_does_not_redirect_the_next_run(inside, place, secret):
    """CVE-2024-42472: run 1 replaces a folder by a link; run 2, which names that folder, does not show the link's target."""
    shared = place / "shared"
    shared.joinpath("project").mkdir(parents=True)
    for folder in (shared, shared / "project"):
        folder.chmod(0o777)
    bind = {"source": str(shared), "destination": "/shared", "mode": "rw"}
    inside.says(["sh", "-c", f"rmdir /shared/project && ln -s {secret} /shared/project"], isolation={"binds": [bind]})
    named = str(shared / "project")
    for isolation in (
        {"workspace": named},
        {"workspace": {"source": named, "mode": "rw"}},
        {"binds": [{"source": named, "destination": "/workspace/project"}]},
        {"readonly_paths": [named]},
    ):
        response = inside(["sh", "-c", f"cat /workspace/key /workspace/project/key {named}/key"], isolation=isolation)
        assert "SECRET" not in response.get("stdout", "")


@pytest.mark.parametrize("link", ["absolute", "relative", "dot-dot", "loop", "proc"])
def test_mount_point_is_not_made_through_a_link(inside, place, secret, link):
    """CVE-2021-30465, GHSA-pxhw-h44j-8pfx: a destination beneath a shared folder that leads away is refused."""
    shared = place / "shared"
    shared.mkdir()
    target = {
        "absolute": str(secret),
        "relative": "../secret",
        "dot-dot": "../../../../../../tmp",
        "loop": "data",
        "proc": "/proc/self/root",
    }[link]
    shared.joinpath("data").symlink_to(target)
    before = sorted(os.listdir(secret))
    binds = [
        {"source": str(shared), "destination": "/shared", "mode": "rw"},
        {"source": str(shared), "destination": "/shared/data", "mode": "rw"},
    ]
    response = inside(["sh", "-c", "echo gone > /shared/data/key"], isolation={"binds": binds})
    assert "E2002" == code_of(response)
    assert before == sorted(os.listdir(secret))
    assert "TOP SECRET" == secret.joinpath("key").read_text()


@pytest.mark.parametrize(
    "path", ["/proc/self/cwd", "/proc/self/root", "/proc/1/root", "/proc/self/fd/0", "/proc/thread-self/cwd"]
)
def test_source_that_is_a_magic_link_is_refused(inside, path):
    """A source that is a link of /proc never shows what the link's owner has open (CVE-2024-21626)."""
    response = inside(["sh", "-c", "ls /workspace | head -3"], isolation={"workspace": path})
    assert code_of(response).startswith(("E1", "E2")), response


@pytest.mark.parametrize(
    "path",
    [
        "../../etc",
        "..",
        "/data/..",
        "/data/../../etc",
        "data",
        "",
        "/",
        "//",
        "/proc/x",
        "/usr/x",
        "/dev/x",
        "/etc",
        "/sys/x",
        "/run/capsule/bin",
    ],
)
def test_destination_outside_or_over_the_system_is_refused(inside, place, path):
    """A bind's destination is absolute, has no `..`, and is nothing of the sandbox's own."""
    response = inside(["true"], isolation={"binds": [{"source": str(place), "destination": path}]})
    assert code_of(response).startswith("E1"), response


def test_path_with_dot_dot_stays_inside(inside, place):
    """`..` chains, through binds and links, end at the sandbox's root."""
    place.joinpath("up").symlink_to("../" * 40)
    code = """
import os
here = {name: os.lstat("/" + name).st_ino for name in ("usr", "workspace", "tmp")}
for start in ("/data/up", "/data/" + "../" * 60, "/proc/self/cwd/" + "../" * 60, "/proc/self/root/" + "../" * 60, "/tmp/../../.."):
    print({name: os.lstat(f"{start}/{name}").st_ino for name in here} == here)
print(os.path.exists("/proc/self/root/var/tmp/PLACE"))
""".replace("PLACE", place.name)
    binds = [{"source": str(place), "destination": "/data"}]
    assert ["True"] * 5 + ["False"] == inside.python_says(code, isolation={"binds": binds}).splitlines()


def test_working_directory_moved_by_the_host_does_not_lead_out(inside_as_caller, place):
    """A writable folder that the host moves elsewhere while the payload stands in it gives no way up (the bind's root holds)."""
    shared = place / "shared"
    shared.joinpath("a", "b").mkdir(parents=True)
    for folder in (shared, shared / "a", shared / "a" / "b"):
        folder.chmod(0o777)
    place.joinpath("key").write_text("TOP SECRET")
    code = """
import os, time
os.chdir("/workspace/a/b")
open("ready", "w").close()
while os.path.exists("/workspace/a"):
    time.sleep(0.005)
found = [os.path.exists("../" * up + "key") for up in range(12)]
print(any(found))
"""

    def move():
        while not shared.joinpath("a", "b", "ready").exists():
            pass
        shared.joinpath("a").rename(place / "moved")

    mover = threading.Thread(target=move)
    mover.start()
    seen = inside_as_caller.python_says(code, isolation={"workspace": {"source": str(shared), "mode": "rw"}})
    mover.join()
    assert "False" == seen


SWAP = """
import ctypes, sys
libc = ctypes.CDLL(None)
honest, link = (path.encode() for path in sys.argv[1:])
while True:
    libc.renameat2(-100, honest, -100, link, 2)  # RENAME_EXCHANGE: the name is always there, and always one of the two
"""


@pytest.mark.slow
def test_source_swapped_during_start_never_shows_another(place, secret):
    """Another process swaps the source and a link to a secret, 400 starts long: the secret is never shown (CVE-2021-30465's race)."""
    name, other = place / "name", place / "other"
    name.mkdir()
    name.joinpath("key").write_text("harmless")
    other.symlink_to(secret)
    swapper = subprocess.Popen([sys.executable, "-I", "-S", "-c", SWAP, name, other])
    ends = set()
    try:
        for turn in range(400):
            show = (
                {"workspace": str(name)},
                {"workspace": {"source": str(name), "mode": "ro"}},
                {"binds": [{"source": str(name), "destination": "/workspace/x"}], "working_directory": "/workspace/x"},
                {"readonly_paths": [str(name)], "working_directory": str(name)},
            )[turn % 4]
            request = request_from_mapping({"command": ["cat", "key"], "isolation": show})
            result = capsule_run.execute(request)
            ends.add(result.error.code if result.error else result.stdout)
            assert "SECRET" not in result.stdout
    finally:
        swapper.kill()
        swapper.wait()
    assert {"harmless"} < ends, f"the race was never won, or never lost: {ends}"
    assert ends <= {"harmless", "E2004", "E2008", "E2002", "E3003", "E3009", "E1005"}, ends


def test_overlay_attributes_of_a_share_are_ignored(inside_as_caller, place, secret):
    """A shared folder with overlayfs's own attributes (redirect, metacopy) does not open another place (CVE-2023-0386's cousin)."""
    folder = place / "shared"
    folder.joinpath("sub").mkdir(parents=True)
    folder.joinpath("file").write_text("")
    try:
        for path, name, text in (
            (folder / "sub", "user.overlay.redirect", b"/../secret"),
            (folder / "file", "user.overlay.redirect", b"/../secret/key"),
            (folder / "file", "user.overlay.metacopy", b""),
        ):
            os.setxattr(path, name, text)
    except OSError:
        pass  # this file system has no attributes: nothing to be hostile with, and the reading below still holds
    response = inside_as_caller(["sh", "-c", "cat sub/* file; ls -R"], isolation={"workspace": str(folder)})
    assert "SECRET" not in response["stdout"]


def test_supervisor_imports_nothing_from_the_workspace(inside, place):
    """`python -m`'s first path entry, .pth files and sitecustomize of the caller's directory are not ours (CVE of many launchers)."""
    for name in (
        "os.py",
        "capsule_run.py",
        "sitecustomize.py",
        "usercustomize.py",
        "encodings.py",
        "_socket.py",
        "x.pth",
    ):
        place.joinpath(name).write_text("import sys; sys.exit('imported from the workspace')")
    done = inside.cli(
        "--", "/bin/echo", "clean", cwd=place, env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "PYTHONPATH": str(place)}
    )
    assert (0, b"clean\n") == (done.returncode, done.stdout)
