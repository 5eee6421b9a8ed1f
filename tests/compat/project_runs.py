"""Fetch a project, run it outside and inside under the defaults, and tell what its test runner counted. Not a test."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

CACHE = Path(os.environ.get("CAPSULE_PROJECTS_CACHE", Path.home() / ".cache" / "capsule-projects"))
REQUIREMENTS = Path(__file__).parent / "requirements"
PYTHON = "/usr/bin/python3"  # every account can read it
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

# Lines in which test runners count their tests.
COUNTS = [
    r"(?:\d+ (?:failed|passed|skipped|deselected|xfailed|xpassed|errors?|warnings?|subtests passed)[, ]*)+ in [\d.:]+.*",
    r"Ran \d+ tests.*",
    r"(?:OK|FAILED)(?: \(.*\))?",
    r"\s*\d+ (?:passing|failing|pending).*",
    r"test result: .*",
    r"(?:ok|FAIL)\s+\S+\s.*",
    r"# (?:TOTAL|PASS|SKIP|XFAIL|FAIL|XPASS|ERROR): .*",
    r"\*+.*(?:ok|OK).*\*+|final OK !!!",
    r".*All tests passed.*",
]
FAILED = re.compile(
    r"^((?:FAILED|ERROR) \S+|not ok \d+.*|--- FAIL: \S+|FAIL: \S+|test \S+ \.\.\. FAILED)", re.MULTILINE
)
TIMES = re.compile(r"\s*(?:\(?(?:in |finished in )?\d[\d.:]*\s?m?s\b\)?(?: \([\d:]+\))?|\(cached\)|\d+ warnings?,?)")
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
# With the addresses that a machine with a network card has, and the names that Debian gives them, whatever this machine has.
# 127.0.0.1 is first: connections to this machine come from it. The limit of open files is what Linux gives an account.
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
LOOPBACK = (
    f"printf '{HOSTS}' > $HOME/hosts; mount --bind $HOME/hosts /etc/hosts; "
    'ip link set lo up; for a in 127.0.0.2/8 fe80::1/64; do ip addr add $a dev lo 2>/dev/null; done; ulimit -Sn 1024; "$@"'
)
NAMESPACES = ("--net", "--pid", "--fork", "--kill-child", "--mount-proc")  # what a suite leaves running ends with it


class MissingError(Exception):
    """What a project needs and this machine does not have."""


TIMED_OUT = (None, 124)  # outside, inside


class End(NamedTuple):
    """How a project ended: its exit code, what it counted or said, and which tests failed. `why` is for people."""

    code: int | None
    said: tuple[str, ...]
    failed: tuple[str, ...]
    why: str

    def equals(self, other):
        """Whether both came to the same."""
        return self[:3] == other[:3]

    def change_to(self, other):
        """How many more of each kind the runner counted in the other, without kinds of which it counted as many."""
        numbers = Counter()
        for end, sign in ((self, -1), (other, 1)):
            for count, kind in re.findall(r"(\d+) ([a-z]+)", " ".join(end.said)):
                numbers[kind] += sign * int(count)
        return {kind: number for kind, number in numbers.items() if number}


def counts(text):
    """What test runners say of how many tests, without their times."""
    lines = (ESCAPES.sub("", line).strip(" =\t") for line in text.splitlines())
    found = [line for line in lines if any(re.fullmatch(pattern, line) for pattern in COUNTS)]
    return tuple(TIMES.sub("", line).strip(" ,") for line in found)


def _end(code, text, why, project):
    if project.is_job:
        return End(code, tuple(text.splitlines()), (), why)
    return End(code, counts(text), tuple(sorted(set(FAILED.findall(ESCAPES.sub("", text))))), why)


# --- what is fetched, once --------------------------------------------------------------------------------------------


def _fetch(command, *, cwd, what):
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "npm_config_update_notifier": "false"}
    done = subprocess.run(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise MissingError(f"{what}: {last[:200]}")


def _once(name, key, make):
    """The directory `name` of the cache, made if it is not there for this key; by one process at a time."""
    place = CACHE / f"{re.sub('[^a-z0-9]+', '-', name.lower())}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            make(place)
            (place / ".complete").touch()
    return place


def environment(project):
    """The virtual environment of a project, or None."""
    if not project.environment:
        return None
    wanted = REQUIREMENTS / f"{project.environment}.txt"

    def make(place):
        _fetch([PYTHON, "-m", "venv", place / "v"], cwd=place, what="python3-venv")
        command = [place / "v/bin/pip", "install", "-q", "--no-deps", "-r", wanted]
        _fetch(command, cwd=place, what=f"the packages of {wanted.name}")

    return _once(f"environment {project.environment}", wanted.read_text(), make) / "v"


def _unpack(archive, folder):
    folder.mkdir()
    _fetch(["tar", "xf", archive, "-C", folder, "--no-same-owner"], cwd=folder, what=archive.name)


def _unpack_sdist(project, place):
    name = project.sdist.partition("==")[0]
    command = [PYTHON, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, "-d", place, project.sdist]
    _fetch(command, cwd=place, what=project.sdist)
    _unpack(next(place.glob("*.tar.gz")), place / "unpacked")


def _unpack_source(project, place):
    """Debian's source packages are fetched with lists of our own: most machines have those of the binary packages only."""
    for folder in ("parts", "lists/partial", "archives/partial", "unpacked"):
        (place / folder).mkdir(parents=True)
    listed = Path("/etc/apt/sources.list.d/debian.sources")
    if not (listed.exists() and shutil.which("dpkg-source")):
        raise MissingError(f"the source package {project.source}: no debian.sources or no dpkg-source")
    text = re.sub(r"^Types:.*$", "Types: deb-src", listed.read_text(), flags=re.MULTILINE)
    (place / "parts" / listed.name).write_text(text)
    settings = {"Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": place / "parts"}
    settings |= {"Dir::State::Lists": place / "lists", "Dir::Cache": place, "APT::Sandbox::User": "root"}
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _fetch(["apt-get", "update", "-q", *options], cwd=place, what="lists of source packages")
    command = ["apt-get", "source", "-q", "--download-only", *options, project.source]
    _fetch(command, cwd=place, what=f"the source package {project.source}")
    command = [
        "dpkg-source",
        "--skip-patches",
        "-x",
        next(place.glob("*.dsc")),
        "unpacked/tree",
    ]  # as its authors made it
    _fetch(command, cwd=place, what=f"the source package {project.source}")


