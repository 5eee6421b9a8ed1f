"""The command line's options."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_run._base import error_codes
from capsule_run._base.errors import CapsuleError
from capsule_run.model.request import Bind, InputFile, Isolation, Request, Resources, Workspace, WorkspaceUpper
from capsule_run.request.fast_path import HELP, QUIET, RUN, SHORT_HELP, VERSION, Options, plain_request
from capsule_run.request.option_table import FILE, GROUPS, OPTIONS
from capsule_run.request.options import (
    build_json_request,
    build_request,
    read_options,
)
from capsule_run.request.parse import FIELDS

NOTHING = {"action": RUN, "json": False, "pretty": False, "verbosity": 0, "dry_run": False, "fields": {}}


def error_of(*words):
    with pytest.raises(CapsuleError) as caught:
        read_options(words)
    return caught.value


def test_option_reaches_its_request_field():
    """Each option that fills a field fills it, in its long form with the value apart."""
    words = (
        "--timeout 5000 --memory 256M --cpu 512 --max-output 1K --max-pids 5 --network --workdir /w --env A=1 --env B=x=y "
        "--readonly /r --readonly /r2 --writable /rw --bind src:/d --bind ../s:/e:rw,force --execution-id job:1 --workspace d:ro "
        "--upper /big:20G "
        "--tool node --tool .venv --user 0:12 --hostname box --on-output-limit truncate --disk 1G --stack 16M --max-file-size 1M "
        "--max-open-files 64 --cpus 1.5 --cpu-time 2500 --ledger --no-postmortem "
        "--io-read-bps 2M --io-write-bps 1M --io-read-iops 30 --io-write-iops 40 "
        "--unmask .env --file a/b=src --file c=../d=e --collect *.txt --collect out/ --collect-to got "
        "--max-collect 1G --apply-changes --diff --save-changes kept --require landlock --require cgroup2 "
        "--profile strict --on-violation kill -- cat -n"
    )
    expected = Request(
        command=("cat", "-n"),
        environment=(("A", "1"), ("B", "x=y")),
        timeout_ms=5000,
        postmortem=False,
        ledger=True,
        resources=Resources(
            memory_bytes=256 << 20,
            cpu_shares=512,
            max_output_bytes=1024,
            max_pids=5,
            max_open_files=64,
            max_file_bytes=1 << 20,
            stack_bytes=16 << 20,
            disk_bytes=1 << 30,
            cpu_quota=1.5,
            cpu_time_ms=2500,
            io_read_bps=2 << 20,
            io_write_bps=1 << 20,
            io_read_iops=30,
            io_write_iops=40,
        ),
        isolation=Isolation(
            network=True,
            readonly_paths=("/r", "/r2"),
            writable_paths=("/rw",),
            binds=(Bind(source="src", destination="/d"), Bind(source="../s", destination="/e", mode="rw", force=True)),
            working_directory="/w",
            workspace=Workspace(source="d", mode="ro"),
            user="0:12",
            hostname="box",
            tools=("node", ".venv"),
            unmask=(".env",),
            workspace_upper=WorkspaceUpper(directory="/big", bytes=20 << 30),
        ),
        on_output_limit="truncate",
        execution_id="job:1",
        profile="strict",
        on_violation="kill",
        require=("landlock", "cgroup2"),
        files=(InputFile(path="a/b", source="src"), InputFile(path="c", source="../d=e")),
        collect=("*.txt", "out/**"),
        collect_to="got",
        collect_bytes=1 << 30,
        apply_changes=True,
        diff=True,
        save_changes="kept",
    )
    assert expected == build_request(read_options(words.split()))
    used = {word for word in words.split() if word.startswith("--")} - {"--"}
    # `--preset` is replaced by what it stands for: tests/tables/test_config_file.py
    assert used == {option.long for option in OPTIONS if option.field in FIELDS} - {"--no-workspace", "--preset"}


FORMS = [
    (["--timeout=5", "x"], {"fields": {"timeout_ms": 5}}, ["x"]),
    (["-t5", "x"], {"fields": {"timeout_ms": 5}}, ["x"]),
    (["-t", "5", "x"], {"fields": {"timeout_ms": 5}}, ["x"]),
    (["-vt5", "x"], {"verbosity": 1, "fields": {"timeout_ms": 5}}, ["x"]),
    (["-vt", "5", "x"], {"verbosity": 1, "fields": {"timeout_ms": 5}}, ["x"]),
    (["-it", "x"], {"interactive": True, "tty": True}, ["x"]),
    (["-ti", "x"], {"interactive": True, "tty": True}, ["x"]),
    (["-t", "--", "x"], {"tty": True, "separated": True}, ["x"]),
    (["-t", "x"], {"tty": True}, ["x"]),
    (
        ["-vit", "-t5000", "x"],
        {"verbosity": 1, "interactive": True, "tty": True, "fields": {"timeout_ms": 5000}},
        ["x"],
    ),
    (["--tty", "--grace", "5s", "x"], {"tty": True, "grace_ms": 5000}, ["x"]),
    (["-eA=b=c", "x"], {"fields": {"environment": {"A": "b=c"}}}, ["x"]),
    (["--env=A=", "x"], {"fields": {"environment": {"A": ""}}}, ["x"]),
    (["-v", "--verbose", "x"], {"verbosity": 2}, ["x"]),
    (["-vv", "x"], {"verbosity": 2}, ["x"]),
    (["-q", "x"], {"verbosity": QUIET}, ["x"]),
    (["-vvq", "x"], {"verbosity": QUIET}, ["x"]),
    (["-qv", "x"], {"verbosity": 1}, ["x"]),
    (["--color=always", "--color", "never", "x"], {"color": "never"}, ["x"]),
    (["-eHOME", "--env", "A=", "x"], {"fields": {"environment": {"HOME": None, "A": ""}}}, ["x"]),
    (["--env-file=a", "--env-file", "b", "x"], {"env_files": ("a", "b")}, ["x"]),
    (["--pretty", "--dry-run", "x"], {"pretty": True, "dry_run": True}, ["x"]),
    (["x", "-v", "--memory", "--"], {}, ["x", "-v", "--memory", "--"]),
    (["--", "-x", "--json"], {"separated": True}, ["-x", "--json"]),
    (["--", "--", "x"], {"separated": True}, ["--", "x"]),
    (["-", "-v"], {}, ["-", "-v"]),
    (["--no-workspace", "x"], {"fields": {"isolation": {"workspace": None}}}, ["x"]),
    (["--workspace", "a:b:rw", "x"], {"fields": {"isolation": {"workspace": {"source": "a:b", "mode": "rw"}}}}, ["x"]),
    (["--workspace", ".", "x"], {"fields": {"isolation": {"workspace": {"source": ".", "mode": "cow"}}}}, ["x"]),
    (["--json"], {"json": True}, []),
    (["--json", "--"], {"json": True, "separated": True}, []),
    (["-h"], {"action": SHORT_HELP}, []),
    (["-vh"], {"verbosity": 1, "action": SHORT_HELP}, []),
    (["--help"], {"action": HELP}, []),
    (["-t1", "--timeout=2", "x"], {"fields": {"timeout_ms": 2}}, ["x"]),
    (["-t", "5s", "x"], {"fields": {"timeout_ms": 5000}, "timeout_has_unit": True}, ["x"]),
    (["--cpu-time", "1.5m", "x"], {"fields": {"resources": {"cpu_time_ms": 90_000}}}, ["x"]),
    (["-eA=1", "-eB=2", "--env", "A=3", "x"], {"fields": {"environment": {"A": "3", "B": "2"}}}, ["x"]),
    (["--workspace=a", "--no-workspace", "x"], {"fields": {"isolation": {"workspace": None}}}, ["x"]),
    (["--json", "--help", "--nonsense"], {"json": True, "action": HELP}, []),
    (["-V", "-h"], {"action": VERSION}, []),
    (["--", "\udcff"], {"separated": True}, ["\udcff"]),
]


@pytest.mark.parametrize(("words", "changes", "command"), FORMS, ids=[" ".join(row[0]) for row in FORMS])
def test_option_forms_are_equivalent(words, changes, command):
    """Every way to write options is read the same; the first other word and `--` end them."""
    assert Options(**{**NOTHING, **changes, "command": tuple(command)}) == read_options(words)


REFUSED = [
    ([], "E1007", "no command is given"),
    (["-v"], "E1007", "no command is given"),
    (["--"], "E1007", "no command is given"),
    (["--timeout"], "E1007", "`--timeout` needs a value: `--timeout <MS>`"),
    (["-vt"], "E1007", "no command is given"),
    (["--memroy", "1G", "x"], "E1007", "unknown option `--memroy`; did you mean `--memory`?"),
    (["-memory", "1G", "x"], "E1007", "unknown option `-memory`; did you mean `--memory`?"),
    (["--work", "/", "x"], "E1007", "unknown option `--work`; did you mean `--workdir`?"),
    (["--frobnicate", "x"], "E1007", "unknown option `--frobnicate`"),
    (["--\x1b[31m=1", "x"], "E1007", 'unknown option "--\\u001b[31m"'),
    (["-x", "x"], "E1007", "unknown option `-x`"),
    (["-vx", "x"], "E1007", "unknown option `-x`"),
    (["--json=1"], "E1007", "`--json` takes no value"),
    (["--json", "ls"], "E1009", '`--json` reads the command from stdin, but the command line gives one: "ls"'),
    (["--color", "blue", "x"], "E1005", '--color: must be one of `auto`, `always`, `never`, got "blue"'),
    (["--cpu", "0.5", "x"], "E1005", '--cpu: must be a whole number, got "0.5"'),
    (["--env", "=v", "x"], "E1005", '--env: a name must not be empty nor contain `=` or a NUL byte, got ""'),
    (["--memory", "lots", "x"], "E1005", '--memory: must be a size such as `256M` or `1G`, got "lots"'),
    (["-m", "1K", "x"], "E1004", "--memory: must be from 1048576 to 4611686018427387904 bytes, got 1024"),
    (["--memory=", "x"], "E1005", '--memory: must be a size such as `256M` or `1G`, got ""'),
    (
        ["-t", "5sec", "x"],
        "E1005",
        '--timeout: must be a whole number of milliseconds or a duration such as `500ms`, `5s` or `2m`, got "5sec"',
    ),
    (["-t", "-5", "x"], "E1004", "--timeout: must be from 1 to 86400000 ms, got -5"),
    (["--cpu", "1e3", "x"], "E1005", '--cpu: must be a whole number, got "1e3"'),
    (["--user", "root", "x"], "E1005", '--user: must be a number, or UID:GID, from 0 to 65533, got "root"'),
    (["--max-pids", "9" * 5000, "x"], "E1005", '--max-pids: must be a whole number, got "' + "9" * 59 + "…"),
    (["-w", "sub", "x"], "E1005", '--workdir: must be an absolute path, got "sub"'),
    (["--readonly", "", "x"], "E1005", "--readonly: must not be empty"),
    (
        ["--bind", "a:/b:ro,forced", "x"],
        "E1005",
        '--bind mode: must be `ro`, `rw`, `ro,force` or `rw,force`, got "ro,forced"',
    ),
    (["--writable", "/a/../b", "x"], "E1005", '--writable: must not contain `..`, got "/a/../b"'),
    (["--bind", "/a", "x"], "E1005", '--bind: must be SRC:DEST or SRC:DEST:MODE, got "/a"'),
    (["--bind", "a:b:c:d", "x"], "E1005", '--bind: must be SRC:DEST or SRC:DEST:MODE, got "a:b:c:d"'),
    (["--bind", "a:b", "x"], "E1005", '--bind destination: must be an absolute path, got "b"'),
    (["--bind", ":/b", "x"], "E1005", "--bind source: must not be empty"),
    (["--bind", "a:/b:rx", "x"], "E1005", '--bind mode: must be one of `ro`, `rw`, got "rx"'),
    (["--workspace", "d:r0", "x"], "E1005", '--workspace mode: must be one of `cow`, `copy`, `ro`, `rw`, got "r0"'),
    (["--workspace", "", "x"], "E1005", "--workspace: must not be empty"),
    (
        ["--require", "magic", "x"],
        "E1005",
        '--require: must be one of `cgroup2`, `cgroup1`, `landlock`, `overlay`, `seccomp_notify`, got "magic"',
    ),
    (
        ["--on-violation", "kil", "x"],
        "E1005",
        '--on-violation: must be one of `kill_attacks`, `kill`, `refuse`, got "kil"; did you mean `kill`?',
    ),
    (["--on-output-limit", "x", "x"], "E1005", '--on-output-limit: must be one of `kill`, `truncate`, got "x"'),
]


@pytest.mark.parametrize(("words", "code", "message"), REFUSED, ids=[" ".join(row[0])[:40] for row in REFUSED])
def test_option_invalid_is_refused_with_code_and_name(words, code, message):
    """Each wrong command line is refused with its code and a message that names the option."""
    error = error_of(*words)
    assert (code, message) == (error.code, error.message)


def test_option_bind_without_destination_is_hinted_at():
    """A path alone is probably meant for the same place; more colons than a bind has need JSON."""
    assert "`--readonly /a` or `--writable /a` shows it at the same place" == error_of("--bind", "/a", "x").hint
    assert "isolation.binds" in error_of("--bind", "a:b:c:d", "x").hint


def test_option_cpu_that_looks_like_processors_is_hinted_at():
    """A weight out of range or with a fraction is probably meant as a number of processors."""
    for word in ("1", "0.5"):
        assert "`--cpus`" in error_of("--cpu", word, "x").hint
    assert "`--cpus`" not in error_of("--cpu", "many", "x").hint


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["x"], False), (["--network", "x"], False), (["--workspace=d", "x"], True), (["--no-workspace", "x"], True)],
)
def test_option_workspace_given_is_known(words, expected):
    """The interface can tell whether it is to fill in the current directory."""
    assert expected == read_options(words).workspace_given


def test_option_with_json_is_a_default():
    """With `--json` an option stands where the request says nothing, and gives way where it does."""
    options = read_options(["--json", "-t", "5", "--memory=1M", "-eA=1", "-eB=2", "--workspace=d"])
    text = b'{"command":["x"],"timeout_ms":9,"environment":{"A":"0"},"isolation":{"workspace":null}}'
    expected = Request(
        command=("x",), environment=(("A", "0"), ("B", "2")), timeout_ms=9, resources=Resources(memory_bytes=1 << 20)
    )
    assert expected == build_json_request(options, text)


def test_hint_names_only_options_that_exist():
    """Every option that a hint of the catalogue names can be given."""
    named = {name for code in error_codes.CODES for name in re.findall(r"`(--[a-z-]+)", error_codes.entry(code).hint)}
    assert set() == named - {option.long for option in OPTIONS}


def test_hint_names_only_fields_that_exist():
    """Every request field that a hint of the catalogue names can be given."""
    pattern = r"`((?:resources|isolation)\.\w+|timeout_ms|require)`"
    named = {name for code in error_codes.CODES for name in re.findall(pattern, error_codes.entry(code).hint)}
    assert set() == named - set(FIELDS)


def test_option_row_has_group_and_line():
    """Every option has a group and a line of help; choices are words that its reader accepts."""
    for option in OPTIONS:
        assert option.group in GROUPS
        assert option.about
        for word in option.choices:
            option.read(word, option.long)


def test_option_row_of_a_path_can_be_completed():
    """Options that take one path of the host say so."""
    paths = {option.long for option in OPTIONS if option.metavar == "<PATH>"}
    assert paths == {option.long for option in OPTIONS if option.metavar == "<PATH>" and option.takes == FILE}


@given(st.lists(st.text(st.characters(max_codepoint=300), max_size=8), max_size=6))
def test_fast_path_plain_command_gives_the_same_request(words):
    """`-- COMMAND` alone: the same request, or none where a checker might have something to say."""
    words = ["--", *words]
    plain = plain_request(words)
    try:
        read = build_request(read_options(words))
    except CapsuleError:
        assert plain is None
        return
    assert plain == read or (plain is None and not "".join(words).isascii())


def test_fast_path_long_command_is_left_to_the_checkers():
    """And whatever does not begin with `--`."""
    assert plain_request(["--", "x" * 5000]) is None
    assert plain_request(["--json"]) is None
    assert plain_request(["--verbose", "--", "true"]) is None
    assert plain_request([]) is None
