"""The control socket, spoken without the product: what is refused, which step fails with which errno, and the warm room."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
import uuid
from pathlib import Path

import pytest
from handwritten_plans import ROOM, Talk, after, changed, compiled, encode, failure, number_of, rejection, run

from capsule_run.launcher import sealed_file
from capsule_run.model.report import StreamCount
from capsule_run.result.report import parse_record

pytestmark = pytest.mark.sandbox
ALONE = "true"


def before(steps, verb, *more):
    """`steps` with more in front of the first `verb`."""
    at = number_of(steps, verb)
    return (*steps[:at], *more, *steps[at:])


def source_verb(plan):
    """How this caller opens its sources: as root in the launcher, else in init."""
    return "source" if any(step[0] == "source" for step in plan.room) else "inner-source"


# ---- messages that are not in the protocol ----


@pytest.mark.parametrize("word", ["", "r", "rooms", "Room", "payload", "kill", "signal"])
def test_protocol_first_message_that_is_no_room_is_rejected(core_path, word):
    """The first word must be `room`; an empty message is a caller that is gone."""
    with Talk(core_path) as talk:
        talk.send_bytes(word, encode("room", ROOM))
        if word:
            assert ("room", 0, "message") == rejection(talk.report())
        else:
            assert b"" == talk.core.receive()


def test_protocol_first_message_too_long_ends_the_core(core_path):
    """A message beyond the protocol's longest is garbage, and nobody is left to report to."""
    with Talk(core_path) as talk:
        talk.send_bytes("room" * 20_000, encode("room", ROOM))
        assert b"" == talk.core.receive()
        assert 0 == talk.close()


@pytest.mark.parametrize("word", ["room", "nonsense"])
def test_protocol_room_without_descriptor_is_rejected(core_path, word):
    """A plan travels as a descriptor or behind its word; without either there is nothing to check."""
    with Talk(core_path) as talk:
        talk.core.send(word)
        assert ("room", 0, "message") == rejection(talk.report())


@pytest.mark.parametrize("more", [0, 2000], ids=["in a message", "too long for one"])
def test_protocol_half_inline_is_accepted(core_path, more):
    """The plan's text follows the word; a plan too long for a message comes in a file."""
    plan = compiled("true")
    steps = before(plan.room, "bind", *[("dir", f"/new/{number:060d}", "0755") for number in range(more)])
    with Talk(core_path) as talk:
        talk.core.send_half("preamble", encode("room", steps[: number_of(steps, "setup-clock")]))
        talk.core.send_half("room", encode("room", steps))
        talk.payload(plan.payload)
        assert 0 == talk.report().exited


def test_protocol_payload_inline_with_descriptors_is_accepted(core_path):
    """The plan's text follows the word, and the descriptors keep their numbers."""
    plan = compiled("sh", "-c", "echo out; echo err >&2")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.core.send_half("payload", encode("payload", plan.payload), (talk.stdout, talk.stderr, talk.record))
        assert 0 == talk.report().exited
        assert (b"out\n", b"err\n") == (os.pread(talk.stdout, 99, 0), os.pread(talk.stderr, 99, 0))


def test_protocol_payload_inline_with_too_many_descriptors_ends_the_sandbox(core_path):
    """There is no place for the plan's own descriptor."""
    plan = compiled("sleep", "1000")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.core.send_half("payload", encode("payload", plan.payload), [talk.stdout] * 16)
        assert b"" == talk.core.receive()


@pytest.mark.parametrize(
    ("text", "reason"),
    [(b"", "message"), (b"junk", "header"), (b"\0".join((b"capsule-plan", b"1", b"room", b"end")), "cut")],
)
def test_protocol_half_inline_is_checked(core_path, text, reason):
    """As one in a file is, to its last byte."""
    with Talk(core_path) as talk:
        talk.core.send_half("room", text)
        assert ("room", 0, reason) == rejection(talk.report())


def test_protocol_unsealed_plan_is_rejected(core_path):
    """A plan that could change after the check is not read."""
    with Talk(core_path) as talk:
        talk.send_bytes("room", encode("room", ROOM), sealed=False)
        assert ("room", 0, "seals") == rejection(talk.report())


