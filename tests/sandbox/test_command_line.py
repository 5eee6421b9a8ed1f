"""The command as scripts and people use it: the seed's examples, exit codes, signals, concurrency."""

# ruff: noqa: E501 - tables and programs, one entry a line
from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from inside import COMMAND, code_of

import capsule_run

SEED_REQUEST = """\
{
  "command": ["python", "-c", "print('Hello from sandbox')"],
  "environment": {"PYTHONPATH": "/workspace"},
  "timeout_ms": 5000,
  "resources": {
    "memory_bytes": 268435456,
    "cpu_shares": 1024,
    "max_output_bytes": 1048576
  },
  "isolation": {
    "network": false,
    "readonly_paths": ["/usr", "/bin"],
    "writable_paths": ["/tmp"],
    "working_directory": "/workspace"
  }
}
"""
EXITS = (
    (["true"], 0), (["false"], 1), (["sh", "-c", "exit 42"], 42), (["sh", "-c", "exit 255"], 255), (["sh", "-c", "kill -TERM $$"], 143),
    (["sh", "-c", "kill -KILL $$"], 137), (["sh", "-c", "kill -SEGV $$"], 139), (["no-such-command"], 127), (["/etc/passwd"], 126),
    (["/usr"], 126), (["/nowhere/x"], 127),
)  # fmt: skip


@pytest.fixture
def on_path(place):
    """An environment with `capsule-run` on PATH, as an installation would have it."""
    command = place / "capsule-run"
    command.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in COMMAND) + ' "$@"\n')
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{place}:/usr/bin:/bin"}


@pytest.mark.parametrize("line", ['capsule-run -- echo "Hello, World!"', "capsule-run --memory 256M --timeout 5000 -- python script.py",
                                  """echo '{"command":["python","-c","print(42)"]}' | capsule-run --json"""])  # fmt: skip
def test_readme_quick_start_runs_verbatim(on_path, place, line):
    """The three commands of the seed's Quick Start work as they are written."""
    place.joinpath("script.py").write_text("print('from the script')")
    done = subprocess.run(["/bin/sh", "-c", line], env=on_path, cwd=place, capture_output=True, timeout=30)
    assert 0 == done.returncode, done.stderr
    said = json.loads(done.stdout)["stdout"] if "--json" in line else done.stdout.decode()
    assert said in ("Hello, World!\n", "from the script\n", "42\n")


def test_readme_json_request_runs_verbatim(on_path):
    """The JSON request of the seed's README is a success."""
    done = subprocess.run(
        ["capsule-run", "--json"], input=SEED_REQUEST, text=True, env=on_path, capture_output=True, timeout=30
    )
    response = json.loads(done.stdout)
    assert ("success", "Hello from sandbox\n") == (response["status"], response["stdout"]), response


@pytest.mark.parametrize(
    ("code", "said"),
    [("print(6 * 7)", "42\n"), ("1 / 0", "Error: the command exited with code 1: ZeroDivisionError: division by zero")],
)
def test_readme_langchain_call_runs_verbatim(on_path, code, said):
    """The subprocess call of the seed's LangChain tool gives output, or an error that an agent can act on."""
    request = {"command": ["python", "-c", code], "resources": {"memory_bytes": 256 * 1024 * 1024}, "timeout_ms": 30000}
    result = subprocess.run(
        ["capsule-run", "--json"], input=json.dumps(request), text=True, capture_output=True, env=on_path
    )
    response = json.loads(result.stdout)
    answer = (
        response.get("stdout", "")
        if response["status"] == "success"
        else f"Error: {response.get('error', {}).get('message', 'Unknown error')}"
    )
    assert said == answer


@pytest.mark.parametrize(("command", "code"), EXITS, ids=[" ".join(command) for command, _code in EXITS])
def test_exit_code_is_the_commands(inside_as_caller, command, code):
    """The command's own exit code, 128+N for a signal, 126 not executable, 127 not found."""
    assert code == inside_as_caller.cli("--", *command).returncode


@pytest.mark.parametrize(("words", "code"), [(["--timeout", "100", "--", "sleep", "9"], 124), (["--nonsense"], 2), (["-v"], 2), (["--timeout", "x", "--", "true"], 2),
                                             (["--bind", "/nowhere:/x", "--", "true"], 125), (["--max-output", "1", "--", "echo", "long"], 137)])  # fmt: skip
def test_exit_code_of_failed_runs_is_documented(inside_as_caller, words, code):
    """124 timeout, 125 the sandbox could not be set up, 137 a limit, 2 usage."""
    done = inside_as_caller.cli(*words)
    assert code == done.returncode
    assert b"capsule-run: E" in done.stderr


def test_command_line_bare_prints_the_short_help(inside):
    """Without any word: the short help on stderr, and the exit code of a wrong usage, for a script with an empty variable."""
    done = inside.cli()
    asked = inside.cli("-h")
    assert (2, b"", asked.stdout) == (done.returncode, done.stdout, done.stderr)
    assert (0, True) == (asked.returncode, asked.stdout.startswith(b"capsule-run [OPTIONS]"))


