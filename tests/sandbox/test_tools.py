"""Interpreters and tools outside /usr: each layout that people have is shown with what it needs, and nothing beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import uuid
from pathlib import Path

import pytest
from inside import INSTALLED, code_of

from capsule_run._base.lexical_paths import trees_of
from capsule_run.host import tools

CANARY = f"capsule-canary-{os.getpid()}-{uuid.uuid4().hex}"
VERSION = "python{}.{}".format(*sys.version_info[:2])
SYSTEM = Path("/usr/bin/python3").resolve()  # what the layouts are made of: a copy of it and links to its library


def program(path, text):
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def python_at(prefix):
    """A Python installation: a program of its own, and a library."""
    name = SYSTEM.name
    prefix.joinpath("bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(SYSTEM, prefix / "bin" / name)
    for link in ("python3", "python"):
        prefix.joinpath("bin", link).symlink_to(name)
    library = prefix / "lib" / name
    library.mkdir(parents=True)
    for entry in Path("/usr/lib", name).iterdir():
        library.joinpath(entry.name).symlink_to(entry)
    return prefix


def environment_at(path, home):
    """A virtual environment on the Python in the folder `home`, without pip."""
    site = path / "lib" / SYSTEM.name / "site-packages"
    site.mkdir(parents=True)
    site.joinpath("only_here.py").write_text("where = __file__\n")
    path.joinpath("bin").mkdir()
    path.joinpath("bin", "python").symlink_to(home / "python3")
    path.joinpath("bin", "python3").symlink_to("python")
    path.joinpath("pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    return path


@pytest.fixture
def home(place):
    """A home directory with secrets in the usual places, and the caller's environment that says so."""
    folder = place / "home"
    for name in (".ssh", ".config", ".local/share/keyrings", ".local/bin", "project", "bin", ".pyenv", ".nvm"):
        folder.joinpath(name).mkdir(parents=True)
        folder.joinpath(name, CANARY).write_text(CANARY)
    folder.joinpath(CANARY).write_text(CANARY)
    return folder


@pytest.fixture
def ask(inside, home):
    """Runs inside with that home, `folders` of it first on PATH, and checks that no secret of it can be found."""

    def run(command, *, folders=(), **isolation):
        path = ":".join([*(str(home / folder) for folder in folders), "/usr/bin", "/bin"])
        process = {"env": {"PATH": path, "HOME": str(home)}, "cwd": home / "project"}
        words = ["sh", "-c", f'"$@"; status=$?; find / -name {CANARY} 2>/dev/null >&2; exit $status', "sh", *command]
        response = inside(words, isolation=isolation, process=process)
        assert CANARY not in response.get("stderr", ""), response["stderr"]
        return response

    ask_home = home
    run.home = ask_home
    run.plain = lambda command, folders=(), **isolation: inside(
        command,
        isolation=isolation,
        process={
            "env": {"PATH": ":".join([*(str(home / f) for f in folders), "/usr/bin"]), "HOME": str(home)},
            "cwd": home / "project",
        },
    )
    return run


PREFIXES = "import sys, only_here; print(sys.prefix, sys.base_prefix, only_here.where.startswith(sys.prefix))"


@pytest.mark.parametrize("by", ["program", "directory"])
def test_tool_virtual_environment_is_python(ask, home, by):
    """An environment of the system's Python is shown by its program or its directory, and is what `python` means."""
    environment = environment_at(home / "project" / ".venv", Path("/usr/bin"))
    named = environment / "bin" / "python" if by == "program" else environment
    response = ask(["python", "-c", PREFIXES], tools=[str(named)])
    assert f"{environment} /usr True\n" == response["stdout"], response


def test_tool_relative_path_is_the_callers(ask, home):
    """`.venv` is relative to the caller's directory."""
    environment = environment_at(home / "project" / ".venv", Path("/usr/bin"))
    assert f"{environment} /usr True\n" == ask(["python", "-c", PREFIXES], tools=[".venv"])["stdout"]


def test_tool_uv_environment_works(ask, home):
    """uv's layout: the environment's base is behind a link of a folder's, which is made again inside."""
    pythons = home / ".local" / "share" / "uv" / "python"
    python_at(pythons / "cpython-3.11.2-linux")
    pythons.joinpath("cpython-3.11-linux").symlink_to("cpython-3.11.2-linux")
    environment = environment_at(home / "project" / ".venv", pythons / "cpython-3.11-linux" / "bin")
    response = ask(["python", "-c", PREFIXES], tools=[".venv/bin/python"])
    assert f"{environment} {pythons}/cpython-3.11-linux True\n" == response["stdout"], response


