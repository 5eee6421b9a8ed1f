"""The checker takes what Python compiles and what is written in the format, and nothing else."""

from __future__ import annotations

import itertools
import os
import subprocess

import pytest
from handwritten_plans import JOIN, PAYLOAD, ROOM, SMALLEST, changed, check, compiled, encode, verbs

from capsule_run._base.value import replace
from capsule_run.engine.prepare import prepare
from capsule_run.model.request import Bind, Isolation, Request, Resources, Workspace
from capsule_run.plan.join import join_steps
from capsule_run.plan.preamble import encode as encode_by_product
from capsule_run.plan.room import compile_plan

HALVES = ("room", "join", "payload")
OTHER_HALF = {"room": "payload", "join": "room", "payload": "room"}
RIVALS = ("host-net", "hold")  # each stands in the place of others
TOO_LONG = "/" + "x" * 4095

# A step of each verb that the smallest plans lack, so that every verb can be put into a plan.
MORE_STEPS = {
    "host-net": (),
    "drop-groups": (),
    "cgroup": ("0", "capsule"),
    "join-cgroup": ("0", "capsule"),
    "cgroup-enter": ("0", "capsule"),
    "cgroup-join": ("0", "capsule"),
    "cgroup-file": ("0", "capsule", "memory.peak"),
    "memory-notice": ("0",),
    "oom-score-adj": ("1000",),
    "source": ("/usr", "1", "2"),
    "idmap": ("0", "0", "0"),
    "inner-source": ("/usr", "1", "2"),
    "dir": ("/d", "0755"),
    "file": ("/f", "0644", "text\nof\nlines"),
    "copy": ("/etc/services", "1", "2", "/f", "0644"),
    "fill": ("0", "/f", "0644", "12"),
    "symlink": ("/l", "../anything"),
    "bind": ("0", "/usr", "ro"),
    "inner-bind": ("/a", "/b", "rw"),
    "guard": ("/a", "1", "2", "/b"),
    "whiteout": ("/a",),
    "copy-tree": ("/a", "/b", "/c", "/d", "200", "1048576"),
    "overlay": ("/a", "/b", "/c", "/d", "/e"),
    "overlay-ro": ("/a", "/b", "/c"),
    "devpts": ("/dev/pts",),
    "sysctl": ("sem", "64 4096 32 64"),
    "offer": ("/workspace",),
    "offer-layer": ("/workspace",),
    "share": (),
    "carry": ("/proc/meminfo",),
    "overlay-at": ("/workspace",),
    "nice": ("5",),
    "landlock": ("6", "1", "3"),
    "landlock-required": (),
    "listener-required": (),
    "landlock-allow": ("/tmp", "1"),
    "hold": (),
    "keep": (),
    "env": ("NAME=VALUE=WITH=MORE",),
    "stdin": ("2",),
    "terminal": ("2",),
    "memory-watch": ("268435456",),
    "cpu-watch": ("1000", "2"),
    "postmortem": (),
    "command-cwd": ("/tmp",),
    "record": ("2", "1048576"),
}
MORE_OF_JOIN = {"rlimit": ("6", "64", "64")}
NAMES = {half: tuple(dict.fromkeys(step[0] for step in SMALLEST[half])) for half in HALVES}
ROOM_VERBS = (
    "namespace host-net drop-groups cgroup uid-map gid-map oom-score-adj setup-clock"
    " guard source idmap inner-source root dir file copy fill symlink whiteout bind inner-bind copy-tree overlay overlay-ro"
    " proc devpts sysctl network readonly pivot hostname offer offer-layer share"
).split()
JOIN_VERBS = (
    "host-net drop-groups cgroup join-cgroup oom-score-adj setup-clock join-namespace carry proc inner-bind rlimit"
    " overlay-at"
).split()
PAYLOAD_VERBS = (
    "cgroup-enter cgroup-join cgroup-file memory-notice"
    " id umask nice rlimit cwd new-keyring no-new-privs no-capabilities landlock landlock-required landlock-allow"
    " listener-required filter"
    " attest command-cwd hold exe arg env stdin terminal stdout stderr clock drain keep memory-watch cpu-watch postmortem record"
).split()
ALL_VERBS = {"room": ROOM_VERBS, "join": JOIN_VERBS, "payload": PAYLOAD_VERBS}
EVERY_VERB = [(half, name) for half in HALVES for name in ALL_VERBS[half]]


