"""What every test gets: the leftover check, the core, the command, an ordinary user, and the account of skips."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

import json_schema
import leftovers
import tiers

REPOSITORY = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"
# The static file (packaging/build-static), in the place of the package's command: `.ci/run static` names it here.
STATIC_FILE = os.environ.get("CAPSULE_TEST_FILE")


# --- the leftover check ---------------------------------------------------------------------------------------------


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*capabilities): skipped, and counted, where the machine lacks one")
    config.addinivalue_line("markers", "limit(seconds): how long the test may take, if not what all may")
    leftovers.adopt_orphans()


@pytest.fixture(scope="session", autouse=True)
def _private_tmpdir(tmp_path_factory):
    """A TMPDIR of this test process alone, so that any name that stays in it is a leftover of ours."""
    place = tmp_path_factory.mktemp("tmpdir")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(place))
        patch.setattr(tempfile, "tempdir", str(place))
        yield


@pytest.fixture(autouse=True)
def _nothing_left_behind(_private_tmpdir):
    """After every test no process, thread, mount, control group, descriptor or temporary file remains."""
    before = leftovers.snapshot()
    yield
    found = leftovers.left_behind(before)
    leftovers.clean_up(found)
    if found:
        pytest.fail("left behind:\n  " + "\n  ".join(map(str, found)), pytrace=False)


# --- every response is valid ------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _responses_are_valid(request, monkeypatch):
    """Every response that a test sees, from Python or printed by the command, is valid against the published schema.

    Tests in `unit` and `tables` make up results that no run gives.
    """
    if request.path.parent.name in ("unit", "tables"):
        yield
        return
    from capsule_run.model.result import Result
    from capsule_run.result.schema import response_schema

    schema, wrong = response_schema(), []
    to_dict, run = Result.to_dict, subprocess.run

    def checked_to_dict(result):
        found = to_dict(result)
        if result.started_at:  # else a test has made it up
            wrong.extend(json_schema.errors(json.loads(json.dumps(found)), schema, strict=True))
        return found

    def checked_run(*arguments, **options):
        done = run(*arguments, **options)
        wrong.extend(json_schema.errors(response, schema, strict=True) if (response := _response(done)) else ())
        return done

    monkeypatch.setattr(Result, "to_dict", checked_to_dict)
    monkeypatch.setattr(subprocess, "run", checked_run)
    yield
    assert [] == wrong, "responses that docs/schema/response.json does not allow"


def _response(done):
    """The response that a process printed, or None."""
    text = done.stdout if isinstance(done.stdout, (str, bytes)) else ""
    start = text[:200] if isinstance(text, str) else text[:200].decode("utf-8", "replace")
    if not start.lstrip().startswith("{") or '"execution_id"' not in start:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if "execution_id" in found else None  # else it is inside of what another program printed


# --- the order, `-m quick` and the header ------------------------------------------------------------------------------


def pytest_report_header(config):
    return tiers.header([Path(config.invocation_params.dir, name) for name in config.args], config.option.markexpr)


def pytest_ignore_collect(collection_path, config):
    """`-m quick` does not import what it would deselect."""
    return True if config.option.markexpr == "quick" and tiers.holds_no_quick_test(collection_path) else None


def pytest_itemcollected(item):
    slow = item.get_closest_marker("slow") is not None
    if tiers.is_quick(item.path, getattr(item, "originalname", item.name), slow):
        item.add_marker("quick")


# What starts the command line; the other tests are of the package alone.
COMMAND_FIXTURES = {"inside", "inside_as_caller", "capsule_cli", "static_file", "release"}


def _starts_the_command(item):
    return "COMMAND" in vars(item.module) or not COMMAND_FIXTURES.isdisjoint(item.fixturenames)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    if STATIC_FILE:
        others = [item for item in items if not _starts_the_command(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if _starts_the_command(item)]
    workers = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    items[:] = tiers.in_order(items, workers, lambda item: tiers.rank(item.path))


# --- no test hangs ----------------------------------------------------------------------------------------------------

LIMIT_SECONDS, SLOW_LIMIT_SECONDS = 60, 300
PATIENCE = float(os.environ.get("CAPSULE_TEST_PATIENCE", "1"))  # more than 1 on an emulated machine (tests/vm/qemu.py)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test that waits for what never comes fails, where it waits, and what it started is ended with the leftovers."""
    own = item.get_closest_marker("limit")
    seconds = own.args[0] if own else SLOW_LIMIT_SECONDS if item.get_closest_marker("slow") else LIMIT_SECONDS
    seconds *= PATIENCE
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"took more than {seconds} s"))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- skips: each names what is missing, and is counted ----------------------------------------------------------------

