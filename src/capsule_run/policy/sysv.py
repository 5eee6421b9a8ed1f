"""Limits of System V objects (shared memory, semaphores, message queues), which hold memory that no process shows.

Rank 1: pure. The room's own ipc namespace gets them as sysctls. Message queues of POSIX are limited by RLIMIT_MSGQUEUE.
"""

from __future__ import annotations

from capsule_run._base.value import replace
from capsule_run.model import optional

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.policy import Policy

WRITABLE_SINCE = (6, 9)  # the first kernel that lets the root of an ipc namespace write its sysctls
MAKERS = ("shmget", "semget", "msgget")  # who cannot call these has no object
GROUP, PROFILE = "ipc", "build"  # the group that has them, and the shipped profile that has the group
# The classic defaults are 32,000 semaphores in sets of 250. A semaphore takes 64 to 128 bytes, and a process that uses
# SEM_UNDO twice as many bytes a set as the set has semaphores: 16 KiB at most, as much as its kernel stack.
SEMAPHORES = "64 4096 32 64"  # in a set, in all, operations in a call, sets
# A queue holds as many messages as bytes, and the shortest message takes 64: 8 MiB in all.
QUEUES, QUEUE_BYTES, MESSAGE_BYTES, SEGMENTS = 16, 8192, 8192, 256


def may_make(profile: str, recipe: optional.Recipe | None) -> bool:
    """Whether a system call profile may let the command make System V objects."""
    if recipe is None:
        return profile == PROFILE
    named = GROUP in recipe.groups or any(call in recipe.allow for call in MAKERS)
    return named or recipe.extends == PROFILE


def sysctls(memory_bytes: int, page_bytes: int) -> tuple[tuple[str, str], ...]:
    """Names and values: shared memory is a quarter of the memory limit in all, the rest a few MiB."""
    pages = memory_bytes // 4 // page_bytes
    return (
        ("shmall", str(pages)),
        ("shmmax", str(pages * page_bytes)),
        ("shmmni", str(SEGMENTS)),
        ("sem", SEMAPHORES),
        ("msgmni", str(QUEUES)),
        ("msgmnb", str(QUEUE_BYTES)),
        ("msgmax", str(MESSAGE_BYTES)),
    )


def is_withheld(policy: Policy) -> bool:
    """Whether nothing would limit these objects: neither sysctls nor a cgroup that counts their memory."""
    return policy.calls.makes_sysv and not policy.sysctls and not policy.limit_mechanisms.holds("memory")


def profile_in_force(policy: Policy) -> str | optional.Recipe:
    """The system call profile, without the calls that make objects which nothing would limit."""
    profile, recipe = policy.calls.profile, policy.calls.recipe
    if not is_withheld(policy):
        return recipe or profile
    if recipe is None:
        return optional.Recipe(name=profile, extends=profile, remove=MAKERS)
    return replace(recipe, remove=(*recipe.remove, *MAKERS))


WITHHELD = (
    f"System V objects cannot be made ({', '.join(MAKERS)}): without a memory cgroup nothing would limit their memory "
    "before Linux 6.9"
)


def notes(policy: Policy) -> tuple[str, ...]:
    """The notes of a policy, with one if the calls are withheld."""
    return (*policy.notes, WITHHELD) if is_withheld(policy) else policy.notes