@pytest.fixture(scope="module")
def language(core_path):
    return verbs(core_path)


def step_of(half, name):
    """A good step of this verb."""
    given = [step for step in SMALLEST[half] if step[0] == name]
    more = MORE_OF_JOIN if half == "join" and name in MORE_OF_JOIN else MORE_STEPS
    return given[0] if given else (name, *more[name])


def full(half, language):
    """A plan with every verb once, but those that exclude each other."""
    steps = []
    for verb in language:
        if verb.half == half and verb.name not in RIVALS:
            given = [step for step in SMALLEST[half] if step[0] == verb.name]
            steps += given or [step_of(half, verb.name)]
    return tuple(steps)


def with_host_network(steps):
    """`host-net`, behind the namespaces, instead of `network`."""
    steps = changed(steps, "network")
    return changed(steps, "namespace", ("namespace", "cgroup"), ("host-net",), which=5)


def joins_host_network(steps):
    """`host-net` instead of the network namespace of a room."""
    return (("host-net",), *(step for step in steps if step[:2] != ("join-namespace", "net")))


def holds(steps):
    """`hold` instead of a command."""
    return changed(changed(steps, "arg"), "exe", ("hold",))


def full_with(half, name, language):
    """A plan with every verb once that can stand beside `name`."""
    rivals = {
        ("room", "host-net"): with_host_network,
        ("join", "host-net"): joins_host_network,
        ("payload", "hold"): holds,
    }
    return rivals.get((half, name), tuple)(full(half, language))


def test_plan_tables_of_the_tests_have_every_verb(language):
    """No verb of the core is missing from the tables that these tests go through."""
    assert [(verb.half, verb.name) for verb in language] == EVERY_VERB


@pytest.mark.parametrize("half", HALVES)
def test_plan_smallest_is_accepted(core_path, half):
    """The smallest plan above the floor is accepted, so that each rejection below has one reason."""
    assert "ok" == check(core_path, half, SMALLEST[half])


@pytest.mark.parametrize("half", HALVES)
def test_plan_with_every_verb_is_accepted(core_path, language, half):
    """A plan with every verb in the order of ranks is accepted."""
    assert "ok" == check(core_path, half, full(half, language))


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    ("said", "text"),
    [
        pytest.param("header", b"", id="empty file"),
        pytest.param("header", b"\0", id="one NUL"),
        pytest.param("header", b"\0\0\0\0", id="only NULs"),
        pytest.param("header", b"capsule-plan", id="no NUL"),
        pytest.param("header", b"capsule-plan\0", id="magic only"),
        pytest.param("header", b"capsule-plan\0" + b"1\0", id="no half"),
        pytest.param("header", b"capsule-plan\0" + b"1\0room", id="half without its end"),
        pytest.param("header", b"capsule-Plan\0" + b"1\0room\0end\0", id="another magic"),
        pytest.param("header", b"end\0" * 3, id="ends at once"),
        pytest.param("version", b"capsule-plan\0" + b"2\0room\0end\0", id="version 2"),
        pytest.param("version", b"capsule-plan\0" + b"01\0room\0end\0", id="version 01"),
        pytest.param("version", b"capsule-plan\0\0room\0end\0", id="no version"),
        pytest.param("half", b"capsule-plan\0" + b"1\0rooms\0end\0", id="another half"),
        pytest.param("half", b"capsule-plan\0" + b"1\0\0end\0", id="empty half"),
    ],
)
def test_plan_header_wrong_is_rejected(core_path, half, said, text):
    """Nothing is read behind a header that is not ours."""
    assert f"rejected 0 {said}" == check(core_path, half, text)


@pytest.mark.parametrize("half", HALVES)
def test_plan_other_half_is_rejected(core_path, half):
    """A payload is no room and a room is no payload, though each is well formed."""
    other = OTHER_HALF[half]
    assert "rejected 0 half" == check(core_path, half, encode(other, SMALLEST[other]))


