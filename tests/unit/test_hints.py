"""What a failed command's last line is taken for, and which option the hint names."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from capsule_run.result import explaining_line, failure_words, hints
from capsule_run.result.hints import hint

NETWORK, TOOL, WRITING, READING = "--network", "--tool NAME", "--writable", "--readonly"


def _samples(kind):
    """The samples of a kind: the program, what it wrote, and the option that the hint names."""
    found = []
    for part in Path(__file__).with_name("failure_samples.txt").read_text().split("\n@@ ")[1:]:
        head, _newline, words = part.partition("\n")
        of, program, option = head.split(" | ")
        if of == kind:
            found.append((program, words + "\n", option))
    return found


SAMPLES, STDOUT_SAMPLES, OTHER_REASONS = _samples("stderr"), _samples("stdout"), _samples("other")

LINES = [
    ("sh: 1: cannot create /usr/foo: Read-only file system", WRITING),
    ("OSError: [Errno 30] Read-only file system: '/etc/passwd'", WRITING),
    ("Error: EROFS: read-only file system, open '/usr/x'", WRITING),
    ("curl: (6) Could not resolve host: example.com", NETWORK),
    ("urllib.error.URLError: <urlopen error [Errno -2] Name or service not known>", NETWORK),
    ("Error: getaddrinfo EAI_AGAIN example.com", NETWORK),
    ("OSError: [Errno 101] Network is unreachable", NETWORK),
    ("cat: /home/x/data.csv: No such file or directory", READING),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/srv/data'", READING),
    ("Error: ENOENT: no such file or directory, open '/opt/model.bin'", READING),
    # the program's own business: places that every sandbox has, and names without a place
    ("cat: data.csv: No such file or directory", ""),
    ("cat: /workspace/data.csv: No such file or directory", ""),
    ("/usr/bin/env: ‘pyhton’: No such file or directory", ""),
    ("cat: /shared/nothing: No such file or directory", ""),
    ("ValueError: /home/x is no number", ""),
    ("", ""),
]


def policy(*, network=False):
    return SimpleNamespace(network=network, binds=(SimpleNamespace(destination="/shared"),), workspace_kind="cow")


@pytest.mark.parametrize(("line", "option"), LINES)
def test_hint_for_mounts_and_namespaces_names_the_option(line, option):
    """A wall of mounts or namespaces is recognised by the words of libc, Python and Node; nothing else makes a hint."""
    said = hint(line, policy())
    assert (bool(option), True) == (bool(said), option in said)


def test_hint_for_failed_lookup_with_network_is_absent():
    """With the host's network a name that does not resolve is the program's own business."""
    assert "" == hint("curl: (6) Could not resolve host: example.com", policy(network=True))


@pytest.mark.parametrize(("line", "_option"), LINES)
def test_hint_repeats_nothing_the_program_wrote(line, _option):
    """A program cannot make us recommend a path of its choice."""
    said = hint(line, policy())
    assert not [
        word for word in line.replace("'", " ").replace(":", " ").split() if word.startswith("/") and word in said
    ]


def of_run(stderr, *, stdout="", exit_code=1, network=False, workspace="cow", files=()):
    """The hint for a command that ended with these words."""
    ended = SimpleNamespace(
        policy=SimpleNamespace(
            network=network, binds=(), workspace_kind=workspace, memory_bytes=512 << 20, disk_bytes=448 << 20, max_pids=100,
            max_open_files=1024, transfer=SimpleNamespace(files=files), command=("x",),
        ),
        report=SimpleNamespace(exited=exit_code),
        stdout=stdout.encode(),
    )  # fmt: skip
    return hints.of_run(ended, stderr.encode())


@pytest.mark.parametrize(("program", "stderr", "option"), SAMPLES, ids=[sample[0] for sample in SAMPLES])
def test_hint_for_real_words_names_the_option(program, stderr, option):
    """The words of real programs lead to the option that helps, whatever stands around them."""
    assert f"`{option}" in of_run(stderr), program


def test_hint_samples_are_of_many_programs():
    """At least 60 programs and runtimes are recorded, and every remedy of the table."""
    assert 60 <= len({name for name, _words, _option in SAMPLES})
    remedies = {row[3] for row in failure_words.ROWS} - {failure_words.NOTHING, failure_words.PROJECT_FILE}
    assert len(remedies) == len({option for _name, _words, option in SAMPLES})


@pytest.mark.parametrize(("program", "stdout", "option"), STDOUT_SAMPLES, ids=[sample[0] for sample in STDOUT_SAMPLES])
def test_hint_for_words_on_stdout_names_the_option(program, stdout, option):
    """Build tools and test runners that report on stdout are understood there."""
    assert f"`{option}" in of_run("", stdout=stdout), program


OTHER_REASONS_ON_STDOUT = [
    ("curl: (6) Could not resolve host: example.com\nE   assert 3 == 4\n1 failed in 0.01s\n", ""),
    ("npm error code EAI_AGAIN\nE   AssertionError: the client retried\n1 failed in 0.01s\n", "flasgger is not installed\n"),
    ("npm error code EAI_AGAIN\n", "Traceback (most recent call last):\n  File 'x'\nKeyError: 'x'\n"),
    ("E   ModuleNotFoundError: No module named 'x'\n", "Traceback (most recent call last):\n  File 'x'\nValueError: 3\n"),
]  # fmt: skip


@pytest.mark.parametrize(("stdout", "stderr"), OTHER_REASONS_ON_STDOUT)
def test_hint_for_another_reason_than_on_stdout_is_absent(stdout, stderr):
    """Words on stdout count for nothing if a test or the program itself failed by a mistake of its own."""
    assert "" == of_run(stderr, stdout=stdout)


@pytest.mark.parametrize(("reason", "stderr", "_option"), OTHER_REASONS, ids=[reason[0] for reason in OTHER_REASONS])
def test_hint_for_another_reason_is_absent(reason, stderr, _option):
    """A program that fails for a reason of its own gets no hint, though it prints words of a sample."""
    assert "" == of_run(stderr), reason


@pytest.mark.parametrize(("program", "stderr", "option"), SAMPLES, ids=[sample[0] for sample in SAMPLES])
def test_hint_for_network_with_network_is_absent(program, stderr, option):
    """With the host's network no hint names `--network`."""
    assert "--network" not in of_run(stderr, network=True)


