"""Every example in the documents and in `examples/` does what it says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from documents import DOCS, EVERY, REPOSITORY, blocks, matches

BLOCKS = [block for path in EVERY for block in blocks(path)]
EXAMPLES = [block for block in BLOCKS if block.is_example]
# Blocks of code that are no examples: CI runs the first two, the others change an environment or take minutes.
NOT_RUN = {"README.md": {"setup", "test"}, "CONTRIBUTING.md": {""}}
# What tests/frameworks runs, where the frameworks are installed, and what CI runs in a new environment.
# Those for the network have a test with a package of its own; the tutorial's begin with an installation.
ELSEWHERE = ("framework: ", "new environment: ", "network: ", "tutorial: ")
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
# an example that needs more than what every sandbox has
NEEDS = {
    "context-javascript": "node",
    "how-to-node": "node",
    "how-to-go": "go",
    "how-to-plot": "matplotlib",
    "how-to-sandbox-tour": "matplotlib",
}


def run_block(block, reader):
    """Run a block as a reader would: a shell, a Python, or a request, beside the files that its page has above it."""
    for other in BLOCKS:
        if other.path == block.path and other.file and other.line < block.line:
            file = reader["cwd"] / other.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(other.text)
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
@pytest.mark.parametrize("block", [parameter(block) for block in EXAMPLES if block.path != DOCS / "tutorial.md"])
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
        and not block.file
        and not block.marker.startswith(ELSEWHERE)
        and block.marker not in NOT_RUN.get(str(block.path.relative_to(REPOSITORY)), set())
    ]
    assert [] == loose


@pytest.mark.parametrize("block", [block for block in BLOCKS if "/" in block.file], ids=lambda block: block.file)
def test_example_file_on_a_page_is_the_file(block):
    """A page shows a file of `examples/` as it is."""
    assert (REPOSITORY / block.file).read_text() == block.text


@pytest.mark.parametrize("page", sorted((DOCS / "how-to").glob("*.md")), ids=lambda page: page.stem)
def test_guide_has_an_example(page):
    """Each guide to a task or a place shows or names a file of `examples/`."""
    shown = [block.file for block in blocks(page) if block.file.startswith("examples/")]
    assert shown or "](../../examples/" in page.read_text()


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


@pytest.mark.sandbox
def test_example_install_package_works(reader, tmp_path):
    """A package is installed by one sandbox and used by another; here from a directory, as tests have no network."""
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "answer = 42\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    others = {name: value for name, value in reader["env"].items() if not name.startswith("PIP_")}
    reader["env"] = {**others, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str((tmp_path / "wheels").resolve())}
    done = run_file("install_package.py", reader, "tiny", "import tiny; print(tiny.answer)")
    assert (0, "42\n") == (done.returncode, done.stdout), done


FASTAPI = """
import asyncio, json
from fastapi_app import app