@pytest.mark.parametrize("half", HALVES)
def test_plan_cut_anywhere_is_rejected(core_path, language, half):
    """A plan that lacks its tail, at whatever byte, is rejected as cut (or as no plan, while the header is cut)."""
    text = encode(half, full(half, language))
    header = len(encode(half, (), end=()))
    step_ends = {len(encode(half, full(half, language)[:count], end=())): count for count in range(len(text))}
    cuts = sorted({*range(header + 40), *step_ends, *range(header, len(text), 7), *range(len(text) - 40, len(text))})
    for size in (size for size in cuts if size < len(text)):
        steps = max((count for at, count in step_ends.items() if header <= at <= size), default=0)
        expected = "rejected 0 header" if size < header else f"rejected {min(steps, len(full(half, language)))} cut"
        assert (size, expected) == (size, check(core_path, half, text[:size]))


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    "word", ["", "nonsense", "END", "capsule-plan", "Namespace", "i", "namespac", "namespaces", "\xff"]
)
def test_plan_unknown_verb_is_rejected(core_path, half, word):
    """A word that is no verb of this half is rejected where it stands."""
    assert "rejected 1 verb" == check(core_path, half, (SMALLEST[half][0], (word,), *SMALLEST[half][1:]))


@pytest.mark.parametrize(
    ("half", "name", "other"),
    [(half, name, other) for half, name in EVERY_VERB for other in HALVES if name not in ALL_VERBS[other]],
)
def test_plan_verb_of_the_other_half_is_rejected(core_path, half, name, other):
    """Each half has its own verbs: what builds a room cannot be asked of a payload, nor the reverse."""
    assert "rejected 0 verb" == check(core_path, other, (step_of(half, name), *SMALLEST[other]))


@pytest.mark.parametrize(("half", "name"), EVERY_VERB)
def test_plan_step_with_extra_field_is_rejected(core_path, language, half, name):
    """The number of fields is fixed: one more is read as a verb, which it is not."""
    steps = full_with(half, name, language)
    at = max(index for index, step in enumerate(steps) if step[0] == name)
    steps = (*steps[:at], (*steps[at], "surplus"), *steps[at + 1 :])
    assert f"rejected {at + 1} verb" == check(core_path, half, steps)


@pytest.mark.parametrize(("half", "name"), [(half, name) for half, name in EVERY_VERB if len(step_of(half, name)) > 1])
def test_plan_step_with_missing_field_is_rejected(core_path, half, name):
    """A missing last field cannot be made up by what follows it: the plan ends before it is whole."""
    text = encode(half, (step_of(half, name)[:-1],), end=())
    if name in ("bind", "idmap"):  # they need a source before them
        text = encode(half, (step_of(half, "source"), step_of(half, name)[:-1]), end=())
    assert f"rejected {1 if name in ('bind', 'idmap') else 0} cut" == check(core_path, half, text)


@pytest.mark.parametrize("half", HALVES)
def test_plan_steps_out_of_order_are_rejected(core_path, language, half):
    """For each pair of neighbouring ranks, the later step before the earlier one is rejected."""
    steps = full(half, language)
    rank = {verb.name: verb.rank for verb in language if verb.half == half}
    pairs = [(at, at + 1) for at in range(len(steps) - 1) if rank[steps[at][0]] < rank[steps[at + 1][0]]]
    assert len(pairs) >= len(set(rank.values())) - 2
    for first, second in pairs:
        if steps[second][0] in ("idmap", "bind") and steps[first][0] in ("source", "inner-source"):
            continue  # they name it, and so are rejected for the field already: see below
        swapped = [*steps[:first], steps[second], steps[first], *steps[second + 1 :]]
        assert (steps[first], f"rejected {second} order") == (steps[first], check(core_path, half, swapped))


@pytest.mark.parametrize(("half", "name"), EVERY_VERB)
def test_plan_step_after_the_last_rank_is_rejected(core_path, language, half, name):
    """Every verb is rejected behind the last one of its half: an order that is only checked between neighbours is none."""
    last = [verb for verb in language if verb.half == half][-1]
    steps = (*full(half, language), step_of(half, name))
    if name == last.name and last.many:
        assert "ok" == check(core_path, half, steps)
    elif name == last.name:
        assert f"rejected {len(steps) - 1} repeat" == check(core_path, half, steps)
    else:
        assert f"rejected {len(steps) - 1} order" == check(core_path, half, steps)


