"""The operator's ceilings hold every interface: each is tried to be passed in every way there is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ceiling_attempts import ABOVE, BINDS, CEILINGS, LINES, WAYS

SCRIPT = Path(__file__).with_name("ceiling_attempts.py")
SYSTEM_FILE = "/etc/capsule-run/config.toml"


@pytest.mark.limit(240)
@pytest.mark.parametrize("way", sorted(set(WAYS) - {"project_file"}))
def test_ceiling_cannot_be_passed(way, under_system_file, needs):
    """An option, a request, a file, a preset, a variable, Python or a tool that asks for more is refused with the line."""
    if way == "langchain":
        needs("langchain_core")
    done = under_system_file(CEILINGS, [sys.executable, SCRIPT, way], timeout=200)
    assert "" == done.stderr
    found = json.loads(done.stdout)
    assert len(ABOVE) + len(BINDS) == len(found)
    for attempt, (ceiling, code, message) in found.items():
        place = f"(ceiling `{ceiling}` in {SYSTEM_FILE}, line {LINES[ceiling]})"
        assert (attempt, "E1012", True) == (attempt, code, place in message), message


@pytest.mark.limit(240)
def test_ceiling_cannot_be_passed_by_a_projects_file(under_system_file):
    """A project's file cannot even ask: each attempt is refused with its own line, or that of the ceiling."""
    done = under_system_file(CEILINGS, [sys.executable, SCRIPT, "project_file"], timeout=200)
    for attempt, (_ceiling, code, message) in json.loads(done.stdout).items():
        place = "/capsule.toml, line 1: `" if code == "E1013" else SYSTEM_FILE
        assert (attempt, True) == (attempt, code in ("E1012", "E1013") and place in message), message


def test_ceiling_is_what_a_request_gets_that_asks_for_nothing(under_system_file, capsule_cli):
    """Inside, the limits that were not given are those of the file, and the workspace outside `binds` is empty."""
    text = '[ceilings]\nmax-open-files = 64\nstack = "1M"\nbinds = ["/srv"]\n'
    shell = "ulimit -n; ulimit -s; ls /workspace | wc -l"
    done = under_system_file(text, [capsule_cli, "--", "sh", "-c", shell], cwd=SCRIPT.parent)
    assert ["64", "1024", "0"] == done.stdout.split()
    assert f"capsule-run: ceiling `binds` in {SYSTEM_FILE}, line 4 does not allow `{SCRIPT.parent}`" in done.stderr


def test_system_file_defaults_hold_for_execute_too(under_system_file):
    """What the system's file sets is the default of a `Request` as well."""
    script = (
        "from capsule_run import Request, execute; from capsule_run.model import Isolation; "
        "print(execute(Request(command=('hostname',))).stdout, "
        "execute(Request(command=('hostname',), isolation=Isolation(hostname='own'))).stdout)"
    )
    done = under_system_file('hostname = "box"', [sys.executable, "-c", script])
    assert ["box", "own"] == done.stdout.split()


@pytest.mark.parametrize("text", ["memory = [", "[ceilings]\nmemroy = 1", "memory = 'x'", "\0"])
def test_system_file_that_is_not_valid_ends_every_run(text, under_system_file, capsule_cli):
    """A malformed system file is no missing one: the command, Python and a dry run refuse with E1013."""
    run = "import capsule_run; capsule_run.run(['true'])"
    for argv in ([capsule_cli, "--", "true"], [capsule_cli, "--dry-run", "--", "true"], [sys.executable, "-c", run]):
        done = under_system_file(text, argv)
        assert (True, True) == (done.returncode != 0, f"E1013: {SYSTEM_FILE}" in done.stderr), done.stderr


@pytest.mark.parametrize("argv", [["exec", "--lang", "bash", "-"], ["mcp", "--json"]])
def test_ceiling_of_languages_holds_for_code(argv, under_system_file, capsule_cli):
    """`exec` refuses a language that is not allowed; the tools of an agent offer only allowed ones."""
    text = '[ceilings]\nlanguages = ["python"]\n'
    if argv[0] == "exec":
        done = under_system_file(text, [capsule_cli, *argv], input="echo 1")
        assert (
            f"E1012: language: `bash` is not allowed on this host; allowed: `python` (ceiling `languages` in {SYSTEM_FILE}"
            in done.stderr
        )
        return
    script = (
        "from capsule_run.tooling import *; limits = operator(); print(limits.languages); "
        "print(execute_code({'code': '1', 'language': 'bash'}, limits).text)"
    )
    done = under_system_file(text, [sys.executable, "-c", script])
    assert "('python',)\n" in done.stdout
    assert "language: must be one of `python`, got `bash`" in done.stdout


