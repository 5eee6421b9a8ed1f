"""Try to pass each ceiling in one way: `python ceiling_attempts.py WAY`, where the system's file is `CEILINGS`.

Prints one JSON object: each attempt → the code, rule, file and line of its error, or what it gave instead of an error. No
attempt may start a sandbox, so none needs what it asks for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND = Path(sys.executable).parent / "capsule-run"
# One ceiling a line, so that a line names its ceiling; the first line is the table's.
CEILINGS = """\
[ceilings]
memory = "64M"
timeout = 5000
cpu = 512
cpu-time = 1000
cpus = 0.5
max-output = "64K"
max-pids = 20
disk = "16M"
stack = "1M"
max-file-size = "1M"
max-open-files = 64
max-collect = "1M"
io-read-bps = "1M"
io-write-bps = "1M"
io-read-iops = 10
io-write-iops = 10
upper = "1M"
network = false
binds = ["/srv"]
tools = ["/opt/none"]
unmask = []
profiles = ["default"]
"""
# ceiling → what an option takes that passes it
ABOVE = {
    "memory": ("memory", "65M"),
    "timeout": ("timeout", "5001"),
    "cpu": ("cpu", "513"),
    "cpu-time": ("cpu-time", "1001"),
    "cpus": ("cpus", "0.51"),
    "max-output": ("max-output", "65537"),
    "max-pids": ("max-pids", "21"),
    "disk": ("disk", "17M"),
    "stack": ("stack", "unlimited"),
    "max-file-size": ("max-file-size", "1048577"),
    "max-open-files": ("max-open-files", "65"),
    "max-collect": ("max-collect", "1048577"),
    "io-read-bps": ("io-read-bps", "2M"),
    "io-write-bps": ("io-write-bps", "2M"),
    "io-read-iops": ("io-read-iops", "11"),
    "io-write-iops": ("io-write-iops", "11"),
    "upper": ("upper", "/srv:2M"),
    "network": ("network", True),
    "binds": ("readonly", ["/home"]),
    "tools": ("tool", [sys.executable]),
    "unmask": ("unmask", [".env"]),
    "profiles": ("profile", "strict"),
}
# More ways around `binds`: everything that shows, reads or writes a path of the host.
BINDS = {
    "writable": ["/home"], "bind": ["/home:/data"], "workspace": "/home", "file": {"a": "/etc/hostname"},
    "collect-to": "/home", "save-changes": "/home", "upper": "/home:1M",
}  # fmt: skip
LINES = {line.partition(" = ")[0]: number for number, line in enumerate(CEILINGS.splitlines(), 1)}


def attempts():
    """Every attempt: the ceiling, the option, its value."""
    yield from ((name, option, value) for name, (option, value) in ABOVE.items())
    yield from (("binds", option, value) for option, value in BINDS.items())


def words_of(option, value):
    if value is True:
        return [f"--{option}"]
    if isinstance(value, dict):
        value = [f"{name}={source}" for name, source in value.items()]
    return [f"--{option}={each}" for each in (value if isinstance(value, list) else [value])]


def fields_of(option, value):
    """The request fields of an option."""
    from capsule_run.request.options import parse_words

    return dict(parse_words(words_of(option, value)).fields)


def run_command(words, *, stdin="", directory="/", **variables):
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **variables}
    given = {"input": stdin, "capture_output": True, "text": True, "cwd": directory, "env": environment}
    words = [*words[:1], "--collect=*", *words[1:]] if words[:1] == ["batch"] else ["--collect=*", *words]
    done = subprocess.run([COMMAND, *words], check=False, timeout=60, **given)
    try:
        return json.loads(done.stdout)["error"]
    except (ValueError, KeyError):
        return {"code": "none", "message": f"exit {done.returncode}: {done.stdout}{done.stderr}", "details": {}}


def by_option(option, value):
    return run_command(["--pretty", *words_of(option, value), "--", "true"])


def by_json_option(option, value):
    return run_command(["--json", *words_of(option, value)], stdin='{"command": ["true"]}')


def by_request(option, value):
    return run_command(["--json"], stdin=json.dumps({"command": ["true"], **fields_of(option, value)}))


def by_batch(option, value):
    """The line of a batch asks for it, and the batch's options ask for it for a line."""
    errors = [
        run_command(["batch"], stdin=json.dumps({"command": ["true"], **fields_of(option, value)})),
        run_command(["batch", *words_of(option, value)], stdin='{"command": ["true"]}'),
    ]
    return errors[0] if errors[0]["message"] == errors[1]["message"] else {"code": "none", "message": repr(errors)}


def by_variable(option, value):
    text = "1" if value is True else "\n".join(word.partition("=")[2] for word in words_of(option, value))
    name = "CAPSULE_RUN_" + option.replace("-", "_").upper()
    return run_command(["--pretty", "--", "true"], **{name: text})


def toml_of(option, value):
    if isinstance(value, dict):
        return f"{option} = {{ {', '.join(f'{name} = {json.dumps(each)}' for name, each in value.items())} }}\n"
    return f"{option} = {json.dumps(value)}\n"


