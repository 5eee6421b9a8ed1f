"""Which limits System V objects have, and that no object can be made where nothing would limit it."""

from __future__ import annotations

import pytest

from capsule_run._base.value import replace
from capsule_run.engine.prepare import prepare
from capsule_run.model.optional import Recipe
from capsule_run.model.policy import Decision
from capsule_run.model.request import Request
from capsule_run.plan.payload import payload_steps
from capsule_run.plan.room import room_steps
from capsule_run.policy import limits, sysv
from capsule_run.policy.resolve import resolve
from capsule_run.result.isolation import isolation_in_force
from capsule_run.seccomp.explain import allowed_calls

WATCHED = Decision(groups=(), mechanisms=(("memory", "watch"),))
COUNTED = Decision(groups=(), mechanisms=(("memory", "cgroup2"),))


ALLOWED_MAKER = "060000002600ff7f"  # the instruction that lets a maker through: `return ALLOW | ENOSYS`
ALLOWED_MEMFD = "060000002601ff7f"  # the same with IN_CGROUP


def filter_of(policy):
    return next(step[1] for step in payload_steps(policy) if step[0] == "filter")


def policy_of(profile, kernel, decision, recipe=None):
    request = Request(command=("true",), profile=profile)
    host, _policy = prepare(request if recipe is None else Request(command=("true",)))
    policy = resolve(request, replace(host, kernel=kernel), recipe=recipe)
    return replace(policy, limit_mechanisms=decision)


@pytest.mark.parametrize(
    "recipe",
    [
        "strict",
        "default",
        "build",
        Recipe(name="a", extends="none"),
        Recipe(name="a", extends="none", groups=("ipc",)),
        Recipe(name="a", extends="default", groups=("watch",)),
        Recipe(name="a", extends="strict", groups=("watch", "ipc")),
        Recipe(name="a", extends="default", allow=("semget",)),
        Recipe(name="a", extends="default", remove=("ptrace",)),
    ],
)
def test_profile_that_allows_a_maker_is_known_as_such(recipe):
    """What is said of a profile is what its rules say, and without the makers it has none of them."""
    name, own = (recipe, None) if isinstance(recipe, str) else (recipe.name, recipe)
    has = bool(set(sysv.MAKERS) & set(allowed_calls(recipe, "x86_64")))
    policy = policy_of(name, (6, 8), WATCHED, own)
    assert (has, has) == (policy.calls.makes_sysv, limits.withholds_sysv(policy))
    assert ALLOWED_MAKER not in filter_of(policy)


@pytest.mark.parametrize("decision", [WATCHED, COUNTED])
def test_room_of_a_kernel_that_lets_us_gets_the_limits(decision):
    """From Linux 6.9 on the room sets them on every mechanism, and all calls are there."""
    policy = policy_of("build", (6, 9), decision)
    assert policy.sysctls == tuple(step[1:] for step in room_steps(policy) if step[0] == "sysctl") != ()
    assert ALLOWED_MAKER in filter_of(policy)
    assert "notes" not in isolation_in_force(policy, 0)


def test_room_of_another_profile_gets_none():
    """A profile that has no such objects costs no step."""
    assert [] == [step for step in room_steps(policy_of("strict", (6, 9), WATCHED)) if step[0] == "sysctl"]


def test_older_kernel_without_memory_cgroup_has_no_objects():
    """Before Linux 6.9, if no cgroup counts memory, the calls are not there and the result says so."""
    policy = policy_of("build", (6, 8), WATCHED)
    assert () == policy.sysctls
    assert [sysv.WITHHELD] == isolation_in_force(policy, 0)["notes"]
    assert filter_of(policy) != filter_of(replace(policy, limit_mechanisms=COUNTED))


def test_older_kernel_with_memory_cgroup_has_objects():
    """Before Linux 6.9 a memory cgroup counts what they hold, and nothing is withheld."""
    policy = policy_of("build", (6, 8), COUNTED)
    assert ALLOWED_MAKER in filter_of(policy)
    assert "notes" not in isolation_in_force(policy, 0)


def test_memory_file_needs_a_memory_cgroup_or_its_group():
    """In `default` memory files are there if a cgroup counts what they hold; who names their group has them everywhere."""
    assert [True, False] == [
        ALLOWED_MEMFD in filter_of(policy_of("default", (6, 9), each)) for each in (COUNTED, WATCHED)
    ]
    own = Recipe(name="default+memfd", extends="default", groups=("memfd",))
    counted, watched = (filter_of(policy_of(own.name, (6, 9), each, own)) for each in (COUNTED, WATCHED))
    assert counted == watched
    assert ALLOWED_MEMFD not in watched


def test_shared_memory_is_a_quarter_of_the_memory_limit():
    """In pages, however large the kernel's are."""
    for page_bytes in (4096, 65_536):
        values = dict(limits.sysv_sysctls(128 << 20, page_bytes))
        assert (32 << 20, str(32 << 20)) == (int(values["shmall"]) * page_bytes, values["shmmax"])
