"""The JSON contract: every field's checks with their texts, defaults, the SDK's arguments, and the response."""

from __future__ import annotations

import base64
import inspect
import json
from pathlib import Path

import pytest

import capsule_run
import records
from capsule_run._base.errors import CapsuleError, Failure
from capsule_run._base.value import replace
from capsule_run.model.request import Bind, InputFile, Isolation, Request, Resources, Workspace, WorkspaceUpper
from capsule_run.model.result_parts import Metrics, Output
from capsule_run.request import arguments as sdk_arguments
from capsule_run.request import parse as request_parse
from capsule_run.request.validators import MAX_COMPONENT_BYTES, MAX_PATH_BYTES, nearest, shown

SEED = b"""{
  "command": ["python", "-c", "print('Hello from sandbox')"],
  "environment": {"PYTHONPATH": "/workspace"},
  "timeout_ms": 5000,
  "resources": {
    "memory_bytes": 268435456,
    "cpu_shares": 1024,
    "max_output_bytes": 1048576
  },
  "isolation": {
    "network": false,
    "readonly_paths": ["/usr", "/bin"],
    "writable_paths": ["/tmp"],
    "working_directory": "/workspace"
  }
}"""

FULL = Request(
    command=("cat", "", "é"),
    environment=(("A", ""), ("B", "x=y")),
    stdin=b"\x00\xff",
    timeout_ms=1,
    resources=Resources(
        memory_bytes=1 << 20,
        cpu_shares=2,
        max_output_bytes=0,
        max_pids=1,
        max_open_files=16,
        max_file_bytes=0,
        disk_bytes=4096,
    ),
    isolation=Isolation(
        network=False,
        readonly_paths=("/data",),
        writable_paths=("/out",),
        binds=(Bind(source="../x", destination="/x", mode="rw"), Bind(source="y", destination="/etc", force=True)),
        working_directory="/",
        workspace=Workspace(source=".", mode="rw"),
        user=0,
        hostname="box-1",
        tools=("node", "/opt/tool"),
    ),
    on_output_limit="truncate",
    execution_id="job:1",
    require=("landlock",),
)


def parse(**fields):
    return request_parse.parse_request(json.dumps({"command": ["true"], **fields}).encode())


def error_of(given):
    with pytest.raises(CapsuleError) as caught:
        request_parse.request_from_mapping(given)
    return caught.value


def test_request_of_the_readme_is_parsed():
    """The README's request is read, every field of it."""
    expected = Request(
        command=("python", "-c", "print('Hello from sandbox')"),
        environment=(("PYTHONPATH", "/workspace"),),
        timeout_ms=5000,
        resources=Resources(memory_bytes=268_435_456, cpu_shares=1024, max_output_bytes=1_048_576),
        isolation=Isolation(
            network=False, readonly_paths=("/usr", "/bin"), writable_paths=("/tmp",), working_directory="/workspace"
        ),
    )
    assert expected == request_parse.parse_request(SEED)


def test_request_field_absent_is_none():
    """A request of a command alone leaves every other field open for `policy` to fill."""
    assert Request(command=("true",)) == request_parse.parse_request(b'{"command":["true"]}')


@pytest.mark.parametrize("request_", [FULL, Request(command=("true",)), replace(FULL, stdin=b"")])
def test_request_to_mapping_and_back_is_equal(request_):
    """A request survives being made a mapping and back, zeros and empty values included."""
    assert request_ == request_parse.request_from_mapping(request_parse.request_to_mapping(request_))


HAND_MADE = [
    (Request(command=("echo", "a\0b")), "command[1]: must not contain a NUL byte"),
    (Request(command=()), "request: the field `command` is missing"),
    (Request(command=("x",), timeout_ms=0), "timeout_ms: must be from 1 to 86400000 ms, got 0"),
    (Request(command=("x",), environment=(("A", "1"), ("A", "2"))), "environment: a name is given twice"),
]


@pytest.mark.parametrize(("made", "message"), HAND_MADE)
def test_request_built_by_hand_is_validated(made, message):
    """A request that a program made without any interface is refused for what a interface would refuse."""
    with pytest.raises(CapsuleError) as caught:
        request_parse.check_request(made)
    assert message == caught.value.message


def test_request_built_by_hand_valid_is_unchanged():
    """A right request passes unchanged."""
    assert FULL == request_parse.check_request(FULL)