@pytest.mark.parametrize("missing", ["F_SEAL_WRITE", "F_SEAL_SHRINK", "F_SEAL_GROW"])
def test_protocol_plan_with_a_seal_missing_is_rejected(core_path, missing):
    """Written, cut short or grown: each would change a plan behind the check, so each seal is asked for."""
    import fcntl

    seals = {"F_SEAL_WRITE", "F_SEAL_SHRINK", "F_SEAL_GROW"} - {missing}
    plan = os.memfd_create("capsule-plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(plan, encode("room", ROOM))
        fcntl.fcntl(plan, fcntl.F_ADD_SEALS, sum(getattr(fcntl, seal) for seal in seals))
        with Talk(core_path) as talk:
            talk.core.send("room", (plan,))
            assert ("room", 0, "seals") == rejection(talk.report())
    finally:
        os.close(plan)


@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "socket", "file"])
def test_protocol_plan_in_another_file_is_rejected(core_path, kind, tmp_path):
    """Only a sealed memory file is a plan; anything else is refused before it is read."""
    tmp_path.joinpath("plan").write_bytes(encode("room", ROOM))
    ends = [*os.pipe(), *(end.detach() for end in socket.socketpair())]
    opened = {"directory": "/", "device": "/dev/zero", "file": tmp_path / "plan"}
    fd = os.open(opened[kind], os.O_RDONLY) if kind in opened else ends[{"pipe": 0, "socket": 2}[kind]]
    try:
        with Talk(core_path) as talk:
            talk.core.send("room", (fd,))
            assert ("room", 0, "seals") == rejection(talk.report())
    finally:
        for end in {*ends, fd}:
            os.close(end)


@pytest.mark.parametrize("size", [0, (4 << 20) + 1])
def test_protocol_plan_empty_or_over_4_mib_is_rejected(core_path, size):
    """The bounds of a plan are checked before it is mapped."""
    with Talk(core_path) as talk:
        talk.send_bytes("room", b"\0" * size)
        assert ("room", 0, "seals") == rejection(talk.report())


@pytest.mark.parametrize("half", ["room", "payload"])
def test_protocol_invalid_plan_report_names_half_step_and_reason(core_path, half):
    """The checker's words come through in the report, and nothing was started."""
    plan = compiled(ALONE)
    with Talk(core_path) as talk:
        if half == "room":
            talk.room(changed(plan.room, "pivot"))
        else:
            talk.room(plan.room)
            talk.payload(changed(plan.payload, "filter"))
        report = talk.report()
    wanted = (half, len(getattr(plan, half)) - 1, {"room": "pivot", "payload": "filter"}[half])
    assert (wanted, False, None) == (rejection(report), report.started, report.exited)


def test_protocol_room_with_too_many_descriptors_ends_the_core(core_path):
    """What does not fit the table of descriptors is not cut to fit."""
    with Talk(core_path) as talk:
        talk.send_bytes("room", encode("room", ROOM), [talk.stdout] * 16)
        assert b"" == talk.core.receive()


def test_protocol_payload_with_too_many_descriptors_ends_the_sandbox(core_path):
    """The same later on: garbage ends everything, without a report."""
    plan = compiled("sleep", "1000")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(plan.payload, [talk.stdout] * 14)
        assert b"" == talk.core.receive()


@pytest.mark.parametrize("count", [0, 1])
def test_protocol_payload_with_unsent_descriptor_is_rejected(core_path, count):
    """A descriptor number in a plan must be one that came with it."""
    plan = compiled(ALONE)
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.send_bytes("payload", encode("payload", plan.payload), [talk.stdout] * count)
        first = number_of(plan.payload, "stdout") if count == 0 else number_of(plan.payload, "stderr")
        assert ("payload", first, "field") == rejection(talk.report())


@pytest.mark.parametrize("sent", ["nothing", "unsealed"])
def test_protocol_payload_without_plan_is_rejected(core_path, sent):
    """The payload's plan is taken in the same form as the room's."""
    plan = compiled(ALONE)
    with Talk(core_path) as talk:
        talk.room(plan.room)
        if sent == "nothing":
            talk.core.send("payload")
        else:
            talk.send_bytes("payload", encode("payload", plan.payload), (talk.stdout, talk.stderr), sealed=False)
        report = talk.report()
    assert (("payload", 0, "descriptors"), "rejected") == (rejection(report), report.killed)


def test_protocol_second_payload_ends_the_first(core_path):
    """One payload a room: a confused caller must not keep a sandbox."""
    plan = compiled("sleep", "1000")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(plan.payload)
        talk.payload(plan.payload)
        report = talk.report()
    assert ("rejected", ("payload", 0, "descriptors")) == (report.killed, rejection(report))


