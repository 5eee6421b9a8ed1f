"""Profiles that users compose: what their words mean, what is refused, what advice names, and the subcommand."""

from __future__ import annotations

import pytest

from capsule_run._base.errors import CapsuleError
from capsule_run.cli.command import main
from capsule_run.engine.profile_file import load
from capsule_run.seccomp import filters
from capsule_run.seccomp.catalogue import CLOSED_CALLS, allowing, is_closed
from capsule_run.seccomp.custom_profile import ALONE, from_spec, from_table, open_groups


def allowed(profile, architecture="x86_64"):
    return set(filters.allowed_calls(profile, architecture))


def test_profile_plus_group_has_both():
    """NAME+GROUP has what both have."""
    added = allowed(from_spec("strict+watch")) - allowed("strict")
    assert {"inotify_init1", "inotify_add_watch", "inotify_rm_watch", "signalfd4"} == added


@pytest.mark.parametrize("group", open_groups())
def test_profile_plus_group_that_it_has_is_accepted(group):
    """NAME+GROUP is a profile also if the group adds nothing, as all of them to `default`."""
    assert set() == allowed(from_spec(f"default+{group}")) - allowed("default")


@pytest.mark.parametrize(("older", "name"), [("build", "default"), ("build+watch", "default+watch")])
def test_profile_build_is_another_name_of_default(older, name):
    """The name `build` is accepted wherever a profile is named, and means `default`."""
    assert (load(older) is None) == (load(name) is None)
    assert allowed(load(older) or older) == allowed(load(name) or name) == allowed("default")
    assert filters.explain(load(older) or older, "x86_64") == filters.explain(load(name) or name, "x86_64")
    mine = from_table({"extends": older.partition("+")[0], "remove": ["socket"]}, "mine")
    assert allowed("default") - {"socket"} == allowed(mine)


def test_profile_plus_syscall_has_its_rule():
    """A call by name comes with its argument tests, where there are any."""
    rows = {row.name: row for row in filters.explain(from_spec("strict+chmod"), "x86_64")}
    assert ("refuse with EPERM if mode has S_ISUID or S_ISGID",) == rows["chmod"].arguments


def test_profile_minus_syscall_is_enosys():
    """What a profile removes is answered ENOSYS."""
    recipe = from_table({"extends": "default", "remove": ["socket", "ptrace"]}, "mine")
    assert {"socket"} == allowed("default") - allowed(recipe)
    assert "ptrace" not in {row.name for row in filters.explain(recipe, "x86_64")}