@pytest.mark.parametrize(
    ("table", "model", "extra"),
    [
        (request_parse._REQUEST, Request, {"stdin_base64"}),
        (request_parse._RESOURCES, Resources, set()),
        (request_parse._ISOLATION, Isolation, set()),
        (request_parse._BIND, Bind, set()),
        (request_parse._WORKSPACE, Workspace, set()),
    ],
    ids=["request", "resources", "isolation", "bind", "workspace"],
)
def test_request_fields_have_a_checker_each(table, model, extra):
    """Every field of a value has a checker, and no checker is for a field that is not there."""
    assert set(model.__annotations__) | extra == set(table)


ACCEPTED = [
    ({"stdin": ""}, "stdin", b""),
    ({"stdin": "a\u0000é\n"}, "stdin", "a\0é\n".encode()),
    ({"stdin": "\udcff"}, "stdin", b"\xff"),
    ({"stdin_base64": "AP8="}, "stdin", b"\x00\xff"),
    ({"stdin_base64": ""}, "stdin", b""),
    ({"environment": {}}, "environment", ()),
    ({"environment": {"A.B-c": "\udc80"}}, "environment", (("A.B-c", "\udc80"),)),
    ({"execution_id": "123e4567-e89b-12d3-a456-426614174000"}, "execution_id", "123e4567-e89b-12d3-a456-426614174000"),
    ({"execution_id": "x" * 128}, "execution_id", "x" * 128),
    ({"require": ["cgroup2", "overlay"]}, "require", ("cgroup2", "overlay")),
    ({"on_output_limit": "kill"}, "on_output_limit", "kill"),
    ({"timeout_ms": 86_400_000}, "timeout_ms", 86_400_000),
]


@pytest.mark.parametrize(("fields", "name", "value"), ACCEPTED)
def test_request_field_valid_is_accepted(fields, name, value):
    """What may be in a field arrives in the request as it is meant."""
    assert value == getattr(parse(**fields), name)


ISOLATION_ACCEPTED = [
    ({"workspace": None}, "workspace", None),
    ({"workspace": "sub/../dir"}, "workspace", Workspace(source="sub/../dir", mode="cow")),
    ({"workspace": {"source": "/d", "mode": "ro"}}, "workspace", Workspace(source="/d", mode="ro")),
    ({"binds": [{"source": "a", "destination": "/b"}]}, "binds", (Bind(source="a", destination="/b", mode="ro"),)),
    ({"readonly_paths": ["../a"]}, "readonly_paths", ("../a",)),
    ({"readonly_paths": ["//a/./b/"]}, "readonly_paths", ("/a/b",)),
    ({"readonly_paths": ["/" + "x" * MAX_COMPONENT_BYTES]}, "readonly_paths", ("/" + "x" * MAX_COMPONENT_BYTES,)),
    ({"readonly_paths": ["/\udcff"]}, "readonly_paths", ("/\udcff",)),
    ({"working_directory": "/..."}, "working_directory", "/..."),
    ({"user": 65_533}, "user", 65_533),
    ({"user": "12"}, "user", 12),
    ({"user": "0:65533"}, "user", "0:65533"),
    ({"hostname": "a" * 63}, "hostname", "a" * 63),
]


@pytest.mark.parametrize(("fields", "name", "value"), ISOLATION_ACCEPTED)
def test_isolation_field_valid_is_accepted(fields, name, value):
    """Defaults of binds and workspaces, the shortest spelling of paths, and the edges."""
    assert value == getattr(parse(isolation=fields).isolation, name)