def _member(project, place):
    """The work tree inside of what was unpacked."""
    tree = next(folder for folder in (place / "unpacked").iterdir() if folder.is_dir())
    if project.member:
        tree = next(iter(tree.glob(project.member)))
    if tree.is_file():
        _unpack(tree, place / "member")
        tree = next((place / "member").iterdir())
    return tree


def work_tree(project):
    """The directory that a developer would have cloned."""

    def make(place):
        tree = place / "tree"
        if project.sdist or project.source:
            (_unpack_sdist if project.sdist else _unpack_source)(project, place)
            shutil.move(_member(project, place), tree)
        elif project.directory:
            found = glob.glob(project.directory)
            if not found:
                raise MissingError(f"{project.directory} of {project.packages}")
            shutil.copytree(found[0], tree, symlinks=True)
        else:
            tree.mkdir()
        if project.setup:
            _fetch(["sh", "-e", "-c", project.setup], cwd=tree, what=f"{project.name}: {project.setup.split('&&')[0]}")

    key = f"{project.sdist}\n{project.source}\n{project.directory}\n{project.member}\n{project.setup}"
    return _once(project.name, key, make) / "tree"


def prepare(project):
    """Everything the project needs, or MissingError."""
    for tool in project.tools.split():
        if shutil.which(tool, path=SYSTEM_PATH) is None:
            raise MissingError(f"{tool} ({project.packages})")
    return work_tree(project), environment(project)


# --- the two sides ----------------------------------------------------------------------------------------------------


def _without_network(argv):
    as_root = os.geteuid() == 0
    enter = ["unshare", *([] if as_root else ["--map-current-user", "--keep-caps"]), *NAMESPACES]
    leave = [] if as_root else ["setpriv", "--ambient-caps=-all", "--inh-caps=-all"]
    return [*enter, "sh", "-c", f"PATH=$PATH:/usr/sbin:/sbin; {LOOPBACK}", "sh", *leave, *argv]


def outside(project, tree, venv, *, cwd):
    """In a copy of the work tree, with a home of its own, and a directory for temporary files that no other run cleans up."""
    copy, home = cwd / "outside", cwd / "home"
    shutil.copytree(tree, copy, symlinks=True)
    home.mkdir()
    path = f"{venv}/bin:{SYSTEM_PATH}" if venv else SYSTEM_PATH
    clean = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "USER": "user", **dict(project.set)}
    with (
        tempfile.TemporaryFile(dir=cwd) as out,
        tempfile.TemporaryFile(dir=cwd) as err,
        tempfile.TemporaryDirectory(
            prefix="o", dir="/var/tmp", ignore_cleanup_errors=True
        ) as scratch,  # short, for sockets
    ):
        clean["TMPDIR"] = scratch
        argv = _without_network(["sh", "-c", project.command])
        code = None
        with subprocess.Popen(
            argv, cwd=copy, env=clean, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        ) as process:
            try:
                code = process.wait(project.seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
        said, why = (_text(file) for file in (out, err))
    return _end(code, said if project.is_job else f"{said}\n{why}", f"{said[-3000:]}\n{why[-2000:]}", project)


def _text(file):
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def inside(project, tree, venv, *, cwd):
    """In a copy of the work tree, with nothing but a workspace, a tool and a time limit."""
    copy = cwd / "inside"
    shutil.copytree(tree, copy, symlinks=True)
    argv = [sys.executable, "-m", "capsule_run", "--pretty", "-t", str(project.seconds * 1000), "--workspace", copy]
    argv += ["--tool", venv] if venv else []
    for name, value in project.set:
        argv += ["-e", f"{name}={value}"]
    environment = {"PATH": SYSTEM_PATH, "HOME": str(cwd), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [str(word) for word in [*argv, "--", "sh", "-c", project.command]],
        cwd=copy, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    try:
        result = json.loads(done.stdout)
    except ValueError:
        return End(done.returncode, (), (), done.stdout[-2000:] + done.stderr[-2000:])
    said, noise = result.get("stdout") or "", result.get("stderr") or ""
    facts = {key: result.get(key) for key in ("status", "exit_code", "error", "limits_hit", "denied")}
    facts["peak MiB"] = (result.get("metrics") or {}).get("max_memory_bytes", 0) >> 20
    why = f"{said[-3000:]}\n{noise[-2000:]}\n{json.dumps(facts)}"
    return _end(result.get("exit_code"), said if project.is_job else f"{said}\n{noise}", why, project)


def both(project):
    """How the project ended outside and inside."""
    tree, venv = prepare(project)
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="project.", ignore_cleanup_errors=True) as scratch:
        place = Path(scratch)
        return outside(project, tree, venv, cwd=place), inside(project, tree, venv, cwd=place)