def test_tool_conda_environment_works(ask, home):
    """conda's layout: a Python and its tools in one prefix, with `conda-meta`."""
    prefix = python_at(home / "miniconda3" / "envs" / "science")
    prefix.joinpath("conda-meta").mkdir()
    prefix.joinpath("conda-meta", "history").write_text("")
    program(prefix / "bin" / "tidy", f"#!{prefix}/bin/python\nimport sys; print(sys.prefix)\n")
    assert f"{prefix}\n" == ask(["tidy"], tools=[str(prefix / "bin" / "tidy")])["stdout"]


@pytest.mark.parametrize("chosen", ["3.11.9", "3.11", "file"])
def test_tool_pyenv_shim_is_resolved(ask, home, chosen):
    """pyenv's layout: the shim on PATH is seen through, to the version that pyenv would choose."""
    python_at(home / ".pyenv" / "versions" / "3.9.1")
    prefix = python_at(home / ".pyenv" / "versions" / "3.11.9")
    program(home / ".pyenv" / "shims" / "python3", "#!/bin/sh\nexec pyenv exec python3 $*\n")
    home.joinpath(".pyenv", "version").write_text("3.9.1\n" if chosen == "file" else f"{chosen}\n")
    if chosen == "file":
        home.joinpath("project", ".python-version").write_text("3.11.9\n")
    response = ask(["python3", "-c", "import sys; print(sys.prefix)"], folders=[".pyenv/shims"], tools=["python3"])
    assert f"{prefix}\n" == response["stdout"], response