LONG_PATH = "/" + "/".join(["x" * 200] * 21)
# What is wrong, the code, and the whole message: (fields to add to {"command": ["true"]}, code, message).
REFUSED = [
    ({"command": []}, "E1005", "command: must not be empty"),
    ({"command": [""]}, "E1005", "command[0]: must not be empty"),
    ({"command": "ls -l"}, "E1003", "command: must be a list of strings, got a string"),
    ({"command": None}, "E1003", "command: must be a list of strings, got null"),
    ({"command": ["ls", 5]}, "E1003", "command[1]: must be a string, got an integer"),
    ({"command": ["ls", "a\0b"]}, "E1005", "command[1]: must not contain a NUL byte"),
    ({"command": ["\ud800"]}, "E1005", "command[0]: contains the lone surrogate U+D800, which encodes no byte"),
    ({"cmd": 1}, "E1002", 'request: unknown field "cmd"'),
    ({"timeout": 1}, "E1002", 'request: unknown field "timeout"; did you mean `timeout_ms`?'),
    ({"comand": 1}, "E1002", 'request: unknown field "comand"; did you mean `command`?'),
    ({"env": {}}, "E1002", 'request: unknown field "env"; did you mean `environment`?'),
    ({"memory_bytes": 1}, "E1002", 'request: unknown field "memory_bytes"; did you mean `resources.memory_bytes`?'),
    ({"resources": {"memory": 1}}, "E1002", 'resources: unknown field "memory"; did you mean `memory_bytes`?'),
    ({"environment": []}, "E1003", "environment: must be an object, got a list"),
    ({"environment": {"A": 1}}, "E1003", "environment.A: must be a string, got an integer"),
    ({"environment": {"A": "x\0"}}, "E1005", "environment.A: must not contain a NUL byte"),
    ({"environment": {"a\nb": 1}}, "E1003", 'environment."a\\nb": must be a string, got an integer'),
    (
        {"environment": {"": "x"}},
        "E1005",
        'environment: a name must not be empty nor contain `=` or a NUL byte, got ""',
    ),
    (
        {"environment": {"A=": ""}},
        "E1005",
        'environment: a name must not be empty nor contain `=` or a NUL byte, got "A="',
    ),
    (
        {"environment": {"A\0": ""}},
        "E1005",
        'environment: a name must not be empty nor contain `=` or a NUL byte, got "A\\u0000"',
    ),
    ({"environment": None}, "E1003", "environment: must be an object, got null"),
    ({"stdin": 5}, "E1003", "stdin: must be a string, got an integer"),
    ({"stdin": "\udfff"}, "E1005", "stdin: contains the lone surrogate U+DFFF, which encodes no byte"),
    ({"stdin_base64": "AP8"}, "E1005", "stdin_base64: must be base64 (standard alphabet, padded, no line breaks)"),
    ({"stdin_base64": "A P8="}, "E1005", "stdin_base64: must be base64 (standard alphabet, padded, no line breaks)"),
    ({"stdin_base64": "é"}, "E1005", "stdin_base64: must be base64 (standard alphabet, padded, no line breaks)"),
    ({"stdin": "", "stdin_base64": ""}, "E1009", "stdin: `stdin` and `stdin_base64` cannot both be given"),
    (
        {"files": {"a/b/c": {"text": ""}, "a": {"text": ""}}},
        "E1009",
        "files: `a` cannot be both a file and a parent directory of `a/b/c`",
    ),
    ({"timeout_ms": 0}, "E1004", "timeout_ms: must be from 1 to 86400000 ms, got 0"),
    ({"timeout_ms": 86_400_001}, "E1004", "timeout_ms: must be from 1 to 86400000 ms, got 86400001"),
    ({"timeout_ms": 1 << 80}, "E1004", "timeout_ms: must be from 1 to 86400000 ms, got a number of 81 bits"),
    ({"timeout_ms": True}, "E1003", "timeout_ms: must be an integer, got a boolean"),
    ({"timeout_ms": 5000.0}, "E1003", "timeout_ms: must be an integer, got a number with a fraction"),
    ({"timeout_ms": "5000"}, "E1005", 'timeout_ms: must be a duration such as `500ms`, `5s` or `2m`, got "5000"'),
    ({"timeout_ms": "0s"}, "E1004", "timeout_ms: must be from 1 to 86400000 ms, got 0"),
    ({"timeout_ms": None}, "E1003", "timeout_ms: must be an integer, got null"),
    ({"resources": None}, "E1003", "resources: must be an object, got null"),
    ({"isolation": []}, "E1003", "isolation: must be an object, got a list"),
    ({"isolation": {"network": 1}}, "E1003", "isolation.network: must be true or false, got an integer"),
    ({"isolation": {"readonly_paths": "/a"}}, "E1003", "isolation.readonly_paths: must be a list, got a string"),
    (
        {"isolation": {"readonly_paths": ["/a", ""]}},
        "E1005",
        "isolation.readonly_paths[1]: must not be empty",
    ),
    (
        {"isolation": {"writable_paths": ["/a/../b"]}},
        "E1005",
        'isolation.writable_paths[0]: must not contain `..`, got "/a/../b"',
    ),
    ({"isolation": {"writable_paths": [""]}}, "E1005", "isolation.writable_paths[0]: must not be empty"),
    ({"isolation": {"writable_paths": ["/a\0"]}}, "E1005", "isolation.writable_paths[0]: must not contain a NUL byte"),
    (
        {"isolation": {"readonly_paths": [LONG_PATH]}},
        "E1008",
        f"isolation.readonly_paths[0]: must be at most {MAX_PATH_BYTES} bytes, got 4221",
    ),
    (
        {"isolation": {"readonly_paths": ["/" + "é" * 128]}},
        "E1008",
        "isolation.readonly_paths[0]: each name in a path is at most 255 bytes, got 256",
    ),
    (
        {"isolation": {"working_directory": "sub"}},
        "E1005",
        'isolation.working_directory: must be an absolute path, got "sub"',
    ),
    ({"isolation": {"working_directory": None}}, "E1003", "isolation.working_directory: must be a string, got null"),
    (
        {"isolation": {"workspace": 5}},
        "E1003",
        "isolation.workspace: must be a path, an object or null, got an integer",
    ),
    ({"isolation": {"workspace": ""}}, "E1005", "isolation.workspace: must not be empty"),
    ({"isolation": {"workspace": {"mode": "ro"}}}, "E1006", "isolation.workspace: the field `source` is missing"),
    (
        {"isolation": {"workspace": {"source": ".", "mode": "x"}}},
        "E1005",
        'isolation.workspace.mode: must be one of `cow`, `copy`, `ro`, `rw`, got "x"',
    ),
    ({"isolation": {"binds": [{"source": "a"}]}}, "E1006", "isolation.binds[0]: the field `destination` is missing"),
    ({"isolation": {"binds": [{"destination": "/a"}]}}, "E1006", "isolation.binds[0]: the field `source` is missing"),
    ({"isolation": {"binds": ["/a:/b"]}}, "E1003", "isolation.binds[0]: must be an object, got a string"),
    (
        {"isolation": {"binds": [{"source": "a", "destination": "/b"}, {"source": "a", "destination": "data"}]}},
        "E1005",
        'isolation.binds[1].destination: must be an absolute path, got "data"',
    ),
    (
        {"isolation": {"binds": [{"source": "a\0", "destination": "/b"}]}},
        "E1005",
        "isolation.binds[0].source: must not contain a NUL byte",
    ),
    (
        {"isolation": {"binds": [{"source": "a", "destination": "/b", "mode": "cow"}]}},
        "E1005",
        'isolation.binds[0].mode: must be one of `ro`, `rw`, got "cow"',
    ),
    (
        {"isolation": {"binds": [{"source": "a", "dest": "/b"}]}},
        "E1002",
        'isolation.binds[0]: unknown field "dest"; did you mean `destination`?',
    ),
    ({"isolation": {"user": 65_534}}, "E1004", "isolation.user: must be from 0 to 65533, got 65534"),
    (
        {"isolation": {"user": "root"}},
        "E1005",
        'isolation.user: must be a number, or UID:GID, from 0 to 65533, got "root"',
    ),
    (
        {"isolation": {"user": "1:2:3"}},
        "E1005",
        'isolation.user: must be a number, or UID:GID, from 0 to 65533, got "1:2:3"',
    ),
    ({"isolation": {"user": "5:65534"}}, "E1004", "isolation.user: must be from 0 to 65533, got 65534"),
    ({"isolation": {"user": True}}, "E1003", "isolation.user: must be an integer, got a boolean"),
    ({"on_output_limit": "drop"}, "E1005", 'on_output_limit: must be one of `kill`, `truncate`, got "drop"'),
    ({"on_output_limit": False}, "E1003", "on_output_limit: must be a string, got a boolean"),
    ({"require": "cgroup2"}, "E1003", "require: must be a list, got a string"),
    (
        {"require": ["cgroups"]},
        "E1005",
        (
            "require[0]: must be one of `cgroup2`, `cgroup1`, `landlock`, `overlay`, `seccomp_notify`, got "
            '"cgroups"; did you mean `cgroup2`?'
        ),
    ),
    ({"execution_id": 7}, "E1003", "execution_id: must be a string, got an integer"),
]


