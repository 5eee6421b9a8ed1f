"""Each limit: what the program sees, what the result says, and that partial output is kept."""

from __future__ import annotations

import os
import time

import pytest
from inside import code_of, descendants_named


def test_timeout_ends_the_run_and_keeps_output(inside):
    """At the deadline the whole tree ends; what was printed before is in the result."""
    began = time.monotonic()
    response = inside(["sh", "-c", "echo before; sleep 60 & sleep 60"], timeout_ms=300)
    assert time.monotonic() - began < 30  # the clock, and not the half of what the command would sleep
    assert ("timeout", 124, "E3006", "before\n") == (
        response["status"],
        response["exit_code"],
        code_of(response),
        response["stdout"],
    )
    assert 300 == response["error"]["details"]["limit_ms"]


def test_timeout_ends_a_program_that_ignores_signals(inside):
    """A program that ignores every signal ends at the deadline all the same."""
    assert "timeout" == inside(["sh", "-c", "trap '' TERM INT HUP QUIT; while :; do :; done"], timeout_ms=300)["status"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_over_the_limit_is_e4003_and_its_beginning_kept(inside, stream):
    """Over the output limit the run is killed with E4003; exactly the first N bytes are kept."""
    code = f"import sys\nwhile True: sys.{stream}.write('0123456789' * 1000)"
    response = inside.python(code, resources={"max_output_bytes": 12345})
    assert ("killed", 137, "E4003") == (response["status"], response["exit_code"], code_of(response))
    assert ("0123456789" * 1235)[:12345] == response[stream]
    assert response[f"{stream}_truncated"]
    assert response[f"{stream}_bytes"] > 12345


def test_output_truncate_lets_the_command_go_on(inside):
    """With `truncate` the rest is thrown away, counted, and the command ends by itself."""
    response = inside.python(
        "import sys; sys.stdout.write('x' * 1000000); sys.exit(3)",
        resources={"max_output_bytes": 1000},
        on_output_limit="truncate",
    )
    assert (3, 1000, 1000000, True) == (
        response["exit_code"],
        len(response["stdout"]),
        response["stdout_bytes"],
        response["stdout_truncated"],
    )


def test_output_of_exactly_the_limit_is_whole(inside):
    """N bytes are not over a limit of N."""
    response = inside.python("print('x' * 999)", resources={"max_output_bytes": 1000})
    assert ("success", False, 1000) == (response["status"], response["stdout_truncated"], response["stdout_bytes"])


def test_output_limit_of_zero_allows_no_byte(inside):
    """Zero means none: silence passes, one byte is over."""
    assert "success" == inside(["true"], resources={"max_output_bytes": 0})["status"]
    assert "E4003" == code_of(inside(["echo"], resources={"max_output_bytes": 0}))


@pytest.mark.parametrize(
    "code",
    ["held = b'x' * (1 << 30)", "held = []\nwhile True: held.append(bytes(10000))"],
    ids=["single", "many small"],
)
def test_memory_over_the_limit_is_e4001(inside, code):
    """Memory over the limit ends the run with E4001 and the numbers, or the program sees "no memory"."""
    response = inside.python(code, resources={"memory_bytes": 64 << 20}, timeout_ms=10000)
    assert code_of(response) == "E4001" or "MemoryError" in response["stderr"], response["error"]
    if code_of(response) == "E4001":
        assert 137 == response["exit_code"]
        assert response["error"]["details"]["observed_bytes"] > 63 << 20  # a group stops it at the limit


LENDER = """
import os, time
held = bytearray(b"x") * (45 << 20)
until = time.monotonic() + 1.5
while time.monotonic() < until:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
"""


def test_memory_between_vfork_and_exec_counts_once(inside, needs):
    """Between vfork and exec two processes show one memory: a program that starts others all the time uses what it has."""
    release = tuple(int(word) for word in os.uname().release.split(".")[:2])
    needs("pids of a namespace (Linux 6.11)", present=release >= (6, 11))
    response = inside.python(LENDER, resources={"memory_bytes": 64 << 20})
    assert ("success", True) == (response["status"], response["metrics"]["max_memory_bytes"] < 64 << 20), response


HIDING = {
    "two alike": "os.fork()",
    "two that lend theirs all the time": "os.fork()\nlend = True",
    "one that shares its memory for good": "for _ in range(6): clone(CLONE_VM)\nos.fork()",
    "one in a group of those that share theirs": "os.fork()\nfor _ in range(6): clone(CLONE_VM)",
}


@pytest.mark.parametrize("how", HIDING)
def test_memory_shared_does_not_hide_private_memory(inside, how):
    """Two processes of 40 MiB each pass a limit of 64 MiB, even if others show the memory of either."""
    code = f"""
import ctypes, os, time
CLONE_VM, CLONE = 0x100, {{"x86_64": 56, "aarch64": 220}}[os.uname().machine]
libc = ctypes.CDLL(None)
stacks, lend = [], False
def clone(flags):  # a process of its own, with our memory, that does nothing for a minute
    stacks.append(ctypes.create_string_buffer(65536))
    top = ctypes.c_void_p((ctypes.addressof(stacks[-1]) + 65000) & ~15)
    libc.clone(ctypes.cast(libc.sleep, ctypes.c_void_p), top, flags | 17, ctypes.c_void_p(60))
{HIDING[how]}
held = bytearray(b"x") * (40 << 20)
until = time.monotonic() + 5
while time.monotonic() < until:
    if lend:
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {{}}), 0)
    else:
        time.sleep(0.1)
"""
    response = inside.python(code, resources={"memory_bytes": 64 << 20})
    assert ("killed", "E4001") == (response["status"], code_of(response)), response
    assert response["error"]["details"]["observed_bytes"] > 63 << 20


def test_disk_full_is_no_space_left(inside):
    """/tmp, /dev/shm and /workspace together hold `disk_bytes`; then the program sees "no space left"."""
    response = inside(
        ["sh", "-c", "head -c 3M /dev/zero > /tmp/a && head -c 3M /dev/zero > /dev/shm/b && head -c 3M /dev/zero > c"],
        resources={"disk_bytes": 8 << 20},
    )
    assert "No space left on device" in response["stderr"]


FILL = """
import os
page, wrote, made = bytes(4096), 0, 0
places = ["/tmp", "/dev/shm", "/workspace"]
with open("/tmp/a", "wb", buffering=0) as a, open("/dev/shm/b", "wb", buffering=0) as b, open("c", "wb", buffering=0) as c:
    try:
        while True:
            for each in (a, b, c):
                wrote += each.write(page)
    except OSError:
        pass
try:
    while True:
        os.mkdir(f"{places[made % 3]}/{made}")
        made += 1
except OSError:
    print(wrote, made)
"""


@pytest.mark.parametrize("shared", [False, True])
def test_disk_limit_is_exact(inside, place, shared):
    """The private places hold together just `disk_bytes`, and one file for each 4 KiB of it, with a shared workspace too."""
    disk_bytes = 8 << 20
    workspace = {"isolation": {"workspace": str(place)}} if shared else {}
    wrote, made = inside.python_says(FILL, resources={"disk_bytes": disk_bytes}, **workspace).split()
    assert disk_bytes == int(wrote)
    assert disk_bytes // 4096 <= int(made) + 3 <= disk_bytes // 4096 + 16


def test_memory_counts_private_files(inside):
    """Files of /tmp count against the memory limit: a disk that is larger than the memory cannot be filled."""
    script = "head -c 60M /dev/zero > /tmp/a; sleep 2; echo survived"
    response = inside(["sh", "-c", script], resources={"memory_bytes": 48 << 20, "disk_bytes": 1 << 30})
    assert "survived" not in response["stdout"]
    assert ("E4001", 137) == (code_of(response), response["exit_code"])


def test_private_places_are_in_memory(inside, place):
    """/workspace, /tmp, /var/tmp and /dev/shm are memory, also as the copy-on-write view of a directory."""
    kinds = "stat -f -c %T /tmp /var/tmp /dev/shm; echo x > /workspace/new; df --output=source /workspace | tail -1"
    said = inside.says(["sh", "-c", kinds], isolation={"workspace": str(place)}).split()
    assert ["tmpfs"] * 3 == said[:3]
    assert [] == os.listdir(place)


def test_file_size_over_the_limit_is_e4006(inside):
    """A file beyond `max_file_bytes` ends its writer with SIGXFSZ, which the result calls E4006."""
    response = inside(
        [
            "/usr/bin/python3",
            "-I",
            "-S",
            "-c",
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); open('f', 'wb').write(bytes(2 << 20))",
        ],
        resources={"max_file_bytes": 1 << 20},
    )
    assert ("killed", "E4006") == (response["status"], code_of(response))


