"""`Pool`: rooms that are built ahead, each used once."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import capsule_run
from capsule_run import CapsuleError, Pool


@pytest.fixture
def pool():
    with Pool(size=3) as pool:
        yield pool


def test_pooled_run_has_the_result_of_a_cold_one(pool):
    """Same fields, same isolation and attestation; only the times and names of this run differ."""
    cold, pooled = capsule_run.run(["sh", "-c", "echo a; id"]), pool.run(["sh", "-c", "echo a; id"])
    assert (cold.status, cold.stdout, cold.exit_code) == (pooled.status, pooled.stdout, pooled.exit_code)
    assert cold.to_dict().keys() - {"measurement"} == pooled.to_dict().keys() - {"measurement"}  # of longer runs
    assert cold.isolation.keys() == pooled.isolation.keys()
    same = ("capabilities", "no_new_privs", "seccomp", "seccomp_filters", "uid_map")
    for name in same:
        assert cold.isolation["attested"].get(name) == pooled.isolation["attested"].get(name)


def test_pooled_run_takes_the_arguments_of_a_call(pool):
    """Variables, directory, input and limits of time and output are the call's."""
    result = pool.run("echo $NAME; pwd; cat", env={"NAME": "x"}, cwd="/tmp", stdin="in")
    assert "x\n/tmp\nin" == result.stdout
    assert "E3006" == pool.run("sleep 60", timeout_ms=200).error.code
    assert "E4003" == pool.run("yes", max_output=1000).error.code


def test_pooled_room_is_used_once(pool):
    """Nothing of one run is there in the next ones."""
    pool.run("echo secret > /tmp/left; echo secret > left; echo secret > ~/left; sleep 60 &")
    for _ in range(6):
        assert "0\n" == pool.run("find /tmp ~ /workspace -name left | wc -l").stdout


def test_pool_with_a_workspace_lists_changes(place):
    """Each run has its own copy-on-write view, and its own changes."""
    (place / "a").write_text("1")
    with Pool(size=2, workspace=str(place)) as pool:
        for name in ("x", "y"):
            assert [name] == [change.path for change in pool.run(f"cp a {name}").changes]


def test_pool_counts_hits_and_misses():
    """Runs in a row with a full pool are hits; more at once than there are rooms are not all."""
    with Pool(size=2) as pool:
        assert pool.wait_ready(30)
        pool.run("true")
        stats = pool.stats()
        assert (1, 0, 0) == (stats.hits, stats.misses, stats.busy)
        assert stats.start_p50_us == stats.start_p99_us > 0
        pool.drain()
        assert pool.run("true").ok
        assert (1, 1, 0) == ((stats := pool.stats()).hits, stats.misses, stats.ready)


def test_empty_pool_that_may_not_start_cold_fails():
    """The error says what to do."""
    with Pool(size=1, on_empty="fail") as pool:
        pool.drain()
        with pytest.raises(CapsuleError, match="the pool has no room ready") as caught:
            pool.run("true")
        assert "make the pool larger" in caught.value.hint


def test_empty_pool_that_waits_serves_everybody():
    """More runs at once than rooms: each waits for one."""
    with Pool(size=1, on_empty="wait") as pool:
        results = list(pool.map([f"echo {number}" for number in range(12)], workers=6))
        assert [f"{number}\n" for number in range(12)] == [result.stdout for result in results]
        assert (12, 0) == ((stats := pool.stats()).hits, stats.misses)


def test_dead_room_is_not_handed_out():
    """A room whose processes were killed while it waited is replaced."""
    with Pool(size=1) as pool:
        assert pool.wait_ready(30)
        cores = [pid for pid in _children(os.getpid()) if Path(f"/proc/{pid}/comm").read_text() == "_core\n"]
        for pid in cores:
            os.kill(pid, signal.SIGKILL)
        _wait_until_dead(cores)
        assert (None, "alive\n") == ((result := pool.run("echo alive")).error, result.stdout)


def test_map_keeps_the_order_or_gives_what_comes_first(pool):
    """Ordered by the calls, or not."""
    calls = [{"command": f"sleep {0.5 if number == 0 else 0}; echo {number}"} for number in range(6)]
    assert [f"{number}\n" for number in range(6)] == [result.stdout for result in pool.map(calls)]
    unordered = [result.stdout for result in pool.map(calls, ordered=False, workers=3)]
    assert (6, True) == (len(set(unordered)), unordered[0] != "0\n")


def test_map_takes_calls_as_they_are_needed(pool):
    """An endless source of calls is fine, and one that is not exhausted leaves nothing running."""
    taken = []

    def calls():
        number = 0
        while True:
            taken.append(number)
            yield "true"
            number += 1

    results = pool.map(calls(), workers=2)
    for _ in range(3):
        assert next(results).ok
    results.close()
    assert len(taken) < 20


