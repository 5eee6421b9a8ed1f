"""Write the shipped tables from the rules: `python -m capsule_run.seccomp.generate`. For developers; a test compares them."""

from __future__ import annotations

from capsule_run.seccomp.filters import compile_filter, table_key, table_name
from capsule_run.seccomp.ruleset import ARCHITECTURES
from capsule_run.seccomp.tables.profiles import PROFILES

_HEAD = '''"""Compiled filters of profile `{profile}` for {architecture}, {where}.

Written by `python -m capsule_run.seccomp.generate`; do not edit.
"""

from __future__ import annotations

PROGRAMS: dict[str, str] = {{
'''


def table(architecture: str, profile: str, *, shared: bool) -> dict[str, str]:
    """Compile every shipped combination of a profile: those that kill on a violation."""
    return {
        table_key(profile, network=network, root_inside=root_inside): compile_filter(
            profile, architecture=architecture, network=network, root_inside=root_inside, shared=shared
        ).hex()
        for network in (False, True)
        for root_inside in (False, True)
    }


def module_text(architecture: str, profile: str, *, shared: bool) -> str:
    """Return the source of the table module of one profile; a run loads one module."""
    entries = "".join(
        f'    "{key}": "{program}",  # noqa: E501\n'
        for key, program in table(architecture, profile, shared=shared).items()
    )
    where = (
        "where something of the host's is writable inside"
        if shared
        else "where nothing of the host's is writable inside"
    )
    return _HEAD.format(architecture=architecture, profile=profile, where=where) + entries + "}\n"


def write_tables(directory: str) -> None:
    """Write every table module into the directory."""
    for architecture in ARCHITECTURES:
        for profile in PROFILES:
            for shared in (False, True):
                name = table_name(architecture, profile, shared=shared)
                with open(f"{directory}/{name}.py", "w", encoding="utf-8") as module:
                    module.write(module_text(architecture, profile, shared=shared))


if __name__ == "__main__":
    from capsule_run.seccomp import tables

    write_tables(tables.__path__[0])
