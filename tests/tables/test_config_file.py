"""Configuration files: keys and values, presets, what a project may set, ceilings. All from texts; no file is read."""

from __future__ import annotations

import tomllib

import pytest

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.engine import configuration, toml_file
from capsule_run.model.request import Isolation, Request, Resources, WorkspaceUpper
from capsule_run.policy import ceilings
from capsule_run.policy.ceilings import Share
from capsule_run.request import config_file
from capsule_run.request.config_file import NAMED, PROJECT, SYSTEM, USER
from capsule_run.request.parse import FIELDS

FILES = {kind: f"/{kind}.toml" for kind in (NAMED, PROJECT, USER, SYSTEM)}
ASKED = Request(command=("true",))


def layer(kind, text):
    return config_file.read_layer(kind, FILES[kind], tomllib.loads(text), toml_file.lines_of(text))


def fields(*layers, asked=None, given=None):
    found = configuration.settings(list(layers), asked, given=given or {})
    return {each.key: each.value for each in found.values()}


def error_of(function, *arguments, **named):
    with pytest.raises(CapsuleError) as caught:
        function(*arguments, **named)
    return caught.value


def rules(text):
    return {rule.key: rule for rule in layer(SYSTEM, f"[ceilings]\n{text}").ceilings}


VALUES = [
    ("memory = '1G'", {"memory": 1 << 30}),
    ("max_pids = 5", {"max-pids": 5}),
    ("cpus = 1.5", {"cpus": 1.5}),
    ("network = true", {"network": True}),
    ("network = false", {"network": False}),
    ("no-postmortem = true", {"no-postmortem": False}),
    ("no-workspace = true", {"no-workspace": None}),
    ("readonly = ['/a', '/b']", {"readonly": ("/a", "/b")}),
    ("tool = ['node', '/opt/x']", {"tool": ("node", "/opt/x")}),
    ("[env]\nA = '1'\nB = 2", {"env": {"A": "1", "B": "2"}}),
    ("[file]\n'a/b' = '/x'", {"file": {"a/b": {"source": "/x"}}}),
    ("bind = ['/a:/b:rw']", {"bind": ({"source": "/a", "destination": "/b", "mode": "rw"},)}),
    ("audit-log = '/x'", {"audit-log": "/x"}),
]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_config_value_is_read_as_the_option_reads_it(text, expected):
    """A key is an option's name and its value what the option takes; what is read is a valid request."""
    found = fields(layer(USER, text))
    assert expected == found


WRONG = [
    (USER, "\nmemroy = 1", 'line 2: unknown key "memroy"; did you mean `memory`?'),
    (USER, "memory = 'lots'", 'line 1: `memory`: must be a size such as `256M` or `1G`, got "lots"'),
    (USER, "memory = true", "line 1: `memory` must be <SIZE>, as a string or a number"),
    (USER, "memory = [1]", "line 1: `memory` must be <SIZE>, as a string or a number"),
    (USER, "network = 1", "line 1: `network` must be true or false"),
    (USER, "no-workspace = false", "line 1: `no-workspace` can only be true"),
    (USER, "readonly = '/a'", "line 1: `readonly` must be a list"),
    (USER, "readonly = ['a']", 'line 1: `readonly` must have an absolute path in a file, got "a"'),
    (USER, "bind = ['a:/b']", 'line 1: `bind` must have an absolute path in a file, got "a"'),
    (USER, "workspace = '.'", 'line 1: `workspace` must have an absolute path in a file, got "."'),
    (USER, "upper = 'a:1G'", 'line 1: `upper` must have an absolute path in a file, got "a"'),
    (USER, "profile = 'x.toml'", 'line 1: `profile` must have an absolute path in a file, got "x.toml"'),
    (USER, "file = {a = 'b'}", 'line 1: `file` must have an absolute path in a file, got "b"'),
    (USER, "env = ['A=1']", "line 1: `env` must be a table of strings"),
    (USER, "execution-id = 'a'", 'line 1: unknown key "execution-id"'),
    (USER, "json = true", 'line 1: unknown key "json"'),
    (USER, "preset = 1", "line 1: `preset` must be the name of a preset"),
    (USER, "presets = 1", "line 1: `presets` must be a table"),
    (USER, "[presets]\nx = 1", "line 2: `x` must be a table"),
    (USER, "[presets.x]\nextends = 1", "line 2: `extends` must be the name of a preset, or a list of names"),
    (USER, "[presets.x]\ndescription = 1", "line 2: `description` must be a string"),
    (USER, "[presets.x]\nmemory = 1", "line 2: `memory`: must be from 1048576 to 4611686018427387904 bytes, got 1"),
    (USER, "[ceilings]\nmemory = '1G'", "line 1: only the system's file can set ceilings"),
    (NAMED, "[ceilings]\nmemory = '1G'", "line 1: only the system's file can set ceilings"),
    (PROJECT, "[ceilings]\nmemory = '1G'", "line 1: only the system's file can set ceilings"),
    (PROJECT, "[presets.x]\nmemory = '1G'", "line 1: a project's file cannot define presets"),
    (SYSTEM, "[ceilings]\nmemroy = 1", 'line 2: unknown key "memroy"; did you mean `memory`?'),
    (SYSTEM, "[ceilings]\nbinds = ['x']", 'line 2: `binds` must have absolute paths, got "x"'),
    (SYSTEM, "[ceilings]\nbinds = '/x'", "line 2: `binds` must be a list of strings"),
    (SYSTEM, "[ceilings]\nlanguages = ['phyton']", "line 2: `languages`: "),
    (
        SYSTEM,
        "[ceilings]\nnetwork = ['pypi.org']",
        "line 2: `network` must be true or false: the sandbox has the host's whole network or none, no list of hosts",
    ),
]