def test_open_files_are_limited(inside):
    """The program sees the limit that was asked for, hard and soft."""
    assert ["64", "64"] == inside.says(["sh", "-c", "ulimit -Sn; ulimit -Hn"], resources={"max_open_files": 64}).split()


def test_open_files_limit_can_be_raised_by_default(inside):
    """A program that asks for more than the default gets up to 4096, as on a plain kernel, and no more."""
    code = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (4096, 4096)); print(r.getrlimit(r.RLIMIT_NOFILE))"
    assert ["1024", "4096"] == inside.says(["sh", "-c", "ulimit -Sn; ulimit -Hn"]).split()
    assert "(4096, 4096)" == inside.python_says(code)
    assert "1" == inside.says(["sh", "-c", "ulimit -n 4097 2> /dev/null && echo 0 || echo 1"])


def test_process_limit_makes_fork_fail(inside):
    """At `max_pids` fork fails with "resource temporarily unavailable"; the command goes on."""
    code = """
import os, time
started = 0
try:
    while started < 100:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        started += 1
except BlockingIOError:
    print(started <= 20)
"""
    assert "True" == inside.python_says(code, resources={"max_pids": 20})


def test_daemon_with_open_streams_does_not_delay_the_result(inside):
    """A double-forked process in its own session that holds stdout open ends with the command."""
    mark = f"capsule-mark-{os.getpid()}-daemon"
    began = time.monotonic()
    response = inside(["sh", "-c", f"(setsid sh -c 'sleep 60; : {mark}' &) ; echo done"])
    assert ("success", "done\n") == (response["status"], response["stdout"])
    assert time.monotonic() - began < 30  # half of what the daemon would sleep: nobody waited for it
    assert [] == descendants_named(mark)


