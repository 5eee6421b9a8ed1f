"""Why a run ended: one cause, with the counters that prove it; and what was reached and survived."""

from __future__ import annotations

import pytest
from inside import code_of

MIB = 1 << 20
SPIN = "while True: pass"
SPIN_IN_TWO = "import os\nos.fork()\nwhile True: pass"
# The parent waits for each child, so that all of the time is in what it has waited for.
SPIN_IN_TURN = """
import os, time
while True:
    if os.fork() == 0:
        while time.process_time() < 0.02: pass
        os._exit(0)
    os.wait()
"""


def details_of(response):
    return response["error"]["details"]


@pytest.mark.parametrize("code", [SPIN, SPIN_IN_TWO, SPIN_IN_TURN], ids=["one", "two at once", "one after the other"])
def test_cpu_time_over_the_limit_is_e4004(inside, code):
    """Processor time over the limit, of all processes together, ends the run with E4004 and the numbers."""
    response = inside.python(code, resources={"cpu_time_ms": 400}, timeout_ms=20_000)
    assert ("killed", 137, "E4004") == (response["status"], response["exit_code"], code_of(response))
    details = details_of(response)
    assert (400, "watch") == (details["limit_ms"], details["source"])
    assert 400 <= details["observed_ms"] < 600


def test_cpu_time_limit_ignores_waiting(inside):
    """A command that sleeps longer than its processor time limit ends by itself."""
    assert "success" == inside(["sleep", "0.5"], resources={"cpu_time_ms": 200})["status"]


def test_cpu_time_of_a_killed_run_is_measured(inside):
    """Also of what was killed at the deadline, children included, the time is in the metrics."""
    response = inside.python(SPIN_IN_TWO, timeout_ms=400)
    assert "timeout" == response["status"]
    assert (
        response["metrics"]["cpu_ms"] > 10
    )  # how much there is depends on who else computes; without reaping it is none
    assert response["metrics"]["cpu_ms"] == pytest.approx(details_of(response)["cpu_ms"], abs=0.01)


def test_disk_full_and_failed_is_e4005(inside):
    """A command that fails when its private disk is full ends with E4005, its own exit code and the counters."""
    response = inside(["dd", "if=/dev/zero", "of=/tmp/x"], resources={"disk_bytes": 4 * MIB})
    assert ("killed", 137, "E4005") == (response["status"], response["exit_code"], code_of(response))
    details = details_of(response)
    assert (4 * MIB, 4 * MIB, 1) == (details["limit_bytes"], details["observed_bytes"], details["exit_code"])
    assert details["counter"]["free_bytes"] < 4096
    assert {"/workspace", "/tmp", "/dev/shm"} <= set(details["mounts"])
    assert "/workspace, /tmp, /dev/shm" in response["error"]["message"]


def test_disk_full_and_survived_is_in_limits_hit(inside):
    """A command that goes on after the disk was full has its own end, and `limits_hit` says so."""
    response = inside(["sh", "-c", "cat /dev/zero > /tmp/x || true"], resources={"disk_bytes": 4 * MIB})
    assert ("success", ["E4005"]) == (response["status"], [hit["code"] for hit in response["limits_hit"]])


def test_disk_with_room_failure_is_the_commands_own(inside):
    """What a program says is no evidence: with room on the disk, "no space left" is only words."""
    response = inside(["sh", "-c", "echo 'No space left on device' >&2; exit 1"])
    assert ("E3003", None) == (code_of(response), response.get("limits_hit"))


FORKS = """
import os, sys, time
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
except BlockingIOError as error:
    time.sleep(0.3)
    sys.exit(HOW)
"""


def test_fork_refused_and_failed_is_e4002(inside):
    """A command that fails at its process limit ends with E4002 and what was seen at once."""
    response = inside.python(FORKS.replace("HOW", "str(error)"), resources={"max_pids": 20})
    assert ("killed", 137, "E4002") == (response["status"], response["exit_code"], code_of(response))
    assert (20, {"resources.max_pids": 40}) == (details_of(response)["limit"], details_of(response)["would_pass_with"])


def test_fork_refused_and_survived_is_in_limits_hit(inside):
    """A command that goes on at its process limit has its own end, and `limits_hit` says so."""
    response = inside.python(FORKS.replace("HOW", "0"), resources={"max_pids": 20})
    assert ("success", ["E4002"]) == (response["status"], [hit["code"] for hit in response["limits_hit"]])


@pytest.mark.parametrize("bomb", [":(){ :|:& };:", ":(){ :|:& };:; sleep 60"], ids=["left behind", "at the deadline"])
def test_fork_bomb_is_ended_for_the_process_limit(inside, bomb):
    """A run that had to be ended in a storm of refused forks was ended by the process limit, though bash survives them all."""
    response = inside(["bash", "-c", bomb], resources={"max_pids": 20}, timeout_ms=1500)
    assert ("killed", 137, "E4002") == (response["status"], response["exit_code"], code_of(response)), response
    details = details_of(response)
    assert 10 <= (details["counter"]["refused"] if details["source"] == "cgroup" else details["said"])
    assert "limits_hit" not in response


HANDLED = """
import os, time
for _ in range(30):
    try:
        if os.fork() == 0:
            time.sleep(60)
    except BlockingIOError:
        break
time.sleep(60)
"""


def test_fork_refused_before_a_timeout_is_a_timeout(inside):
    """A command that took no for an answer and then ran out of time ran out of time."""
    response = inside.python(HANDLED, resources={"max_pids": 20}, timeout_ms=700)
    assert ("timeout", ["E4002"]) == (response["status"], [hit["code"] for hit in response["limits_hit"]])


def test_output_truncated_is_in_limits_hit(inside):
    """With `truncate`, `limits_hit` says how much would have passed."""
    response = inside(
        ["head", "-c", "5000", "/dev/zero"], resources={"max_output_bytes": 10}, on_output_limit="truncate"
    )
    (hit,) = response["limits_hit"]
    assert ("E4003", {"resources.max_output_bytes": 5000}) == (hit["code"], hit["details"]["would_pass_with"])


def test_limits_hit_without_any_is_absent(inside):
    """No `limits_hit` in the answer of an ordinary run."""
    assert "limits_hit" not in inside(["true"])


HOLD = "held = bytearray(b'x') * (%d << 20)"


@pytest.mark.parametrize("held_mib", [300, 400])
def test_memory_default_holds_what_test_suites_hold(inside, held_mib):
    """A program that holds 300 or 400 MiB runs under the defaults."""
    assert "success" == inside.python(HOLD % held_mib)["status"]


def test_memory_figure_to_try_next_lets_the_program_pass(inside):
    """A program that needs less than twice its limit passes with the figure that the result names."""
    first = inside.python(HOLD % 80, resources={"memory_bytes": 64 * MIB})
    assert "E4001" == code_of(first)
    figure = details_of(first)["would_pass_with"]["resources.memory_bytes"]
    assert "success" == inside.python(HOLD % 80, resources={"memory_bytes": figure})["status"]