async def ask(body):
    scope = {"type": "http", "method": "POST", "path": "/run", "raw_path": b"/run", "query_string": b"", "http_version": "1.1",
             "headers": [(b"content-type", b"application/json")], "asgi": {"version": "3.0"}, "scheme": "http"}
    sent, parts = [], [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
    async def receive():
        return parts.pop() if parts else await asyncio.sleep(60)
    async def send(message):
        sent.append(message)
    await app(scope, receive, send)
    return json.loads(b"".join(message.get("body", b"") for message in sent))

async def main():
    for answer in await asyncio.gather(ask({"code": "print(6 * 7)"}), ask({"code": "1 / 0"})):
        print(answer["status"], answer["stdout"].strip(), answer["error"])

asyncio.run(main())
"""


@pytest.mark.sandbox
@pytest.mark.needs("fastapi")
def test_example_fastapi_app_answers(reader):
    """The service runs the code of two requests at once, and says what happened."""
    reader["env"] = {**reader["env"], "PYTHONPATH": str(REPOSITORY / "examples"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", FASTAPI], **reader)
    expected = "success 42 None\nerror  the command exited with code 1: ZeroDivisionError: division by zero\n"
    assert (0, expected) == (done.returncode, done.stdout), done


@pytest.mark.sandbox
def test_example_notebook_cells_run(reader):
    """The cells of the notebook run one after the other, and a result has its own representation."""
    notebook = json.loads((REPOSITORY / "examples" / "notebook.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    program = "\n".join([*cells, "print('hello from a sandbox' in result._repr_html_())"])
    done = subprocess.run([sys.executable, "-c", program], **reader)
    assert (0, "True\n") == (done.returncode, done.stdout), done


@pytest.mark.sandbox
def test_example_workflow_runs_the_tests_of_a_checkout(reader, tmp_path):
    """The last step of the workflow for GitHub Actions fails with the tests, and passes with them."""
    text = (REPOSITORY / "examples" / "github-actions" / "sandbox.yml").read_text()
    script = textwrap.dedent(text.rpartition("run: |\n")[2])
    for check, code in (("self.assertTrue(True)", 0), ("self.assertTrue(False)", 1)):
        (tmp_path / "test_it.py").write_text(
            f"import unittest\nclass It(unittest.TestCase):\n    def test_it(self):\n        {check}\n"
        )
        done = subprocess.run(["bash", "-e", "-c", script], **reader)
        assert code == done.returncode, done
        assert "Ran 1 test" in done.stdout, done
        assert (code == 0) == ("E3003" not in done.stderr), done


# What needs a place that a test machine seldom has: the variable that says that it is there, and the program to run.
PLACES = {"docker": "docker", "kubernetes": "kubectl", "lima": "limactl"}


@pytest.mark.sandbox
@pytest.mark.parametrize("place", PLACES)
def test_example_of_a_place_works_there(place, reader):
    """`try.sh` runs a command in a sandbox in a container, a pod or a virtual machine."""
    if os.environ.get(f"CAPSULE_TEST_{place.upper()}") != "1" or not shutil.which(PLACES[place]):
        pytest.skip(f"needs place: {place}, with CAPSULE_TEST_{place.upper()}=1")
    done = subprocess.run(
        ["sh", REPOSITORY / "examples" / place / "try.sh"], **{**reader, "cwd": REPOSITORY, "timeout": 900}
    )
    assert (0, True) == (done.returncode, "Hello from a sandbox" in done.stdout), done


def test_example_of_a_pod_has_what_the_page_explains():
    """Each field that the page on Kubernetes explains is in the pod, and no privilege is."""
    pod = (REPOSITORY / "examples" / "kubernetes" / "pod.yaml").read_text()
    for line in ("hostUsers: false", "procMount: Unmasked", "type: Unconfined", "allowPrivilegeEscalation: false"):
        assert line in pod
    assert "privileged" not in pod


def test_example_files_are_all_run():
    """No file lies in `examples/` that no test runs."""
    folder = REPOSITORY / "examples"
    here = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"README.md"}
    here = {name for name in here if "__pycache__" not in name}
    tests = [*REPOSITORY.glob("tests/frameworks/*.py"), *REPOSITORY.glob("tests/interfaces/*.py"), Path(__file__)]
    text = "".join(path.read_text() for path in tests) + "".join(block.text for block in EXAMPLES)
    started = {f"{place}/{path.name}" for place in PLACES for path in (folder / place).iterdir()}
    assert set() == {name for name in here - started if Path(name).stem not in text}


def test_example_readme_names_every_file():
    """`examples/README.md` leads to every example."""
    text = (REPOSITORY / "examples" / "README.md").read_text()
    names = {path.name for path in (REPOSITORY / "examples").iterdir()} - {"README.md", "__pycache__"}
    assert set() == {name for name in names if f"({name}" not in text}


TUTORIAL = [block for block in BLOCKS if block.path == DOCS / "tutorial.md"]


def test_tutorial_installs_as_the_readme_does():
    """The first block of the tutorial has the steps of the README's set-up, which CI runs."""
    install = TUTORIAL[0].text
    (setup,) = [block.text for block in blocks(REPOSITORY / "README.md") if block.marker == "setup"]
    assert [] == [step for step in install.splitlines()[:2] if step not in setup]
    assert 'capsule-run -- echo "Hello, World!"' in install
    assert 'capsule-run -- echo "Hello, World!"' in setup


@pytest.mark.sandbox
def test_tutorial_blocks_work_one_after_the_other(reader):
    """The blocks of the tutorial, in one directory and in their order, print what is written behind them."""
    (reader["cwd"] / "script.py").unlink()
    for block in TUTORIAL:
        if block.is_example:
            done = run_block(block, reader)
            assert matches(block.output, done.stdout), f"{block.name} printed\n{done.stdout}{done.stderr}"


@pytest.mark.sandbox
def test_json_example_of_the_readme_is_one_response(reader):
    """Standard output of `--json` is one JSON object and nothing else."""
    (block,) = [block for block in EXAMPLES if block.marker == "example: json-request"]
    assert "success" == json.loads(run_block(block, reader).stdout)["status"]