def test_profile_that_extends_none_has_the_base_only():
    """A profile that extends none begins with what the core itself needs, and keeps every kill."""
    bare = from_spec(ALONE)
    assert allowed(bare) < allowed("strict")
    assert {row.name for row in filters.explain("default", "x86_64") if row.action == "kill"} == {
        row.name for row in filters.explain(bare, "x86_64") if row.action == "kill"
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lax", "unknown profile `lax`"),
        ("default+wach", "unknown group `wach`; did you mean `watch`?"),
        ("default+escape", "unknown group `escape`"),
        ("default+mount", "`mount` cannot be allowed by any profile"),
        ("default+clone3", "`clone3` cannot be allowed by any profile"),
    ],
)
def test_profile_name_unknown_is_refused(spec, message):
    """An unknown word is refused with the nearest one, and what no profile may have by name."""
    with pytest.raises(CapsuleError, match="E1011") as caught:
        load(spec)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups = [", "not valid TOML"),
        ("groups = " + "[" * 5000, "nested too deeply"),
        ("groups = " + "9" * 5000, "not valid TOML"),
        ("a" + ".b" * 5000 + " = 1", "a line has more than 100 dots"),
        ('gruops = ["watch"]', "unknown field `gruops`; did you mean `groups`?"),
        ('groups = "watch"', "`groups` must be a list of strings"),
        ('allow = ["reed"]', "unknown system call `reed`; did you mean `read`?"),
        ('allow = ["bpf"]', "`bpf` cannot be allowed"),
        ('extends = "default"\nallow = ["times"]\nremove = ["times"]', "`times` is both allowed and removed"),
        ('extends = "default"\nremove = ["execve"]', "`execve` cannot be removed"),
        ('extends = "default"\nremove = ["write"]', "`write` cannot be removed"),
    ],
)
def test_profile_file_invalid_is_refused_with_the_place(tmp_path, text, message):
    """A file that is wrong is refused with the place that is."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(CapsuleError, match="E1011") as caught:
        load(str(path))
    assert message in caught.value.message


def test_profile_file_missing_is_refused():
    """A path that cannot be read is refused, not taken for a name."""
    with pytest.raises(CapsuleError, match="cannot read the file"):
        load("./nowhere.toml")


def test_profile_is_compiled_once():
    """The second run of a process pays for no compiler."""
    first = filters.program_hex(from_spec("default+watch"), architecture="x86_64", network=False)
    assert first is filters.program_hex(from_spec("default+watch"), architecture="x86_64", network=False)


@pytest.mark.parametrize(
    ("call", "profile", "better"),
    [
        ("inotify_init1", "default", ""),
        ("inotify_init1", "strict", "default"),
        ("setuid", "default", ""),
        ("memfd_create", "default", "default+memfd"),
        ("memfd_create", "build", "build+memfd"),
        ("memfd_create", "strict", "strict+memfd"),
        ("clone", "strict", "default"),
        ("clone", "default", ""),
        ("chmod", "default", ""),
        ("mount", "default", ""),
        ("ptrace", "default", ""),
        ("io_uring_setup", "default", ""),
        ("shmget", "default", ""),
        ("shmget", "strict", "default"),
        ("599", "default", ""),
    ],
)
def test_profile_advice_names_an_option_that_helps(call, profile, better):
    """The option that is named would help, and where none would, none is."""
    assert better == allowing(call, profile)[1]


def test_profile_advice_lets_the_syscall_through():
    """Every profile that advice names lets the call through."""
    for row in filters.explain("build", "x86_64"):
        _group, better = allowing(row.name, "default")
        assert not better or row.name in allowed(load(better) or better)


def test_profile_groups_never_open_forbidden_syscalls():
    """No group that a profile may name lets through what no profile may have."""
    everything = from_spec("+".join(["build", *open_groups()]))
    assert set() == {call for call in allowed(everything) if is_closed(call)}
    assert all(is_closed(call) for call in CLOSED_CALLS)


def says(capfd, *words):
    status = main(["policy", *words])
    return status, capfd.readouterr().out


@pytest.mark.parametrize(("profile", "most"), [("strict", 55), ("default", 400), ("build", 400)])
def test_policy_show_prints_counts_within_budget(capfd, profile, most):
    """`policy show` prints the number of calls of each architecture, and they keep to the budget."""
    status, said = says(capfd, "show", profile)
    counts = [int(word.split()[0]) for word in said.splitlines()[0].split(": ")[1].split(" allowed")[0].split(", ")]
    assert (0, 2) == (status, len(counts))
    assert max(counts) <= most


def test_policy_show_lists_profiles_and_groups(capfd):
    """Without a name, profiles and groups are listed."""
    _status, said = says(capfd, "show")
    assert {"strict", "default", "build", "watch", "timers"} <= {line.split()[0] for line in said.splitlines()}


def test_policy_diff_names_each_difference(capfd):
    """`policy diff` names each call that differs, both ways."""
    assert (0, "strict -> strict+pidfd: 2 calls differ") == (
        (said := says(capfd, "diff", "--arch", "x86_64", "strict", "strict+pidfd"))[0],
        said[1].splitlines()[0],
    )


def test_policy_test_checks_expectations(capfd, tmp_path):
    """`policy test` holds expectations against a profile, and its exit code is that of the worst."""
    file = tmp_path / "expected"
    file.write_text("allow openat # reads\nrefuse ptrace\nrefuse ioctl 0 0x5412\nallow mount\n")
    assert (1, "line 4: `allow mount`: got `kill`\n3 of 4 expectations hold for default\n") == says(
        capfd, "test", str(file)
    )
    file.write_text("allow openat\n")
    assert (0, "1 of 1 expectations hold for strict\n") == says(capfd, "test", str(file), "--profile", "strict")


def test_policy_test_reads_numbers_as_strace_prints_them(capfd, tmp_path):
    """An argument is decimal, hexadecimal, or octal as in C; what is none of them is refused with its line."""
    file = tmp_path / "expected"
    file.write_text("refuse chmod 0 04755\nrefuse chmod 0 0x9ed\nrefuse chmod 0 2541\nallow chmod 0 0\n")
    assert (0, "4 of 4 expectations hold for default\n") == says(capfd, "test", str(file), "--arch", "x86_64")
    file.write_text("allow chmod 0 0899\n")
    assert 2 == says(capfd, "test", str(file), "--arch", "x86_64")[0]


@pytest.mark.parametrize("words", [["shew"], ["show", "--no"], ["test"], ["learn"], ["show", "--arch", "sparc"]])
def test_policy_unknown_word_is_refused(capfd, words):
    """The subcommand refuses what it does not know."""
    assert 2 == says(capfd, *words)[0]