@pytest.mark.parametrize(
    "word",
    [
        "nonsense", "room", "Kill", "kill ", " kill", "payload ", "signal", "signal x", "signal -1", "signal 1x",
        "signal  1", "signal 123", "signal 1 2", "x" * 63, "x" * 64, "x" * 5000,
    ],
)  # fmt: skip
def test_protocol_garbage_ends_everything(core_path, word):
    """A message that is not in the protocol ends the sandbox at once and without a report."""
    plan = compiled("sleep", "1000")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(plan.payload)
        talk.core.send(word)
        assert b"" == talk.core.receive()
        assert 0 == talk.close()


# ---- letting go ----


@pytest.mark.parametrize(
    "moment", ["spawned", "room sent", "room ready", "payload sent", "payload runs", "output waits"]
)
def test_protocol_closed_socket_ends_everything_at_every_moment(core_path, moment):
    """Letting go is enough, whatever the core is doing: it ends by itself, and the leftover check finds nothing."""
    plan = compiled("sh", "-c", "echo started; (setsid sleep 1000 &); sleep 1000")
    with Talk(core_path) as talk:
        if moment != "spawned":
            talk.room((*plan.room, ("offer", "/workspace")) if moment == "room ready" else plan.room)
        if moment == "room ready":
            os.close(talk.receive()[1][0])
        if moment in ("payload sent", "payload runs", "output waits"):
            talk.piped(plan.payload)
        if moment == "payload runs":
            assert b"started\n" == talk.heard()
        if moment == "output waits":
            select.select(talk.pipes, [], [], 30)
        assert 0 == talk.close()


def test_kill_message_ends_everything_and_is_reported(core_path):
    """`kill` is answered with a report that says whose wish it was."""
    plan = compiled("sh", "-c", "echo started; (setsid sleep 1000 &) ; sleep 1000")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.piped(plan.payload)
        assert b"started\n" == talk.heard()
        talk.core.send("kill")
        report = talk.report()
    assert ("caller", None, None) == (report.killed, report.exited, report.signalled)
    assert report.started


@pytest.mark.parametrize("with_payload", [False, True])
def test_kill_message_before_the_command_is_reported(core_path, with_payload):
    """A room that is not built yet, or waits, is ended as well."""
    plan = compiled("sleep", "1000")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        if with_payload:
            talk.payload(plan.payload)
        talk.core.send("kill")
        assert "caller" == talk.report().killed


# ---- signals ----

GROUP = """
trap 'echo parent $1; ' USR1
sh -c 'trap "echo child; exit 7" USR1; echo ready; while :; do sleep 0.01; done' &
wait $!; wait $!; echo gone $?
"""


def test_signal_message_reaches_the_process_group(core_path):
    """`signal N` is what a terminal's Ctrl-C would be: the command and its children in its group get it."""
    plan = compiled("sh", "-c", GROUP)
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.piped(plan.payload)
        assert b"ready\n" == talk.heard()
        talk.core.send("signal 10")
        report = talk.report()
        said = talk.heard().split(b"\n")
    assert (0, {b"parent", b"child", b"gone 7", b""}) == (report.exited, {line.strip() for line in said})


@pytest.mark.parametrize("number", [1, 2, 15, 9, 34, 64])
def test_signal_message_that_ends_the_command_is_its_end(core_path, number):
    """A command that lets a forwarded signal end it was ended by that signal, and not by us."""
    plan = compiled("sh", "-c", "echo ready; exec sleep 1000")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.piped(plan.payload)
        assert b"ready\n" == talk.heard()
        talk.core.send(f"signal {number}")
        report = talk.report()
    assert (number, "", None) == (report.signalled, report.killed, report.exited)


def test_signal_message_invalid_or_early_does_nothing(core_path):
    """A number without a signal, and a signal before there is a command, hurt nobody."""
    plan = compiled("sh", "-c", "exit 3")
    with Talk(core_path) as talk:
        talk.room((*plan.room, ("offer", "/workspace")))
        os.close(talk.receive()[1][0])
        for number in (0, 9, 15, 65, 99):
            talk.core.send(f"signal {number}")
        talk.payload(plan.payload)
        talk.core.send("signal 99")
        assert 3 == talk.report().exited


# ---- steps that fail ----


