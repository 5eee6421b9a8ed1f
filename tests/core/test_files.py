"""The steps that bring files in and hand directories out: what the core does with a pipe that lies, and what it gives."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path

import pytest
from handwritten_plans import Talk, after, compiled, failure, number_of

from capsule_run.model.request import Isolation, Workspace

CONTENT = bytes(range(256)) * 16  # fits into any pipe


def room_with(plan, *steps):
    """The room of a plan with more steps among those that make things."""
    return after(plan.room, "symlink", *steps)


def talk_with_pipe(talk, steps, content):
    """Send a room, with a pipe that holds `content` and then ends."""
    inner, outer = os.pipe()
    try:
        os.write(outer, content)
        os.close(outer)
        talk.room(steps, (inner,))
    finally:
        os.close(inner)


def test_input_files_are_cut_from_the_pipe_by_size(core_path):
    """Each step takes the bytes that it names and no more, an empty file takes none, and modes are as given."""
    plan = compiled("sh", "-c", "cat a c; stat -c '%a %s' a b c")
    files = {"a": ("0600", "3"), "b": ("0755", "0"), "c": ("0444", "4")}
    steps = [("fill", "0", f"/workspace/{name}", *mode_and_size) for name, mode_and_size in files.items()]
    with Talk(core_path) as talk:
        talk_with_pipe(talk, room_with(plan, *steps), b"onefour and more")
        talk.payload(plan.payload)
        assert (0, b"onefour600 3\n755 0\n444 4\n") == (talk.report().exited, talk.out)


@pytest.mark.parametrize(
    ("place", "size", "wrong"),
    [
        pytest.param("/workspace/f", len(CONTENT) + 1, errno.EPIPE, id="the pipe ends early"),
        pytest.param("/workspace/none/f", 1, errno.ENOENT, id="no such directory"),
        pytest.param("/workspace", 1, errno.EEXIST, id="a directory is there"),
        pytest.param("/new/dev/fd/f", 1, errno.ELOOP, id="a link on the way"),
    ],
)
def test_input_file_that_cannot_be_made_fails_its_step(core_path, place, size, wrong):
    """Nothing runs with a file that is missing, short, or elsewhere than it was to be."""
    plan = compiled("true")
    room = room_with(plan, ("fill", "0", place, "0644", str(size)))
    with Talk(core_path) as talk:
        talk_with_pipe(talk, room, CONTENT)
        report = talk.report()
    assert (None, ("room", number_of(room, "fill"), wrong)) == (report.exited, failure(report))


@pytest.mark.parametrize("kind", ["file", "directory", "socket"])
def test_input_files_from_another_descriptor_are_refused(core_path, tmp_path, kind):
    """Another descriptor than a pipe's is refused by the kernel, and the step fails."""
    plan = compiled("true")
    room = room_with(plan, ("fill", "0", "/workspace/f", "0644", "1"))
    (tmp_path / "file").write_bytes(CONTENT)
    made = {
        "file": lambda: os.open(tmp_path / "file", os.O_RDONLY),
        "directory": lambda: os.open(tmp_path, os.O_RDONLY),
        "socket": lambda: socket.socket().detach(),
    }
    fd = made[kind]()
    try:
        with Talk(core_path) as talk:
            talk.room(room, (fd,))
            report = talk.report()
    finally:
        os.close(fd)
    assert ("room", number_of(room, "fill"), errno.EINVAL) == failure(report)


def test_offer_layer_hands_out_the_overlay_layer(core_path, tmp_path):
    """`offer` and `offer-layer` give two directories, in this order: what the command sees, and what it wrote."""
    (tmp_path / "below").write_text("b")
    plan = compiled(
        "sh",
        "-c",
        "echo x > above",
        isolation=Isolation(workspace=Workspace(source=str(tmp_path))),
        require=("overlay",),
    )
    room = tuple(step for step in plan.room if step[0] not in ("offer", "offer-layer"))
    with Talk(core_path) as talk:
        talk.room((*room, ("offer", "/workspace"), ("offer-layer", "/workspace")))
        message, fds = talk.receive()
        try:
            talk.payload(plan.payload)
            assert (b"ready", 2, 0) == (message, len(fds), talk.report().exited)
            assert (["above", "below"], ["above"]) == (sorted(os.listdir(fds[0])), os.listdir(fds[1]))
        finally:
            for fd in fds:
                os.close(fd)


def test_input_file_descriptors_do_not_reach_the_command(core_path):
    """The command has 0, 1, 2 and what it opens: neither the pipe nor an offered directory."""
    plan = compiled("sh", "-c", "ls /proc/self/fd | wc -l")
    room = room_with(plan, ("fill", "0", "/workspace/f", "0644", "1"))
    with Talk(core_path) as talk:
        talk_with_pipe(talk, (*room, ("offer", "/workspace")), b"x")
        _message, fds = talk.receive()
        os.close(fds[0])
        talk.payload(plan.payload)
        assert (0, b"4\n") == (talk.report().exited, talk.out)


@pytest.fixture
def public_tmp():
    """A directory that everybody may enter: init reads as nobody in particular."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        yield Path(place)


def copy_of(path, place="/workspace/f", mode="0640"):
    """The step that copies what lies at `path` now."""
    seen = os.lstat(path)
    return ("copy", str(path), str(seen.st_dev), str(seen.st_ino), place, mode)


def test_copied_file_has_content_and_given_mode(core_path, public_tmp):
    """All of it, with the mode that the plan says, whatever the file's own."""
    (public_tmp / "file").write_bytes(CONTENT * 300)
    (public_tmp / "file").chmod(0o444)
    plan = compiled("sh", "-c", "stat -c '%a %s' f; cmp f g && echo same")
    room = room_with(plan, *[copy_of(public_tmp / "file", f"/workspace/{name}") for name in "fg"])
    with Talk(core_path) as talk:
        talk.room(room)
        talk.payload(plan.payload)
        assert (0, b"640 %d\nsame\n" % len(CONTENT * 300)) == (talk.report().exited, talk.out)


@pytest.mark.parametrize(
    ("lies_there", "wrong"),
    [
        pytest.param("another", errno.ESTALE, id="another file"),
        pytest.param("fifo", errno.EINVAL, id="a pipe that nobody writes to"),
        pytest.param("link", errno.ELOOP, id="a link"),
        pytest.param("directory", errno.EINVAL, id="a directory"),
        pytest.param("nothing", errno.ENOENT, id="nothing"),
        pytest.param("secret", errno.EACCES, id="what root alone may read", marks=pytest.mark.needs("root")),
    ],
)
def test_copied_file_swapped_or_special_fails_its_step(core_path, public_tmp, lies_there, wrong):
    """Nobody waits for it, and root's rights are not used for it: the step fails."""
    path = public_tmp / "file"
    path.write_bytes(CONTENT)
    step = copy_of(path)
    if lies_there == "secret":
        path.chmod(0o600)
    else:
        path.rename(public_tmp / "before")
    if lies_there == "another":
        path.write_bytes(CONTENT)
    elif lies_there == "fifo":
        os.mkfifo(path)
    elif lies_there == "link":
        path.symlink_to("before")
    elif lies_there == "directory":
        path.mkdir()
    if lies_there in ("fifo", "directory"):
        step = copy_of(path)
    plan = compiled("true")
    room = room_with(plan, step)
    with Talk(core_path) as talk:
        talk.room(room)
        report = talk.report()
    assert (None, ("room", room.index(step), wrong)) == (report.exited, failure(report))
