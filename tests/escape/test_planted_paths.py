"""Paths of the caller's that an earlier run has prepared: nothing is written or read elsewhere, and nothing is waited for."""

from __future__ import annotations

import json
import os
import socket

import pytest

from capsule_run._base.errors import CapsuleError
from capsule_run.host import caller_files
from capsule_run.workspace.export import open_place

SECRET = "the caller's own"
SECONDS = 20  # much more than any of these takes, and less than for ever
# What each option would write to PATH: the words of a second run, made of the path, and whether it is a directory.
WRITERS = {
    "collect-to": (lambda path: ["--no-workspace", "--collect", "x", "--collect-to", path], True),
    "save-changes": (lambda path: ["--workspace", "TREE", "--save-changes", path], True),
    "upper": (lambda path: ["--no-workspace", "--upper", f"{path}:1M"], True),
    "metrics-file": (lambda path: ["--no-workspace", "--metrics-file", path], False),
    "audit-log": (lambda path: ["--no-workspace", "--audit-log", path], False),
    "learn": (lambda path: path, False),
}
# What each option would read from PATH.
READERS = {
    "profile": lambda path: ["--no-workspace", "--profile", path, "--", "true"],
    "file": lambda path: ["--no-workspace", "--file", f"x={path}", "--", "cat", "x"],
    "exec": lambda path: ["exec", "--lang", "python", path],
    "policy test": lambda path: ["policy", "test", path],
    "policy show": lambda path: ["policy", "show", path],
}


@pytest.fixture
def host(inside, place):
    """A share that runs write to, a victim that they never see, and a tree; all belong to the caller."""
    for name in ("share", "victim", "tree"):
        place.joinpath(name).mkdir()
    place.joinpath("victim", "secret").write_text(SECRET)
    for path in (*place.iterdir(), place / "victim" / "secret"):
        os.chown(path, inside.uid, -1)
    return place


def plant(inside, host, script):
    """What the first run does in the share, where it may write."""
    done = inside.cli(
        "--no-workspace", "--writable", host / "share", "--", "sh", "-ec", f"cd {host / 'share'}; {script}"
    )
    assert 0 == done.returncode, done.stderr


def second_run(inside, host, writer, path):
    """The next run, which makes the file `x` and writes to `path` as the option says."""
    if writer == "learn":
        return inside.cli("policy", "learn", "-o", path, "--", "true", cwd=str(host / "tree"), timeout=SECONDS)
    words = [str(host / "tree") if word == "TREE" else word for word in WRITERS[writer][0](path)]
    return inside.cli(*words, "--", "sh", "-c", "echo x > x", timeout=SECONDS)


def victim(host):
    return {path.name: path.read_text() for path in (host / "victim").iterdir()}


@pytest.mark.parametrize("place_of_link", ["last", "on the way", "to a name that is free"])
@pytest.mark.parametrize("writer", WRITERS)
def test_planted_link_for_output_is_refused(inside, host, writer, place_of_link):
    """CVE-2024-42472's cousin: run 1 makes a link where run 2 writes its output; nothing is written where it leads."""
    is_directory = WRITERS[writer][1]
    target, rest = {
        "last": ("victim" if is_directory else "victim/secret", ""),
        "on the way": ("victim", "/new"),
        "to a name that is free": ("victim/new", ""),
    }[place_of_link]
    plant(inside, host, f"ln -s {host}/{target} out")
    done = second_run(inside, host, writer, f"{host}/share/out{rest}")
    assert {"secret": SECRET} == victim(host)
    said = done.stderr.decode()
    assert f"symbolic link `{host}/share/out`" in said, said
    assert f"name `{host}/{target}{rest}` itself" in said


@pytest.mark.parametrize("reader", READERS)
def test_planted_link_for_input_is_refused(inside, host, reader):
    """A link where the next run reads a profile, a file or code brings nothing of what it leads to."""
    plant(inside, host, f"ln -s {host}/victim/secret in.toml")
    done = inside.cli(*READERS[reader](f"{host}/share/in.toml"), timeout=SECONDS)
    assert 0 != done.returncode
    assert f"symbolic link `{host}/share/in.toml`" in done.stderr.decode()
    assert SECRET not in done.stdout.decode() + done.stderr.decode()


