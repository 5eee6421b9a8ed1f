"""Load a syscall profile by name, by NAME+GROUP, or from a TOML file.

Imported only if a request names a profile.
"""

from __future__ import annotations

from capsule_run.engine import toml_file
from capsule_run.model.request import PROFILE_ALIASES
from capsule_run.seccomp.custom_profile import from_spec, from_table, wrong
from capsule_run.seccomp.filters import SHIPPED_PROFILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.optional import Recipe

MAX_BYTES = 1 << 20


def is_file(profile: str) -> bool:
    """Return whether the word names a file and not a profile."""
    return "/" in profile or profile.endswith(".toml")


def load(profile: str) -> Recipe | None:
    """Return the recipe that the word names; None for a shipped profile.

    Raises CapsuleError E1011.
    """
    if profile in SHIPPED_PROFILES or profile in PROFILE_ALIASES:
        return None
    if not is_file(profile):
        return from_spec(profile)
    return from_table(toml_file.table_of(profile, toml_file.text_of(profile, MAX_BYTES, wrong), wrong), profile)