def failing_room(core_path, room):
    with Talk(core_path) as talk:
        talk.room((*room, ("offer", "/workspace")) if room[-1][0] != "offer" else room)
        report = talk.report()
    assert (False, None) == (report.started, report.exited)
    return failure(report)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        pytest.param("/usr/none-such", errno.ENOENT, id="missing"),
        pytest.param("/usr/bin/env/deeper", errno.ENOTDIR, id="beneath a file"),
        pytest.param("/usr/" + "x" * 256, errno.ENAMETOOLONG, id="name too long"),
        pytest.param("/proc/self/exe", errno.ELOOP, id="magic link"),
        pytest.param("/proc/self/root/usr", errno.ELOOP, id="through a magic link"),
        pytest.param("/usr", errno.ESTALE, id="another object than Python saw"),
    ],
)
def test_source_changed_since_the_survey_fails_its_step(core_path, path, wrong):
    """The number of the step and the reason come through, for a source that is not what it was when Python looked."""
    plan = compiled(ALONE)
    verb = source_verb(plan)
    room = changed(plan.room, verb, (verb, path, "1", "1"), which=1)
    assert ("room", number_of(room, verb, path, "1", "1"), wrong) == failing_room(core_path, room)


@pytest.mark.parametrize("where", ["last", "middle"])
def test_source_with_link_in_its_path_is_refused(core_path, tmp_path, where):
    """Python resolved the honest links; one that is there now was put there since, and is another object at best."""
    tmp_path.joinpath("real").mkdir()
    tmp_path.joinpath("real", "deep").mkdir()
    tmp_path.joinpath("link").symlink_to("real")
    path = tmp_path / "link" if where == "last" else tmp_path / "link" / "deep"
    seen = path.stat()
    plan = compiled(ALONE)
    verb = source_verb(plan)
    room = changed(plan.room, verb, (verb, str(path), str(seen.st_dev), str(seen.st_ino)), which=1)
    failed = failing_room(core_path, room)
    assert ("room", number_of(room, verb, str(path))) == failed[:2]
    assert failed[2] in (errno.ELOOP, errno.ESTALE)


def test_source_that_is_a_link_is_refused(core_path, tmp_path):
    """A link that is itself the object that the plan names is refused as a link: nothing is mounted from it."""
    tmp_path.joinpath("link").symlink_to("/usr")
    path, seen = tmp_path / "link", tmp_path.joinpath("link").lstat()
    plan = compiled(ALONE)
    verb = source_verb(plan)
    room = changed(plan.room, verb, (verb, str(path), str(seen.st_dev), str(seen.st_ino)), which=1)
    with Talk(core_path) as talk:
        talk.room((*room, ("offer", "/workspace")))
        message, fds = talk.receive()
        for fd in fds:
            os.close(fd)
    assert b"failed-room %d %d" % (number_of(room, verb, str(path)), errno.ELOOP) in message


def test_source_swapped_is_estale(core_path, tmp_path):
    """The same path with another inode is another object (ESTALE): a race that the sandbox's neighbour cannot win."""
    place = tmp_path / "place"
    place.mkdir()
    seen = place.stat()
    place.rename(tmp_path / "kept")
    place.mkdir()
    plan = compiled(ALONE)
    verb = source_verb(plan)
    room = changed(plan.room, verb, (verb, str(place), str(seen.st_dev), str(seen.st_ino)), which=0)
    assert ("room", number_of(room, verb), errno.ESTALE) == failing_room(core_path, room)


