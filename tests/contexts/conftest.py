"""Contexts whose interpreter is a process of this test: what a cell does is the same in a sandbox."""

from __future__ import annotations

import pytest
from plain_process import PlainProcess

from capsule_run.contexts import Context

GRACE_MS = 20_000  # an interrupt reaches a cell late on a machine that is busy: only tests of the kill are impatient


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A context for cells that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared")
    with Context(lambda: PlainProcess(cwd=folder), grace_ms=GRACE_MS) as context:
        context.run_code("pass")  # its process is not one of a test
        yield context


@pytest.fixture
def context(tmp_path):
    """A context of one test."""
    with Context(lambda: PlainProcess(cwd=tmp_path), grace_ms=GRACE_MS) as one:
        yield one


@pytest.fixture(scope="module")
def shared_javascript(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    with Context(lambda: PlainProcess("javascript", cwd=folder), language="javascript", grace_ms=GRACE_MS) as context:
        context.run_code("1")
        yield context


@pytest.fixture
def javascript(tmp_path):
    with Context(lambda: PlainProcess("javascript", cwd=tmp_path), language="javascript", grace_ms=GRACE_MS) as one:
        yield one