def test_ceiling_of_the_timeout_narrows_what_a_model_can_ask_for(under_system_file):
    """A tool's schema and its calls keep to the ceiling without a refusal that a model could not act on."""
    script = (
        "from capsule_run.tooling import *; limits = operator(); print(limits.max_timeout_ms); "
        "print(execute_code({'code': 'print(6*7)', 'language': 'python', 'timeout_seconds': 300}, limits).text)"
    )
    done = under_system_file("[ceilings]\ntimeout = 5000\n", [sys.executable, "-c", script])
    assert done.stdout.startswith("5000\nstatus: success")


def test_ceiling_is_not_passed_by_operator_limits_made_by_hand(under_system_file):
    """Limits that did not come from `operator` end in the same place, and the model reads nothing of the host."""
    script = (
        "from capsule_run.tooling import *; limits = Operator(limits={'resources': {'memory_bytes': 1 << 30}}, "
        "timeout_ms=1000, max_timeout_ms=1000, languages=('python',), shown_bytes=1000); "
        "print(execute_code({'code': '1', 'language': 'python'}, limits).text)"
    )
    done = under_system_file('[ceilings]\nmemory = "64M"\n', [sys.executable, "-c", script])
    assert done.stdout.startswith("status: not run\nerror E1012: the sandbox is not set up for this call\n")


def test_ceiling_of_the_audit_log_records_every_interface(under_system_file, capsule_cli, tmp_path):
    """Each run of the command and of Python is in the operator's log once, also with the same log as an option."""
    log = tmp_path / "log"
    text = f'[ceilings]\naudit-log = "{log}"\n'
    under_system_file(text, [capsule_cli, "--no-workspace", "--", "true"])
    under_system_file(text, [capsule_cli, "--no-workspace", "--audit-log", log, "--", "false"])
    under_system_file(text, [sys.executable, "-c", "import capsule_run; capsule_run.run(['sh', '-c', 'exit 3'])"])
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [("start", None), ("end", 0), ("start", None), ("end", 1), ("start", None), ("end", 3)] == [
        (line["event"], line.get("exit_code")) for line in lines
    ]


def test_ceiling_of_an_audit_log_that_cannot_be_written_ends_every_run(under_system_file, capsule_cli, tmp_path):
    """Without the first line nothing runs."""
    text = f'[ceilings]\naudit-log = "{tmp_path}/missing/log"\n'
    done = under_system_file(text, [capsule_cli, "--no-workspace", "--", "echo", "ran"])
    assert (125, "") == (done.returncode, done.stdout)
    assert "E6005: cannot write the audit log" in done.stderr


def test_system_file_is_not_chosen_by_the_caller(under_system_file, capsule_cli, tmp_path):
    """No variable, HOME or option leads around it."""
    free = tmp_path / "free"
    free.joinpath("capsule-run").mkdir(parents=True)
    free.joinpath("capsule-run", "config.toml").write_text("")
    variables = {
        "XDG_CONFIG_HOME": str(free), "XDG_CONFIG_DIRS": str(free), "HOME": str(free), "PATH": "/usr/bin:/bin",
        "CAPSULE_CONFIG": str(free / "capsule-run" / "config.toml"), "PYTHONPATH": str(free),
    }  # fmt: skip
    argv = [capsule_cli, "--no-config", "--memory", "1G", "--no-workspace", "--", "true"]
    done = under_system_file('[ceilings]\nmemory = "64M"\n', argv, env=variables)
    assert (2, True) == (done.returncode, "E1012" in done.stderr)


def test_doctor_keeps_to_the_ceilings(under_system_file, capsule_cli):
    """The doctor's own run asks for no more than is allowed."""
    done = under_system_file('[ceilings]\nbinds = ["/srv"]\nmemory = "64M"\n', [capsule_cli, "doctor"])
    assert "E1012" not in done.stdout + done.stderr
    assert "sandbox" in done.stdout