@pytest.mark.parametrize(
    ("verb", "steps", "wrong"),
    [
        pytest.param("dir", [("dir", "/none/such", "0755")], errno.ENOENT, id="directory without its parent"),
        pytest.param("dir", [("file", "/f", "0644", ""), ("dir", "/f/d", "0755")], errno.ENOTDIR, id="directory in a file"),
        pytest.param("dir", [("symlink", "/l", "/etc"), ("dir", "/l/d", "0755")], errno.ENOTDIR, id="directory behind a link"),
        pytest.param("file", [("symlink", "/l", "/etc"), ("file", "/l/f", "0644", "")], errno.ENOTDIR, id="file behind a link"),
        pytest.param("file", [("symlink", "/l", "/etc/x"), ("file", "/l", "0644", "")], errno.EEXIST, id="file over a link"),
        pytest.param("file", [("file", "/new/etc/passwd", "0644", "")], errno.EEXIST, id="file over a file"),
        pytest.param("symlink", [("symlink", "/new/etc/passwd", "x")], errno.EEXIST, id="link over a file"),
        pytest.param("symlink", [("symlink", "/none", "x" * 4096)], errno.ENAMETOOLONG, id="link too long"),
        pytest.param("symlink", [("symlink", "/none", "")], errno.ENOENT, id="link to nothing"),
    ],
)  # fmt: skip
def test_step_make_that_fails_is_reported(core_path, verb, steps, wrong):
    """What is made lies on our own tmpfs and nowhere else, and what cannot be made is said."""
    room = after(compiled(ALONE).room, "symlink", *steps)
    at = max(index for index, step in enumerate(room) if step == steps[-1])
    failed = failing_room(core_path, room)
    if wrong == errno.ENOTDIR and failed[2] == errno.ELOOP:
        wrong = errno.ELOOP  # what a kernel without openat2 says of a link
    assert (verb, "room", at, wrong) == (room[at][0], *failed)


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        pytest.param(("bind", "0", "/new/none-such", "ro"), errno.ENOENT, id="bind at a missing place"),
        pytest.param(("bind", "0", "/new/etc/passwd", "ro"), errno.ENOTDIR, id="directory over a file"),
        pytest.param(("bind", "0", "/new/dev/fd/x", "ro"), errno.ELOOP, id="bind behind a link"),
        pytest.param(("inner-bind", "/new/none-such", "/new/tmp", "rw"), errno.ENOENT, id="of nothing"),
        pytest.param(("inner-bind", "/new/tmp", "/new/none-such", "rw"), errno.ENOENT, id="at a missing place"),
        pytest.param(("overlay", "/none", "/none", "/none", "/none", "/new/tmp"), errno.ENOENT, id="overlay of nothing"),
        pytest.param(("overlay", "/n", "/a:b", "/c", "/d", "/new/tmp"), errno.ENAMETOOLONG, id="overlay with syntax in a path"),
        pytest.param(("overlay", "/n", "/a,b", "/c", "/d", "/new/tmp"), errno.ENAMETOOLONG, id="overlay with an option"),
        pytest.param(("overlay", "/n", "/a\\b", "/c", "/d", "/new/tmp"), errno.ENAMETOOLONG, id="overlay with an escape"),
        pytest.param(("overlay", *("/" + name * 2000 for name in "abcd"), "/new/tmp"), errno.ENAMETOOLONG, id="overlay too long"),
    ],
)  # fmt: skip
def test_step_mount_that_fails_is_reported(core_path, step, wrong):
    """Every place is resolved beneath the new root and through no link."""
    plan = compiled(ALONE)
    room = before(plan.room, "bind", step)
    if wrong == errno.ENOTDIR:  # move_mount says EINVAL on some kernels
        assert failing_room(core_path, room) in [
            ("room", number_of(room, *step), code) for code in (wrong, errno.EINVAL)
        ]
    else:
        assert ("room", number_of(room, *step), wrong) == failing_room(core_path, room)


@pytest.mark.parametrize(("verb", "end"), [("bind", "place"), ("inner-bind", "source"), ("inner-bind", "place")])
def test_mount_at_or_from_a_link_is_refused(core_path, verb, end):
    """A link at the end of a place is refused like one on the way: nobody may steer a mount, or be mounted as one."""
    plan = compiled(ALONE)
    null = next(step[1] for step in plan.room if step[0] == "bind" and step[2] == "/new/dev/null")
    link, file = "/new/dev/stdin", "/new/dev/zero"
    step = (
        ("bind", null, link, "rw")
        if verb == "bind"
        else ("inner-bind", *((link, file) if end == "source" else (file, link)), "rw")
    )
    room = before(plan.room, "proc", step)
    with Talk(core_path) as talk:
        talk.room((*room, ("offer", "/workspace")))
        message, fds = talk.receive()
        for fd in fds:
            os.close(fd)
    assert b"failed-room %d %d" % (number_of(room, *step), errno.ELOOP) in message


@pytest.mark.parametrize(
    ("verb", "step", "wrong"),
    [
        pytest.param("hostname", ("hostname", "x" * 65), errno.EINVAL, id="hostname too long"),
        pytest.param("proc", ("proc", "/none", "ro"), errno.ENOENT, id="procfs at a missing place"),
        pytest.param("devpts", ("devpts", "/none"), errno.ENOENT, id="terminals at a missing place"),
        pytest.param("root", ("root", "4096", "100"), None, id="root that is too small"),
    ],
)
def test_step_of_a_room_that_fails_is_reported(core_path, verb, step, wrong):
    """Every step that can fail is reported with its number."""
    room = changed(compiled(ALONE).room, verb, step)
    if wrong is None:  # what does not fit is the step that fails
        assert errno.ENOSPC == failing_room(core_path, room)[2]
    else:
        assert ("room", number_of(room, verb), wrong) == failing_room(core_path, room)


def test_step_offer_of_missing_directory_is_reported(core_path):
    """Only a directory of the new root can be handed out."""
    plan = compiled(ALONE)
    for path, wrong in (("/none", errno.ENOENT), ("/etc/passwd", errno.ENOTDIR), ("/dev/fd", errno.ENOTDIR)):
        room = (*plan.room, ("offer", path))
        failed = failing_room(core_path, room)
        assert ("room", len(room) - 1) == failed[:2]
        assert failed[2] in (wrong, errno.ELOOP)