# What a test may need, and how to see that it is there. In CI a skip for one of MUST_WORK fails the run: a test that
# silently stopped running protects nothing. What CI runs twice (root and not root) or cannot have is not in it.
CAPABILITIES = {
    "root": lambda: os.geteuid() == 0,
    "not-root": lambda: os.geteuid() != 0,
    "cc": lambda: shutil.which("cc") is not None,
    "gcc": lambda: shutil.which("gcc") is not None,
    "clang": lambda: shutil.which("clang") is not None,
    "musl-gcc": lambda: shutil.which("musl-gcc") is not None,
    "aarch64-gcc": lambda: shutil.which("aarch64-linux-gnu-gcc") is not None,
    "qemu-aarch64": lambda: shutil.which("qemu-aarch64-static") is not None,
    "unshare": lambda: (
        subprocess.run(["unshare", "-m" if os.geteuid() == 0 else "-rm", "true"], check=False).returncode == 0
    ),
    "zsh": lambda: shutil.which("zsh") is not None,
    "fish": lambda: shutil.which("fish") is not None,
    "groff": lambda: shutil.which("groff") is not None,
    "setpriv": lambda: shutil.which("setpriv") is not None,
    "strace": lambda: shutil.which("strace") is not None,
    "bwrap": lambda: shutil.which("bwrap") is not None,
    "apparmor_parser": lambda: os.access("/sbin/apparmor_parser", os.X_OK),
    # user namespaces under AppArmor's rules: Linux 6.7, the package of version 4
    "apparmor-userns": lambda: (
        "CAPSULE_APPARMOR" in os.environ and Path("/proc/sys/kernel/unprivileged_userns_apparmor_policy").exists()
    ),
    # for a container's root /var/tmp must be writable, which it is not in the guest of tests/vm/guest.py
    "crun": lambda: (
        shutil.which("crun") is not None
        and Path("/usr/share/containers/seccomp.json").exists()
        and os.access("/var/tmp", os.W_OK)
    ),
    "podman": lambda: shutil.which("podman") and shutil.which("newuidmap") and os.access("/var/tmp", os.W_OK),
    "buildah": lambda: shutil.which("buildah") and shutil.which("newuidmap") and os.access("/var/tmp", os.W_OK),
    "git": lambda: shutil.which("git") is not None,
    # what every sandbox shows, so not what a version manager keeps in a home directory
    **{
        name: lambda name=name: _in_system(name)
        for name in ("g++", "ghc", "go", "java", "mvn", "perl", "php", "ruby", "rustc")
    },
    "typescript": lambda: (
        any(map(_in_system, ("deno", "bun", "tsx", "tsc"))) or Path(sys.executable).with_name("deno").exists()
    ),
    "node": lambda: shutil.which("node") is not None,
    **{
        name: lambda name=name: importlib.util.find_spec(name) is not None
        for name in ("matplotlib", "pandas", "PIL", "fastapi")
    },
    "place": lambda: False,  # a container, a pod or a virtual machine, in which a test was asked for
    "sqlite3": lambda: shutil.which("sqlite3") is not None,
    "uml": lambda: shutil.which("linux.uml") is not None,
    "mcp": lambda: importlib.util.find_spec("mcp") is not None,  # `.ci/run agents_mcp` installs these five
    "langchain_core": lambda: importlib.util.find_spec("langchain_core") is not None,
    "agents": lambda: importlib.util.find_spec("agents") is not None and importlib.util.find_spec("agents").origin,
    "opentelemetry": lambda: (
        importlib.util.find_spec("opentelemetry") is not None
        and importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    ),
    "jsonschema": lambda: importlib.util.find_spec("jsonschema") is not None,
    "mcp-npm": lambda: (
        "CAPSULE_TEST_NPM" in os.environ
    ),  # the folder with the inspector, the conformance suite and node
    "debian": lambda: Path("/etc/debian_version").exists(),
    "sdist": lambda: REPOSITORY.joinpath("pyproject.toml").exists(),
    "wheel": lambda: "CAPSULE_TEST_WHEEL" in os.environ,  # CI builds one and names it here
    "public-python": lambda: _others_can_run(sys.executable),
    "cgroup2": lambda: Path("/sys/fs/cgroup/cgroup.controllers").exists(),
    "cgroup1-memory": lambda: Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists(),
    "swap": lambda: Path("/proc/swaps").exists(),
    "systemd": lambda: shutil.which("systemd-run") is not None and Path("/lib/systemd/systemd").exists(),
    "package": lambda: not STATIC_FILE,  # what only an installed package has: its Python, files beside it
    "static-file": lambda: STATIC_FILE is not None,  # `.ci/run static` builds it
    "release": lambda: "CAPSULE_TEST_RELEASE" in os.environ,  # as above
    **{name: lambda name=name: shutil.which(name) is not None for name in ("uv", "pipx")},
    "guest": lambda: os.environ.get("CAPSULE_GUEST") == "1",
    "memory watch": lambda: _group_of_memory() == "watch",
    "io cgroup": lambda: any("io" in place.controllers for place in _groups().places),
    "memory cgroup": lambda: _group_of_memory() != "watch",
    "pidfd-exit": lambda: tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15),
    "ipv6": lambda: Path("/proc/self/net/if_inet6").exists(),
    "landlock": lambda: "landlock" in _text("/sys/kernel/security/lsm"),
    "var-run": lambda: os.path.islink("/var/run") and os.path.isdir("/run/lock"),
    "corpus": lambda: False,  # a program of tests/compat, which its test looks for by name
    "project": lambda: False,  # one of tests/compat/projects.py, or the registry that has it
    "user-namespaces": lambda: _text("/proc/sys/user/max_user_namespaces").strip() not in ("", "0"),
}
MUST_WORK = {
    "cc", "gcc", "clang", "musl-gcc", "aarch64-gcc", "qemu-aarch64", "strace", "bwrap", "git", "sqlite3", "uml", "sdist",
    "user-namespaces", "g++", "go", "java", "perl", "ruby",
}  # fmt: skip