@pytest.mark.parametrize(("kind", "text", "message"), WRONG)
def test_config_wrong_key_or_value_is_named_with_file_and_line(kind, text, message):
    """Whatever is wrong in a file is E1013, with the file, the line and what is accepted."""
    error = error_of(layer, kind, text)
    assert "E1013" == error.code
    assert error.message.startswith(f"{FILES[kind]}, {message}")
    assert FILES[kind] == error.details["file"]


def test_config_nearest_layer_wins():
    """Each field comes from the nearest file that sets it; variables are merged name by name."""
    user, system = "memory = '2G'\nmax-pids = 7\n[env]\nA = '1'", "memory = '1G'\ntimeout = 5\n[env]\nA = '0'\nB = '2'"
    found = fields(layer(NAMED, "memory = '3G'"), layer(USER, user), layer(SYSTEM, system))
    assert {"memory": 3 << 30, "max-pids": 7, "timeout": 5, "env": {"A": "1", "B": "2"}} == found


def test_config_preset_stands_where_it_is_named():
    """A preset is below what its own file sets and above every file further away; one that is asked for is above all."""
    mine = layer(USER, "preset = 'mine'\nmax-pids = 1\n[presets.mine]\nmax-pids = 2\nmemory = '2M'")
    system = layer(SYSTEM, "memory = '4M'\ntimeout = 4")
    assert {"max-pids": 1, "memory": 2 << 20, "timeout": 4} == fields(mine, system)
    assert 2 == fields(mine, system, asked="mine")["max-pids"]


def test_config_preset_inherits():
    """`extends` takes what the preset does not set; of several, the later one wins."""
    text = "[presets.a]\nmemory='1M'\ntimeout=1\n[presets.b]\ntimeout=2\n[presets.c]\nextends=['a','b']\nmax-pids=3"
    assert {"memory": 1 << 20, "timeout": 2, "max-pids": 3} == fields(layer(USER, text), asked="c")


def test_config_preset_unknown_or_in_a_circle_is_refused():
    """An unknown preset is named with a near one; a circle of presets, and a shipped name, with file and line."""
    assert "preset: unknown preset `judg`; did you mean `judge`?" == error_of(fields, asked="judg").message
    unknown = error_of(fields, layer(USER, "\npreset = 'x'"))
    assert "/user.toml, line 2: `preset`: unknown preset `x`" == unknown.message
    circle = layer(USER, "[presets.a]\nextends='b'\n[presets.b]\nextends='a'")
    message = "/user.toml, line 1: presets form a circle: `a` extends `b` extends `a`"
    assert message == error_of(fields, circle, asked="a").message
    anew = error_of(fields, layer(USER, "[presets.strict]\nmemory='1G'"))
    assert "/user.toml, line 1: `strict` is a preset of capsule-run itself" == anew.message


# A project's file

NOT_FOR_PROJECTS = {
    "bind": "['/a:/b']", "readonly": "['/a']", "writable": "['/a']", "tool": "['node']", "unmask": "['.env']",
    "file": "{a = '/etc/passwd'}", "workspace": "'/etc'", "upper": "'/a'", "env": "{PATH = '/workspace'}",
    "workdir": "'/workspace/x'", "apply-changes": "true", "save-changes": "'/a'", "collect": "['*']",
    "collect-to": "'/a'", "audit-log": "'/a'", "metrics-file": "'/a'", "audit-required": "true", "user": "0",
    "hostname": "'a'", "no-postmortem": "true", "ledger": "true", "on-output-limit": "'truncate'",
    "no-workspace": "true", "diff": "true",
}  # fmt: skip