@pytest.mark.parametrize(("fields", "code", "message"), REFUSED, ids=[str(row[0])[:50] for row in REFUSED])
def test_request_invalid_is_refused_with_code_and_place(fields, code, message):
    """Each wrong request is refused with its code and a message that names the place and the thing."""
    error = error_of({"command": ["true"], **fields})
    assert (code, message) == (error.code, error.message)
    assert message.startswith(f"{error.details['field']}:")


@pytest.mark.parametrize("text", ["", "a b", "x" * 129, "é", "a/b", "a\n"])
def test_execution_id_is_safe_everywhere(text):
    """An execution id is refused when it could not be a file name or a word in a log line."""
    error = error_of({"command": ["true"], "execution_id": text})
    assert "E1005" == error.code
    assert error.message.startswith("execution_id: must be 1 to 128 of the characters `A-Z a-z 0-9 . _ : -`, got ")


@pytest.mark.parametrize("text", ["", "-a", "a-", "a.b", "a_b", "a" * 64, "é"])
def test_hostname_is_one_label(text):
    """A host name that is not one RFC 1123 label is refused."""
    error = error_of({"command": ["true"], "isolation": {"hostname": text}})
    assert ("E1005", "isolation.hostname") == (error.code, error.details["field"])


RANGES = [
    ("memory_bytes", 1 << 20, 1 << 62),
    ("cpu_shares", 2, 262_144),
    ("max_output_bytes", 0, 1 << 40),
    ("max_pids", 1, 4_194_304),
    ("max_open_files", 16, 1_048_576),
    ("max_file_bytes", 0, 1 << 62),
    ("disk_bytes", 4096, 1 << 62),
]


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_request_number_outside_its_range_is_refused(name, low, high):
    """The first and the last number of a range are accepted, their neighbours outside are not."""
    for number in (low, high):
        assert number == getattr(parse(resources={name: number}).resources, name)
    for number in (low - 1, high + 1, -1):
        error = error_of({"command": ["true"], "resources": {name: number}})
        assert ("E1004", low, high) == (error.code, error.details["minimum"], error.details["maximum"])


