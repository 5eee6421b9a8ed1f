"""Refused system calls are seen: who made them, how often, what ended the run; and what happens where nobody can look."""

from __future__ import annotations

import json
import os
import re
import sys
from errno import ENOSYS
from pathlib import Path

import pytest
from inside import COMMAND, code_of, printed

import capsule_run
from capsule_run.seccomp import ruleset
from capsule_run.seccomp.ruleset import KILL_VIOLATIONS, REFUSE_VIOLATIONS, grouped_rules, numbers_of, settled
from capsule_run.seccomp.tables.rules import GROUPS

CORE = Path(__file__).parents[2] / "core"
PTRACE = "import ctypes; c = ctypes.CDLL(None, use_errno=True); print(c.ptrace(0, 7, 0, 0), ctypes.get_errno())"
MOUNT = "import ctypes; ctypes.CDLL(None).mount(1, 2, 3, 4, 5); print('still here')"


def test_denied_syscall_is_listed(inside):
    """What was refused is in the result: call, answer, count, first arguments, and the process."""
    response = inside(["python3", "-c", PTRACE])
    assert "-1 1" == printed(response)
    (denied,) = response["denied"]
    assert ("ptrace", "EPERM", 1, "0x7", ["python3", "-c", PTRACE]) == (
        denied["syscall"],
        denied["errno"],
        denied["count"],
        denied["first_args"][1],
        denied["process"]["argv"],
    )


def test_denied_without_refusal_is_absent(inside):
    """A run without a denied call has no `denied`: what libc and shells try all the time is not listed."""
    response = inside(
        ["sh", "-c", "python3 -c 'import threading, subprocess; subprocess.run([\"true\"])' | cat; ls -l / | sort"]
    )
    assert ("success", None) == (response["status"], response.get("denied"))


def test_denied_escape_syscall_ends_the_run_and_is_named(inside):
    """A call that only an attack makes ends everything, also when a grandchild makes it, and the error says who and what."""
    response = inside(["sh", "-c", f'python3 -c "{MOUNT}"; echo after'])
    details = response["error"]["details"]
    assert ("killed", 137, "E5001", "") == (
        response["status"],
        response["exit_code"],
        code_of(response),
        response["stdout"],
    )
    assert ("mount", ["0x1", "0x2", "0x3", "0x4", "0x5"], ["python3", "-c", MOUNT]) == (
        details["syscall"],
        details["arguments"][:5],
        details["process"]["argv"],
    )


def test_denied_with_on_violation_refuse_goes_on(inside):
    """With `on_violation` the same call is refused, listed, and the command goes on."""
    response = inside(["python3", "-c", MOUNT], on_violation="refuse")
    assert "still here" == printed(response)
    assert [("mount", "EPERM")] == [(each["syscall"], each["errno"]) for each in response["denied"]]


TIOCSTI = "import fcntl, os; fcntl.ioctl(os.openpty()[1], 0x5412, b'x')"


def test_denied_call_that_cannot_succeed_ends_the_run_with_kill_in_every_interface(inside):
    """`kill` ends the run for what cannot succeed: on the command line, in JSON and in the SDK; by default it runs on."""
    words = ("--no-workspace", "--on-violation", "kill", "--", "python3", "-c", TIOCSTI)
    assert 137 == inside.cli(*words).returncode
    assert "E5001" == code_of(inside(["python3", "-c", TIOCSTI], on_violation="kill"))
    assert "E5001" == capsule_run.run(["python3", "-c", TIOCSTI], on_violation="kill").error.code
    for unset in ({}, {"on_violation": "kill_attacks"}):
        response = inside(["python3", "-c", TIOCSTI], **unset)
        assert ("E3003", 1) == (code_of(response), response["exit_code"])


@pytest.mark.parametrize(
    "call",
    ["clock_settime(0, bytes(16))", "settimeofday(bytes(16), None)", "adjtimex(8)", "sethostname(b'x', 1)", "acct(8)"],
)
def test_denied_call_that_cannot_succeed_leaves_the_rest_of_the_run(inside, call):
    """An honest program that tries what it has no capability for gets EPERM, goes on, and the call is in `denied`."""
    code = f"import ctypes; c = ctypes.CDLL(None, use_errno=True); print(c.{call}, ctypes.get_errno())"
    response = inside(["python3", "-c", code])
    assert "-1 1" == printed(response)
    assert ["EPERM"] == [each["errno"] for each in response["denied"]]


def test_denied_in_strict_ends_the_run(inside):
    """In `strict` a call that escapes are made of ends the run."""
    response = inside(["python3", "-c", PTRACE], profile="strict")
    assert ("E5001", "ptrace") == (code_of(response), response["error"]["details"]["syscall"])


