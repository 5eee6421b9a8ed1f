"""Which custom profiles can make System V objects, and the note of a run where such calls are withheld.

Pure. `limits` has the limits of these objects.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.optional import Recipe

MAKERS = ("shmget", "semget", "msgget")  # who cannot call these has no object
GROUP, PROFILE = "ipc", "default"  # the group that has them, and the shipped profile that has the group
WITHHELD = (
    f"System V objects cannot be made ({', '.join(MAKERS)}): without a memory cgroup nothing would limit their memory "
    "before Linux 6.9"
)


def may_make(recipe: Recipe) -> bool:
    """Whether a custom profile may let the command make System V objects."""
    named = GROUP in recipe.groups or any(call in recipe.allow for call in MAKERS)
    return named or recipe.extends == PROFILE