@pytest.mark.parametrize(("half", "name"), EVERY_VERB)
def test_plan_repeated_verb_is_rejected(core_path, language, half, name):
    """A verb that stands for one fact may stand once: there is no last one that wins."""
    verb = next(verb for verb in language if (verb.half, verb.name) == (half, name))
    steps = full_with(half, name, language)
    at = max(index for index, step in enumerate(steps) if step[0] == name)
    said = check(core_path, half, (*steps[: at + 1], steps[at], *steps[at + 1 :]))
    expected = (
        "ok"
        if verb.many and name not in ("namespace", "join-namespace")
        else f"rejected {at + 1} {'repeat' if not verb.many else 'field'}"
    )
    assert expected == said


FLOOR = {
    "room": ["namespace", "uid-map", "gid-map", "setup-clock", "root", "proc", "readonly", "pivot", "hostname"],
    "join": ["setup-clock", "join-namespace", "proc"],
    "payload": [
        "id", "umask", "rlimit", "cwd", "new-keyring", "no-new-privs", "no-capabilities", "filter", "attest", "exe", "arg",
        "stdout", "stderr", "clock", "drain",
    ],
}  # fmt: skip


@pytest.mark.parametrize("half", HALVES)
def test_plan_floor_is_the_promised_one(language, half):
    """Nobody lowers the floor by a number in a table."""
    assert FLOOR[half] == [verb.name for verb in language if verb.half == half and verb.least > 0]


@pytest.mark.parametrize(("half", "name"), [(half, name) for half in HALVES for name in FLOOR[half]])
def test_plan_below_the_floor_is_rejected(core_path, half, name):
    """Without any one of the steps of the floor nothing runs, and the rejection names it."""
    steps = tuple(step for step in SMALLEST[half] if step[0] != name)
    assert f"rejected {len(steps)} {name}" == check(core_path, half, steps)


@pytest.mark.parametrize("missing", range(6))
def test_plan_without_any_namespace_is_rejected(core_path, missing):
    """A room that would share any one namespace with the host is rejected."""
    steps = changed(ROOM, "namespace", which=missing)
    assert f"rejected {len(steps)} namespace" == check(core_path, "room", steps)


def test_plan_host_network_must_be_asked_for(core_path):
    """`host-net` stands in the place of a network of its own: with both, or with neither, nothing runs."""
    both = changed(ROOM, "namespace", ("namespace", "cgroup"), ("host-net",), which=5)
    neither = changed(ROOM, "network")
    assert "ok" == check(core_path, "room", with_host_network(ROOM))
    assert f"rejected {len(both)} namespace" == check(core_path, "room", both)
    assert f"rejected {len(neither)} namespace" == check(core_path, "room", neither)


@pytest.mark.parametrize("missing", range(6))
def test_plan_to_join_without_any_namespace_is_rejected(core_path, missing):
    """A payload that would share any one namespace with the host, and not with the room, is rejected."""
    steps = changed(JOIN, "join-namespace", which=missing)
    assert f"rejected {len(steps)} namespace" == check(core_path, "join", steps)


def test_plan_to_join_host_network_must_be_asked_for(core_path):
    """Without the namespace of a network `host-net` must stand there, and with it it must not."""
    both = (("host-net",), *JOIN)
    assert "ok" == check(core_path, "join", joins_host_network(JOIN))
    assert f"rejected {len(both)} namespace" == check(core_path, "join", both)


def test_plan_hold_beside_a_command_is_rejected(core_path):
    """A payload holds the room or runs a command."""
    assert "ok" == check(core_path, "payload", holds(PAYLOAD))
    for verb, step in (("exe", ("exe", "/bin/true")), ("arg", ("arg", "true"))):
        steps = changed(holds(PAYLOAD), "hold", ("hold",), step)
        assert (verb, f"rejected {len(steps)} hold") == (verb, check(core_path, "payload", steps))


