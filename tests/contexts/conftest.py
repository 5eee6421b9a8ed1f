"""Contexts whose interpreter is a process of this test, and the same in a sandbox."""

from __future__ import annotations

import pytest
from places import started

PLACES = ("process", pytest.param("sandbox", marks=pytest.mark.sandbox))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A context for cells that leave it as it was; a process of this test."""
    with started("process", tmp_path_factory.mktemp("shared")) as context:
        context.run_code("pass")  # its processes are not those of a test
        yield context


@pytest.fixture(params=PLACES)
def context(request, tmp_path):
    """A context of one test."""
    with started(request.param, tmp_path) as one:
        yield one


@pytest.fixture(scope="module")
def shared_javascript(tmp_path_factory):
    with started("process", tmp_path_factory.mktemp("shared"), "javascript") as context:
        context.run_code("1")
        yield context


@pytest.fixture(params=PLACES)
def javascript(request, tmp_path):
    with started(request.param, tmp_path, "javascript") as one:
        yield one