@pytest.mark.parametrize("verb", ["uid-map", "gid-map"])
def test_step_id_map_not_permitted_is_reported(core_path, verb):
    """An outside id beyond what this caller may map is refused by the kernel, and the step says so."""
    plan = compiled(ALONE)
    room = changed(plan.room, verb, (verb, "1", plan.room[number_of(plan.room, verb)][2]))
    failed = failing_room(core_path, room)
    assert ("room", number_of(room, verb), errno.EINVAL) == failed  # init cannot become the room's 0


def landlock_abi():
    """What the kernel answers; its list of security modules is not mounted everywhere."""
    return ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1)


def failing_payload(core_path, payload, plan):
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(payload)
        report = talk.report()
        assert (b"", b"") == (talk.out, talk.err)
    assert (False, None, "failed") == (report.started, report.exited, report.killed)
    return failure(report)


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        pytest.param(("cwd", "/none-such"), errno.ENOENT, id="no such directory"),
        pytest.param(("cwd", "/etc/passwd"), errno.ENOTDIR, id="no directory"),
        pytest.param(("landlock", "2", str(1 << 60), "0"), errno.EINVAL, id="Landlock right that no kernel has"),
        pytest.param(("filter", "ff" * 8), errno.EINVAL, id="filter that the kernel refuses"),
    ],
)
def test_step_of_a_payload_that_fails_is_reported(core_path, step, wrong, needs):
    """Nothing runs when any measure cannot be taken, and the report says which."""
    if step[0] == "landlock-allow":
        needs("landlock", present=landlock_abi() > 0)
    plan = compiled(ALONE)
    payload = changed(plan.payload, step[0], step)
    assert ("payload", number_of(payload, *step), wrong) == failing_payload(core_path, payload, plan)


@pytest.mark.parametrize(
    ("paths", "which", "wrong"),
    [
        pytest.param(["/usr/bin/none"], 0, errno.ENOENT, id="missing"),
        pytest.param(["/usr/bin/none", "/usr/none/such"], 1, errno.ENOENT, id="all missing"),
        pytest.param(["/etc/passwd/x"], 0, errno.ENOENT, id="beneath a file"),
        pytest.param(["/usr/bin"], 0, errno.EACCES, id="a directory"),
        pytest.param(["/etc/passwd"], 0, errno.EACCES, id="not executable"),
        pytest.param(["/etc/passwd", "/usr/bin/none"], 1, errno.EACCES, id="not executable, then missing"),
    ],
)
def test_exec_of_missing_command_fails_its_step(core_path, paths, which, wrong):
    """A command that is not there, or may not be executed, never counts as one that ran."""
    plan = compiled(ALONE)
    payload = tuple(step for step in plan.payload if step[0] != "exe")
    payload = after(payload, "attest", *(("exe", path) for path in paths))
    assert ("payload", number_of(payload, "exe", paths[which]), wrong) == failing_payload(core_path, payload, plan)


def test_exec_takes_the_first_candidate_that_works(core_path):
    """Candidates are tried in the order of the plan, past those that are missing or may not be executed."""
    plan = compiled("echo", "it ran")
    candidates = [("exe", path) for path in ("/usr/none", "/etc/passwd", "/usr/bin/echo", "/usr/bin/false")]
    payload = tuple(step for step in plan.payload if step[0] != "exe")
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(after(payload, "attest", *candidates))
        assert (0, b"it ran\n") == (talk.report().exited, talk.out)


@pytest.mark.parametrize("verb", ["stdout", "stderr", "stdin"])
def test_stream_unusable_descriptor_ends_only_the_stream(core_path, verb, tmp_path):
    """A sink that cannot be written to, or a source that cannot be read, ends its stream and not the run."""
    directory = os.open(tmp_path, os.O_RDONLY)
    plan = compiled("sh", "-c", "cat; echo out; echo err >&2; exit 5")
    payload = after(plan.payload, "env", ("stdin", "3"))
    if verb != "stdin":
        payload = changed(payload, verb, (verb, "4", "1000", "kill"))
    try:
        with Talk(core_path) as talk:
            talk.room(plan.room)
            talk.payload(payload, (directory if verb == "stdin" else talk.stdout, directory))
            report = talk.report()
    finally:
        os.close(directory)
    assert ("", "" if verb == "stdin" else StreamCount(kept=0, total=0, over=False)) == (
        report.killed,
        "" if verb == "stdin" else getattr(report, verb),
    )