# Each field of each kind, by a verb that has one; `{}` is the field under test.
NUMBER, ID, MODE = ("setup-clock", "{}"), ("uid-map", "0", "{}"), ("dir", "/d", "{}")
PATHS = [
    ("overlay", "/a", "{}", "/c", "/d", "/e"),
    ("dir", "{}", "0755"),
    ("proc", "{}", "ro"),
    ("inner-bind", "/a", "{}", "rw"),
    ("offer", "{}"),
]
BAD_NUMBERS = (
    "",
    "-1",
    "+1",
    " 1",
    "1 ",
    "01",
    "00",
    "0x1",
    "1e3",
    "1.0",
    "a",
    "\n",
    "9223372036854775808",
    "18446744073709551617",
    "9" * 30,
)
BAD_IDS = (*BAD_NUMBERS, "4294967295", "4294967296", "18446744073709551616")
BAD_MODES = (
    "",
    "755",
    "00755",
    "0855",
    "0o75",
    "+755",
    " 755",
    "2755",
    "4755",
    "6755",
    "7777",
    "0755 ",
    "-755",
    "07a5",
)
BAD_PATHS = (
    "", "a", "a/b", ".", "..", "./a", "../a", "//", "//a", "/a//b", "/a/", "/.", "/..", "/a/.", "/a/..", "/a/./b",
    "/a/../b", "/../a", "/./a", " /a", TOO_LONG,
)  # fmt: skip
GOOD_PATHS = (
    "/",
    "/a",
    "/...",
    "/.a",
    "/a.",
    "/..a/b..",
    "/a b",
    "/\n",
    "/ä",
    "/\udcff",
    "/" + "x" * 255,
    TOO_LONG[:-1],
    "/a" * 2047,
)
BAD_FILTERS = (
    "",
    "0",
    "00",
    "0" * 15,
    "0" * 17,
    "0" * 24,
    "0" * 15 + "A",
    "0" * 15 + "g",
    "0" * 15 + " ",
    "-" + "0" * 15,
    "0" * 16 * 4097,
)
BAD_COMPONENTS = ("", ".", "..", "/", "a/b", "../x", "x/", "x" * 256)
BAD_FDS = ("", "16", "17", "-1", "01", "a", "4294967296", "18446744073709551616")
BAD_SLOTS = ("", "1", "2", "-1", "00", "192", "4294967296", "18446744073709551616")
BAD_WORDS = ("", "RO", "ro ", "r", "rwx", "kill", "ro,rw")
BAD_ACTIONS = ("", "KILL", "kil", "killed", "ro", "0")
BAD_ENV = ("", "=", "=value", "NAME", "NAME VALUE")
BAD_SYSCTLS = (
    "",
    "shm",
    "shmall ",
    "SEM",
    "msg_next_id",
    "core_pattern",
    "../vm/swappiness",
    "kernel/shmall",
    "shmmni/",
)
BAD_NAMESPACES = ("", "User", "time", "users", "pid ", "net", "user", "mount")
BAD_JOINED = ("", "User", "time", "users", "pid ", "cgroup", "user", "net")


def put(half, step, field):
    """The smallest plan with `step`, whose `{}` is `field`, in its place; and the step's number."""
    step = tuple(word.replace("{}", field) if word == "{}" else word for word in step)
    steps = list(SMALLEST[half])
    names = ALL_VERBS[half]
    if step[0] in ("bind", "idmap"):
        steps.insert(next(at for at, one in enumerate(steps) if one[0] == "root"), ("source", "/usr", "1", "2"))
    there = [at for at, one in enumerate(steps) if one[0] == step[0]]
    if there and step[0] not in ("namespace", "join-namespace"):
        steps[there[0]] = step
        return there[0], steps
    later = names[names.index(step[0]) + 1 :]
    at = next((at for at, one in enumerate(steps) if one[0] in later), len(steps))
    steps.insert(at, step)
    return at, steps