def with_file(name, text, words=(), **variables):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        given = {key: each.format(folder=folder, path=path) for key, each in variables.items()}
        empty = [] if "workspace" in text else ["--no-workspace"]
        return run_command(["--pretty", *words, *empty, "--", "true"], directory=folder, **given)


def by_user_file(option, value):
    return with_file("capsule-run/config.toml", toml_of(option, value), XDG_CONFIG_HOME="{folder}")


def by_home_file(option, value):
    return with_file(".config/capsule-run/config.toml", toml_of(option, value), HOME="{folder}")


def by_named_file(option, value):
    return with_file("x.toml", toml_of(option, value), CAPSULE_CONFIG="{path}")


def by_preset(option, value):
    text = f"[presets.above]\n{toml_of(option, value)}"
    return with_file("capsule-run/config.toml", text, ["--preset", "above"], XDG_CONFIG_HOME="{folder}")


def by_project_file(option, value):
    return with_file("capsule.toml", toml_of(option, value))


def caught(function):
    from capsule_run import CapsuleError

    try:
        result = function()
    except CapsuleError as error:
        return error.failure().to_dict()
    return {"code": "none", "message": repr(result), "details": {}}


def by_sdk(option, value):
    """`capsule_run.run`, with the argument of the field."""
    import capsule_run

    given = arguments_of(option, value)
    return by_execute(option, value) if given is None else caught(lambda: capsule_run.run(["true"], **given))


def arguments_of(option, value):
    """The arguments of `run` for an option; None if it has none for it."""
    from capsule_run.request.arguments import ARGUMENTS

    names = {field: name for name, field in ARGUMENTS.items()}
    given = {}
    for name, field in fields_of(option, value).items():
        inner = field.items() if name in ("resources", "isolation") else [("", field)]
        for key, each in inner:
            path = f"{name}.{key}" if key else name
            if path not in names:
                return None
            given[names[path]] = each
    return given


# Of one command, and so refused for a whole sandbox or a pool before any ceiling is.
OF_ONE_COMMAND = ("upper", "max-collect", "collect-to", "save-changes", "file")


def by_sandbox(option, value):
    import capsule_run

    given = arguments_of(option, value)
    if given is None or option in OF_ONE_COMMAND:
        return by_execute(option, value)
    return caught(lambda: capsule_run.Sandbox(**given))


def by_pool(option, value):
    import capsule_run

    given = arguments_of(option, value)
    if given is None or option in OF_ONE_COMMAND:
        return by_execute(option, value)
    return caught(lambda: capsule_run.Pool(**given))


def by_execute(option, value):
    from capsule_run import execute
    from capsule_run.request.parse import request_from_mapping

    return caught(lambda: execute(request_from_mapping({"command": ["true"], **fields_of(option, value)})))


def by_aio(option, value):
    import asyncio

    from capsule_run import aio
    from capsule_run.request.parse import request_from_mapping

    request = request_from_mapping({"command": ["true"], **fields_of(option, value)})
    return caught(lambda: asyncio.run(aio.execute(request)))


def by_map(option, value):
    """Each call has a result, with `map` and `aio.map`."""
    import asyncio

    import capsule_run
    from capsule_run import aio
    from capsule_run.request.parse import request_from_mapping

    request = request_from_mapping({"command": ["true"], **fields_of(option, value)})

    async def mapped():
        return [result async for result in aio.map([request])]

    results = [*capsule_run.map([request]), *asyncio.run(mapped())]
    errors = [
        result.error.to_dict() if result.error else {"code": "none", "message": repr(result)} for result in results
    ]
    return errors[0] if errors[0]["message"] == errors[1]["message"] else {"code": "none", "message": repr(errors)}


def by_monitor(option, value):
    from capsule_run.monitor import Monitor
    from capsule_run.request.parse import request_from_mapping

    request = request_from_mapping({"command": ["true"], **fields_of(option, value)})
    return caught(lambda: Monitor().execute(request))


def by_operator(option, value):
    """The limits of every tool for agents: LangChain, OpenAI, Anthropic and our own."""
    from capsule_run.tooling import operator

    return caught(lambda: operator(fields_of(option, value)))


def by_langchain(option, value):
    from capsule_run.integrations.langchain import SecureCodeExecutor
    from capsule_run.tooling import operator

    return caught(lambda: SecureCodeExecutor(limits=operator(fields_of(option, value))).invoke({"code": "1"}))


def by_mcp(option, value):
    """`capsule-run mcp` does not start; its error is text."""
    done = subprocess.run(
        [COMMAND, "mcp", *words_of(option, value)], input="", capture_output=True, text=True, check=False, timeout=60
    )
    return {
        "code": done.stderr.partition("E")[1] + done.stderr.partition("E")[2][:4],
        "message": done.stderr,
        "details": {},
    }


WAYS = {name.removeprefix("by_"): way for name, way in list(globals().items()) if name.startswith("by_")}


def main(way):
    found = {}
    for ceiling, option, value in attempts():
        error = WAYS[way](option, value)
        found[f"{ceiling} by {option}"] = [ceiling, error["code"], error["message"]]
    print(json.dumps(found))


if __name__ == "__main__":
    os.environ.pop("XDG_CONFIG_HOME", None)
    main(sys.argv[1])