@pytest.mark.parametrize("given", [None, [], "x", 5, True])
def test_request_that_is_no_object_is_refused(given):
    """Anything but an object is refused as such."""
    error = error_of(given)
    assert ("E1003", "request: must be an object, got ") == (error.code, error.message[:32])


def test_request_without_command_is_refused():
    """A request without a command is refused."""
    error = error_of({})
    assert ("E1006", "request: the field `command` is missing") == (error.code, error.message)


def test_request_unknown_field_hint_lists_known_fields():
    """The hint for an unknown field lists those that exist there."""
    assert (
        "known fields: source, mode, hide_path"
        == error_of({"command": ["x"], "isolation": {"workspace": {"path": 1}}}).hint
    )


def test_request_errors_show_no_values():
    """The value of a variable, an argument or stdin appears in no error."""
    for wrong in (
        {"environment": {"TOKEN": "hunter2\0"}},
        {"environment": {"TOKEN": ["hunter2"]}},
        {"command": ["login", "hunter2\0"]},
        {"stdin": "hunter2\ud800"},
        {"stdin_base64": "hunter2"},
    ):
        error = error_of({"command": ["true"], **wrong})
        assert "hunter2" not in f"{error} {error.details} {error.hint}"


def test_command_size_one_mebibyte_is_the_most():
    """Arguments and environment may hold 1 MiB together, and not a byte more."""
    words = ["cat", *["x" * 1024] * 1023, "x" * (1024 - 3 - 4)]
    given = {"command": words, "environment": {"AB": "é"[:1]}}
    words[-1] = "x" * (1024 - 3 - len("AB=é".encode()))
    assert request_parse.request_from_mapping(given)
    words[-1] += "x"
    error = error_of(given)
    expected = "command: command and environment together must be at most 1048576 bytes, got 1048577"
    assert ("E1008", expected) == (error.code, error.message)


def test_command_word_count_too_large_is_refused():
    """So many words that their pointers alone would be too much for the kernel are refused."""
    error = error_of({"command": ["x"] * 65_537})
    assert ("E1008", "command: at most 65536 words and variables together, got 65537") == (error.code, error.message)


TEXTS = [
    (b"", "E1001", "request: is empty"),
    (b" \n", "E1001", "request: is empty"),
    (b'{"command": ["\xff"]}', "E1001", "request: is not valid UTF-8 at byte 14"),
    (b'{"command": ["a"]', "E1001", "malformed JSON at line 1 column 18: expecting ',' delimiter"),
    (b'{"command": ["a"], "command": ["b"]}', "E1001", 'malformed JSON at line 1 column 20: duplicate key "command"'),
    ('{"command": ["a"]}'.encode("utf-16"), "E1001", "request: is not valid UTF-8 at byte 0"),
]


@pytest.mark.parametrize(("text", "code", "message"), TEXTS)
def test_request_text_malformed_is_refused_with_the_place(text, code, message):
    """What is not one JSON text in UTF-8 is refused with the place."""
    with pytest.raises(CapsuleError) as caught:
        request_parse.parse_request(text)
    assert (code, message) == (caught.value.code, caught.value.message)