NOT_FOUND = [
    ("sh: 1: ffmpeg: not found\n", TOOL),
    ("./build.sh: 3: ffmpeg: not found\n", TOOL),
    ("env: ‘ffmpeg’: No such file or directory\n", TOOL),
    ("xargs: ffmpeg: No such file or directory\n", TOOL),
    ("timeout: failed to run command ‘ffmpeg’: No such file or directory\n", TOOL),
    ("sh: 1: /opt/x/run: not found\n", "--readonly"),
    ("sh: 1: ./run: not found\n", ""),
]


@pytest.mark.parametrize(("stderr", "option"), NOT_FOUND)
def test_hint_for_a_command_that_is_not_found_names_tool(stderr, option):
    """The exit code 127 and the words of who looked for the command lead to `--tool`; a path does not."""
    said = of_run(stderr, exit_code=127)
    assert (bool(option), True) == (bool(said), option in said)


MISSING_FILES = [
    "python3: can't open file '/workspace/script.py': [Errno 2] No such file or directory\n",
    "cat: data.csv: No such file or directory\n",
    "FileNotFoundError: [Errno 2] No such file or directory: 'data.csv'\n",
    "sh: 0: cannot open script.sh: No such file\n",
    'Can\'t open perl script "x.pl": No such file or directory\n',
    "cc1: fatal error: x.c: No such file or directory\ncompilation terminated.\n",
    "Error: ENOENT: no such file or directory, open 'data.json'\n    at Object.openSync (node:fs) {\n  code: 'ENOENT'\n}\n",
    "panic: open data.txt: no such file or directory\n\ngoroutine 1 [running]:\n",
    "java.io.FileNotFoundException: data.txt (No such file or directory)\n\tat Main.main(Main.java:1)\n",
    "Error: Cannot find module './lib/x'\nRequire stack:\n- /workspace/main.js\n    at Module._load (node:internal)\n",
    "Error: Cannot find module '/workspace/server.js'\n    at Module._resolveFilename (node:internal)\n",
    "make: *** No targets specified and no makefile found.  Stop.\n",
    "Error: Unable to access jarfile x.jar\n",
    "npm error code ENOENT\nnpm error enoent Could not read package.json: Error: ENOENT: no such file or directory, open\n",
    'Error: Os { code: 2, kind: NotFound, message: "No such file or directory" }\n',
]