def test_config_project_keys_are_all_judged():
    """Every key is in the list of what a project may set, or in the table of what it may not."""
    assert config_file.SETTABLE.keys() == {*config_file.TIGHTENING, *NOT_FOR_PROJECTS}


@pytest.mark.parametrize("key", NOT_FOR_PROJECTS)
def test_config_project_cannot_show_or_write_anything(key):
    """A checkout's file cannot show a path, write one, change the environment, or hide what happened."""
    error = error_of(layer, PROJECT, f"{key} = {NOT_FOR_PROJECTS[key]}")
    assert "E1013" == error.code
    assert f"/project.toml, line 1: `{key}`: a project's file can only lower limits" in error.message


LOOSER = [
    ("memory = '513M'", ""),
    ("memory = '2G'", "memory = '1G'"),
    ("timeout = 30001", ""),
    ("max-pids = 101", ""),
    ("stack = 'unlimited'", ""),
    ("disk = '449M'", ""),
    ("disk = '2G'", "memory = '1G'"),
    ("cpus = 2", "cpus = 1"),
    ("max-collect = '65M'", ""),
    ("network = true", ""),
    ("profile = 'default'", "profile = 'strict'"),
    ("profile = 'default+ptrace'", ""),
    ("profile = '/x.toml'", ""),
    ("on-violation = 'refuse'", ""),
    ("on-violation = 'kill_attacks'", "on-violation = 'kill'"),
    ("preset = 'build'", ""),
    ("preset = 'mine'", "[presets.mine]\nnetwork = true"),
]


@pytest.mark.parametrize(("text", "user"), LOOSER)
def test_config_project_cannot_raise_what_holds_without_it(text, user):
    """A value that is looser than the user's, or than our default, is refused with file and line."""
    error = error_of(fields, layer(PROJECT, text), layer(USER, user))
    assert "E1013" == error.code
    assert "/project.toml, line 1: `" in error.message or "/project.toml" == error.details["file"]


TIGHTER = [
    ("memory = '100M'", "", {"memory": 100 << 20}),
    ("memory = '2G'", "memory = '3G'", {"memory": 2 << 30}),
    ("cpus = 2", "", {"cpus": 2.0}),
    ("network = false", "network = true", {"network": False}),
    ("profile = 'strict'", "", {"profile": "strict"}),
    ("on-violation = 'kill'", "", {"on-violation": "kill"}),
    ("require = ['landlock']", "require = ['cgroup2']", {"require": ("cgroup2", "landlock")}),
    ("preset = 'tight'", "[presets.tight]\nmemory = '1M'", {"memory": 1 << 20}),
]


@pytest.mark.parametrize(("text", "user", "expected"), TIGHTER)
def test_config_project_can_lower_what_holds_without_it(text, user, expected):
    """What is tighter holds, above the user's file; requirements are added."""
    assert expected == fields(layer(PROJECT, text), layer(USER, user))


def test_config_project_value_that_an_option_overrides_is_not_judged():
    """A limit that the caller gives makes the project's value for it irrelevant."""
    assert {} == fields(layer(PROJECT, "memory = '2G'"), given={"resources": {"memory_bytes": 1 << 20}})


# Ceilings

CEILING = {
    "timeout": "1000", "memory": "'64M'", "cpu": "512", "max-output": "'4K'", "max-pids": "20", "disk": "'16M'",
    "stack": "'1M'", "max-file-size": "'1M'", "max-open-files": "64", "cpus": "0.5", "cpu-time": "500",
    "io-read-bps": "'1M'", "io-write-bps": "'1M'", "io-read-iops": "10", "io-write-iops": "10", "max-collect": "'1M'",
}  # fmt: skip


def test_ceiling_table_has_every_limit():
    """Every key of a limit has a ceiling in the table, and every numeric field of a request has a key."""
    assert {*config_file.LIMITS} == CEILING.keys()
    numeric = {path for path, check in FIELDS.items() if check.__qualname__.startswith(("integer", "number"))}
    covered = {config_file.SETTABLE[name].field for name in config_file.LIMITS}
    assert {"collect_file_bytes"} == numeric - covered  # held to `max-collect` by `bounded`


