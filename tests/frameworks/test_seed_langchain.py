"""The class of the seed's README, to the letter, on the LangChain of its time (CAPSULE_SEED_LANGCHAIN: a Python that has it)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.sandbox

PRINTED = Path(__file__).with_name("seed_langchain.txt")
# What the README forgot, and the arguments that its base class wants.
MISSING = """
class Complete(SecureCodeExecutor):
    def _get_command(self, code, language):
        return {"python": ["python", "-c", code], "bash": ["bash", "-c", code]}[language]

tool = Complete(func=None, name="secure_code_executor", description="Execute code safely with resource limits")
"""


def ran(line, capsule_cli):
    python = os.environ["CAPSULE_SEED_LANGCHAIN"]
    environment = {**os.environ, "PATH": f"{capsule_cli.parent}:{os.environ['PATH']}"}
    script = f"{PRINTED.read_text()}\n{MISSING}\n{line}"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, env=environment, timeout=50)
    assert 0 == done.returncode, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("print(tool.run('print(6 * 7)'))", "42\n\n"),
        ("print(tool._run('echo hi', language='bash'))", "hi\n\n"),
        ("print(tool.run('raise KeyError(5)'))", "Error: the command exited with code 1: KeyError: 5\n"),
        ("print(tool.run('x = bytearray(10**9)')[:14])", "Error: the com\n"),
    ],
)
def test_readme_langchain_tool_works_as_printed(line, answer, capsule_cli):
    """The class gives the output of a success, and the message of a failure."""
    assert answer == ran(line, capsule_cli)