def test_request_text_oversized_is_refused_unread(monkeypatch):
    """A request above the limit is refused before it is read."""
    monkeypatch.setattr(request_parse, "MAX_REQUEST_BYTES", 10)
    with pytest.raises(CapsuleError) as caught:
        request_parse.parse_request(b"[" * 11)
    assert ("E1008", "request: must be at most 10 bytes, got 11") == (caught.value.code, caught.value.message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"execution_id": "job-7", "command": []}', "job-7"),
        (b'{"execution_id": "a b", "command": ["x"]}', None),
        (b'{"command": []}', None),
        (b"[]", None),
    ],
)
def test_request_invalid_response_has_the_execution_id(text, expected):
    """A request that is refused can be matched to its refusal, if its id could be read."""
    with pytest.raises(CapsuleError) as caught:
        request_parse.parse_request(text)
    assert expected == caught.value.execution_id


DEFAULTS = [
    ({}, {"timeout_ms": 5}, {"timeout_ms": 5}),
    ({"timeout_ms": 9}, {"timeout_ms": 5}, {"timeout_ms": 9}),
    ({"environment": {"A": "1"}}, {"environment": {"A": "2", "B": "3"}}, {"environment": {"A": "1", "B": "3"}}),
    ({"resources": {"max_pids": 1}}, {"resources": {"disk_bytes": 2}}, {"resources": {"max_pids": 1, "disk_bytes": 2}}),
    ({"resources": 5}, {"resources": {"max_pids": 2}}, {"resources": 5}),
    ({"require": []}, {"require": ["overlay"]}, {"require": []}),
    (
        {"isolation": {"workspace": None, "network": False}},
        {"isolation": {"workspace": "/x", "network": True, "user": 0}},
        {"isolation": {"workspace": None, "network": False, "user": 0}},
    ),
    (5, {"timeout_ms": 5}, 5),
]


@pytest.mark.parametrize(("given", "defaults", "merged"), DEFAULTS)
def test_request_defaults_fill_missing_fields(given, defaults, merged):
    """The request wins field by field; objects are completed, lists and single values are never mixed."""
    before = json.dumps([given, defaults])
    assert merged == request_parse.with_defaults(given, defaults)
    assert before == json.dumps([given, defaults])


def test_request_defaults_are_validated_like_the_request():
    """Defaults stand where the request says nothing, and are checked like the request."""
    defaults = {"timeout_ms": 7, "resources": {"max_pids": 3}}
    expected = Request(command=("x",), timeout_ms=7, resources=Resources(max_pids=4))
    assert expected == request_parse.parse_request(b'{"command":["x"],"resources":{"max_pids":4}}', defaults=defaults)
    with pytest.raises(CapsuleError):
        request_parse.parse_request(b'{"command":["x"]}', defaults={"timeout_ms": "soon"})


NEAREST = [
    ("comand", "command"),
    ("commadn", "command"),
    ("netwrok", "network"),
    ("env", "environment"),
    ("timeout_seconds", None),
    ("x", None),
    ("", None),
    ("c" * 10_000, None),
]


@pytest.mark.parametrize(("word", "expected"), NEAREST)
def test_nearest_name_is_found_for_small_slips(word, expected):
    """A slip of one letter in three, a swap, or the beginning of a name finds the name; nothing else does."""
    assert expected == nearest(word, ["command", "environment", "network", "timeout_ms"])


SHOWN = [
    (None, "null"),
    (True, "true"),
    (1.5, "1.5"),
    (float("nan"), "nan"),
    ("a\n\x1b", '"a\\n\\u001b"'),
    ("x" * 100, '"' + "x" * 59 + "…"),
    ([1], "a value of type `list`"),
]


@pytest.mark.parametrize(("value", "text"), SHOWN)
def test_message_value_is_short_and_printable(value, text):
    """A value in a message is short, and no control character gets to the reader's terminal."""
    assert text == shown(value)


# The SDK's arguments


def test_arguments_of_run_make_the_same_request():
    """The SDK's arguments make the request that the fields make; sizes may be words, mappings and tuples will do."""
    made = sdk_arguments.request_from_arguments(
        command=["cat"],
        env={"A": "1"},
        stdin=b"\xff",
        memory="256M",
        max_output=5,
        disk="1G",
        readonly=("/a",),
        workdir="/b",
        workspace="dir",
        network=True,
        user=None,
    )
    expected = Request(
        command=("cat",),
        environment=(("A", "1"),),
        stdin=b"\xff",
        resources=Resources(memory_bytes=256 << 20, max_output_bytes=5, disk_bytes=1 << 30),
        isolation=Isolation(
            network=True, readonly_paths=("/a",), working_directory="/b", workspace=Workspace(source="dir")
        ),
    )
    assert expected == made


