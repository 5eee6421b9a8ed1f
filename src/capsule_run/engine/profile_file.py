"""Load a syscall profile by name, by NAME+GROUP, or from a TOML file.

Imported only if a request names a profile.
"""

from __future__ import annotations

from capsule_run.host.caller_files import read, reason_of
from capsule_run.model.request import PROFILE_ALIASES
from capsule_run.seccomp.custom_profile import from_spec, from_table, wrong
from capsule_run.seccomp.filters import SHIPPED_PROFILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.optional import Recipe

MAX_BYTES = 1 << 20
MAX_DOTS = 100  # of a line: tomllib takes a dotted key of n parts in n * n steps, and no key of ours has a dot


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
    import tomllib  # noqa: PLC0415  # 10 ms, only for a profile from a file

    try:
        text = read(profile, MAX_BYTES)
        if len(text) > MAX_BYTES:
            raise wrong(profile, f"the file has more than {MAX_BYTES} bytes")
        if any(line.count(b".") > MAX_DOTS for line in text.split(b"\n")):
            raise wrong(profile, f"a line has more than {MAX_DOTS} dots")
        return from_table(tomllib.loads(text.decode()), profile)
    except OSError as error:
        why, hint = reason_of(error)
        raise wrong(profile, f"cannot read the file: {why}", hint=hint or "") from None
    except RecursionError:
        raise wrong(profile, "not valid TOML: nested too deeply") from None
    except ValueError as error:  # from tomllib, from decoding, or from a number with thousands of digits
        raise wrong(profile, f"not valid TOML: {error}") from None