BAD_FIELDS = [
    *(("room", NUMBER, text) for text in BAD_NUMBERS),
    *(
        ("payload", ("rlimit", "{}", "1", "1"), text)
        for text in (*BAD_NUMBERS, "16", "4294967300", "9223372036854775807")
    ),
    *(
        ("payload", step, text)
        for step in (("rlimit", "1", "{}", "1"), ("rlimit", "1", "1", "{}"))
        for text in (*BAD_NUMBERS, "Unlimited", "unlimited ", "infinity")
    ),
    *(("payload", ("stdout", "0", "{}", "kill"), text) for text in BAD_NUMBERS),
    *(("room", ID, text) for text in BAD_IDS),
    *(("room", ("gid-map", "{}", "0"), text) for text in BAD_IDS),
    *(("payload", ("id", "{}", "0"), text) for text in BAD_IDS),
    *(("room", MODE, text) for text in BAD_MODES),
    *(("payload", ("umask", "{}"), text) for text in BAD_MODES),
    *(("room", step, text) for step in PATHS for text in BAD_PATHS),
    *(
        ("payload", step, text)
        for step in (("cwd", "{}"), ("exe", "{}"), ("landlock-allow", "{}", "1"))
        for text in BAD_PATHS
    ),
    *(("payload", ("filter", "{}"), text) for text in BAD_FILTERS),
    *(("room", ("cgroup", "{}", "capsule"), text) for text in BAD_FDS),
    *(("payload", ("cgroup-file", "0", "capsule", "{}"), text) for text in BAD_COMPONENTS),
    *(("payload", ("stdin", "{}"), text) for text in BAD_FDS),
    *(("payload", ("terminal", "{}"), text) for text in BAD_FDS),
    *(("payload", ("stderr", "{}", "1", "kill"), text) for text in BAD_FDS),
    *(("room", ("bind", "{}", "/x", "ro"), text) for text in BAD_SLOTS),
    *(("room", ("idmap", "{}", "0", "0"), text) for text in BAD_SLOTS),
    *(("room", ("idmap", "0", "{}", "0"), text) for text in BAD_IDS),
    *(("room", ("idmap", "0", "0", "{}"), text) for text in BAD_IDS),
    *(("room", ("inner-bind", "/a", "/b", "{}"), text) for text in BAD_WORDS),
    *(("room", ("bind", "0", "/b", "{}"), text) for text in BAD_WORDS),
    *(("payload", ("stdout", "0", "1", "{}"), text) for text in BAD_ACTIONS),
    *(("payload", ("env", "{}"), text) for text in BAD_ENV),
    *(("room", ("namespace", "{}"), text) for text in BAD_NAMESPACES),
    *(("room", ("sysctl", "{}", "1"), text) for text in BAD_SYSCTLS),
    *(("join", ("join-namespace", "{}", "0"), text) for text in BAD_JOINED),
    *(("join", ("carry", "{}"), text) for text in BAD_PATHS),
]
GOOD_FIELDS = [
    *(
        ("room", ("sysctl", "{}", "1"), text)
        for text in ("shmall", "shmmax", "shmmni", "sem", "msgmni", "msgmnb", "msgmax")
    ),
    *(("room", NUMBER, text) for text in ("0", "1", "10", "9223372036854775807")),
    *(("room", ID, text) for text in ("0", "65534", "4294967294")),
    *(("payload", ("rlimit", "{}", "1", "1"), text) for text in ("0", "15")),
    *(("payload", ("rlimit", "1", "{}", "{}"), text) for text in ("0", "9223372036854775807", "unlimited")),
    *(("room", MODE, text) for text in ("0000", "0755", "1777", "0777")),
    *(("room", step, text) for step in PATHS for text in GOOD_PATHS),
    *(("payload", ("filter", "{}"), text) for text in ("0123456789abcdef", "f" * 16 * 4096)),
    *(("room", ("cgroup", "{}", "capsule"), text) for text in ("0", "15")),
    *(("payload", ("cgroup-enter", "0", "{}"), text) for text in ("x", "...", ".x", "x" * 255)),
    *(("room", ("bind", "0", "/b", "{}"), text) for text in ("ro", "rw", "dev")),
    *(("payload", ("stdout", "0", "1", "{}"), text) for text in ("kill", "truncate")),
    *(("payload", ("env", "{}"), text) for text in ("A=", "A==", "A=b c\n", "\udcff=\udcff", " =")),
    *(("payload", ("arg", "{}"), text) for text in ("", "\n", "end", "\udcff", "x" * (1 << 20))),
]


def in_words(case):
    half, step, text = case
    text = ascii(text) if len(text) < 40 else f"{text[:8]!a} × {len(text)}"
    return f"{half} {' '.join(step).replace('{}', text)}"


