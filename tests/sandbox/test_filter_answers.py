"""What programs make of the answers that the filter gives instead of the kernel: the table of docs/syscall-policy.md, tried."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from capsule_run.seccomp import filters

PAGE = Path(__file__).parents[2] / "docs" / "syscall-policy.md"
SYSTEM = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
DENIED = "Operation not permitted"

# The name in the table: the program it needs, a shell line, and what its output ends with or has in it.
PROGRAMS = {
    "python3 (threads)": (
        "python3",
        "python3 -c 'import threading; t = threading.Thread(target=print, args=(\"ran\",)); t.start(); t.join()'",
        "ran",
    ),
    "python3 (fexecve)": (
        "python3",
        'python3 -c \'import os; os.execve(os.open("/bin/true", 0), ["true"], {})\' 2>&1; true',
        DENIED,
    ),
    "python3 (SO_ATTACH_FILTER)": (
        "python3",
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).setsockopt(1, 26, bytes(16))' 2>&1; true",
        DENIED,
    ),
    "python3 (F_NOTIFY)": (
        "python3",
        "python3 -c 'import fcntl, os; fcntl.fcntl(os.open(\"/tmp\", 0), fcntl.F_NOTIFY, 1)' 2>&1; true",
        "Invalid argument",
    ),
    "python3 (multiprocessing)": (
        "python3",
        "python3 -c 'import multiprocessing as m; print(m.Pool(2).map(abs, [-1, -2]))'",
        "[1, 2]",
    ),
    "python3 (setuid)": ("python3", "python3 -c 'import os; os.setuid(0)' 2>&1; true", DENIED),
    "python3 (setgroups)": ("python3", "python3 -c 'import os; os.setgroups([])' 2>&1; true", DENIED),
    "node (io_uring asked for)": (
        "node",
        'UV_USE_IO_URING=1 node -e \'require("fs").readFile("/etc/passwd", e => console.log(e || "read"))\'',
        "read",
    ),
    "cp -a": ("cp", "cd /tmp && cp -a --preserve=all /etc/passwd p && cmp p /etc/passwd && echo same", "same"),
    "tar --xattrs": ("tar", "cd /tmp && touch p && tar --xattrs -cf t p 2>/dev/null && tar -tf t", "p"),
    "chroot": ("chroot", "chroot / true 2>&1; true", DENIED),
    "chmod u+s": ("chmod", "cd /tmp && touch s && chmod u+s s 2>&1; stat -c %a s", "644"),
    "mknod": ("mknod", "cd /tmp && mknod d c 1 3 2>&1; mknod f p && test -p f && echo fifo", "fifo"),
    "chown": ("chown", "cd /tmp && touch f && chown 0 f 2>&1; chown 1000:1000 f && echo own", "own"),
    "chrt": ("chrt", "chrt -f 5 true 2>&1; chrt -o 0 echo other", "other"),
    "prlimit": ("prlimit", "prlimit --pid 1 --nofile=10 2>&1; prlimit --nofile=100 sh -c 'ulimit -n'", "100"),
    "bash (ulimit -c)": ("bash", "bash -c 'ulimit -c 0 && echo lowered'", "lowered"),
    "gpg": ("gpg", "gpg --version 2>&1 | head -1; gpg --batch --gen-random 1 8 | wc -c", "8"),
    "taskset": ("taskset", "taskset -p 1 1 2>&1; taskset -c 0 echo pinned", "pinned"),
    "ionice": ("ionice", "ionice -c 3 -p 1 2>&1; ionice -c 3 echo idle", "idle"),
    "setarch": ("setarch", "setarch -X true 2>&1; setarch -R echo fixed", "fixed"),
    "dmesg": ("dmesg", "dmesg 2>&1; true", DENIED),
    "hostname": ("hostname", "hostname other 2>&1; hostname", "capsule"),
    "sync": ("sync", "sync && echo synced", "synced"),
    "date -s": ("date", "date -s 2020-01-01 2>&1; true", DENIED),
    "strace": ("strace", "strace true 2>&1; true", DENIED),
    "gdb": ("gdb", "gdb -batch -ex run /bin/true 2>&1; true", DENIED),
    "unshare": ("unshare", "unshare -r true 2>&1; true", DENIED),
    "bwrap": ("bwrap", "bwrap --bind / / true 2>&1; true", "No permissions to create new namespace"),
    "perf": ("perf", "perf stat true 2>&1; echo $?", ""),
    "systemd-detect-virt": ("systemd-detect-virt", "systemd-detect-virt >/dev/null; echo $?", ""),
    "ifconfig": ("ifconfig", "ifconfig lo down 2>&1; ifconfig lo", "127.0.0.1"),
    "ss": ("ss", "ss -ltn 2>/dev/null", "State"),
    "mkfs.ext4": ("mkfs.ext4", "cd /tmp && truncate -s 4M i && mkfs.ext4 -q -F i && echo made", "made"),
    "java": ("java", "java -XX:+UseLargePages -version 2>&1", "Server VM"),
    "setpriv": ("setpriv", "setpriv --clear-groups true 2>&1; true", "Invalid argument"),
    "findmnt": ("findmnt", "findmnt -n -o TARGET /tmp", "/tmp"),
    "swapon": ("swapon", "cd /tmp && truncate -s 1M s && swapon s 2>&1; true", ""),
}


def rows() -> list[tuple[set[str], str, set[str]]]:
    """Each row of the page's table: calls, the errno (or "the end of the run"), the names of programs."""
    table = PAGE.read_text().partition("<!-- answers -->")[2].partition("\n\n## ")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    return [
        (set(re.findall(r"`(\w+)`", calls)), answer, set(re.findall(r"`([^`]+)`", who)))
        for calls, _, answer, who in cells
    ]


def answers_of_the_filter() -> set[tuple[str, str]]:
    """Each call and each answer that `default` has for it, other than the kernel's."""
    found = set()
    for architecture in ("x86_64", "aarch64"):
        for row in filters.explain("default", architecture):
            for action in (row.action, *(words.partition(" if ")[0] for words in row.arguments)):
                if action == "kill":
                    found.add((row.name, "the end of the run"))
                elif action != "allow":
                    found.add((row.name, action.removeprefix("refuse with ").partition(",")[0]))
    return found


def test_answer_table_has_every_answer_of_the_filter():
    """The page lists every call that `default` answers itself, with the errno, and nothing else."""
    assert answers_of_the_filter() == {(call, answer) for calls, answer, _ in rows() for call in calls}


def test_answer_table_names_the_programs_that_are_tried():
    """Each program that the page names is tried below, and each that is tried is on the page."""
    assert set(PROGRAMS) == set().union(*(who for _, _, who in rows()))


@pytest.mark.parametrize("name", PROGRAMS)
def test_answer_is_borne_by_the_program(inside, needs, name):
    """A program that gets the answer goes on, or says what an ordinary account gets outside."""
    program, script, expected = PROGRAMS[name]
    needs("corpus", present=shutil.which(program, path=SYSTEM) is not None)
    response = inside(["sh", "-c", script], environment={"PATH": SYSTEM}, resources={"memory_bytes": 1 << 30})
    assert ("success", True) == (response["status"], expected in response["stdout"]), response
