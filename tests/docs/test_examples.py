"""Every example in the documents and in `examples/` does what it says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from documents import EVERY, REPOSITORY, blocks, matches

BLOCKS = [block for path in EVERY for block in blocks(path)]
EXAMPLES = [block for block in BLOCKS if block.is_example]
# Blocks of code that are no examples: CI runs the first two, the others change an environment or take minutes.
NOT_RUN = {"README.md": {"setup", "test"}, "CONTRIBUTING.md": {""}}
# What tests/frameworks runs, where the frameworks are installed, and what CI runs in a new environment.
ELSEWHERE = ("framework: ", "new environment: ")
EXPECTED = {
    "quick-start": ["Hello, World!", "from a script", '"stdout":"42\\n"'],
    "json-request": ['"status":"success"', '"stdout":"Hello from sandbox\\n"'],
    "monitoring": ["capsule_run_wall_seconds_count 1", "success"],
    "monitoring-sdk": ["hello ['audit.jsonl', 'runs.prom']"],
    "ledger": ['"processes": [', '"/bin/true"'],
    "postmortem": ['"status": "timeout"', '"postmortem": {'],
    "refused": ["denied `ptrace` by `python3` (EPERM): no profile allows it"],
    "policy": ["  strict   x86_64 55", "strict -> default:", '"process",'],
    "json": ['"exit_code": 3', '"stdout": "2\\n"', '"message": "the command exited with code 3: oops"'],
}
NEEDS = {"context-javascript": "node"}  # an example that needs more than what every sandbox has


def run_block(block, reader):
    """Run a block as a reader would: a shell, a Python, or a request."""
    if block.language == "bash":
        return subprocess.run(["bash", "-u", "-c", block.text], **reader)
    if block.language == "python":
        return subprocess.run([sys.executable, "-c", block.text], **reader)
    assert block.language == "json"
    return subprocess.run(["capsule-run", "--json"], input=block.text, **reader)


def parameter(block):
    """An example by its name, skipped if the machine lacks what it needs."""
    name = block.marker.removeprefix("example: ")
    return pytest.param(block, id=name, marks=[pytest.mark.needs(NEEDS[name])] if name in NEEDS else [])


@pytest.mark.sandbox
@pytest.mark.parametrize("block", [parameter(block) for block in EXAMPLES])
def test_example(block, reader):
    """An example runs as it stands and prints what is written behind it."""
    done = run_block(block, reader)
    name = block.marker.removeprefix("example: ")
    assert "Traceback" not in done.stderr, done.stderr
    assert (block.output is None) == (name in EXPECTED)
    if block.output is not None:
        assert matches(block.output, done.stdout), f"{block.name} printed\n{done.stdout}{done.stderr}"
    assert [] == [words for words in EXPECTED.get(name, []) if words not in done.stdout], done.stdout + done.stderr


def test_example_blocks_are_all_run():
    """No block in a language that could be run stands in the documents without being run."""
    code = [block for block in BLOCKS if block.language in ("bash", "sh", "python", "json")]
    loose = [
        block.name
        for block in code
        if not block.is_example
        and not block.marker.startswith(ELSEWHERE)
        and block.marker not in NOT_RUN.get(str(block.path.relative_to(REPOSITORY)), set())
    ]
    assert [] == loose


def test_example_names_are_unique():
    """A name stands for one example."""
    names = [block.marker for block in EXAMPLES]
    assert sorted(set(names)) == sorted(names)


def run_file(name, reader, *words):
    program = [sys.executable] if name.endswith(".py") else ["sh"]
    return subprocess.run([*program, REPOSITORY / "examples" / name, *words], **reader)


@pytest.mark.sandbox
def test_example_agent_tool_works(reader):
    """The tool tells the model what went wrong, keeps what was printed before a timeout, and gives the answer."""
    done = run_file("agent_tool.py", reader)
    expected = ["NameError: name 'number' is not defined", "thinking\n\n[timeout: ", "[1, 2, 3]"]
    assert (0, []) == (done.returncode, [words for words in expected if words not in done.stdout]), done


@pytest.mark.sandbox
def test_example_judge_works(reader, needs):
    """The judge accepts what is right and finds the overflow."""
    needs("cc")
    done = run_file("judge.py", reader)
    assert matches("test 1: accepted … ms\ntest 2: accepted … ms\ntest 3: wrong answer", done.stdout), done


BAD_SUBMISSIONS = [
    ("int main(void) { for (;;); }", "test 1: time limit exceeded"),
    (
        "int main(void) { for (;;) { char *p = __builtin_malloc(1 << 20); __builtin_memset(p, 1, 1 << 20); } }",
        "memory limit",
    ),
    ("int main(void) { return 7; }", "test 1: runtime error (the command exited with code 7)"),
    ("int main(void) {", "compilation error"),
]


@pytest.mark.sandbox
@pytest.mark.parametrize(("source", "verdict"), BAD_SUBMISSIONS)
def test_example_judge_names_each_failure(reader, needs, tmp_path, source, verdict):
    """Each way to fail gets its own verdict."""
    needs("cc")
    (tmp_path / "bad.c").write_text(source)
    done = run_file("judge.py", reader, tmp_path / "bad.c")
    assert (1, True) == (done.returncode, verdict in done.stdout), done


@pytest.mark.sandbox
def test_example_from_shell_works(reader):
    """The shell script reads status, code and partial output from the answers."""
    done = run_file("from_shell.sh", reader)
    expected = (
        "exit code 0, status success, id from-shell-1\n1\n9\n10\nexit code 124, status timeout, code E3006\nso far\n"
    )
    assert (0, expected) == (done.returncode, done.stdout), done


def test_example_files_are_all_run():
    """No file lies in `examples/` that no test runs."""
    here = {path.name for path in (REPOSITORY / "examples").iterdir() if path.suffix in (".py", ".sh")}
    elsewhere = [*REPOSITORY.glob("tests/frameworks/*.py"), *REPOSITORY.glob("tests/interfaces/*.py")]
    frameworks = "".join(path.read_text() for path in elsewhere)
    assert {"agent_tool.py", "judge.py", "from_shell.sh"} == {
        name for name in here if name.partition(".")[0] not in frameworks
    }


@pytest.mark.sandbox
def test_json_example_of_the_readme_is_one_response(reader):
    """Standard output of `--json` is one JSON object and nothing else."""
    (block,) = [block for block in EXAMPLES if block.marker == "example: json-request"]
    assert "success" == json.loads(run_block(block, reader).stdout)["status"]