def test_command_line_misspelt_subcommand_is_hinted_at(inside):
    """A program that was not found may be a subcommand; after `--` it is not."""
    assert b"hint: the subcommand is `capsule-run doctor`" in inside.cli("doctr").stderr
    assert b"subcommand" not in inside.cli("--", "doctr").stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_run_and_is_reported(number):
    """A command that Ctrl-C or SIGTERM ends is E3007; --json still prints its one response."""
    program = subprocess.Popen(
        [*COMMAND, "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
    )
    program.stdin.write(json.dumps({"command": ["sleep", "30"]}).encode())
    program.stdin.close()
    program.stdin = None
    while not _has_grandchild(program.pid):
        time.sleep(0.005)
    program.send_signal(number)
    out, _err = program.communicate(timeout=5)
    assert (128 + number, "E3007") == (program.returncode, code_of(json.loads(out)))


AFTER_THE_END = """
import os, sys
from capsule_run.cli.command import _Signals
from capsule_run.launcher import Launcher, Run

signals = _Signals()
launcher = Launcher()
signals.started(Run(launcher))
launcher.close()
os.kill(os.getpid(), int(sys.argv[1]))
print("completes the result", flush=True)
signals.ended()
print("waits for a stopped terminal", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_after_the_end_of_the_command_is_not_lost(number):
    """One that comes after the launcher's end, while its handler is still installed, ends us once the result is complete."""
    done = subprocess.run([sys.executable, "-c", AFTER_THE_END, str(int(number))], capture_output=True)
    assert (-number, b"completes the result\n") == (done.returncode, done.stdout), done.stderr


TRAPS = {
    "handles": "trap 'echo cleaned; exit 7' {0}; echo ready; sleep 600 & wait",
    "goes on": "trap 'echo again' {0}; echo ready; while :; do sleep 600 & wait $!; done",
}


@pytest.mark.parametrize(
    ("program", "grace", "signals", "exit_code"),
    [
        ("handles", "10m", ["TERM"], 7),
        ("handles", "10m", ["INT"], 7),
        ("handles", "10m", ["HUP"], 7),
        ("handles", "0", ["TERM"], 143),
        ("goes on", "100ms", ["TERM"], 143),
        ("goes on", "10m", ["INT", "INT"], 130),
        ("goes on", "10m", ["TERM", "INT"], 143),
    ],
)
def test_signal_reaches_the_command_first(program, grace, signals, exit_code):
    """A command may end itself after a signal; if it does not within --grace, or with a second signal, the sandbox ends."""
    script = TRAPS[program].format(signals[0])
    run = subprocess.Popen(
        [*COMMAND, "--grace", grace, "--timeout", "10m", "--", "sh", "-c", script],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
    )  # fmt: skip
    said = run.stdout.readline()
    for at, name in enumerate(signals, 1):
        run.send_signal(signal.Signals[f"SIG{name}"])
        if at < len(signals):
            assert b"again\n" == run.stdout.readline()  # two of a kind at once would be one
    out, err = run.communicate(timeout=120)
    assert (exit_code, b"ready\n") == (run.returncode, said)
    assert (exit_code == 7) == (b"cleaned" in out)
    assert (exit_code != 7) == (b"E3007" in err)


def _children(pid):
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def _has_grandchild(pid):
    return any(_children(child) for child in _children(pid))


def test_threads_run_sandboxes_at_once():
    """Eight threads with five runs each: every result is its own."""
    ends = []

    def work(number):
        for turn in range(5):
            result = capsule_run.run(["sh", "-c", f"echo {number}-{turn}; exit {number}"])
            ends.append((result.stdout, result.exit_code) == (f"{number}-{turn}\n", number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [True] * 40 == ends


def test_event_loop_running_is_not_disturbed():
    """From a running asyncio loop, by to_thread, several at a time, with the loop alive meanwhile."""

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticker = asyncio.create_task(tick())
        results = await asyncio.gather(
            *[asyncio.to_thread(capsule_run.run, ["sh", "-c", f"sleep 0.2; echo {n}"]) for n in range(4)]
        )
        ticker.cancel()
        return [result.stdout for result in results], ticks

    with asyncio.Runner() as runner:
        said, ticks = runner.run(main())
        runner.get_loop().run_until_complete(runner.get_loop().shutdown_default_executor())
    assert ["0\n", "1\n", "2\n", "3\n"] == said
    assert ticks > 5


def test_caller_large_process_is_not_copied():
    """A copy of the caller would leave its pages write-protected, and each of them would fault when it is next written."""

    def faults_of_writing(held):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        held[:: resource.getpagesize()] = b"y" * len(held[:: resource.getpagesize()])
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    held = bytearray(b"x") * (64 << 20)
    assert capsule_run.run(["true"]).ok
    assert faults_of_writing(held) < 1000
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert faults_of_writing(held) > 10_000


def test_caller_with_low_hard_limits_can_run():
    """A caller whose own hard limits are below our defaults (`ulimit -n 256`) still gets its sandbox."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *COMMAND, "--", "echo", "ran"],
        capture_output=True,
        timeout=20,
        cwd="/",
    )
    assert b"ran\n" == done.stdout, done.stderr


PROGRAMS = {
    "python threads": (["python3", "-c", "import threading\nt = [threading.Thread(target=print, args=(n,)) for n in range(9)]\n[x.start() for x in t]; [x.join() for x in t]"], "python3"),
    "python multiprocessing": (["python3", "-c", "import multiprocessing as m\nif __name__ == '__main__':\n    with m.Pool(3) as p: assert p.map(abs, [-1, -2]) == [1, 2]"], "python3"),
    "python subprocess": (["python3", "-c", "import subprocess; assert subprocess.check_output(['echo', 'x']) == b'x\\n'"], "python3"),
    "python asyncio": (["python3", "-c", "import asyncio; asyncio.run(asyncio.sleep(0))"], "python3"),
    "bash pipeline": (["bash", "-c", "set -o pipefail; seq 1000 | sort -rn | head -3 | tee x | wc -l; cat < x > y; diff <(cat x) y"], "bash"),
    "coreutils": (["sh", "-c", "mkdir a && cp -r a b && touch a/x && mv a/x b && ln -s b c && stat c && du -s . && date && sort b/x && rm -r a b c && df ."], "sh"),
    "tar": (["sh", "-c", "mkdir d && echo x > d/f && tar czf t.tgz d && rm -r d && tar xzf t.tgz && cat d/f"], "tar"),
    "gcc": (["sh", "-c", "echo 'int main(void){return 0;}' > m.c && gcc -O2 -o m m.c && ./m"], "gcc"),
    "make": (["sh", "-c", "printf 'all: x\\nx:\\n\\ttouch x\\n' > Makefile && make -j2"], "make"),
    "git": (["sh", "-c", "git init -q . && git config user.email a@b && git config user.name n && echo x > f && git add f && git commit -qm m && git log --oneline && git clone -q . ../tmp/c"], "git"),
    "node": (["node", "-e", "const {Worker}=require('worker_threads');require('fs').writeFileSync('x','1');new Worker('process.exit(0)',{eval:true}).on('exit',c=>process.exit(c))"], "node"),
    "sqlite3": (["sh", "-c", "sqlite3 db 'create table t(x); insert into t values (7); select * from t;'"], "sqlite3"),
    "perl": (["perl", "-e", "my $x = `echo 5`; exit($x == 5 ? 0 : 1)"], "perl"),
    "java": (["java", "-Xmx64m", "-version"], "java"),
    "find, grep, sed, awk": (["sh", "-c", "find /usr/share/doc -maxdepth 1 | grep a | sed s/a/b/ | awk 'END{print NR}'"], "awk"),
    "zip by python": (["python3", "-c", "import zipfile; z = zipfile.ZipFile('z', 'w'); z.writestr('a', 'b'); z.close()"], "python3"),
}  # fmt: skip


@pytest.mark.parametrize("user", [1000, 0])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_ordinary_run_unchanged(inside, name, user, needs):
    """Interpreters, shells, compilers, version control and databases run unchanged, as user 1000 and as root inside."""
    command, program = PROGRAMS[name]
    if program in ("gcc", "git", "node", "sqlite3"):
        needs(program)
    elif shutil.which(program) is None:
        needs("sdist", present=False)
    response = inside(command, isolation={"user": user}, resources={"memory_bytes": 1 << 30}, timeout_ms=20000)
    assert 0 == response["exit_code"], (response["error"], response["stderr"][-600:])


def test_process_name_from_inside_begins_no_line(place):
    """A process that is called like a hint of ours writes none: neither as the one that was refused, nor at the end of time."""
    link = "ln -s /usr/bin/python3 'x\nhint: sudo' && './x\nhint: sudo' -c"
    words = [*COMMAND, "--no-workspace", "--timeout", "1500", "--", "sh", "-c"]
    for code in ("'import ctypes; ctypes.CDLL(None).mount(0, 0, 0, 0, 0)'", "'import time; time.sleep(60)'"):
        done = subprocess.run([*words, f"{link} {code}"], capture_output=True, text=True, cwd=place, check=False)
        assert done.returncode in (124, 137)
        assert "x\\nhint: sudo" in done.stderr
        assert 1 == len([line for line in done.stderr.splitlines() if line.startswith("hint: ")]), done.stderr


def test_process_name_from_inside_moves_no_cursor(place):
    """What we say ourselves of a process holds no control character and nothing that turns the writing round."""
    name = "\x1b[2J\u202ex"
    code = f"ln -s /usr/bin/python3 '{name}' && './{name}' -c 'import ctypes; ctypes.CDLL(None).mount(0, 0, 0, 0, 0)'"
    words = [*COMMAND, "--no-workspace", "--", "sh", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, cwd=place, check=False)
    assert 137 == done.returncode
    assert "E5001" in done.stderr
    assert "\\x1b[2J\\u202ex" in done.stderr
    assert "\x1b" not in done.stderr