def test_profile_plus_group_allows_the_syscall(inside):
    """NAME+GROUP lets through what the name alone refuses."""
    code = "import ctypes; print(ctypes.CDLL(None).memfd_create(b'x', 0) >= 0)"
    assert ("False", "True") == (
        printed(inside(["python3", "-c", code], profile="strict")),
        printed(inside(["python3", "-c", code], profile="strict+memfd")),
    )


@pytest.mark.parametrize("profile", ["build", "default+sched", "default+build-more+watch"])
def test_profile_of_an_older_version_is_accepted(inside, profile):
    """The name `build` and groups that add nothing to `default` are accepted, and mean `default`."""
    code = "import os; print(os.sched_getscheduler(0))"
    assert "0" == printed(inside(["python3", "-c", code], profile=profile))


def test_denied_flood_does_not_delay_the_timeout(inside):
    """Processes that do nothing but be refused are counted, and end with the clock."""
    code = (
        "import ctypes, os\nc = ctypes.CDLL(None)\nfor _ in range(6): os.fork() or [c.ptrace(0, 0, 0, 0) for _ in iter(int, 1)]\n"
        "print('forked', flush=True)\nwhile True: c.ptrace(0, 0, 0, 0)"
    )
    response = inside(["python3", "-c", code], timeout_ms=1500)
    assert ("timeout", "E3006", "forked\n") == (response["status"], code_of(response), response["stdout"])
    assert response["denied"][0]["count"] > 100


def test_denied_list_is_bounded(inside):
    """However many unknown calls are made, 64 are listed apart."""
    code = "import ctypes; c = ctypes.CDLL(None)\nfor n in range(600, 900): c.syscall(n)"
    response = inside(["python3", "-c", code])
    assert ("success", 64) == (response["status"], len(response["denied"]))


FLOOD = "import ctypes; c = ctypes.CDLL(None)\nfor n in range(600, 900): c.syscall(n)\n"


def test_denied_after_a_flood_of_unknown_calls_lists_the_suspect_one(inside):
    """A flood of unknown calls cannot push a call that an attack makes out of the list."""
    response = inside(["python3", "-c", f"{FLOOD}c.ptrace(0, 7, 0, 0)"])
    assert ("success", ["ptrace"]) == (
        response["status"],
        [call["syscall"] for call in response["denied"] if call["errno"] != "ENOSYS"],
    )


def test_denied_fatal_syscall_after_a_flood_is_named(inside):
    """A flood of unknown calls does not take the name of the call that ended the run out of its error."""
    response = inside(["python3", "-c", f"{FLOOD}c.mount(1, 2, 3, 4, 5)"])
    assert ("E5001", "mount") == (code_of(response), response["error"]["details"]["syscall"])


def test_denied_table_has_room_for_every_rule():
    """The launcher's table of refusals holds each answer of each rule, beside its 64 unknown calls."""
    limits = dict(re.findall(r"#define (KINDS|UNKNOWN_KINDS) +(\d+)", (CORE / "seccomp_notify.c").read_text()))
    answers = {
        (rule.name, action.errno, action.kind)
        for rules in GROUPS.values()
        for rule in rules
        for action in (*(case.action for case in rule.cases), rule.otherwise)
        if action.kind != "allow" and action.errno not in (0, ENOSYS)
    }
    assert len(answers) <= int(limits["KINDS"]) - int(limits["UNKNOWN_KINDS"])


def test_denied_on_stderr_is_one_line(inside):
    """In command mode one line says what was denied, and what would allow it."""
    ended = inside.cli("--no-workspace", "--profile", "strict", "--", "python3", "-c", "import os; os.fork()")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(b"capsule-run: denied ")
    # some builds of Python make an older call first, which `strict` lacks too
    assert b"`clone` by `python3` (EPERM): `--profile default`" in last


# Installs a filter with a listener, so that no process below may have another one, and runs the command.
TAKES_THE_LISTENER = """
import ctypes, os, struct, sys
c = ctypes.CDLL(None, use_errno=True)
code = ctypes.create_string_buffer(struct.pack("<HBBI", 6, 0, 0, 0x7fff0000))
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 1, ctypes.addressof(code)))
assert c.prctl(38, 1, 0, 0, 0) == 0
number = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
fd = c.syscall(number, 1, 8, program)
assert fd > 0, ctypes.get_errno()
os.set_inheritable(fd, True)
os.execv(sys.argv[1], sys.argv[1:])
"""