def node_at(prefix):
    """A node installation: `node` (a script that runs scripts of shell), and `npm` as a link into its modules."""
    program(prefix / "bin" / "node", '#!/bin/sh\nexec /bin/sh "$@"\n')
    program(prefix / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js", "#!/usr/bin/env node\necho npm runs\n")
    prefix.joinpath("bin", "npm").symlink_to("../lib/node_modules/npm/bin/npm-cli.js")
    prefix.joinpath("include", "node").mkdir(parents=True)
    return prefix


def test_tool_nvm_node_brings_npm(ask, home):
    """nvm's layout: `--tool node` shows the whole tree of that node, so that npm works too."""
    node_at(home / ".nvm" / "versions" / "node" / "v20.1.0")
    response = ask(["npm"], folders=[".nvm/versions/node/v20.1.0/bin"], tools=["node"])
    assert "npm runs\n" == response["stdout"], response


def test_tool_script_brings_its_interpreter(ask, home):
    """A tool that says `#!/usr/bin/env node`, reached by a link into node_modules, brings its node along."""
    node_at(home / ".nvm" / "versions" / "node" / "v20.1.0")
    modules = home / ".local" / "lib" / "node_modules"
    program(modules / "typescript" / "bin" / "tsc", "#!/usr/bin/env node\necho compiled\n")
    home.joinpath(".local", "bin", "tsc").symlink_to("../lib/node_modules/typescript/bin/tsc")
    folders = [".local/bin", ".nvm/versions/node/v20.1.0/bin"]
    assert "compiled\n" == ask(["tsc"], folders=folders, tools=["tsc"])["stdout"]


def test_tool_script_with_interpreter_outside_usr_works(ask, home):
    """A script whose `#!` line names a Python outside /usr is shown with that Python."""
    prefix = python_at(home / ".local" / "share" / "pythons" / "own")
    program(home / "bin" / "report", f"#!{prefix}/bin/python\nimport sys; print(sys.prefix)\n")
    assert f"{prefix}\n" == ask(["report"], folders=["bin"], tools=["report"])["stdout"]


def test_tool_single_program_is_shown_alone(ask, home):
    """A program that is in no installation is shown alone: its folder has nothing else."""
    shutil.copy("/usr/bin/echo", home / ".local" / "bin" / "hello")
    folder = home / ".local" / "bin"
    response = ask(["sh", "-c", f"hello hi; ls -A {folder}; ls -A {home}"], folders=[".local/bin"], tools=["hello"])
    assert "hi\nhello\n.local\n" == response["stdout"], response


def test_tool_rustup_proxy_is_resolved(ask, home):
    """rustup's proxies are seen through, to the program of the default toolchain."""
    chain = home / ".rustup" / "toolchains" / "stable-x86_64-unknown-linux-gnu"
    chain.joinpath("lib", "rustlib").mkdir(parents=True)
    program(chain / "bin" / "cargo", "#!/bin/sh\necho cargo of the toolchain\n")
    program(home / ".cargo" / "bin" / "rustup", "#!/bin/sh\necho rustup\n")
    home.joinpath(".cargo", "bin", "cargo").symlink_to("rustup")
    home.joinpath(".rustup", "settings.toml").write_text('default_toolchain = "stable"\n')
    assert "cargo of the toolchain\n" == ask(["cargo"], folders=[".cargo/bin"], tools=["cargo"])["stdout"]


def test_tool_brew_prefix_is_one_tree(ask, home):
    """linuxbrew's prefix is shown as one tree: its programs are links into its Cellar."""
    prefix = home / ".linuxbrew"
    program(prefix / "bin" / "brew", "#!/bin/sh\n")
    program(prefix / "Cellar" / "jq" / "1.7" / "bin" / "jq", f"#!/bin/sh\ncat {prefix}/lib/data\n")
    prefix.joinpath("lib").mkdir()
    prefix.joinpath("lib", "data").write_text("from the prefix\n")
    prefix.joinpath("bin", "jq").symlink_to("../Cellar/jq/1.7/bin/jq")
    assert "from the prefix\n" == ask(["jq"], folders=[".linuxbrew/bin"], tools=["jq"])["stdout"]


@pytest.mark.root
def test_tool_in_opt_shows_its_own_tree(ask):
    """A program in /opt/NAME is shown with /opt/NAME, and with nothing else of /opt."""
    tree = Path("/opt", CANARY.replace("canary", "tool"))
    try:
        program(tree / "deep" / "bin" / "run", f"#!/bin/sh\ncat {tree}/data; ls /opt\n")
        tree.joinpath("data").write_text("data\n")
        assert f"data\n{tree.name}\n" == ask([str(tree / "deep/bin/run")], tools=[str(tree / "deep/bin/run")])["stdout"]
    finally:
        shutil.rmtree(tree)


def test_tool_nix_store_is_one_tree(place, monkeypatch):
    """A program in nix's store, also through the links of a profile, is shown with the whole store."""
    store = place / "nix" / "store"
    monkeypatch.setattr(tools, "STORE", str(store))
    program(store / "abc-hello" / "bin" / "hello", "#!/bin/sh\n")
    place.joinpath("profile").symlink_to("nix/store/abc-hello")
    shown = tools.find(str(place / "profile/bin/hello"), "--tool", search_path=(), home="/root", directory="/")
    assert [str(store)] == [source.path for source in shown.sources]
    assert ((str(place / "profile"), "nix/store/abc-hello"),) == shown.links
    assert (str(place / "profile/bin"),) == shown.path


HINT = re.compile(r"`isolation.tools` `([^`]+)`")


@pytest.mark.parametrize("named", ["name", "path", "shebang"])
def test_tool_hint_of_e3004_works_as_given(ask, home, named):
    """A command that only the host has is E3004; the option in its hint, given as it stands, makes it run."""
    node_at(home / ".nvm" / "versions" / "node" / "v20.1.0")
    folder = home / ".nvm" / "versions" / "node" / "v20.1.0" / "bin"
    script = program(home / "project" / "work.js", f"#!{folder}/node\necho worked\n")
    folder.joinpath("nodejs-20").symlink_to("node")
    words = ["-c", "echo worked"]
    command = {"name": ["nodejs-20", *words], "path": [str(folder / "node"), *words], "shebang": ["./work.js"]}
    isolation = {"workspace": str(script.parent)}
    response = ask.plain(command[named], [folder], **isolation)
    assert "E3004" == code_of(response), response
    option = HINT.search(response["error"]["hint"]).group(1)
    assert "worked\n" == ask.plain(command[named], [folder], tools=[option], **isolation)["stdout"]


def test_command_in_an_unshared_directory_is_e3004(inside, place):
    """A relative command that the caller's directory has, but the workspace does not, is E3004 and says how to share it."""
    program(place / "job.sh", "#!/bin/sh\necho ran\n")
    done = inside.cli("--no-workspace", "--", "./job.sh", cwd=place)
    assert 127 == done.returncode
    assert b"E3004" in done.stderr
    assert b"`--workspace .`" in done.stderr
    assert b"ran\n" == inside.cli("--workspace", ".", "--", "./job.sh", cwd=place).stdout


@pytest.mark.parametrize("tool", ["no-such-tool", "/no/such/tool", ".", "..", "/", "/home", "/usr", "plain-file"])
def test_tool_invalid_is_e2004(ask, home, tool):
    """What does not exist, the home directory and what holds it, and a file that is no program are refused with E2004."""
    home.joinpath("project", "plain-file").write_text("a secret, not a program")
    tool = {".": str(home), "plain-file": "./plain-file"}.get(tool, tool)
    assert "E2004" == code_of(ask.plain(["true"], tools=[tool]))


def test_tool_shim_of_mise_or_asdf_is_refused(ask, home):
    """A shim of mise or asdf is refused, with the command that names the program."""
    program(home / ".local" / "bin" / "mise", "#!/bin/sh\n")
    shims = home / ".local" / "share" / "mise" / "shims"
    shims.mkdir(parents=True)
    shims.joinpath("node").symlink_to(home / ".local" / "bin" / "mise")
    response = ask.plain(["true"], [shims], tools=["node"])
    assert "E2004" == code_of(response)
    assert '--tool "$(mise which node)"' in response["error"]["hint"]


def test_tool_in_usr_changes_nothing(ask):
    """A tool in /usr is there anyway: PATH stays as it is."""
    assert ask(["sh", "-c", "echo $PATH"])["stdout"] == ask(["sh", "-c", "echo $PATH"], tools=["ls"])["stdout"]


def test_tool_files_are_read_only(ask, home):
    """No file of a tool can be changed from inside."""
    environment = environment_at(home / "project" / ".venv", Path("/usr/bin"))
    os.chmod(environment, 0o777)
    assert "Read-only" in ask(["touch", str(environment / "new")], tools=[".venv"])["stderr"]


# --- an earlier run planted what it could ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "trees"),
    [
        ("/opt/python", ("/opt/python",)),
        ("/home/ann", ("/home/ann/bin", "/home/ann/lib")),
        ("/home/bob/.local", ("/home/bob/.local/bin", "/home/bob/.local/lib")),
        ("/srv/ann/.local", ("/srv/ann/.local/bin", "/srv/ann/.local/lib")),
        ("/home/linuxbrew/.linuxbrew", ("/home/linuxbrew/.linuxbrew",)),
        ("/root", ("/root/bin", "/root/lib")),
    ],
)
def test_tool_in_a_home_shows_only_its_own_folders(prefix, trees):
    """Of an installation in a home directory, also in another one than HOME says, only its own folders are shown."""
    assert trees == trees_of(prefix, "/srv/ann")


