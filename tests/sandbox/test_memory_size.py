"""What runtimes that size themselves by the machine see: the memory limit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import capsule_run

MIB = 1 << 20
TOTAL = "print(open('/proc/meminfo').read().split()[1])"
HEAP = "console.log(require('os').totalmem() / 2**20, v8.getHeapStatistics().heap_size_limit / 2**20)"
# 160 MiB alive, and as much garbage as is alive before Go collects it by itself. Go collects beside the program, which
# passes GOMEMLIMIT by a few blocks while the collector waits for a processor: an eighth of the limit must be many blocks.
GO_GARBAGE = """
package main

var alive, garbage [][]byte

func main() {
	for i := 0; i < 160; i++ {
		alive = append(alive, make([]byte, 1<<20))
	}
	for i := 0; i < 2000; i++ {
		garbage = [][]byte{make([]byte, 1<<20)}
		for j := 0; j < 1<<20; j += 4096 {
			garbage[0][j] = 1
		}
	}
	for _, block := range alive {
		for j := 0; j < len(block); j += 4096 {
			block[j] = 1
		}
	}
	println("done")
}
"""


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_meminfo_shows_the_memory_limit(inside, profile):
    """/proc/meminfo shows a machine that has as much memory as the command may use."""
    limit = {"memory_bytes": 100 * MIB}
    assert "102400" == inside.python_says(TOTAL, resources=limit, profile=profile)


def test_meminfo_shows_less_free_than_there_is(inside):
    """Some memory is used on every machine, as programs take for granted."""
    total, free, available = (
        int(line.split()[1]) for line in inside.says(["head", "-n", "3", "/proc/meminfo"]).splitlines()
    )
    assert total > free == available > total * 0.9


def test_meminfo_never_shows_more_than_the_machine_has(inside):
    """A limit beyond the machine's memory does not make programs believe in it."""
    host = int(Path("/proc/meminfo").read_text().split()[1])
    assert host >= int(inside.python_says(TOTAL, resources={"memory_bytes": 1 << 50, "disk_bytes": MIB}))


@pytest.mark.needs("node")
def test_node_sees_the_memory_limit(inside_as_caller):
    """Node's machine is as large as the limit, and its heap smaller."""
    total, heap = map(float, inside_as_caller.says(["node", "-e", HEAP]).split())
    assert (512, True) == (total, 300 < heap < 512)


@pytest.mark.needs("go")
@pytest.mark.parametrize(("given", "status"), [({}, "success"), ({"GOMEMLIMIT": ""}, "killed")])
def test_go_garbage_is_collected_before_the_limit(inside_as_caller, place, given, status):
    """A Go program whose garbage alone is beyond the limit ends well, and not where the variable is taken away."""
    (place / "main.go").write_text(GO_GARBAGE)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(place), "GO111MODULE": "off", "CGO_ENABLED": "0"}
    subprocess.run([shutil.which("go"), "build", "-o", "main", "main.go"], cwd=place, env=environment, check=True)
    fields = {"resources": {"memory_bytes": 256 * MIB, "disk_bytes": 4 * MIB}, "environment": given}
    share = {"source": str(place), "mode": "ro"}
    assert status == inside_as_caller(["./main"], isolation={"workspace": share}, **fields)["status"]


def test_environment_of_code_and_of_a_command_agree():
    """`exec` and a plain command get the same variables."""
    names = "env -0 | cut -z -d= -f1 | sort -z | tr '\\0' '\\n'; echo $GOMEMLIMIT $NODE_OPTIONS"
    assert capsule_run.run(["bash", "-c", names]).stdout == capsule_run.run_code(names, "bash").stdout


@pytest.mark.parametrize("name", ["GOMEMLIMIT", "NODE_OPTIONS"])
def test_size_variable_of_the_request_wins(inside, name):
    """An empty value takes a variable away, and another one replaces it."""
    for text in ("", "7"):
        assert text == inside.says(["printenv", name], environment={name: text})