@pytest.mark.parametrize(("half", "step", "text"), BAD_FIELDS, ids=map(in_words, BAD_FIELDS))
def test_plan_field_invalid_is_rejected(core_path, half, step, text):
    """Every kind of field has one spelling, and any other is rejected at its step."""
    at, steps = put(half, step, text)
    assert f"rejected {at} field" == check(core_path, half, steps)


@pytest.mark.parametrize(("half", "step", "text"), GOOD_FIELDS, ids=map(in_words, GOOD_FIELDS))
def test_plan_field_at_its_bounds_is_accepted(core_path, half, step, text):
    """The bounds of each kind are part of it."""
    _at, steps = put(half, step, text)
    assert "ok" == check(core_path, half, steps)


def test_plan_source_193_is_rejected(core_path):
    """The table of sources has 192 places: the 193rd source is rejected, whichever verb it comes with."""
    at = next(at for at, step in enumerate(ROOM) if step[0] == "root")
    source, inner = ("source", "/usr", "1", "2"), ("inner-source", "/usr", "1", "2")
    for many in ([source] * 192, [inner] * 192, [source] * 96 + [inner] * 96):
        assert "ok" == check(core_path, "room", (*ROOM[:at], *many, *ROOM[at:]))
        assert f"rejected {at + 192} repeat" == check(core_path, "room", (*ROOM[:at], *many, inner, *ROOM[at:]))


def test_plan_source_named_before_it_is_rejected(core_path):
    """`bind` and `idmap` name sources by number, and none that is still to come."""
    at = next(at for at, step in enumerate(ROOM) if step[0] == "root")
    steps = (
        *ROOM[:at],
        ("source", "/usr", "1", "2"),
        ("idmap", "1", "0", "0"),
        ("inner-source", "/usr", "1", "2"),
        *ROOM[at:],
    )
    assert f"rejected {at + 1} field" == check(core_path, "room", steps)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("more", [b"\0", b"x", b"end\0", b"namespace\0" + b"user\0"])
def test_plan_bytes_after_the_end_are_rejected(core_path, half, more):
    """`end` is the end: nothing can hide behind it."""
    assert f"rejected {len(SMALLEST[half])} end" == check(core_path, half, encode(half, SMALLEST[half]) + more)


@pytest.mark.parametrize("half", HALVES)
def test_plan_without_end_is_rejected(core_path, half):
    """A plan that stops between two steps was cut, however complete it looks."""
    assert f"rejected {len(SMALLEST[half])} cut" == check(core_path, half, encode(half, SMALLEST[half], end=()))


def test_plan_early_end_is_below_the_floor(core_path):
    """`end` as the first step is a rejection by the floor and not a plan that asks for nothing."""
    assert "rejected 0 namespace" == check(core_path, "room", ())
    assert "rejected 0 id" == check(core_path, "payload", ())


def test_plan_of_4_mib_is_the_largest(core_path):
    """Plans end at 4 MiB: the largest is accepted, and one byte more is cut and so rejected."""
    room = (4 << 20) - len(encode("payload", changed(PAYLOAD, "arg", ("arg", ""))))
    assert "ok" == check(core_path, "payload", changed(PAYLOAD, "arg", ("arg", "x" * room)))
    assert "rejected 15 cut" == check(core_path, "payload", changed(PAYLOAD, "arg", ("arg", "x" * (room + 1))))


def test_plan_of_600_000_steps_is_the_longest(core_path):
    """The number of steps is bounded, far above what a megabyte of one-byte arguments needs."""
    many = changed(PAYLOAD, "arg", *(("arg", ""),) * 600_000)
    assert "ok" == check(core_path, "payload", changed(PAYLOAD, "arg", *(("arg", "x"),) * 524_288))
    assert "rejected 600000 long" == check(core_path, "payload", many)


@pytest.mark.parametrize(("nul", "at"), [*itertools.product(["\0", "\0\0"], [1, 2, 3])])
def test_plan_nul_within_a_field_is_rejected(core_path, nul, at):
    """A NUL that got into a field makes another plan, and that one is rejected."""
    step = ["file", "/f", "0644", "text"]
    step[at] += nul + "x"
    assert "ok" != check(core_path, "room", put("room", tuple(step), "")[1])