@pytest.mark.parametrize("key", CEILING)
def test_ceiling_of_a_limit_holds(key):
    """A limit above it is refused with rule, file and line; the ceiling itself is accepted; what is not given is lowered."""
    found = rules(f"{key} = {CEILING[key]}")
    rule = found[key]
    asked = replace(ASKED, collect=("*",))
    lowered = ceilings.bounded(asked, found, [], [])
    assert rule.value == ceilings.given(lowered, rule.field)
    assert lowered == ceilings.bounded(lowered, found, [], [])
    above = ceilings._with(asked, rule.field, rule.value * 2)
    error = error_of(ceilings.bounded, above, found, [], [])
    assert ("E1012", f"ceilings.{key}", "/system.toml", 2) == (
        error.code,
        error.details["rule"],
        error.details["file"],
        error.details["line"],
    )
    assert error.message.startswith(f"{rule.field}: must be at most ")
    assert error.message.endswith(f"(ceiling `{key}` in /system.toml, line 2)")
    below = ceilings._with(asked, rule.field, type(rule.value)(rule.value / 2))
    assert below == ceilings.bounded(below, found, [], [])


REFUSED = [
    ("stack = '1G'", {"resources": Resources(stack_bytes="unlimited")}),
    ("max-collect = '1M'", {"collect_file_bytes": 2 << 20}),
    ("upper = '1G'", {"isolation": Isolation(workspace_upper=WorkspaceUpper(directory="/x"))}),
    ("upper = '1G'", {"isolation": Isolation(workspace_upper=WorkspaceUpper(directory="/x", bytes=2 << 30))}),
    ("network = false", {"isolation": Isolation(network=True)}),
    ("profiles = ['strict']", {"profile": "default"}),
    ("profiles = ['strict']", {"profile": "build"}),
    ("profiles = ['default']", {"profile": "default+ptrace"}),
    ("profiles = ['default']", {"profile": "/x.toml"}),
    ("profiles = []", {"profile": "strict"}),
    ("unmask = []", {"isolation": Isolation(unmask=(".env",))}),
]


@pytest.mark.parametrize(("text", "asked"), REFUSED)
def test_ceiling_of_another_kind_holds(text, asked):
    """What is not in a list, or is without a bound, is refused."""
    error = error_of(ceilings.bounded, replace(ASKED, **asked), rules(text), [], [])
    assert ("E1012", 2) == (error.code, error.details["line"])


def test_ceiling_of_profiles_decides_the_default():
    """A request without a profile gets the first allowed one, if `default` is not allowed."""
    assert "strict" == ceilings.bounded(ASKED, rules("profiles = ['strict']"), [], []).profile
    assert ceilings.bounded(ASKED, rules("profiles = ['strict', 'build']"), [], []).profile is None


def test_ceiling_of_requirements_adds_to_the_request():
    """`require` is added to every request."""
    asked = replace(ASKED, require=("cgroup2",))
    assert ("cgroup2", "landlock") == ceilings.bounded(asked, rules("require = ['landlock']"), [], []).require


SHARES = [
    ("/srv/data/x", "ro", True),
    ("/srv/data", "ro", True),
    ("/srv/database", "ro", False),
    ("/srv", "ro", False),
    ("/srv/data/x", "rw", False),
    ("/scratch/x", "rw", True),
    ("/scratch/x", "ro", True),
    ("/", "ro", False),
]


@pytest.mark.parametrize(("path", "mode", "is_allowed"), SHARES)
def test_ceiling_of_binds_is_by_whole_names_and_by_mode(path, mode, is_allowed):
    """A path is allowed beneath a listed directory, and for writing only beneath one with `:rw`."""
    found = rules("binds = ['/srv/data', '/scratch/:rw']")
    share = Share(field="isolation.binds[0]", asked=path, path=path, mode=mode)
    assert is_allowed == ceilings.allows(found["binds"], share)
    if not is_allowed:
        assert "E1012" == error_of(ceilings.bounded, ASKED, found, [share], []).code


# Lines

LINES = """\
# a comment
a = 1

[t] # t
b = '''
x = 1
'''
c = [
  1, # ]
  2,
]
d.e = 2
[t.u]
f = {g = 1}
"""


def test_toml_lines_are_those_of_the_keys():
    """Each key has the line it begins in, whatever its value looks like."""
    found = toml_file.lines_of(LINES)
    assert {("a",): 2, ("t",): 4, ("t", "b"): 5, ("t", "c"): 8, ("t", "d"): 12, ("t", "d", "e"): 12} == {
        path: line for path, line in found.items() if line < 13
    }
    assert (13, 14, 14) == (found["t", "u"], found["t", "u", "f"], found["t", "u", "f", "g"])


def test_toml_value_of_many_lines_ends_the_search_for_lines():
    """A value of more than a hundred lines is valid, and costs no time: what follows has no line."""
    text = "a = [\n" + "1,\n" * 5000 + "]\nb = 1"
    assert {("a",), ("b",)} > toml_file.lines_of(text).keys()
