"""docs/limits.md, against what is in force, and what a program really sees."""

from __future__ import annotations

import re
import subprocess

import pytest
from documents import DOCS, table_rows

import capsule_run
from capsule_run.host.survey import survey
from capsule_run.model import request as model_request
from capsule_run.model.request import Isolation, Request, Resources
from capsule_run.plan import payload, room
from capsule_run.policy import resolve
from capsule_run.request import parse
from capsule_run.request.sizes import format_size
from capsule_run.result import isolation

PAGE = (DOCS / "limits.md").read_text()
ROWS = {row[0]: row[1:] for row in table_rows(PAGE)}
DEFAULTS = {
    "wall time": f"{model_request.DEFAULT_TIMEOUT_MS} ms",
    "memory": format_size(model_request.DEFAULT_MEMORY_BYTES),
    "output, each stream": format_size(model_request.DEFAULT_MAX_OUTPUT_BYTES),
    "processes and threads": str(model_request.DEFAULT_MAX_PIDS),
    "CPU weight": str(model_request.DEFAULT_CPU_SHARES),
    "open files of a process": str(model_request.DEFAULT_MAX_OPEN_FILES),
}
# The names in `isolation.limits`, and the row that tells of each.
IN_FORCE = {
    "wall_time": "wall time", "cpu_time": "processor time",
    "memory": "memory", "processes": "processes and threads", "cpu_shares": "CPU weight",
    "output": "output, each stream", "disk": "disk", "file_size": "size of one file", "open_files": "open files of a process",
}  # fmt: skip


def resolved(**resources):
    request = Request(command=("true",), resources=Resources(**resources))
    return resolve.resolve(request, survey(request))


@pytest.mark.parametrize("limit", DEFAULTS)
def test_limits_page_defaults_are_in_force(limit):
    """A default on the page is the one in force."""
    assert DEFAULTS[limit] == ROWS[limit][1]


def test_limits_page_has_every_limit_in_force():
    """Each limit that results name has its row, and a result names a mechanism for each."""
    made = isolation.isolation_in_force(resolved(), 0)["limits"]
    assert set(IN_FORCE) == set(made)
    assert set(IN_FORCE.values()) <= set(ROWS)


def test_limits_page_has_every_resource():
    """Each field of `resources`, and the time limit, stands in a row with its option."""
    fields = {name for name in parse.FIELDS if name.startswith("resources.")} | {"timeout_ms"}
    assert fields == set(re.findall(r"`(resources\.\w+|timeout_ms)`", " ".join(row[0] for row in ROWS.values())))


def test_limits_page_nice_values_are_right():
    """The page's examples of shares and nice values are what is made of them."""
    assert "(512 is nice 3, 100 is nice 10, 2 is nice 19)" in PAGE
    assert [3, 10, 19, 0] == [resolved(cpu_shares=shares).nice for shares in (512, 100, 2, 5000)]
    assert "none" == dict(resolved(cpu_shares=5000).limit_mechanisms.mechanisms)["cpu_shares"]


def test_limits_page_fixed_limits_are_right():
    """The figures of what no option changes are the plan's."""
    limits = {int(step[1]): step[2] for step in room.compile_plan(resolved()).payload if step[0] == "rlimit"}
    assert {
        payload.RLIMIT_MEMLOCK: str(64 << 10),
        payload.RLIMIT_MSGQUEUE: str(800 << 10),
        payload.RLIMIT_SIGPENDING: "256",
        payload.RLIMIT_RTPRIO: "0",
        payload.RLIMIT_NICE: "0",
        payload.RLIMIT_CORE: "1",
        payload.RLIMIT_DATA: "unlimited",
        payload.RLIMIT_AS: "unlimited",
    }.items() <= limits.items()
    for words in ("core files is 1 byte", "64 KiB of locked memory", "800 KiB of message queues", "256 queued signals"):
        assert words in PAGE