REQUESTS = {
    "true": Request(command=("true",)),
    "stdin": Request(command=("cat",), stdin=b"x"),
    "empty stdin": Request(command=("cat",), stdin=b""),
    "network": Request(command=("true",), isolation=Isolation(network=True)),
    "root inside": Request(command=("true",), isolation=Isolation(user=0)),
    "any other user": Request(command=("true",), isolation=Isolation(user=4294967294)),
    "odd words": Request(command=("sh", "-c", "", "a b", "\n", "\udcff", "ä", "--"), environment=(("A", ""), ("B", "\udcff="))),
    "limits": Request(
        command=("true",),
        timeout_ms=1,
        on_output_limit="truncate",
        resources=Resources(
            memory_bytes=1 << 40, cpu_shares=2, max_output_bytes=0, max_pids=1, max_open_files=3,
            max_file_bytes=0, disk_bytes=4096,
        ),
    ),
    "binds": Request(
        command=("true",),
        isolation=Isolation(
            readonly_paths=("/usr/share", "/opt"),
            writable_paths=("/var",),
            binds=(
                Bind(source="/usr/bin", destination="/tools"),
                Bind(source="/etc/passwd", destination="/workspace/in/names", mode="rw"),
            ),
            workspace=Workspace(source="/usr/share"),
            working_directory="/workspace/deep/down",
            hostname="other",
        ),
    ),
    "workspace rw": Request(command=("true",), isolation=Isolation(workspace=Workspace(source="/var", mode="rw"))),
    "a megabyte of words": Request(command=("true", *["x"] * 500_000)),
    "a long word": Request(command=("true", "x" * 131_000), environment=(("LONG", "y" * 131_000),)),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_plan_of_the_product_is_accepted(core_path, name):
    """Every plan that Python makes passes the checker, both halves."""
    policy = prepare(REQUESTS[name])[1]
    plan = compile_plan(policy)
    halves = {"room": plan.room, "join": join_steps(policy, max_processes=64), "payload": plan.payload}
    assert {"room": "ok", "join": "ok", "payload": "ok"} == {
        half: check(core_path, half, encode_by_product(half, steps)) for half, steps in halves.items()
    }


@pytest.mark.parametrize("name", REQUESTS)
def test_plan_of_root_and_of_ordinary_user_is_accepted(core_path, name):
    """The plans of the other kind of caller (root or not) pass the checker as well, no matter who runs this test."""
    policy = prepare(REQUESTS[name])[1]
    other = 0 if policy.identity.uid else 1001
    identity = replace(policy.identity, uid=other, outside_uid=12345, privileged=not policy.identity.privileged)
    plan = compile_plan(replace(policy, identity=identity))
    assert {"room": "ok", "payload": "ok"} == {
        half: check(core_path, half, encode_by_product(half, getattr(plan, half))) for half in ("room", "payload")
    }


def test_plan_encoding_of_the_product_equals_the_tests():
    """Two encoders, one format: the product's and the one of these tests."""
    plan = compiled("true", "a", "", "\udcff")
    assert encode("room", plan.room) == encode_by_product("room", plan.room)
    assert encode("payload", plan.payload) == encode_by_product("payload", plan.payload)


@pytest.mark.parametrize(
    "arguments", [[], ["--check"], ["--check", "room", "more"], ["--verbs", "more"], ["--help"], ["-c", "x"]]
)
def test_core_started_by_hand_runs_nothing(core_path, arguments):
    """Started by hand under any name with any argument, the core does nothing but list and check."""
    done = subprocess.run([core_path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert (2, b"") == (done.returncode, done.stdout)
    assert done.stderr.startswith(b"capsule-core: run by capsule-run")


def test_plan_unreadable_has_its_own_exit_code(core_path):
    """An error of reading has its own exit code: it says nothing about a plan."""
    directory = os.open("/", os.O_RDONLY)
    try:
        done = subprocess.run([core_path, "--check", "room"], stdin=directory, capture_output=True, timeout=60)
    finally:
        os.close(directory)
    assert (1, b"") == (done.returncode, done.stdout)