@pytest.mark.parametrize("stderr", MISSING_FILES)
def test_hint_for_a_missing_file_in_an_empty_workspace_names_workspace(stderr):
    """Without a shared directory a missing file is explained by the workspace that starts empty; with one it is not."""
    said = of_run(stderr, workspace="private")
    assert said.startswith("the workspace starts empty; `--workspace DIR` (`isolation.workspace`)")
    assert of_run(stderr, workspace="private", files=(1,)).startswith("the workspace has only the files of the request")
    assert "" == of_run(stderr)


def test_hint_for_a_missing_file_outside_the_workspace_does_not_name_the_workspace():
    """An empty workspace explains no path that lies elsewhere."""
    for path in ("/tmp/x.js", "/usr/lib/x.js"):
        assert "" == of_run(f"Error: Cannot find module '{path}'\n", workspace="private")
    assert "`--readonly PATH`" in of_run("Error: Cannot find module '/home/x/a.js'\n", workspace="private")


ETC = [
    ("cat: /etc/foo/bar.conf: No such file or directory", "`--readonly /etc/foo`"),
    ("Error: ENOENT: no such file or directory, open '/etc/maven/m2.conf'", "`--readonly /etc/maven`"),
    ("cat: /etc/shadow: No such file or directory", "`--readonly PATH`"),
    ("cat: /etc/ssh/ssh_host_rsa_key: No such file or directory", "`--readonly PATH`"),
    ("cat: /etc/ssl/private/x.key: No such file or directory", "`--readonly PATH`"),
    ("cat: /etc/x;rm/y: No such file or directory", "`--readonly /etc/x`"),
    ("cat: /etc/../root/x: No such file or directory", "`--readonly PATH`"),
    ("cat: /etc/" + "x" * 60 + ": No such file or directory", "`--readonly PATH`"),
]


@pytest.mark.parametrize(("stderr", "words"), ETC)
def test_hint_for_missing_configuration_names_its_directory(stderr, words):
    """A package's directory below /etc is named, and never one that may hold a secret, nor any other path."""
    assert words in of_run(stderr)


TIMEOUTS = [
    ((), "", b"", ""),
    (("npm", "install"), "", b"", NETWORK),
    (("/usr/bin/npm", "--silent", "ci"), "", b"", NETWORK),
    (("sh", "-c", "pip install -q requests && python main.py"), "", b"", NETWORK),
    (("python3", "-m", "pip", "download", "x"), "", b"", NETWORK),
    (("npm", "test"), "", b"", ""),
    (("go", "test", "./..."), "", b"", ""),
    (("python3", "main.py", "install"), "", b"", ""),
    (("x",), "Ip: Forwarding OutNoRoutes\nIp: 1 3\nUdp: InDatagrams NoPorts\nUdp: 0 0\n", b"", NETWORK),
    (("x",), "Ip: Forwarding OutNoRoutes\nIp: 1 0\nUdp: InDatagrams NoPorts\nUdp: 0 2\n", b"", ""),
    (("x",), "Ip: Forwarding OutNoRoutes\nIp: 1 0\nUdp: InDatagrams NoPorts\nUdp: 5 0\n", b"", ""),
    (("x",), "Ip: a\nUdp: b c\nnonsense\n", b"", ""),
    (("x",), "", b"curl: (6) Could not resolve host: example.com\nretrying\n", NETWORK),
    (("x",), "", b"WARNING: Retrying (Retry( 'NewConnectionError(: Failed to establish a new connection'\n", NETWORK),
]  # fmt: skip


@pytest.mark.parametrize(("command", "counters", "stderr", "option"), TIMEOUTS)
def test_hint_for_a_timeout_without_network_names_it(command, counters, stderr, option):
    """A run that timed out while it downloaded, or had connections without an answer, lacked the network."""
    for network in (False, True):
        ended = SimpleNamespace(
            policy=SimpleNamespace(network=network, command=command), record=SimpleNamespace(net_counters=counters)
        )
        said = hints.of_timeout(ended, stderr)
        assert (bool(option) and not network, True) == (bool(said), network or option in said)