def below_a_listener(start, **request):
    ended = start([sys.executable, "-c", TAKES_THE_LISTENER, *COMMAND, "--json"], input=json.dumps(request).encode())
    assert b"" == ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize(
    ("code", "expected"),
    [(PTRACE, ("success", "-1 1\n", None)), (MOUNT, ("killed", "", "E5001"))],
    ids=["refused", "ended"],
)
def test_denied_without_listener_has_the_same_answers(inside, code, expected):
    """Where a container around us has taken the one listener, the filter itself refuses and kills."""
    response = below_a_listener(inside._start, command=["python3", "-c", code])
    assert (*expected, None) == (
        response["status"],
        response["stdout"],
        response.get("error", {}).get("code"),
        response.get("denied"),
    )


def test_denied_listener_can_be_required(inside):
    """With `require` nothing runs where refusals cannot be seen, and it runs where they can."""
    request = {"command": ["echo", "ran"], "require": ["seccomp_notify"]}
    assert "ran" == printed(inside(request["command"], require=request["require"]))
    response = below_a_listener(inside._start, **request)
    assert ("E2007", None) == (code_of(response), response.get("stdout"))


# Makes every call of its standard input, each in a process of its own, and prints the errno of each.
CALLER = """
import ctypes, json, os, sys
c = ctypes.CDLL(None, use_errno=True)
for number, arguments in json.load(sys.stdin):
    child = os.fork()
    if not child:
        ctypes.set_errno(0)
        answer = c.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments))
        os._exit(ctypes.get_errno() if answer == -1 else 0)
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status))
"""
# Nothing valid in any place: no descriptor, no pointer, no id, no size.
BAD = 0xFFFF_FFFF_FFFF_F008
# Calls that end, stop or multiply the caller, or leave libc in pieces, when they reach the kernel; futex says ENOSYS itself,
# and memfd_create does not reach it without a memory cgroup.
NOT_ALLOWED_LIVE = {
    *(
        "exit",
        "exit_group",
        "pause",
        "rt_sigreturn",
        "vfork",
        "fork",
        "clone",
        "futex",
        "set_robust_list",
        "memfd_create",
    ),
}


def live_calls(profile, architecture, *, shared):
    """(name, arguments, errno of ours or None for a call that must reach the kernel), for each way through each rule."""
    for _, raw in grouped_rules(profile, architecture, network=False, root_inside=False, shared=shared):
        rule = settled(raw, profile, REFUSE_VIOLATIONS)
        for halves in ruleset.distinguishing_calls(rule):
            action = ruleset.decide(rule.cases, rule.otherwise, halves)
            looked_at = {test.argument % 6 for case in rule.cases for test in case.when}
            arguments = [halves[n] | halves[n + 6] << 32 if n in looked_at else BAD for n in range(6)]
            if action.kind != "allow":
                yield rule.name, arguments, action.errno
            elif rule.name not in NOT_ALLOWED_LIVE:
                yield rule.name, arguments, None


@pytest.mark.parametrize("profile", ["default"])
@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
def test_seccomp_rule_live_gives_our_answer(inside_as_caller, place, profile, shared):
    """With bad arguments every refused call gets exactly our answer, and every allowed one reaches the kernel."""
    assert KILL_VIOLATIONS != REFUSE_VIOLATIONS
    architecture = os.uname().machine
    numbers = numbers_of(architecture)
    calls = list(live_calls(profile, architecture, shared=shared))
    response = inside_as_caller(
        ["python3", "-c", CALLER],
        stdin=json.dumps([[numbers[name], arguments] for name, arguments, _ in calls]),
        profile=profile,
        on_violation="refuse",
        isolation={"workspace": {"source": str(place), "mode": "rw"}} if shared else {},
    )
    got = [int(line) for line in printed(response).splitlines()]
    wrong = [
        (name, [hex(each) for each in arguments], expected, errno)
        for (name, arguments, expected), errno in zip(calls, got, strict=True)
        if (errno == 38 if expected is None else errno != expected)
    ]
    assert [] == wrong


WALLS = {
    "a read-only place": ("echo x > /usr/place", "`isolation.writable_paths`"),
    "a path that is not shown": ("cat /home/nobody/notes", "`isolation.readonly_paths`"),
    "no network": (
        "python3 -c 'import socket; socket.create_connection((\"203.0.113.1\", 80))'",
        "`isolation.network`",
    ),
    "a file that is not in the empty workspace": ("cat notes", "`isolation.workspace`"),
    "its own business": ("cat /tmp/notes", ""),
}


@pytest.mark.parametrize("wall", WALLS)
def test_hint_for_kernel_refusal_without_listener_is_given(inside_as_caller, wall):
    """Mounts and namespaces tell nobody outside; what the command says of them makes a hint, and nothing of `denied`."""
    script, field = WALLS[wall]
    response = inside_as_caller(["sh", "-c", script])
    said = response["error"].get("hint", "")
    assert ("E3003", [], bool(field)) == (response["error"]["code"], response.get("denied", []), bool(said))
    assert field in said
