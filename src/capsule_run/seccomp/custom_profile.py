"""Check custom profiles: a shipped profile or none, plus groups and single calls, minus removed calls.

Pure. `engine.profile_file` reads one from TOML; NAME+GROUP on the command line is another form. Raises CapsuleError E1011.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run.model.optional import Recipe
from capsule_run.model.request import PROFILE_ALIASES
from capsule_run.request.validators import nearest
from capsule_run.seccomp.catalogue import CLOSED_GROUPS, is_closed
from capsule_run.seccomp.tables import syscalls_aarch64, syscalls_x86_64
from capsule_run.seccomp.tables.profiles import PROFILES
from capsule_run.seccomp.tables.rules import GROUPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


FIELDS = ("extends", "groups", "allow", "remove", "description")
# What the core itself calls between the filter and the command.
START_CALLS = ("read", "write", "close")
ALONE = "none"  # `extends` of a profile that starts with the base only


def wrong(name: str, why: str, *, hint: str = "") -> CapsuleError:
    """Build the error of an invalid profile."""
    return CapsuleError("E1011", f"syscall profile `{name}`: {why}", details={"profile": name}, hint=hint or None)


def _known(profile: str, kind: str, word: str, known: Iterable[str]) -> str:
    names = list(known)
    if word in names:
        return word
    guess = nearest(word, names)
    raise wrong(
        profile,
        f"unknown {kind} `{word}`" + (f"; did you mean `{guess}`?" if guess else ""),
        hint="`capsule-run policy show` lists profiles and groups",
    )


def open_groups() -> list[str]:
    """Return the groups that a profile may name."""
    return [name for name in GROUPS if name not in CLOSED_GROUPS]


def _syscall_names() -> set[str]:
    return {*syscalls_x86_64.NUMBERS, *syscalls_aarch64.NUMBERS}


def checked(recipe: Recipe) -> Recipe:
    """Return the recipe if all its names are known and allowed in a profile. Raises CapsuleError E1011."""
    if recipe.extends != ALONE:
        _known(recipe.name, "profile", recipe.extends, PROFILES)
    for group in recipe.groups:
        _known(recipe.name, "group", group, open_groups())
    syscalls = _syscall_names()
    for call in (*recipe.allow, *recipe.remove):
        _known(recipe.name, "system call", call, syscalls)
    for call in recipe.allow:
        if is_closed(call):
            raise wrong(
                recipe.name, f"`{call}` cannot be allowed by any profile: it allows an escape or bypasses the filter"
            )
        if call in recipe.remove:
            raise wrong(recipe.name, f"`{call}` is both allowed and removed")
    needed = [call for call in recipe.remove if call in (*START_CALLS, *(rule.name for rule in GROUPS["base"]))]
    if needed:
        raise wrong(recipe.name, f"`{needed[0]}` cannot be removed: no program starts without it")
    return recipe


def from_spec(spec: str) -> Recipe:
    """Parse NAME, or NAME followed by groups and single calls: `default+watch+times`. Raises CapsuleError E1011."""
    base, *words = spec.split("+")
    syscalls = _syscall_names()
    return checked(
        Recipe(
            name=spec,
            extends=PROFILE_ALIASES.get(base, base),
            groups=tuple(word for word in words if word not in syscalls),
            allow=tuple(word for word in words if word in syscalls),
        )
    )


def _words(table: Mapping[str, object], field: str, name: str) -> tuple[str, ...]:
    given = table.get(field, [])
    if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
        raise wrong(name, f"`{field}` must be a list of strings")
    return tuple(dict.fromkeys(given))


def from_table(table: Mapping[str, object], name: str) -> Recipe:
    """Build a recipe from a parsed TOML table. Raises CapsuleError E1011."""
    for field in table:
        _known(name, "field", field, FIELDS)
    extends = table.get("extends", ALONE)
    if not isinstance(extends, str):
        raise wrong(name, "`extends` must be a string")
    return checked(
        Recipe(
            name=name,
            extends=PROFILE_ALIASES.get(extends, extends),
            groups=_words(table, "groups", name),
            allow=_words(table, "allow", name),
            remove=_words(table, "remove", name),
        )
    )