class BytesPath:
    """A path whose text is bytes, as `os.PathLike` allows."""

    def __fspath__(self):
        return b"/b/\xff"


def test_arguments_of_run_accept_path_objects():
    """Wherever a path is a string, an `os.PathLike` is taken too: also in the command and in the environment."""
    path, made = Path("/a/b"), BytesPath()
    request = sdk_arguments.request_from_arguments(
        command=[path, "-x", made],
        env={"TOOL": path},
        workspace=path,
        workspace_upper=path,
        readonly=[path, made],
        writable=[path],
        tools=[path],
        workdir=path,
        profile=Path("p.toml"),
        files={Path("in.txt"): {"source": path}},
        collect_to=path,
        save_changes=path,
    )
    assert ("/a/b", "-x", "/b/\udcff") == request.command
    assert (("TOOL", "/a/b"),) == request.environment
    isolation = request.isolation
    assert (Workspace(source="/a/b"), "/a/b") == (isolation.workspace, isolation.workspace_upper.directory)
    assert (("/a/b", "/b/\udcff"), ("/a/b",), ("/a/b",)) == (
        isolation.readonly_paths,
        isolation.writable_paths,
        isolation.tools,
    )
    assert ("/a/b", "p.toml", "/a/b", "/a/b") == (
        isolation.working_directory,
        request.profile,
        request.collect_to,
        request.save_changes,
    )
    assert (InputFile(path="in.txt", source="/a/b"),) == request.files


def test_arguments_of_run_accept_value_classes():
    """Where a mapping is taken, the value of ours that stands for it is taken too."""
    workspace, upper = Workspace(source="/w", mode="ro"), WorkspaceUpper(directory="/u", bytes=1 << 20)
    file = InputFile(path="elsewhere", content=b"x", mode=0o755)
    request = sdk_arguments.request_from_arguments(
        command=["true"], workspace=workspace, workspace_upper=upper, files={"f": file}
    )
    assert (workspace, upper) == (request.isolation.workspace, request.isolation.workspace_upper)
    assert (replace(file, path="f"),) == request.files
    parts = {
        "command": ["true"],
        "resources": Resources(memory_bytes=1 << 20),
        "isolation": Isolation(binds=(Bind(source="/s", destination="/d"),)),
    }
    made = request_parse.request_from_mapping(parts)
    assert (parts["resources"], parts["isolation"]) == (made.resources, made.isolation)


def test_arguments_of_run_wrong_value_class_is_refused():
    """A value of ours in the wrong place is refused like a mapping with its fields."""
    with pytest.raises(CapsuleError, match="workspace: must be a path, an object or null"):
        sdk_arguments.request_from_arguments(command=["true"], workspace=Resources())
    with pytest.raises(CapsuleError, match="E1002: resources: unknown field"):
        request_parse.request_from_mapping({"command": ["true"], "resources": Workspace(source="/w")})


ARGUMENTS_REFUSED = [
    ({"memory": "lots"}, 'memory: must be a size such as `256M` or `1G`, got "lots"'),
    ({"memory": 5}, "memory: must be from 1048576 to 4611686018427387904 bytes, got 5"),
    ({"workdir": "x"}, 'workdir: must be an absolute path, got "x"'),
    ({"env": {"A": 5}}, "env.A: must be a string, got an integer"),
    ({"readonly": ["/x/.."]}, 'readonly[0]: must not contain `..`, got "/x/.."'),
    ({"command": "ls"}, "command: must be a list of strings, got a string"),
]


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS_REFUSED)
def test_arguments_of_run_invalid_one_is_named(arguments, message):
    """An error about an argument of the SDK names the argument, not the JSON field."""
    with pytest.raises(CapsuleError) as caught:
        sdk_arguments.request_from_arguments(**{"command": ["true"], **arguments})
    assert message == caught.value.message


def test_arguments_of_run_are_all_in_the_table():
    """The table of arguments has exactly those of `capsule_run.run`, and each fills a field of the request."""
    no_fields = {"config", "on_stdout", "on_stderr"}  # which files are read; where the output goes
    arguments = inspect.signature(capsule_run.run).parameters.keys() - no_fields
    assert list(arguments ^ sdk_arguments.ARGUMENTS.keys()) == []
    assert set() == set(sdk_arguments.ARGUMENTS.values()) - request_parse.FIELDS.keys()