# What the page says that the program sees: limits, command, and what is found in the result.
FAILS = ("error", "E3003", 1)
MIB = 1 << 20
SEEN = [
    ({"timeout_ms": 200}, "echo before; sleep 60", ("timeout", "E3006", 124), "before"),
    (
        {"resources.disk_bytes": MIB, "resources.max_file_bytes": 1 << 30},
        "head -c 4M /dev/zero > f",
        ("killed", "E4005", 137),
        "No space left on device",
    ),
    ({"resources.max_file_bytes": 4096}, "exec head -c 8192 /dev/zero > f", ("killed", "E4006", 137), ""),
    (
        {"resources.max_file_bytes": 4096},
        """exec python -c 'import pathlib; pathlib.Path("f").write_bytes(bytes(8192))'""",
        FAILS,
        "File too large",
    ),
    ({"resources.max_output_bytes": 10}, "echo 0123456789abcdef; sleep 60", ("killed", "E4003", 137), "0123456789"),
    ({"resources.max_pids": 2}, "(sleep 1 & sleep 1 & wait); true", None, "Cannot fork"),
    (
        {"resources.max_open_files": 20},
        "exec python -c 'import os; [os.dup(0) for _ in range(30)]'",
        FAILS,
        "Too many open files",
    ),
    ({"resources.memory_bytes": 64 * MIB}, "exec python -c 'x = bytearray(200 << 20)'", ("killed", "E4001", 137), ""),
    ({"resources.memory_bytes": 64 * MIB}, "exec python -c 'x = bytearray(3 << 30)'", ("killed", "E4001", 137), ""),
    ({"resources.memory_bytes": 64 * MIB}, "exec python -c 'x = bytearray(1 << 46)'", FAILS, "MemoryError"),
]


@pytest.mark.sandbox
@pytest.mark.parametrize(("fields", "line", "end", "text"), SEEN)
def test_limits_page_what_the_program_sees_is_right(fields, line, end, text):
    """A program that passes a limit sees what the page says, and so does the caller."""
    given = parse.nested({"command": ["sh", "-c", line], **fields})
    result = capsule_run.execute(parse.request_from_mapping(given))
    code = result.error.code if result.error else None
    if end is not None:
        assert end == (result.status, code, result.exit_code), result
    assert text in result.stdout + result.stderr


@pytest.mark.sandbox
def test_memory_mapped_tmpfs_counts_twice_without_cgroup():
    """The page's loud one: a file in memory that is also mapped counts once as a file and once as memory, but on a group once."""
    code = """
import mmap
with open("/dev/shm/f", "w+b") as file:
    file.truncate(40 << 20)
    view = mmap.mmap(file.fileno(), 0)
    for at in range(0, len(view), 4096):
        view[at] = 1
    import time
    time.sleep(MAPPED)
"""
    mapped = capsule_run.run(["python", "-c", code.replace("MAPPED", "1")], memory="64M", timeout_ms=10_000)
    expected = ("killed", "memory") if mapped.isolation["limits"]["memory"] == "watch" else ("success", None)
    assert expected == (mapped.status, mapped.error and mapped.error.cause)


@pytest.mark.sandbox
def test_hard_limits_lower_of_the_caller_stay(reader):
    """A hard limit of the caller's that is lower than what is asked is what the program gets."""
    line = "ulimit -n 300; capsule-run --no-workspace --max-open-files 500 -- sh -c 'ulimit -Hn'"
    assert "300\n" == subprocess.run(["bash", "-c", line], **reader).stdout


@pytest.mark.sandbox
def test_disk_limit_is_shared_by_private_places():
    """What is written to /tmp is missing from /dev/shm and the workspace."""
    line = "head -c 3M /dev/zero > /tmp/f && head -c 3M /dev/zero > /dev/shm/f; echo $?"
    request = Request(command=("sh", "-c", line), resources=Resources(disk_bytes=4 << 20), isolation=Isolation())
    assert "1\n" == capsule_run.execute(request).stdout