def test_report_is_delivered_before_an_unread_message(core_path):
    """A core that fails before it has read the payload still delivers its report, however the two processes are scheduled."""
    plan = compiled(ALONE)
    verb = source_verb(plan)
    room = changed(plan.room, verb, (verb, "/usr/none-such", "1", "1"))
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})  # one processor: the core runs, and ends, while we do not
    try:
        for _ in range(200):
            with Talk(core_path) as talk:
                talk.room(room)
                talk.payload(plan.payload)
                assert ("room", number_of(room, verb), errno.ENOENT) == failure(talk.report())
    finally:
        os.sched_setaffinity(0, processors)


# ---- the clocks ----


def test_setup_clock_ends_a_room_that_is_not_ready(core_path):
    """A set-up that hangs is ended by its own clock: here one that is shorter than any set-up."""
    plan = compiled("sleep", "1000")
    steps = [("file", f"/new/etc/f{number}", "0644", "x") for number in range(3000)]
    room = after(changed(plan.room, "setup-clock", ("setup-clock", "1")), "file", *steps)
    with Talk(core_path) as talk:
        talk.room(room)
        assert "setup-clock" == talk.report().killed


def test_command_clock_does_not_run_during_setup(core_path):
    """A clock of 1 ms is the command's: it is never spent on building the room that it is to run in."""
    plan = compiled("sleep", "1000")
    for _ in range(5):
        report, *_ = run(core_path, with_halves(plan, payload=changed(plan.payload, "clock", ("clock", "1"))))
        assert "clock" == report.killed


def test_command_clock_does_not_replace_the_setup_clock(core_path):
    """A long clock for the command leaves the set-up its own."""
    plan = compiled("sleep", "1000")
    steps = [("file", f"/new/etc/f{number}", "0644", "x") for number in range(3000)]
    room = after(changed(plan.room, "setup-clock", ("setup-clock", "1")), "file", *steps)
    report, *_ = run(
        core_path, with_halves(plan, room=room, payload=changed(plan.payload, "clock", ("clock", "100000")))
    )
    assert "setup-clock" == report.killed


def with_halves(plan, **halves):
    from capsule_run._base.value import replace

    return replace(plan, **halves)


def test_command_clock_ends_the_command(core_path):
    """The command's clock ends it and everything that it started, and the report says that it was the clock."""
    plan = compiled(
        "sh", "-c", "trap '' TERM INT HUP; echo out; (setsid sleep 1000 &); sleep 1000; sleep 1000", timeout_ms=100
    )
    report, out, _err = run(core_path, plan)
    assert ("clock", b"out\n", None) == (report.killed, out, report.exited)
    assert report.times["reported"] - report.times["started"] >= 100_000_000


# ---- the warm room ----


@contextlib.contextmanager
def as_room_s_root(plan):
    """Become the room's root, in this thread and for file systems: root on the host is nobody inside, and may make nothing.

    For an ordinary user it is no change.
    """
    libc = ctypes.CDLL(None)
    uid, gid = (int(plan.room[number_of(plan.room, verb)][2]) for verb in ("uid-map", "gid-map"))
    libc.setfsgid(gid), libc.setfsuid(uid)
    try:
        yield
    finally:
        libc.setfsuid(os.geteuid()), libc.setfsgid(os.getegid())