def _in_system(name):
    return shutil.which(name, path="/usr/local/bin:/usr/bin:/bin") is not None


def _group_of_memory():
    """The mechanism that this account's memory limit stands on."""
    from capsule_run.model.request import Resources
    from capsule_run.policy import limits

    return limits.decide(limits.limits(Resources()), _groups()).of("memory")


def _groups():
    """Where this account may make control groups."""
    from capsule_run.cgroup import discover

    return discover.find()


if os.environ.get("CAPSULE_GUEST") == "1":  # there a limit that stands on no group is a broken guest
    MUST_WORK |= {"guest", "memory cgroup", "io cgroup", "swap", "systemd"}


def _text(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _others_can_run(program):
    """Whether every folder on the way is open to everybody (a Python under /root is not), also where it is a link."""
    path = Path(os.path.abspath(program))
    real = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in [real, *real.parents, *path.parents])


def pytest_runtest_setup(item):
    """`@pytest.mark.needs("strace", "root")`; the marker `root` is the same as needs("root")."""
    wanted = [name for marker in item.iter_markers("needs") for name in marker.args]
    wanted += ["root"] * (item.get_closest_marker("root") is not None)
    for name in wanted:
        if not CAPABILITIES[name]():
            pytest.skip(f"needs {name}")


@pytest.fixture
def needs():
    """`needs("strace")` inside a test; with `present=` for what only the test can find out."""

    def check(name, *, present=None):
        if not (CAPABILITIES[name]() if present is None else present):
            pytest.skip(f"needs {name}")

    return check