def test_map_gives_a_result_for_a_wrong_call(pool):
    """It names the argument, and stops nothing."""
    calls = ["true", {"command": "true", "timeout_ms": -1}, {"cwd": "/"}, {"command": "true", "memory": "1G"}, "true"]
    results = list(pool.map(calls))
    assert [True, False, False, False, True] == [result.ok for result in results]
    assert results[1].error.message.startswith("timeout_ms: must be from 1")
    assert ["E1006", "E1002"] == [result.error.code for result in results[2:4]]


# --- what is done ahead ---


def _confined(pid):
    """The processes below one that have a system call filter of ours."""
    below = [pid]
    for one in below:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            below += _children(one)
    return [one for one in below[1:] if _filters(one) > _filters(pid)]


def _filters(pid):
    try:
        return int(Path(f"/proc/{pid}/status").read_text().partition("Seccomp_filters:")[2].split()[0])
    except OSError:
        return 0


def _wait_until_confined(count):
    end = time.monotonic() + 30
    while len(_confined(os.getpid())) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_pooled_room_has_a_confined_process_before_the_command_comes(profile):
    """Behind the filter of each profile the command still gets its directory and its stdin."""
    with Pool(size=1, profile=profile) as pool:
        _wait_until_confined(1)
        assert "/tmp\n" == pool.run(["pwd"], cwd="/tmp").stdout
        assert ["in", ""] == [pool.run(["cat"], stdin=stdin).stdout for stdin in ("in", None)]
        stats = pool.stats()
        assert (3, 0) == (stats.hits + stats.misses, stats.replaced)


def test_pool_with_a_filter_of_its_own_confines_when_the_command_comes(tmp_path):
    """A profile that denies `chdir` could not take a confined process to its directory."""
    file = tmp_path / "profile.toml"
    file.write_text('extends = "default"\nremove = ["chdir"]\n')
    with Pool(size=1, profile=str(file)) as pool:
        assert "/tmp\n" == pool.run("pwd", cwd="/tmp").stdout
        assert 1 == pool.stats().hits


def test_command_too_long_for_a_message_starts_cold(pool):
    """It runs, though no room can take it."""
    words = "x" * 100_000
    assert f"{words}\n" == pool.run(["echo", words]).stdout
    assert "40000\n" == pool.run("echo ${#LONG}", env={"LONG": "y" * 40_000}).stdout


def test_killed_confined_process_is_a_room_that_is_replaced():
    """What is killed while it waits was no command, and the next run has a result of its own."""
    with Pool(size=1) as pool:
        _wait_until_confined(1)
        killed = _confined(os.getpid())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        _wait_until_dead(killed)
        (room,) = pool._filler._ready
        while room.is_alive:  # until its launcher has reported
            time.sleep(0.02)
        assert "alive\n" == pool.run("echo alive").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "`size` must be a number from 1 to 1024, not 0"),
        ({"on_empty": "never"}, "`on_empty` must be `cold`, `wait` or `fail`, not 'never'"),
        ({"preload": ["os; import sys"]}, "`preload`: 'os; import sys' is not the name of a module"),
        ({"memory": "lots"}, "memory: must be a size"),
        ({"files": {"a": "b"}}, "`files` and `workspace_upper` are of one run"),
    ],
)
def test_wrong_option_of_a_pool_is_refused(options, message):
    """The error names the option and what it was."""
    with pytest.raises(CapsuleError) as caught:
        Pool(**options)
    assert message in str(caught.value)


# --- prepared interpreters ---


@pytest.fixture
def prepared():
    with Pool(size=2, preload=["json", "random"]) as pool:
        yield pool


def test_prepared_python_runs_code_as_a_new_one_would(prepared):
    """The code is `__main__`, with nothing of the driver in sight."""
    names = "sorted(name for name in globals() if not name.startswith('__'))"
    code = f"import sys\nprint(__name__, sys.argv, {names}, sys.stdin.read() == '')"
    assert "__main__ ['-'] ['sys'] True\n" == prepared.run_code(code).stdout


def test_prepared_python_has_imported_the_modules(prepared):
    """Before the code comes."""
    assert "True\n" == prepared.run_code("import sys; print('random' in sys.modules)").stdout