def test_arguments_of_run_all_reach_their_field(monkeypatch):
    """Each argument of `capsule_run.run` reaches its field: none is dropped on the way or given for another."""
    seen = {}
    monkeypatch.setattr(capsule_run.api, "fields_from_arguments", lambda **given: seen.update(given))
    monkeypatch.setattr(capsule_run.api, "request_from_mapping", lambda _fields: None)
    monkeypatch.setattr(capsule_run.api, "perform_in_words", lambda _request, **_callbacks: None)
    names = [name for name in inspect.signature(capsule_run.run).parameters if not name.startswith("on_std")]
    capsule_run.run(names[0], **{name: name for name in names[1:]})
    assert {name: name for name in names} == seen


# The response

METRICS = Metrics(wall_ms=12.34567, user_ms=1.0, system_ms=2.0, cpu_ms=3.0, max_processes=0, startup={"core": 210})
CLEAN = records.result(
    stdout_stream=Output(data="é\n".encode(), total_bytes=3, truncated=False),
    metrics=METRICS,
    isolation={"layers": ["user"]},
)


def never_ran(error):
    """The result of a request that was refused."""
    return replace(
        CLEAN,
        status="error",
        exit_code=None,
        stdout_stream=None,
        stderr_stream=None,
        metrics=None,
        isolation={},
        error=error.failure(),
    )


def test_response_of_success_has_every_field_in_order():
    """A clean run's response has every field in order, only measured metrics, and neither signal nor error."""
    expected = {
        "execution_id": "job-7",
        "status": "success",
        "exit_code": 0,
        "stdout": "é\n",
        "stdout_bytes": 3,
        "stdout_truncated": False,
        "stderr": "",
        "stderr_bytes": 0,
        "stderr_truncated": False,
        "started_at": "2030-01-01T00:00:00.000Z",
        "finished_at": "2030-01-01T00:00:01.000Z",
        "metrics": {
            "wall_ms": 12.346, "user_ms": 1.0, "system_ms": 2.0, "cpu_ms": 3.0, "max_processes": 0, "startup": {"core": 210},
        },
        "isolation": {"layers": ["user"]},
    }  # fmt: skip
    response = CLEAN.to_dict()
    assert list(expected.items()) == list(response.items())


def test_response_keeps_exact_bytes():
    """Bytes that are not UTF-8 are there twice: as text with replacement characters, and exactly."""
    response = replace(CLEAN, stdout_stream=Output(data=b"a\xffb", total_bytes=90, truncated=True)).to_dict()
    assert ("a\ufffdb", b"a\xffb") == (response["stdout"], base64.b64decode(response["stdout_base64"]))
    assert (90, True) == (response["stdout_bytes"], response["stdout_truncated"])
    assert "stderr_base64" not in response


def test_response_of_a_killed_run_has_the_output():
    """A run that a limit ended has its error beside what it wrote until then."""
    error = Failure(code="E4001", message="out of memory", cause="memory", details={"limit_bytes": 1}, hint="")
    killed = replace(CLEAN, status="killed", exit_code=137, signal="SIGKILL", error=error)
    response = killed.to_dict()
    expected = {
        "code": "E4001",
        "category": "resource",
        "message": "out of memory",
        "cause": "memory",
        "details": {"limit_bytes": 1},
    }
    assert ("é\n", 137, "SIGKILL") == (response["stdout"], response["exit_code"], response["signal"])
    assert expected == response["error"]


def test_response_of_an_invalid_request_has_only_the_error():
    """A refused request's response has an error with its hint, and nothing that did not happen."""
    error = CapsuleError("E1006", "the field `command` is missing", details={"field": "request"}, hint="add it")
    expected = {
        "execution_id": "job-7",
        "status": "error",
        "started_at": CLEAN.started_at,
        "finished_at": CLEAN.finished_at,
        "error": {
            "code": "E1006",
            "category": "configuration",
            "message": "the field `command` is missing",
            "cause": "missing_field",
            "details": {"field": "request"},
            "hint": "add it",
        },
    }
    assert expected == never_ran(error).to_dict()


def test_readme_langchain_lines_read_success_and_error():
    """The README's LangChain lines work on a success and on a refusal alike."""

    def reader(response):
        if response["status"] == "success":
            return response.get("stdout", "")
        return f"Error: {response.get('error', {}).get('message', 'Unknown error')}"

    refused = never_ran(CapsuleError("E1006", "no command")).to_dict()
    assert ["é\n", "Error: no command"] == [reader(CLEAN.to_dict()), reader(refused)]
