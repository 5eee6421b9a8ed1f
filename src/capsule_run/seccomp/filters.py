"""The syscall policy: a filter for each profile, and the same policy in words.

Pure. `plan` calls `program_hex`, the command line the rest. A run reads a table that `generate` has compiled; the rules and
the compiler are loaded only if needed.
"""

from __future__ import annotations

from capsule_run.model.request import KILL, KILL_ATTACKS, PROFILE_ALIASES
from capsule_run.seccomp import compiler
from capsule_run.seccomp import explain as seccomp_explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run.model.optional import Recipe
    from capsule_run.seccomp.explain import Row

__all__ = ["allowed_calls", "compile_filter", "explain", "program_hex", "table_key"]


def table_key(profile: str, *, network: bool, root_inside: bool) -> str:
    """Return the key of a combination in the shipped tables."""
    return profile + ("+network" if network else "") + ("+root" if root_inside else "")


# Compiled by this process. A file as cache would save five milliseconds, and would have to be trusted.
_compiled: dict[tuple[str | Recipe, str, bool, bool, str, bool], str] = {}


def program_hex(
    profile: str | Recipe,
    *,
    architecture: str,
    network: bool,
    shared: bool = True,
    on_violation: str = KILL_ATTACKS,
    root_inside: bool = False,
) -> str:
    """Return the filter as lowercase hex, from the shipped table if it has it, else compiled once.

    :param shared: whether something of the host is writable inside; if not, rules that only protect the host's files are
        left out.

    Raises ValueError for an unknown profile, architecture or `on_violation`, and for `refuse` with a profile that always kills.
    """
    if isinstance(profile, str):
        profile = PROFILE_ALIASES.get(profile, profile)
    if isinstance(profile, str) and (on_violation == KILL_ATTACKS or (on_violation, profile) == (KILL, "strict")):
        shipped = _shipped(architecture, profile, shared=shared).get(
            table_key(profile, network=network, root_inside=root_inside)
        )
        if shipped is not None:
            return shipped
    key = (profile, architecture, network, shared, on_violation, root_inside)
    if key not in _compiled:
        _compiled[key] = compile_filter(
            profile,
            architecture=architecture,
            network=network,
            shared=shared,
            on_violation=on_violation,
            root_inside=root_inside,
        ).hex()
    return _compiled[key]


def withhold_sysv(program: str) -> str:
    """Return a program that denies the calls of `ALLOW_COUNTED`, which make what nothing would count, with its errno."""
    return program.replace(_ALLOW_COUNTED, _DENY_UNCOUNTED)


def withhold_memfd(program: str) -> str:
    """Return a program that denies the call of `ALLOW_IN_CGROUP` with its errno."""
    return program.replace(_ALLOW_IN_CGROUP, _DENY_UNCOUNTED)


# `return ALLOW | ENOSYS`, the same with IN_CGROUP, each one instruction of a program at most, and `return USER_NOTIF | ENOSYS`
_ALLOW_COUNTED, _ALLOW_IN_CGROUP, _DENY_UNCOUNTED = "060000002600ff7f", "060000002601ff7f", "060000002600c07f"


def ask_for_help(program: str, architecture: str) -> str:
    """Return a program that notifies the launcher of the calls that an overlay needs help with, if `program` allows them."""
    return _ASK_FOR_HELP[architecture] + program


# `prefix.help_prefix`: rename, link and their like, then `return USER_NOTIF | 0xFFFD`. Loading what makes it costs a start.
_ASK_FOR_HELP = {
    "x86_64": "2000000004000000150000073e0000c02000000000000000150004005200000015000300080100001500020"
    "03c01000015000100560000001500000109010000" + "06000000fdffc07f",
    "aarch64": "200000000400000015000005b70000c02000000000000000150002002600000015000100140100001500000125000000"
    "06000000fdffc07f",
}


def without_listener(program: str) -> str:
    """Return a program as `put_on_filter` in core/seccomp_notify.c installs it without a listener: it answers itself."""
    instructions = [program[at : at + 16] for at in range(0, len(program), 16)]
    for at, instruction in enumerate(instructions):
        code, answer = instruction[:8], int.from_bytes(bytes.fromhex(instruction[8:]), "little")
        if code == "06000000" and answer >> 16 == 0x7FC0:
            # the filter that follows, end of the run, a call that is only recorded, and an errno
            low = answer & 0xFFFF
            if low == 0xFFFD:
                instructions[at] = "0500000000000000"
                continue
            settled = {0xFFFF: 0x80000000, 0xFFFE: 0x7FFF0000}.get(low, 0x00050000 | low)
            instructions[at] = code + settled.to_bytes(4, "little").hex()
    return "".join(instructions)


SHIPPED_ARCHITECTURES, SHIPPED_PROFILES = ("x86_64", "aarch64"), ("strict", "default")


def table_name(architecture: str, profile: str, *, shared: bool) -> str:
    """Return the name of the module of `tables` with one profile's filters for one architecture."""
    return f"compiled_{architecture}_{profile}" + ("_shared" if shared else "")


def _shipped(architecture: str, profile: str, *, shared: bool) -> Mapping[str, str]:
    """Load one table; loading all of them would cost a run half a millisecond."""
    if architecture not in SHIPPED_ARCHITECTURES or profile not in SHIPPED_PROFILES:
        return {}
    module = __import__(
        f"capsule_run.seccomp.tables.{table_name(architecture, profile, shared=shared)}", fromlist=["PROGRAMS"]
    )
    programs: Mapping[str, str] = module.PROGRAMS
    return programs


def compile_filter(
    profile: str | Recipe,
    *,
    architecture: str,
    network: bool = False,
    shared: bool = True,
    on_violation: str = KILL_ATTACKS,
    root_inside: bool = False,
) -> bytes:
    """Compile the filter from the rules to an array of little-endian `struct sock_filter`."""
    return compiler.compile_rules(
        profile, architecture, network=network, shared=shared, on_violation=on_violation, root_inside=root_inside
    )


def allowed_calls(
    profile: str | Recipe, architecture: str, *, network: bool = False, root_inside: bool = False
) -> tuple[str, ...]:
    """Return the names of the calls that the profile allows for any arguments, by number."""
    return seccomp_explain.allowed_calls(profile, architecture, network=network, root_inside=root_inside)


def explain(
    profile: str | Recipe,
    architecture: str,
    *,
    network: bool = False,
    on_violation: str = KILL_ATTACKS,
    root_inside: bool = False,
) -> tuple[Row, ...]:
    """Return a row for each call that the profile names, by number. All other calls fail with ENOSYS."""
    return seccomp_explain.explain(
        profile, architecture, network=network, on_violation=on_violation, root_inside=root_inside
    )
