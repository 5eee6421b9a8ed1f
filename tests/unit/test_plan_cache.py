"""Terms that are kept give the policy that would be made anew, and only for the same terms."""

from __future__ import annotations

import pytest

from capsule_run._base.value import replace
from capsule_run.engine import plan_cache
from capsule_run.engine.prepare import prepare
from capsule_run.host import survey
from capsule_run.host.survey import identify
from capsule_run.model.request import Bind, InputFile, Isolation, Request, Resources, Workspace
from capsule_run.plan.room import room_steps, steps_after_preamble

FIRST = Request(command=("true",), stdin=b"first", execution_id="1")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Each test starts as a new process would, with the host just looked at, and not one second ago."""
    monkeypatch.setattr(plan_cache, "_kept", ())
    monkeypatch.setattr(survey, "KEPT_NS", 60 * 10**9)
    survey.forget()


def keep(request, unsupported=()):
    policy = prepare(request)[1]
    plan_cache.keep(request, policy, (steps_after_preamble(policy), b""), unsupported, streams_stdin=False)
    return policy


def find(request, unsupported=frozenset(), **how):
    found = plan_cache.find(request, identify(), unsupported, **{"streams_stdin": False, **how})
    return found and found[0]


LIKE = {
    "another command": replace(FIRST, command=("python3", "-c", "1")),
    "another input": replace(FIRST, stdin=b"other"),
    "another name": replace(FIRST, execution_id="2"),
}


@pytest.mark.parametrize("name", LIKE)
def test_plan_cache_equal_request_gives_an_equal_policy(name):
    """Whatever differs is taken over."""
    keep(FIRST)
    found, fresh = find(LIKE[name]), prepare(LIKE[name])[1]
    assert replace(found, identity=fresh.identity) == fresh
    assert room_steps(replace(found, identity=fresh.identity)) == room_steps(fresh)


OTHER = {
    "memory": replace(FIRST, resources=Resources(memory_bytes=1 << 26)),
    "time": replace(FIRST, timeout_ms=77),
    "variables": replace(FIRST, environment=(("A", "b"),)),
    "no input": replace(FIRST, stdin=None),
    "user": replace(FIRST, isolation=Isolation(user=0)),
    "ledger": replace(FIRST, ledger=True),
    "output": replace(FIRST, on_output_limit="truncate"),
    "collects": replace(FIRST, collect=("*",)),
}


@pytest.mark.parametrize("name", OTHER)
def test_plan_cache_different_request_is_a_miss(name):
    """Everything but command, input and name makes terms of its own."""
    keep(FIRST)
    assert find(FIRST)
    assert None is find(OTHER[name])


NAMING = {
    "workspace": replace(FIRST, isolation=Isolation(workspace=Workspace(source="/usr/share"))),
    "readonly": replace(FIRST, isolation=Isolation(readonly_paths=("/usr/share",))),
    "writable": replace(FIRST, isolation=Isolation(writable_paths=("/tmp",))),
    "bind": replace(FIRST, isolation=Isolation(binds=(Bind(source="/usr/share", destination="/x"),))),
    "network": replace(FIRST, isolation=Isolation(network=True)),
    "files": replace(FIRST, files=(InputFile(path="a", content=b"x"),)),
    "collect to": replace(FIRST, collect=("*",), collect_to="out"),
    "profile": replace(FIRST, profile="strict"),
    "required": replace(FIRST, require=("landlock",)),
}


@pytest.mark.parametrize("name", NAMING)
def test_plan_cache_request_that_names_host_paths_is_not_kept(name):
    """A directory may be another one by the next run: it is looked at each time."""
    plan_cache.keep(NAMING[name], prepare(FIRST)[1], ((), b""), (), streams_stdin=False)
    assert () == plan_cache._kept


def test_plan_cache_new_host_facts_invalidate_it():
    """What is kept is no older than what `host` keeps."""
    keep(FIRST)
    survey.forget()
    assert None is find(FIRST)
    prepare(FIRST)
    assert None is find(FIRST)


def test_plan_cache_unsupported_mechanism_invalidates_it():
    """Another mechanism makes another entry."""
    keep(FIRST)
    assert None is find(FIRST, {"overlay"})


def test_plan_cache_stdin_descriptor_is_a_miss():
    """A descriptor instead of bytes."""
    keep(FIRST)
    assert None is find(FIRST, streams_stdin=True)


def test_plan_cache_other_caller_id_is_a_miss():
    """A process that gives up root does not go on with root's sandbox."""
    keep(FIRST)
    identity = replace(identify(), uid=12345, privileged=False)
    assert None is plan_cache.find(FIRST, identity, frozenset(), streams_stdin=False)


def test_plan_cache_size_is_bounded():
    """A caller with ever new terms does not fill its memory."""
    for number in range(20):
        keep(replace(FIRST, timeout_ms=1000 + number))
    assert plan_cache.MAX_CACHED_PLANS == len(plan_cache._kept)


def test_plan_cache_hit_still_gets_its_own_ids():
    """Two sandboxes of root under the same terms are still strangers to each other."""
    keep(FIRST)
    identities = {find(FIRST).identity.outside_uid for _ in range(8)}
    assert (len(identities) > 1) == (identify().uid == 0)