@pytest.mark.parametrize(
    ("code", "frames", "last"),
    [
        (
            "def f():\n    return 1 / 0\nf()",
            ["line 3, in <module>", "line 2, in f"],
            "ZeroDivisionError: division by zero",
        ),
        ("x = (1", ["line 1"], "SyntaxError: '(' was never closed"),
        ("import no_such_module", ["line 1, in <module>"], "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
    ids=["exception", "syntax", "import"],
)
def test_prepared_python_shows_the_traceback_of_the_code_alone(prepared, code, frames, last):
    """No frame of the driver; newer versions also show lines of the code."""
    result = prepared.run_code(code)
    lines = [line.strip() for line in result.stderr.splitlines()]
    assert [f'File "<stdin>", {frame}' for frame in frames] == [line for line in lines if line.startswith("File ")]
    assert (last, "E3003") == (lines[-1], result.error.code)


def test_prepared_python_is_fresh_in_every_run(prepared):
    """Hash seed, random numbers and process are those of one run; variables and files do not come again."""
    code = "import os, random; print(random.random(), hash('x'), os.path.exists('/tmp/left')); open('/tmp/left', 'w')"
    outputs = [prepared.run_code(code).stdout.split() for _ in range(4)]
    assert (4, 4) == tuple(len({words[column] for words in outputs}) for column in (0, 1))
    assert {"False"} == {words[2] for words in outputs}


def test_prepared_python_has_the_time_limit_of_the_call(prepared):
    """It counts from the call, and not from when the interpreter was started."""
    time.sleep(0.3)
    result = prepared.run_code("while True: pass", timeout_ms=250)
    assert ("E3006", "timeout") == (result.error.code, result.status)
    assert prepared.run_code("import time; time.sleep(0.2); print(1)", timeout_ms=20_000).ok


def test_preload_that_is_missing_is_the_code_s_to_find():
    """An absent module ends no interpreter: its import in the code says what is missing."""
    with Pool(size=1, preload=["no_such_module"]) as pool:
        assert "1\n" == pool.run_code("print(1)").stdout
        assert "No module named 'no_such_module'" in pool.run_code("import no_such_module").error.message


def test_command_of_a_prepared_pool_starts_cold(prepared):
    """The interpreters wait for code, and a command gets a sandbox of its own."""
    assert ["1\n", "2\n"] == [result.stdout for result in prepared.map(["echo 1", "echo 2"])]
    assert "3\n" == prepared.run_code("print(3)").stdout


def test_code_in_another_language_runs_in_a_pool(pool):
    """As `capsule_run.run_code` does."""
    assert "3\n" == pool.run_code("echo $((1 + 2))", "bash").stdout


# --- the end ---

OWNER = """
    import capsule_run, sys
    pool = capsule_run.Pool(size=8)
    pool.wait_ready()
    print(1, flush=True)
    sys.stdin.read()
"""


def test_killed_owner_leaves_no_room():
    """SIGKILL: every launcher notices that its caller is gone."""
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    owner.stdout.readline()
    pids = _children(owner.pid)
    owner.kill()
    owner.communicate()
    _wait_until_dead(pids)
    _wait_until_dead(_children(os.getpid()))  # orphans come to the process that runs the tests
    assert len(pids) >= 8


def _children(pid):
    task = Path(f"/proc/{pid}/task")
    return [int(child) for thread in task.iterdir() for child in (thread / "children").read_text().split()]


def _wait_until_dead(pids):
    end = time.monotonic() + 30
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.02)


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_collected_pool_ends_its_rooms():
    """A pool that nobody has any more leaves no process and no descriptor: the check behind each test looks for them."""
    pool = Pool(size=2)
    pool.run("true")
    del pool
    gc.collect()


def test_runs_from_many_threads_are_answered_once(pool):
    """Random kills and timeouts beside each other: each call has one result of its own."""
    chooser, answers = random.Random(1), []
    kinds = [("echo {}", None), ("sleep 60", 50), ("kill -9 $$", None), ("yes", None)]
    plan = [(number, *chooser.choice(kinds)) for number in range(40)]

    def work(part):
        for number, command, timeout_ms in part:
            result = pool.run(command.format(number), timeout_ms=timeout_ms, execution_id=f"run-{number}")
            answers.append((result.execution_id, result.error.code if result.error else result.stdout))

    threads = [threading.Thread(target=work, args=(plan[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {"sleep 60": "E3006", "kill -9 $$": "E3005", "yes": "E4003"}
    assert {f"run-{number}": expected.get(command, f"{number}\n") for number, command, _ in plan} == dict(answers)
    assert len(plan) == len(answers)


FORKED = """
import capsule_run, os, sys
pool, box = capsule_run.Pool(size=2, on_empty="wait"), capsule_run.Sandbox()
pool.wait_ready()
process = box.start("read line; echo $line", stdin=True)
box.run_code("x = 1")
if not (pid := os.fork()):
    print(pool.run("echo child").stdout, end="", flush=True)
    sys.exit(0)
os.waitpid(pid, 0)
print(pool.stats().ready, pool.run("echo parent").stdout, end="")
process.stdin.write("alive")
process.stdin.close()
print(process.stdout.read(), end="")
print(box.run_code("x").text)
"""


def test_forked_child_uses_and_ends_nothing_of_its_parent():
    """Its runs start cold, and when it ends the rooms, sandboxes, processes and contexts of its parent live on."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=50, check=False
    )
    assert ("child\n2 parent\nalive\n1\n", "") == (done.stdout, done.stderr)