HOSTILE = [
    b"a" * (1 << 20), b"\n" * (1 << 20), b"Error: " * (1 << 17), b"Caused by: \n" * (1 << 17), b"\x1b[" * (1 << 19),
    b"WARNING: Retrying (Retry(" * (1 << 16), b"Traceback (most recent call last):\n" * (1 << 15), bytes(range(256)) * (1 << 12),
    "/etc/‘".encode() * (1 << 17) + b": No such file or directory",
]  # fmt: skip


@pytest.mark.parametrize("stderr", HOSTILE, ids=range(len(HOSTILE)))
def test_hint_for_hostile_output_takes_no_time(stderr):
    """However a program shapes a megabyte of stderr, the search is linear: a second is many times what it takes."""
    started = time.process_time()
    assert "`/etc/‘" not in of_run(stderr.decode("utf-8", "replace"), stdout=stderr.decode("utf-8", "replace"))
    assert 1 > time.process_time() - started


def test_hint_table_rows_are_plain_words():
    """A row is fixed strings of a known scope and remedy, and none is so short that other words contain it by chance."""
    for program, fragments, scope, _remedy in failure_words.ROWS:
        assert scope in (failure_words.ANYWHERE, failure_words.CAUSE), program
        assert 5 <= sum(map(len, fragments)), program


QUOTED = [
    ("", "", ""),
    ("boom\n", "", "boom"),
    ("error: no such thing\nnote: see the manual\n", "", "error: no such thing"),
    ("flasgger is not installed\n", "F\n1 failed, 2 passed in 0.12s\n", "1 failed, 2 passed in 0.12s"),
    ("flasgger is not installed\n", "======== 2 failed in 61.22s (0:01:01) ========\n", "2 failed in 61.22s (0:01:01)"),
    ("/a/b.py:3: UserWarning: flasgger is not installed\n  warnings.warn('x')\n", "", ""),
    ("WARNING:root:flasgger is not installed\n", "", ""),
    ("(node:3) [DEP0040] DeprecationWarning: The `punycode` module is deprecated.\n", "", ""),
    ("x.c:1: warning: unused 'a'\nx.c:2: error: expected ';'\nx.c:3: warning: unused\n", "", "x.c:2: error: expected ';'"),
    ("Traceback (most recent call last):\n  File 'x'\nmine.Odd: 3\nb.py:1: ResourceWarning: unclosed\n", "", "mine.Odd: 3"),
    ("Cloning into 'y'...\nfatal: repository 'x' does not exist\n", "", "fatal: repository 'x' does not exist"),
    ("make[1]: *** [Makefile:2: all] Error 1\nmake: *** [Makefile:9: x] Error 2\n", "", "make: *** [Makefile:9: x] Error 2"),
    ("a.c:1:1: error: unknown type name 'x'\nmake: *** [Makefile:2: all] Error 1\n", "", "a.c:1:1: error: unknown type name 'x'"),
    ("\x1b[1;31merror\x1b[0m: it broke\n", "", "error: it broke"),
    ("Traceback (most recent call last):\n  File 't'\nAssertionError: 1 != 2\n\n---\nRan 1 test\n\nFAILED (failures=1)\n",
     "", "AssertionError: 1 != 2"),
    ("", "test result: FAILED. 1 passed; 2 failed; 0 ignored\n", "test result: FAILED. 1 passed; 2 failed; 0 ignored"),
    ("", "  12 passing (9ms)\n  1 failing\n", "1 failing"),
    ("", "Tests:       1 failed, 2 passed, 3 total\n", "Tests:       1 failed, 2 passed, 3 total"),
    ("", "5 examples, 1 failure\n", "5 examples, 1 failure"),
    ("", "ok 1 - a\nnot ok 2 - b\n", "not ok 2 - b"),
    ("npm error code 1\nnpm error A complete log of this run can be found in: /x\n", "", "npm error code 1"),
]  # fmt: skip


@pytest.mark.parametrize(("stderr", "stdout", "line"), QUOTED)
def test_message_quotes_the_line_that_explains_the_end(stderr, stdout, line):
    """The message has the error, or a test runner's summary, and never a warning or a note."""
    assert line == explaining_line.quoted(stderr.encode(), stdout.encode())
