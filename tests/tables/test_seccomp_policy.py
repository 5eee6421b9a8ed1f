"""The policy as data: budgets, reasons, tables that are up to date, and nonsense that is refused."""

from __future__ import annotations

import binascii
from pathlib import Path

import pytest
from bpf_simulator import Filter

from capsule_run.seccomp import filters, generate, ruleset
from capsule_run.seccomp.assembler import IF_EQUAL, RETURN, Graph, assemble
from capsule_run.seccomp.compiler import _among
from capsule_run.seccomp.rule import ALLOW, PRETEND, Condition, Rule, case, has_any, one_of, refuse
from capsule_run.seccomp.tables import syscalls_aarch64, syscalls_x86_64
from capsule_run.seccomp.tables.profiles import PROFILES
from capsule_run.seccomp.tables.rules import GROUPS

ARCHITECTURES = ("x86_64", "aarch64")
architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)
BITS = {"A": 1, "B": 2}


@architectures
def test_seccomp_strict_keeps_its_budget(architecture: str) -> None:
    """`strict` lets through no more than 55 calls."""
    assert 55 >= len(filters.allowed_calls("strict", architecture))


def test_seccomp_page_counts_are_right() -> None:
    """The page says how many calls each profile allows, and it is right."""
    page = Path(__file__).parents[2].joinpath("docs", "syscall-policy.md").read_text()
    for profile in PROFILES:
        cells = [
            f"{len(filters.allowed_calls(profile, each))} ({len(filters.allowed_calls(profile, each, network=True))})"
            for each in ARCHITECTURES
        ]
        assert f"| `{profile}` | {cells[0]} | {cells[1]} |" in page


@architectures
def test_seccomp_profiles_contain_each_other(architecture: str) -> None:
    """What `strict` allows `default` allows, and what that allows `build` allows, which is another name of it."""
    strict, default, build = (set(filters.allowed_calls(each, architecture)) for each in ("strict", "default", "build"))

    assert (set(), default) == (strict - default, build)


@architectures
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("root_inside", [False, True])
def test_seccomp_rule_row_is_complete(profile: str, architecture: str, root_inside: bool) -> None:
    """Each row has a number, an action, a group that exists and a reason that is a phrase, and no call appears twice."""
    rows = filters.explain(profile, architecture, root_inside=root_inside)

    incomplete = [row.name for row in rows if not row.action or row.group not in GROUPS or " " not in row.reason]
    assert ([], len(rows)) == (incomplete, len({row.number for row in rows}))


def test_seccomp_conditional_rule_is_explained() -> None:
    """A conditional rule is described in words that a reader of man pages knows."""
    rows = {row.name: row for row in filters.explain("default", "x86_64")}

    assert ("refuse with EPERM if mode has S_ISUID or S_ISGID",) == rows["chmod"].arguments
    assert rows["openat"].arguments[0].endswith("S_ISGID, where something of the host's is writable")


def test_seccomp_group_is_used_by_a_profile() -> None:
    """No group lies in the data that no profile names, and no profile names a group that is not there."""
    named = {
        group
        for profile in PROFILES
        for network in (False, True)
        for root_inside in (False, True)
        for group in ruleset.group_names(profile, network=network, root_inside=root_inside)
    }

    assert set(GROUPS) == named | {"memfd"}


@architectures
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("shared", [False, True])
def test_seccomp_tables_are_up_to_date(architecture: str, profile: str, shared: bool) -> None:
    """The shipped filters are what the rules compile to today: else run `python -m capsule_run.seccomp.generate`."""
    shipped = filters._shipped(architecture, profile, shared=shared)
    assert generate.table(architecture, profile, shared=shared) == shipped


@architectures
def test_seccomp_combination_without_table_is_compiled(architecture: str) -> None:
    """A combination that no table holds is compiled, and is another program than the shipped one."""
    program = filters.program_hex("default", architecture=architecture, network=False, on_violation="refuse")
    shipped = filters.program_hex("default", architecture=architecture, network=False)

    Filter(binascii.unhexlify(program))
    assert program != shipped


@pytest.mark.parametrize(
    ("profile", "architecture", "on_violation", "named"),
    [
        ("lax", "x86_64", "kill", "`lax`"),
        ("default", "riscv64", "kill", "`riscv64`"),
        ("default", "x86_64", "log", "`log`"),
        ("strict", "x86_64", "refuse", "always kills"),
    ],
)
def test_seccomp_unknown_combination_is_refused(profile: str, architecture: str, on_violation: str, named: str) -> None:
    """A combination that does not exist is refused with its name, never replaced by another."""
    with pytest.raises(ValueError, match=named):
        filters.program_hex(profile, architecture=architecture, network=False, on_violation=on_violation)