READ = """
import mmap, os, time
fd, buffer = os.open("data", os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 1 << 16)
start = time.monotonic()
while os.readv(fd, [buffer]): pass
print(time.monotonic() - start)
"""


@pytest.mark.parametrize("option", [("--io-read-bps", "1M"), ("--io-read-iops", "16")])
def test_io_limit_slows_reads_or_is_e2007(inside, place, option):
    """16 reads of 64 KiB take a second at 1 MiB or 16 reads a second; where nothing can hold that, nothing runs (E2007)."""
    place.joinpath("data").write_bytes(bytes(1 << 20))
    os.sync()  # what is on its way to the disk cannot be read from it
    response = inside.python(READ, options=(*option, "--workspace", f"{place}:ro"))
    if code_of(response) != "E2007":
        assert float(response["stdout"] or "nan") > 0.7, response  # the first of them is let through at once
        assert "io" in response["isolation"]["limits"]


@pytest.mark.parametrize("profile", ["strict", "default"])
def test_limits_fewest_open_files_are_enough_for_set_up(inside, profile):
    """The smallest accepted limit is the command's: none of our own descriptors needs a number beyond it."""
    response = inside(["cat", "-"], stdin="in", profile=profile, resources={"max_open_files": 16})
    assert (0, "in") == (response["exit_code"], response["stdout"]), response