def _missing(report):
    """The capability that a skipped report names, or None if it names none that exists."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    name = reason.removeprefix("Skipped: ").removeprefix("needs ").partition(":")[0]
    return name if name in CAPABILITIES else None


def _wrong_skips(reporter):
    """Sentences on skips that may not be."""
    skipped = reporter.stats.get("skipped", [])
    must = MUST_WORK | (
        {"corpus", "matplotlib", "pandas", "PIL"} if os.environ.get("CAPSULE_COMPAT") == "must" else set()
    )
    wrong = [f"{r.nodeid}: a skip that names no capability (tests/conftest.py)" for r in skipped if not _missing(r)]
    if IN_CI:
        wrong += [f"{r.nodeid}: CI must have `{_missing(r)}`" for r in skipped if _missing(r) in must]
    return wrong


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and session.exitstatus == 0 and _wrong_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    counted = Counter(_missing(report) or "?" for report in terminalreporter.stats.get("skipped", []))
    if counted:
        terminalreporter.section("skipped, by what is missing")
        for name, number in sorted(counted.items()):
            terminalreporter.line(f"{number:5d}  {name}")
    for sentence in _wrong_skips(terminalreporter):
        terminalreporter.line(f"error: {sentence}", red=True)


# --- the things under test --------------------------------------------------------------------------------------------


def load_core_build():
    """`core/build.py` as a module: it is a script of the build, not part of any package."""
    spec = importlib.util.spec_from_file_location("capsule_core_build", REPOSITORY / "core" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def core_build():
    return load_core_build()


@pytest.fixture(scope="session")
def core_path(tmp_path_factory, core_build):
    """The core: CAPSULE_TEST_CORE (how CI tests sanitizer builds), else the installed one, else built from core/."""
    named = os.environ.get("CAPSULE_TEST_CORE")
    if named:
        return Path(named)
    spec = importlib.util.find_spec("capsule_run")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if Path(folder, "_core").exists():
            return Path(folder, "_core")
    return core_build.build(tmp_path_factory.mktemp("core") / "_core").path


@pytest.fixture(scope="session")
def capsule_cli():
    """The installed command, beside the Python that runs the tests; or the static file."""
    if STATIC_FILE:
        return Path(STATIC_FILE)
    path = Path(sys.executable).parent / "capsule-run"
    assert path.exists(), f"{path} is missing; install the project: pip install '.[test]'"
    return path


@pytest.fixture
def as_user(needs):
    """Run a command as an ordinary user: `as_user(argv, **options of subprocess.run)`.

    Without root this is the user we are. With root it is the first ordinary account, else an id without one.
    """
    if os.geteuid() != 0:
        return _runner(os.geteuid(), os.getegid(), Path.home())
    needs("public-python")
    accounts = [entry for entry in pwd.getpwall() if 1000 <= entry.pw_uid < 60000]
    if accounts:
        return _runner(accounts[0].pw_uid, accounts[0].pw_gid, Path("/tmp"))
    return _runner(60321, 60321, Path("/tmp"))


@pytest.fixture
def under_system_file(tmp_path, needs):
    """Run a command that sees a text as /etc/capsule-run/config.toml: `run(text, argv, **options of subprocess.run)`.

    In a mount namespace with a copy of /etc: the product has no setting that names another file.
    """
    needs("unshare")
    copy = tmp_path / "etc"
    subprocess.run(["cp", "-a", "/etc/.", copy], capture_output=True, check=False)  # not what only root can read
    copy.joinpath("capsule-run").mkdir()

    def run(text, argv, **options):
        copy.joinpath("capsule-run", "config.toml").write_text(text)
        script, how = 'mount --bind "$0" /etc && exec "$@"', "-m"
        if os.geteuid() != 0:  # root of a namespace of its own mounts, and the command is the ordinary user again
            how, argv = "-rm", ["unshare", "-U", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}", *argv]
        words = ["unshare", how, "sh", "-c", script, copy, *argv]
        settings = {"capture_output": True, "text": True, "timeout": 120, "check": False}
        return subprocess.run([str(word) for word in words], **{**settings, **options})

    yield run
    shutil.rmtree(copy)


def _runner(uid, gid, cwd):
    # the caller's TMPDIR lies in a folder that pytest keeps to its own user
    clean = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8"}

    def run(argv, **options):
        identity = {} if os.geteuid() == uid else {"user": uid, "group": gid, "extra_groups": []}
        settings = {"capture_output": True, "timeout": 60, "cwd": cwd, "env": clean, "check": False}
        return subprocess.run([str(word) for word in argv], **{**settings, **identity, **options})

    run.uid = uid
    return run