def test_ceiling_of_binds_holds_for_the_files_of_a_living_sandbox(under_system_file, tmp_path):
    """A sandbox that lives copies no other file of the host in or out, and applies no change to what may only be read."""
    shared = tmp_path / "shared"
    shared.mkdir()
    text = f'[ceilings]\nbinds = ["{shared}"]\n'
    script = f"""
import capsule_run
with capsule_run.Sandbox(workspace={str(shared)!r}) as box:
    box.run("echo 1 > new")
    for call in (
        lambda: box.files.upload("/etc/hostname", "x"),
        lambda: box.files.download("new", "{tmp_path}/new"),
        box.apply,
        lambda: box.run("true", timeout_ms=6000),
    ):
        try:
            print(call())
        except capsule_run.CapsuleError as error:
            print(error.code, error.details["line"])
"""
    text += "timeout = 5000\n"
    done = under_system_file(text, [sys.executable, "-c", script])
    assert ["E1012 2", "E1012 2", "E1012 2", "E1012 3"] == done.stdout.splitlines(), done.stderr


# The files of the caller's


def command(capsule_cli, words, folder, **options):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **options.pop("variables", {})}
    settings = {"capture_output": True, "text": True, "timeout": 60, "check": False, "cwd": folder, "env": environment}
    return subprocess.run([str(capsule_cli), *words], **settings, **options)


@pytest.fixture
def folder(tmp_path):
    """A home directory with a configuration file."""
    place = tmp_path / ".config" / "capsule-run" / "config.toml"
    place.parent.mkdir(parents=True)
    place.write_text("max-open-files = 64\n[env]\nA = 'user'\nB = 'user'\n[presets.few]\nmax-open-files = 32\n")
    return tmp_path


SHOWS = ["sh", "-c", "ulimit -n; echo $A $B"]


def test_user_file_is_a_default_of_the_command(folder, capsule_cli):
    """Command mode reads it; an option wins, variables of the environment are merged, `--no-config` reads none."""
    assert "64\nuser user\n" == command(capsule_cli, ["--no-workspace", "--", *SHOWS], folder).stdout
    words = ["--max-open-files", "32", "--env", "A=option", "--no-workspace", "--", *SHOWS]
    assert "32\noption user\n" == command(capsule_cli, words, folder).stdout
    assert "1024\n\n" == command(capsule_cli, ["--no-config", "--no-workspace", "--", *SHOWS], folder).stdout


def test_user_file_is_a_default_of_json_and_exec(folder, capsule_cli):
    """`--json` and `exec` read it too, and a request wins over it."""
    request = {"command": SHOWS, "environment": {"B": "request"}}
    answer = json.loads(command(capsule_cli, ["--json"], folder, input=json.dumps(request)).stdout)
    assert "64\nuser request\n" == answer["stdout"]
    words = ["exec", "--lang", "bash", "--no-workspace"]
    assert "64\nuser user\n" == command(capsule_cli, words, folder, input="ulimit -n; echo $A $B").stdout


def test_named_and_project_files_are_nearer_than_the_users(folder, capsule_cli):
    """`CAPSULE_CONFIG` wins over the project's file, and that over the user's; it is found from below."""
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    folder.joinpath("a", "capsule.toml").write_text("max-open-files = 48\n")
    named = folder / "named.toml"
    named.write_text("max-open-files = 200\n")
    settings = {"variables": {"HOME": str(folder)}}
    assert "48" == command(capsule_cli, ["--no-workspace", "--", *SHOWS], below, **settings).stdout.split()[0]
    settings["variables"]["CAPSULE_CONFIG"] = str(named)
    assert "200" == command(capsule_cli, ["--no-workspace", "--", *SHOWS], below, **settings).stdout.split()[0]


def test_python_reads_the_users_file_only_when_asked(folder):
    """`run` reads it with `config=True`; a preset of it is known then only, a shipped one always."""
    script = (
        "import capsule_run\nshow = ['sh', '-c', 'ulimit -n']\n"
        "print(capsule_run.run(show).stdout, capsule_run.run(show, config=True).stdout, "
        "capsule_run.run(show, preset='few', config=True).stdout)\n"
        "try: capsule_run.run(show, preset='few')\nexcept capsule_run.CapsuleError as error: print(error)\n"
        "try: capsule_run.run(show, config=1)\nexcept capsule_run.CapsuleError as error: print(error)\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd="/", capture_output=True, text=True)
    assert "" == done.stderr
    assert [
        "1024", "64", "32",
        "E1005: preset: unknown preset `few`",
        "E1003: config: must be true or false, got an integer",
    ] == [line.strip() for line in done.stdout.splitlines() if line.strip()]  # fmt: skip