@pytest.mark.parametrize(
    ("name", "number_x86_64", "number_aarch64"),
    [
        ("read", 0, 63),
        ("execve", 59, 221),
        ("clone", 56, 220),
        ("ioctl", 16, 29),
        ("openat", 257, 56),
        ("newfstatat", 262, 79),
        ("mmap", 9, 222),
        ("fcntl", 72, 25),
        ("clone3", 435, 435),
        ("open_tree_attr", 467, 467),
    ],
)
def test_seccomp_syscall_numbers_are_right(name: str, number_x86_64: int, number_aarch64: int) -> None:
    """Spot checks of the number tables against the kernel's documents."""
    assert (number_x86_64, number_aarch64) == (syscalls_x86_64.NUMBERS[name], syscalls_aarch64.NUMBERS[name])


def bad_rule(*cases: object, reason: str = "a reason") -> Rule:
    return Rule(name="chmod", reason=reason, cases=cases, otherwise=ALLOW, only="")  # type: ignore[arg-type]  # cases


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param(bad_rule(reason=""), "no reason", id="no reason"),
        pytest.param(bad_rule(case(ALLOW, has_any(0, "mode", BITS))), "redundant", id="case does what else is done"),
        pytest.param(
            bad_rule(case(PRETEND, has_any(0, "mode", BITS)), case(refuse(1), has_any(0, "mode", {"A": 1}))),
            "redundant",
            id="case hidden by an earlier one",
        ),
        pytest.param(
            bad_rule(case(refuse(1), one_of(0, "mode", {"A": 4}, mask=3))), "never hold", id="value outside the mask"
        ),
        pytest.param(bad_rule(case(refuse(1), one_of(12, "mode", BITS))), "no 32-bit argument", id="seventh argument"),
        pytest.param(
            bad_rule(case(refuse(1), Condition(argument=0, mask=1, values=(), inside=True, words="w"))),
            "no values",
            id="no values",
        ),
        pytest.param(
            bad_rule(case(refuse(1), one_of(0, "mode", {"A": 1}), one_of(0, "mode", {"B": 2}))),
            "redundant",
            id="tests that exclude each other",
        ),
    ],
)
def test_seccomp_rule_without_effect_is_refused(rule: Rule, message: str) -> None:
    """A rule with a part that no call could notice does not compile."""
    with pytest.raises(ruleset.PolicyError, match=message):
        ruleset.check_rule(rule)


@pytest.mark.parametrize(
    ("names", "message"), [(["read", "read"], "listed twice"), (["read", "reed"], "no syscall of any")]
)
def test_seccomp_list_with_duplicate_or_unknown_is_refused(names: list[str], message: str) -> None:
    """A call named twice, or unknown to both architectures, does not compile."""
    with pytest.raises(ruleset.PolicyError, match=message):
        ruleset.check_names(names, [syscalls_x86_64.NUMBERS, syscalls_aarch64.NUMBERS])


def test_seccomp_far_jump_reaches_its_target() -> None:
    """Branches over more than 255 instructions arrive where they should, through trampolines."""
    graph = Graph()
    wanted = range(0, 4000, 2)
    yes = graph.load(4, graph.branch(IF_EQUAL, 7, yes=graph.returns(1), no=graph.returns(2)))
    no = graph.load(8, graph.branch(IF_EQUAL, 9, yes=graph.returns(3), no=graph.returns(4)))
    program = Filter(assemble(graph, graph.load(0, _among(graph, list(wanted), yes, no))))

    answers = [
        program.run(number.to_bytes(4, "little") + (7).to_bytes(4, "little") + bytes(56)) for number in range(4000)
    ]

    assert [1 if number in wanted else 4 for number in range(4000)] == answers


def test_seccomp_program_too_long_is_refused() -> None:
    """A program beyond the kernel's limit is an error of ours, not of the kernel at start."""
    graph = Graph()
    node = graph.returns(0)
    for constant in range(5000):
        node = graph.keep(constant, node)

    with pytest.raises(ValueError, match="5001 instructions"):
        assemble(graph, node)


def test_seccomp_equal_code_is_shared() -> None:
    """Two rules with the same tail share it, and a branch whose ways are one place is no instruction."""
    graph = Graph()
    same = graph.returns(0)

    assert (same, same, [(RETURN, 0, -1, -1)]) == (
        graph.returns(0),
        graph.branch(IF_EQUAL, 1, yes=same, no=same),
        graph.nodes,
    )
