"""What a call takes is written where its reader looks for it, and is the same in each place (docs/decisions/sessions.md)."""

from __future__ import annotations

import inspect

import pytest

from capsule_run import Pool, Sandbox, aio
from capsule_run.contexts.aio_context import AsyncContext
from capsule_run.contexts.context import Context


def taken(function):
    """The arguments of a method: name, kind and default, in order."""
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()][1:]


@pytest.mark.parametrize(
    "name",
    [
        "run", "start", "run_code", "create_context", "snapshot", "fork", "changes", "diff", "apply", "discard", "metrics",
        "processes", "info", "set_timeout", "kill",
    ],
)  # fmt: skip
def test_signature_of_the_async_sandbox_is_that_of_the_blocking_one(name):
    """Names, order and defaults."""
    assert taken(getattr(Sandbox, name)) == taken(getattr(aio.Sandbox, name))


@pytest.mark.parametrize("name", ["run", "run_code", "map", "stats", "wait_ready", "drain", "close"])
def test_signature_of_the_async_pool_is_that_of_the_blocking_one(name):
    """Names, order and defaults."""
    assert taken(getattr(Pool, name)) == taken(getattr(aio.Pool, name))


def test_signature_of_a_pooled_run_is_that_of_a_run_in_a_sandbox():
    """Without the limits that are the pool's."""
    own = {"memory", "max_pids", "cpu_time_ms"}
    assert [each for each in taken(Sandbox.run) if each[0] not in own] == taken(Pool.run)


def test_signature_of_a_cell_is_the_same_in_every_place():
    """In a context, and with the language in a sandbox."""
    assert taken(Context.run_code) == taken(AsyncContext.run_code)
    assert taken(Context.run_code) == [each for each in taken(Sandbox.run_code) if each[0] != "language"]


def test_signature_of_start_is_that_of_run_without_what_ends_it():
    """The input is a file there, and its output has no limit."""
    own = {"stdin", "on_output_limit", "execution_id"}
    assert [each for each in taken(Sandbox.run) if each[0] not in own] == [
        each for each in taken(Sandbox.start) if each[0] not in own
    ]