SPECIAL = {
    "a FIFO": "mkfifo it.toml",
    "a socket": "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"it.toml\")'",
    "a directory": "mkdir it.toml",
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("reader", READERS)
def test_planted_special_file_for_input_is_refused(inside, host, reader, kind):
    """A FIFO, a socket or a directory where the next run reads is named, and nobody waits for a writer."""
    plant(inside, host, SPECIAL[kind])
    done = inside.cli(*READERS[reader](f"{host}/share/it.toml"), timeout=SECONDS)
    assert 0 != done.returncode
    assert f"it is {kind}" in done.stderr.decode()


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("writer", ["metrics-file", "audit-log", "learn"])
def test_planted_special_file_for_output_is_refused(inside, host, writer, kind):
    """A FIFO, a socket or a directory where the next run writes is named and stays, and nobody waits for a reader."""
    plant(inside, host, SPECIAL[kind])
    before = os.lstat(host / "share" / "it.toml")
    done = second_run(inside, host, writer, f"{host}/share/it.toml")
    assert f"it is {kind}" in done.stderr.decode()
    after = os.lstat(host / "share" / "it.toml")
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


@pytest.mark.parametrize("writer", ["collect-to", "save-changes", "upper"])
@pytest.mark.parametrize("kind", ["mkfifo it", "echo > it"])
def test_planted_file_as_output_directory_is_refused(inside, host, writer, kind):
    """A FIFO or a file in the place of an output directory is refused before anything runs."""
    plant(inside, host, kind)
    done = second_run(inside, host, writer, f"{host}/share/it")
    assert (125, True) == (done.returncode, b"not a directory" in done.stderr), done.stderr


@pytest.mark.parametrize("writer", ["metrics-file", "audit-log", "learn", "collect-to", "save-changes"])
def test_planted_hard_link_keeps_its_other_name(inside, host, writer):
    """A hard link where the next run writes: what else has that content keeps it."""
    plant(inside, host, "echo kept > other; mkdir out; ln other x; ln other out/x")
    path = "out" if WRITERS[writer][1] else "x"
    done = second_run(inside, host, writer, f"{host}/share/{path}")
    assert "kept\n" == (host / "share" / "other").read_text(), done.stderr


@pytest.mark.root
@pytest.mark.parametrize("writer", ["metrics-file", "audit-log"])
def test_device_as_output_is_refused(inside_as_caller, place, writer):
    """A device node where the output should go is refused, and not opened."""
    os.mknod(place / "null", 0o666 | 0o020000, os.makedev(1, 3))
    words = WRITERS[writer][0](str(place / "null"))
    assert b"it is a device" in inside_as_caller.cli(*words, "--", "true").stderr


@pytest.mark.root
@pytest.mark.parametrize(("owner", "mode"), [(0, 0o1777), (0, 0o775), (60322, 0o755)])
def test_audit_log_made_by_another_account_is_refused(inside_as_caller, place, owner, mode):
    """Where others may make files, an audit log that one of them has made is refused: they would read what is in it."""
    log = place / "shared" / "log"
    log.parent.mkdir()
    log.write_text("")
    os.chown(log, 60322, 60322)
    os.chown(log.parent, owner, owner)
    log.parent.chmod(mode)
    done = inside_as_caller.cli("--no-workspace", "--audit-log", log, "--", "true")
    assert (True, "") == (b"it belongs to user 60322" in done.stderr, log.read_text()), done.stderr


def test_link_of_the_caller_is_refused_with_its_target(inside, host):
    """A link that the caller made is refused like a planted one, and naming what it leads to works."""
    (host / "link").symlink_to(host / "tree")
    os.chown(host / "link", inside.uid, -1, follow_symlinks=False)
    refused = second_run(inside, host, "collect-to", f"{host}/link/out")
    assert (125, True) == (refused.returncode, f"name `{host}/tree/out` itself".encode() in refused.stderr)
    assert 0 == second_run(inside, host, "collect-to", f"{host}/tree/out").returncode
    assert "x\n" == (host / "tree" / "out" / "x").read_text()


@pytest.mark.needs("var-run")
def test_link_of_the_system_is_followed():
    """`/var/run` and its like are links of the system's."""
    assert "/run/lock" == caller_files.resolve("/var/run/lock")


# --- descriptors that the caller itself has opened ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"])
def test_audit_log_to_a_descriptor_of_the_caller_works(inside, name):
    """A log for a container's collector goes to the caller's own stderr."""
    done = inside.cli("--no-workspace", "--audit-log", name, "--", "true")
    assert "success" == json.loads(done.stderr)["status"]


def test_input_from_a_descriptor_of_the_caller_works(inside, place):
    """A shell's `<(...)` is a pipe by the name of a descriptor, and is read; so is stdin."""
    inner, outer = os.pipe()
    os.write(outer, b"print(6 * 7)")
    os.close(outer)
    done = inside.cli("exec", "--lang", "python", f"/dev/fd/{inner}", pass_fds=(inner,), cwd=str(place))
    os.close(inner)
    assert b"42\n" == done.stdout, done.stderr
    profile = b'extends = "default"\nallow = []\n'
    assert 0 == inside.cli("--no-workspace", "--profile", "/dev/stdin", "--", "true", input=profile).returncode


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 100])
def test_descriptor_of_ours_by_number_is_refused(inside, number):
    """Our own descriptors, which lie above 2, can be named neither for reading nor for writing."""
    done = inside.cli("--no-workspace", "--audit-log", f"/dev/fd/{number}", "--", "true", timeout=SECONDS)
    assert f"descriptor {number} was not passed on by the caller".encode() in done.stderr


def test_input_from_a_silent_pipe_times_out(monkeypatch):
    """A pipe of the caller's whose other end writes nothing is not waited for for ever."""
    monkeypatch.setattr(caller_files, "PATIENCE_S", 0.05)
    inner, outer = os.pipe()
    os.set_inheritable(inner, True)
    try:
        with pytest.raises(TimeoutError):
            caller_files.read(f"/dev/fd/{inner}", 100)
    finally:
        os.close(inner)
        os.close(outer)


# --- races -------------------------------------------------------------------------------------------------------------


def test_output_directory_swapped_while_opened_stays_inside(swapped):
    """A component that turns into a link to elsewhere, and back, 2,000 opens long: nothing is written elsewhere."""
    written = 0
    for _ in range(2000):
        try:
            with caller_files.Place(f"{swapped}/file") as place:
                place.replace(b"x")
                written += 1
            os.close(open_place(f"{swapped}/made", "collect_to"))
        except (OSError, CapsuleError):
            continue
    assert ["precious"] == os.listdir(swapped.parent / "elsewhere")
    assert written


def test_socket_as_profile_is_not_connected(tmp_path):
    """A socket where a profile should be is not opened, and its owner notices nothing."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "it"))
    server.listen()
    server.setblocking(False)
    with pytest.raises(OSError, match="a socket"):
        caller_files.read(str(tmp_path / "it"), 10)
    with pytest.raises(BlockingIOError):
        server.accept()
    server.close()