@pytest.mark.parametrize("what", ["base", "link", "directory", "interpreter"])
def test_tool_planted_shows_no_secret(ask, home, what):
    """A `pyvenv.cfg`, a link, a folder or a `#!` line that leads to secrets shows none: what is shown must be a tool itself."""
    environment = environment_at(home / "project" / ".venv", Path("/usr/bin"))
    named = ".venv/bin/python"
    if what == "base":
        environment.joinpath("pyvenv.cfg").write_text(f"home = {home}/.ssh/..\n")
    elif what == "link":
        environment.joinpath("bin", "python").unlink()
        environment.joinpath("bin", "python").symlink_to(home / ".ssh" / CANARY)
    elif what == "directory":
        environment.rename(home / "moved")
        environment.symlink_to(home / ".ssh")
        named = ".venv"
    else:
        program(home / "project" / "script", f"#!{home}/.ssh/{CANARY}\n")
        named = "./script"
    assert "E2004" == code_of(ask(["true"], tools=[named]))


# --- our own interpreter ----------------------------------------------------------------------------------------------


def own_python(inside, home, interpreter, command):
    """The response of a run by capsule-run on that interpreter."""
    request = json.dumps({"command": command}).encode()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    done = inside._start([interpreter, *INSTALLED[1:], "--json"], input=request, env=environment, cwd=home / "project")
    assert done.stdout, done.stderr.decode()
    return json.loads(done.stdout)


def layout(kind, home):
    """An interpreter for capsule-run itself: its program, and what it says of itself inside."""
    if kind == "venv":
        environment = environment_at(home / "project" / ".venv", Path("/usr/bin"))
        return environment / "bin" / "python", f"{environment} /usr"
    if kind == "uv":
        pythons = home / ".local" / "share" / "uv" / "python"
        python_at(pythons / "cpython-3.11.2-linux")
        pythons.joinpath("cpython-3.11-linux").symlink_to("cpython-3.11.2-linux")
        environment = environment_at(home / "project" / ".venv", pythons / "cpython-3.11-linux" / "bin")
        return environment / "bin" / "python", f"{environment} {pythons}/cpython-3.11-linux"
    prefix = {"conda": "miniconda3/envs/science", "pyenv": ".pyenv/versions/3.11.9", "local": ".local"}[kind]
    python_at(home / prefix)
    return home / prefix / "bin" / "python3", f"{home / prefix} {home / prefix}"


@pytest.mark.parametrize("kind", ["venv", "uv", "conda", "pyenv", "local"])
@pytest.mark.parametrize("name", ["python", "python3"])
def test_tool_python_is_the_one_that_we_run_on(inside, home, kind, name):
    """Installed with any of these, `python` and `python3` inside are that environment, and no secret beside it is shown."""
    interpreter, expected = layout(kind, home)
    code = "import sys, ssl, json; print(sys.prefix, sys.base_prefix)"
    response = own_python(inside, home, interpreter, [name, "-c", code])
    assert f"{expected}\n" == response.get("stdout"), response
    found = own_python(inside, home, interpreter, ["sh", "-c", f"find / -name {CANARY} 2>/dev/null"])[
        "stdout"
    ].splitlines()
    assert [] == [path for path in found if kind != "local" or "/.local/bin/" not in path]
