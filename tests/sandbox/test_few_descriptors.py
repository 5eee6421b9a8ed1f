"""A caller that may open few files: every run is a success or a clear error, and a command cannot use up what is left."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

# As `ulimit -n` sets it: soft and hard. From LEAST on Python starts, and a JSON request has a JSON answer.
LIMITS = (*range(3, 65), 128)
LEAST = 8
ENOUGH = 128
# The least that a run may need, or more where the host shows many files of packages.
NUMBER = re.compile(r"to (6[4-9]|[7-9]\d|1\d\d)\b")
JSON = json.dumps({"command": ["echo", "hi"]})
# The limit comes when the package is imported: with fewer no interpreter starts.
SDK = """
import resource, sys
from capsule_run import CapsuleError, run
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
try:
    result = run(["echo", "hi"])
    print(result.stdout, result.error and (result.error.code, result.error.hint))
except CapsuleError as error:  # not one was left, to load what makes results
    print(error.code, error.hint)
"""


def lower_to(limit):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def few(limit, argv, **options):
    """subprocess.run with so many open files; a core that spins or waits fails the test by its time."""
    settings = {"capture_output": True, "text": True, "timeout": 30, "check": False, "preexec_fn": lower_to(limit)}
    return subprocess.run(argv, **settings, **options)


def at_every_limit(run):
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(LIMITS, pool.map(run, LIMITS), strict=True))


@pytest.mark.slow
def test_command_line_with_few_descriptors_succeeds_or_names_the_number(capsule_cli):
    """With few descriptors the command prints its output, or E6003 with the number that it needs, and never a traceback."""
    found = at_every_limit(lambda limit: few(limit, [capsule_cli, "--", "echo", "hi"]))
    for limit, done in found.items():
        if done.returncode != 0:
            assert (limit, 125, "", True) == (limit, done.returncode, done.stdout, "E6003" in done.stderr), done
            assert NUMBER.search(done.stderr), (limit, done)
            assert "Traceback" not in done.stderr
        else:
            assert ("hi\n", "") == (done.stdout, done.stderr), limit
    assert 0 == found[ENOUGH].returncode


@pytest.mark.slow
def test_json_with_few_descriptors_answers_in_json(capsule_cli):
    """With 8 descriptors and more the answer is a JSON object, a success or E6003 with the number; with fewer a line says it."""
    found = at_every_limit(lambda limit: few(limit, [capsule_cli, "--json"], input=JSON))
    for limit, done in found.items():
        if limit < LEAST:
            assert (125, "", True) == (done.returncode, done.stdout, "E6003" in done.stderr), (limit, done)
            continue
        answer = json.loads(done.stdout)
        if done.returncode != 0:
            assert ("E6003", True) == (answer["error"]["code"], bool(NUMBER.search(answer["error"]["hint"]))), (
                limit,
                answer,
            )
    assert 0 == found[ENOUGH].returncode


@pytest.mark.slow
def test_sdk_with_few_descriptors_succeeds_or_names_the_number():
    """With few descriptors `run` is a success, or E6003 with the number."""
    found = at_every_limit(
        lambda limit: subprocess.run(
            [sys.executable, "-c", SDK, str(limit)], capture_output=True, text=True, timeout=30, check=False
        )
    )
    for limit, done in found.items():
        assert ("", 0) == (done.stderr, done.returncode), limit
        assert done.stdout == "hi\n None\n" or ("E6003" in done.stdout and NUMBER.search(done.stdout)), (
            limit,
            done.stdout,
        )
    assert found[ENOUGH].stdout == "hi\n None\n"


def test_sdk_of_a_process_that_has_used_its_descriptors_gets_e6003():
    """A program that has opened all the files it may have gets E6003, from every number that are left on."""
    code = """
import os, resource
from capsule_run import CapsuleError, run
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for _ in range(100):
    try:
        result = run(["true"])
        print(result.error.code if result.error else result.status)
    except CapsuleError as error:
        print(error.code)
    os.close(opened.pop())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ("", 0) == (done.stderr, done.returncode)
    assert {"E6003", "success"} == set(done.stdout.split())


def test_source_that_lacks_a_descriptor_is_no_missing_path(capsule_cli):
    """With too few descriptors for what is shown, no path is blamed: E6003, not E2004."""
    codes = {few(limit, [capsule_cli, "--", "true"]).stderr.partition(":")[2][:6].strip() for limit in range(20, 28)}
    assert codes <= {"E6003", ""}


@pytest.mark.parametrize("limit", [64, 100])
def test_ledger_of_many_processes_with_few_descriptors_is_no_failure(inside, limit):
    """Ninety processes cannot use up the descriptors that the launcher needs: the run succeeds, and each is listed."""
    script = "i=0; while [ $i -lt 90 ]; do sleep 0.5 & i=$((i+1)); done; wait"
    response = inside(["sh", "-c", script], ledger=True, process={"preexec_fn": lower_to(limit)})
    assert ("success", None) == (response["status"], response.get("error"))
    assert 90 < len(response["processes"])
