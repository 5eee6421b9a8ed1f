"""Who the command is, inside and for the host, and what it has in its hands."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys

import pytest
from inside import COMMAND, descendants_named


def _status(inside, **fields):
    lines = inside.says(["cat", "/proc/self/status"], **fields).splitlines()
    return {name: rest.split() for name, _colon, rest in (line.partition(":") for line in lines)}


def test_identity_is_user_1000_by_default(inside):
    """By default `id` shows user and group 1000, named `user`, with no other group."""
    assert "uid=1000(user) gid=1000(user) groups=1000(user)" == inside.says(["id"])


def test_identity_user_0_is_root_inside(inside):
    """With `--user 0` the command is root inside."""
    assert "uid=0(root) gid=0(root) groups=0(root)" == inside.says(["id"], options=("--user", "0"))


@pytest.mark.parametrize("user", ["1000", "0"])
def test_identity_on_the_host_is_an_unprivileged_id(inside_as_caller, user):
    """The host sees an id that is not root's and, when root calls, that no account owns."""
    mark = f"capsule-mark-{os.getpid()}-{user}"
    program = subprocess.Popen(
        [*COMMAND, "--user", user, "--", "sh", "-c", f"echo up; sleep 30; : {mark}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        assert b"up\n" == program.stdout.readline()
        uids = {os.stat(f"/proc/{pid}").st_uid for pid in descendants_named(mark) if pid != program.pid}
        assert 0 not in uids
        if os.geteuid() == 0:
            assert not uids & {entry.pw_uid for entry in pwd.getpwall()}
    finally:
        program.terminate()
        program.communicate()


@pytest.mark.parametrize("user", ["1000", "0"])
def test_capability_sets_are_all_empty(inside, user):
    """CapInh, CapPrm, CapEff, CapBnd and CapAmb are zero, as root inside too."""
    status = _status(inside, options=("--user", user))
    assert ["0" * 16] * 5 == [status[name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]


def test_no_new_privs_and_seccomp_are_on(inside):
    """NoNewPrivs is 1 and Seccomp is 2."""
    status = _status(inside)
    assert (["1"], ["2"]) == (status["NoNewPrivs"], status["Seccomp"])


def test_signals_start_unblocked_and_default(inside_as_caller):
    """No signal is blocked, ignored or pending, 32 and 33 among them, whatever the caller ignored and blocked."""
    caller = (
        "import ctypes, os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
        "for number in (1, 2, 3, 13, 15, 17, 10, 32, 33, 34, 64):\n"
        "    ctypes.CDLL(None).syscall(13, number, (ctypes.c_ulong * 4)(1), None, 8)\n"  # rt_sigaction: SIG_IGN
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", caller, *COMMAND, "--json"],
        input=b'{"command": ["cat", "/proc/self/status"]}',
        capture_output=True,
        timeout=20,
        cwd="/",
    )
    lines = json.loads(done.stdout)["stdout"].splitlines()
    status = dict(line.split(":\t") for line in lines if line.startswith(("Sig", "ShdPnd")))
    assert ["0" * 16] * 4 == [status[name] for name in ("SigBlk", "SigIgn", "SigPnd", "ShdPnd")]


def test_securebits_are_all_locked(inside):
    """Root gains nothing by exec, and that cannot be changed back."""
    assert "239" == inside.python_says("import ctypes; print(ctypes.CDLL(None).prctl(27, 0, 0, 0, 0))")


@pytest.mark.parametrize("name", ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"])
def test_namespaces_are_all_private(inside, name):
    """Each of the seven namespaces is another than the caller's."""
    ours = os.readlink(f"/proc/self/ns/{name}")
    theirs = inside.python_says(f"import os; print(os.readlink('/proc/self/ns/{name}'))")
    assert ours.partition("[")[0] == theirs.partition("[")[0]
    assert ours != theirs


def test_environment_is_exactly_the_documented_one(inside):
    """The documented variables with their values, and what the request gives; nothing else."""
    variables = dict(
        item.partition("=")[::2]
        for item in inside.says(["env", "-0"], environment={"GIVEN": "x"}).rstrip("\0").split("\0")
    )
    path = variables.pop("PATH")
    assert path.endswith("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    ours = {"HOME": "/home/user", "LANG": "C.UTF-8", "USER": "user", "TMPDIR": "/tmp", "PYTHONUNBUFFERED": "1"}
    ours["LSAN_OPTIONS"] = "detect_leaks=0"
    sizes = {"GOMEMLIMIT": str(448 << 20), "NODE_OPTIONS": "--max-old-space-size=384"}
    assert {**ours, **sizes, "GIVEN": "x"} == variables


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_umask_is_022(inside_as_caller, mask):
    """The umask is 022, whatever the caller's is."""
    assert "0022" == inside_as_caller.says(["sh", "-c", "umask"], process={"umask": mask})


def test_hostname_is_the_sandboxs(inside):
    """`hostname` says `capsule`; /etc/hostname and /etc/hosts agree."""
    assert ["capsule", "capsule", "True"] == inside.says(
        ["sh", "-c", "uname -n; cat /etc/hostname; grep -q capsule /etc/hosts && echo True"]
    ).splitlines()


def test_account_list_is_the_sandboxs(inside):
    """getpwuid(3) finds `user`, `root` and `nobody`; no account of the host is shown."""
    code = "import pwd; print(sorted(entry.pw_name for entry in pwd.getpwall()), pwd.getpwuid(1000).pw_dir)"
    assert "['nobody', 'root', 'user'] /home/user" == inside.python_says(code)


def test_share_files_written_belong_to_its_owner(inside, place):
    """What is written to a folder shared `rw` is not set-ID and is readable by the folder's owner on the host."""
    inside.says(
        ["sh", "-c", "echo done > /workspace/result"], isolation={"workspace": {"source": str(place), "mode": "rw"}}
    )
    assert "done\n" == place.joinpath("result").read_text()


def test_identity_as_root_is_named_in_the_result(inside_as_caller):
    """The result says which id the host sees."""
    user = inside_as_caller(["true"])["isolation"]["user"]
    assert 1000 == user["inside"]
    assert user["outside"] != 0


def test_nis_domain_of_the_host_is_hidden(needs):
    """The host's NIS domain name, with which a new UTS namespace begins, cannot be read inside."""
    needs("root")
    named = 'echo secret.example > /proc/sys/kernel/domainname && exec "$@"'
    ended = subprocess.run(
        [
            "unshare",
            "--uts",
            "sh",
            "-c",
            named,
            "sh",
            *COMMAND,
            "--no-workspace",
            "--",
            "cat",
            "/proc/sys/kernel/domainname",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("(none)\n", "") == (ended.stdout, ended.stderr)