def test_room_waits_for_payload_and_takes_files(core_path):
    """A ready room hands out a directory; what is put there before the payload is sent, the command finds."""
    plan = compiled("cat", "given/file")
    with Talk(core_path) as talk:
        talk.room((*plan.room, ("offer", "/workspace")))
        message, fds = talk.receive()
        assert (b"ready", 1) == (message, len(fds))
        with as_room_s_root(plan):
            os.mkdir("given", dir_fd=fds[0])
            file = os.open("given/file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fds[0])
            os.write(file, b"from outside")
            os.close(file)
        os.close(fds[0])
        talk.payload(plan.payload)
        assert (0, b"from outside") == (talk.report().exited, talk.out)


def test_offered_directory_is_private_to_the_room(core_path):
    """The directory that comes out is a file system of the sandbox: nothing that is put there lands on the host's."""
    plan = compiled(ALONE)
    with Talk(core_path) as talk:
        talk.room((*plan.room, ("offer", "/workspace")))
        _message, fds = talk.receive()
        try:
            assert os.stat("/tmp").st_dev != os.fstat(fds[0]).st_dev
            assert [] == os.listdir(fds[0])
        finally:
            os.close(fds[0])


def test_room_ready_has_no_clock(core_path):
    """The set-up's clock ends with the set-up: a room waits for as long as it is kept."""
    plan = compiled("echo", "late")
    room = changed(plan.room, "setup-clock", ("setup-clock", "300"))
    with Talk(core_path) as talk:
        talk.room((*room, ("offer", "/workspace")))
        os.close(talk.receive()[1][0])
        readable, *_ = select.select([talk.core], [], [], 0.5)
        assert [] == readable
        talk.payload(plan.payload)
        assert (0, b"late\n") == (talk.report().exited, talk.out)


def test_room_without_offer_sends_only_its_report(core_path):
    """There is one message for a one-shot run: the report."""
    plan = compiled(ALONE)
    with Talk(core_path) as talk:
        talk.room(plan.room)
        talk.payload(plan.payload)
        assert 0 == talk.report().exited


# ---- the cgroup ----


def writable_cgroup2():
    """A directory of a cgroup v2 hierarchy in which we may make cgroups, or None."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if " - cgroup2 " in line:
            own = next(one for one in Path("/proc/self/cgroup").read_text().splitlines() if one.startswith("0::"))[3:]
            for place in (fields[4] + own, fields[4]):
                if os.access(place, os.W_OK) and os.access(place + "/cgroup.procs", os.W_OK):
                    return Path(place)
    return None


def test_cgroup_of_the_plan_holds_init_from_the_start(core_path, needs):
    """`cgroup` names the directory that init is cloned into, and the sandbox sees it as the root of the hierarchy."""
    place = writable_cgroup2()
    needs("cgroup2", present=place is not None)
    cgroup = place / f"capsule-test-{uuid.uuid4()}"
    cgroup.mkdir()
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    plan = compiled("sh", "-c", "cat /proc/self/cgroup; sleep 1000")
    room = before(plan.room, "uid-map", ("cgroup", "0", cgroup.name))
    payload = before(plan.payload, "id", ("cgroup-file", "3", cgroup.name, "cgroup.events"))
    try:
        with Talk(core_path) as talk:
            talk.room(room, (fd,))
            talk.piped(payload, (fd,))
            said = talk.heard()
            members = cgroup.joinpath("cgroup.procs").read_text().split()
            assert str(talk.pid) not in members
            talk.core.send("kill")
            talk.report()
            assert "populated 0\n" in parse_record(talk.content(talk.record)).cgroup_files["cgroup.events"]
        assert b"0::/\n" == next(line + b"\n" for line in said.split(b"\n") if line.startswith(b"0::"))
        assert len(members) >= 2  # init, the shell, and sleep if it is there already
        assert not cgroup.exists()  # the launcher's last act
    finally:
        os.close(fd)
        if cgroup.exists():
            wait_until_empty(cgroup)
            cgroup.rmdir()


def wait_until_empty(cgroup):
    """cgroup.events changes when the last member is gone; poll(2) waits for it."""
    with cgroup.joinpath("cgroup.events").open() as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while "populated 1" in events.read():
            poll.poll(5000)
            events.seek(0)


@pytest.mark.parametrize("kind", ["no cgroup", "no directory"])
def test_cgroup_that_is_no_cgroup_fails_the_create_phase(core_path, kind, tmp_path):
    """A directory that is no cgroup, or none at all, ends the run before there is any process inside."""
    if kind == "no cgroup":
        tmp_path.joinpath("capsule").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY)
    room = before(compiled(ALONE).room, "uid-map", ("cgroup", "0", "capsule"))
    try:
        with Talk(core_path) as talk:
            talk.room(room, (fd,))
            report = talk.report()
    finally:
        os.close(fd)
    assert ("room", number_of(room, "cgroup"), errno.EBADF if kind == "no cgroup" else errno.ENOENT) == failure(report)


def test_rooms_of_one_process_run_at_once(core_path):
    """Rooms do not know of each other: twenty wait together, and each runs its own payload."""
    talks = [Talk(core_path) for _ in range(20)]
    plan = compiled("cat")
    payload = after(plan.payload, "env", ("stdin", "3"))
    try:
        for talk in talks:
            talk.room(plan.room)
        for number, talk in enumerate(talks):
            text = sealed_file("capsule-stdin", b"%d" % number)
            talk.payload(payload, (text,))
            os.close(text)
        assert [(0, b"%d" % number) for number in range(20)] == [(talk.report().exited, talk.out) for talk in talks]
    finally:
        for talk in talks:
            talk.__exit__()
