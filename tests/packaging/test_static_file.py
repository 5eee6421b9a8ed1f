"""The static file: what it is made of, what it needs, and that all of the command line works from it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "packaging" / "build-static"
PIN = REPOSITORY / "packaging" / "cpython.py"
MOST_BYTES = 6_000_000
# The seed's three quick starts. `script.py` prints a line.
QUICK_STARTS = {
    "cd /work && /capsule-run -- echo 'Hello, World!'": "Hello, World!\n",
    "cd /work && /capsule-run --memory 256M --timeout 5000 -- python script.py": "from a script\n",
    """echo '{"command":["python","-c","print(42)"]}' | /capsule-run --json | grep -o '"stdout":"[^"]*"'""": '"stdout":"42\\n"\n',
}
# Makes a root with nothing but the file, the host's /usr with the links to it, /proc and the host's /dev, and runs a script in
# it. Not by chroot: in one, the kernel lets nobody create a user namespace.
ONLY_THE_FILE = """\
mount -t tmpfs tmpfs "$2" && cd "$2" && cp "$1" capsule-run
mkdir usr proc dev work
echo 'print("from a script")' > work/script.py
for name in bin sbin lib lib32 lib64 libx32; do [ ! -L /$name ] || cp -P /$name $name; done
mount --bind /usr usr && mount -t proc proc proc && mount --rbind /dev dev
pivot_root . . && umount -l . && cd / && exec /bin/sh -c "$3"
"""


def readelf(static_file, *options):
    return subprocess.run(["readelf", "-W", *options, static_file], capture_output=True, text=True, check=True).stdout


def cli(static_file, *words, **options):
    settings = {"capture_output": True, "text": True, "timeout": 60, "cwd": "/", "check": False}
    return subprocess.run([static_file, *words], **{**settings, **options})


@pytest.mark.needs("cc")
def test_static_file_needs_no_other_file(static_file):
    """No dynamic linker and no library is named, so that it runs on every distribution; it has at most 6 MB and no symbols."""
    headers, dynamic = readelf(static_file, "-l"), readelf(static_file, "-d")
    assert ("INTERP" in headers, "NEEDED" in dynamic, ".symtab" in readelf(static_file, "-S")) == (False, False, False)
    assert static_file.stat().st_size <= MOST_BYTES


@pytest.mark.needs("cc")
def test_static_file_is_hardened(static_file):
    """It is at a random address, its tables are read-only before main, and no memory is both writable and executable."""
    headers, dynamic = readelf(static_file, "-hl"), readelf(static_file, "-d")
    assert re.search(r"Type: +DYN", headers)
    assert re.search(r"FLAGS_1\).*NOW.*PIE", dynamic)
    assert "TEXTREL" not in dynamic
    assert "GNU_RELRO" in headers
    segments = re.findall(r"(?m)^  (LOAD|GNU_STACK) +(?:0x\w+ +){5}([RWE ]{3})", headers)
    assert "RW " in dict(segments)["GNU_STACK"]
    assert [] == [flags for _kind, flags in segments if "W" in flags and "E" in flags]


@pytest.mark.needs("root")
@pytest.mark.parametrize("script", QUICK_STARTS, ids=["hello", "limits", "json"])
def test_static_file_alone_in_a_root_runs_the_quick_starts(static_file, script, tmp_path):
    """A root with the file, /usr, /proc and /dev is enough for the three commands of the first page."""
    alone = ["unshare", *"--mount --pid --fork --propagation private sh -euc".split(), ONLY_THE_FILE, "sh"]
    words = [*alone, static_file, tmp_path, script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert QUICK_STARTS[script] == done.stdout, done.stderr


def test_static_file_runs_every_subcommand(static_file):
    """Each subcommand says its help; `--help` names them all."""
    from capsule_run.cli.subcommands import SUBCOMMANDS

    said = {name: cli(static_file, name, "--help") for name in SUBCOMMANDS}
    assert {} == {name: done.stderr for name, done in said.items() if done.returncode != 0 or not done.stdout}


def test_static_file_is_the_version_of_the_package(static_file):
    """It says the version that its source has."""
    import capsule_run

    assert f"capsule-run {capsule_run.__version__}" in cli(static_file, "--version").stdout


def test_static_file_gives_commands_the_python_of_the_host(static_file):
    """`python` inside is the host's, at the first of the places that a sandbox always shows, and not the file's own."""
    places = ("/usr/local/bin/python3", "/usr/bin/python3")
    expected = next(place for place in places if os.access(place, os.X_OK))
    done = cli(static_file, "--", "python", "-c", "import sys; print(sys.base_prefix, 'site' in sys.modules)")
    prefix = subprocess.check_output([expected, "-c", "import sys; print(sys.base_prefix)"], text=True)
    assert f"{prefix.strip()} True\n" == done.stdout, done.stderr


def test_static_file_runs_code_and_policies_and_doctor(static_file):
    """What loads most of the modules: code in a language, a learned policy, the diagnosis of the host."""
    assert "6\n" == cli(static_file, "exec", "--lang", "python", input="print(2 * 3)").stdout
    assert 0 == cli(static_file, "policy", "show", "default").returncode
    findings = json.loads(cli(static_file, "doctor", "--json").stdout)
    assert str(static_file) in json.dumps(findings)


def test_static_file_lists_changes_in_new_directories(static_file, place):
    """Whether a directory replaces the one below is an extended attribute, which CPython reads with glibc alone."""
    (place / "old").mkdir()
    (place / "old/file").write_text("1")
    for number in range(200):  # more than are copied: an overlay
        (place / f"file{number}").touch()
    script = "rm -r old; mkdir -p old new/deep; touch old/other new/deep/file"
    done = cli(static_file, "--workspace", place, "--diff", "--", "sh", "-c", script)
    assert (0, True) == (done.returncode, "new/deep/file" in done.stderr + done.stdout), done.stderr


def test_static_file_answers_a_model(static_file):
    """The MCP server in the file answers `initialize`, and runs code."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    call = {"name": "execute_code", "arguments": {"language": "python", "code": "print(6 * 7)"}}
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    server = subprocess.Popen([static_file, "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    try:
        server.stdin.write("".join(f"{json.dumps(message)}\n" for message in messages))
        server.stdin.flush()
        answers = [json.loads(server.stdout.readline()) for _ in range(2)]
    finally:
        server.communicate(timeout=60)
    assert "42" in json.dumps(answers[1]["result"])


def test_static_file_core_is_a_sealed_memory_file(static_file):
    """The core runs from memory: what a payload can do with the program of its parents does not reach the file."""
    words = [static_file, "--", "sh", "-c", "echo up; read line"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        programs = [os.readlink(f"/proc/{child}/exe") for child in children]
        fds = [os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
    finally:
        process.communicate(b"\n", timeout=60)
    assert programs
    assert {"/memfd:capsule-core (deleted)"} == set(programs)
    assert "/memfd:capsule-core (deleted)" in fds


def test_static_file_waits_with_little_in_memory(static_file):
    """While a command runs, the pages that were read from the file at the start are given back."""
    process = subprocess.Popen(
        [static_file, "--", "sh", "-c", "echo up; read line"], stdin=-1, stdout=-1, stderr=-3, cwd="/"
    )
    try:
        process.stdout.readline()
        released = False
        for _ in range(600):  # the last modules are imported while the command runs
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak, now = (int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) for name in ("VmHWM", "VmRSS"))
            released = now <= peak - 1000
            if released:
                break
            time.sleep(0.1)
    finally:
        process.communicate(b"\n", timeout=60)
    assert (True, True) == (released, now * 1024 <= MOST_BYTES)


def changes(path):
    """What a change of the file or of its mode would change."""
    status = path.stat()
    return status.st_mode, status.st_mtime_ns, status.st_ctime_ns


def test_static_file_as_interpreter_of_a_payload_is_the_copy(static_file, place):
    """A script with `#!/proc/self/exe` runs the program of its parent (CVE-2019-5736): that is the copy of the core, if any."""
    place.joinpath("s").write_text("#!/proc/self/exe\n")
    place.joinpath("s").chmod(0o755)
    before = changes(static_file)
    done = cli(static_file, "--workspace", str(place), "--", "./s")
    # as root the copy is another user's
    denied = (126, "capsule-run: E3002: cannot execute `/workspace/s`: permission denied")
    ran = (2, "capsule-core: run by capsule-run; by hand only: --verbs, --check room|preamble|payload")
    assert (denied if os.geteuid() == 0 else ran) == (done.returncode, done.stderr.splitlines()[0])
    assert before == changes(static_file)


@pytest.mark.needs("root")
def test_static_file_refuses_the_rights_of_another(static_file):
    """As a set-user-ID program it refuses to run: it would open files for its caller with the owner's rights."""
    copy = Path(tempfile.mkdtemp(dir="/var/tmp")) / "capsule-run"
    try:
        shutil.copy(static_file, copy)
        copy.parent.chmod(0o755)
        copy.chmod(0o6755)
        nobody = {"user": 65534, "group": 65534, "extra_groups": []}
        done = subprocess.run([copy, "--version"], capture_output=True, timeout=60, **nobody)
        assert (125, b"refuses" in done.stderr) == (done.returncode, True)
    finally:
        shutil.rmtree(copy.parent)


def test_static_file_reads_no_module_from_a_disk(static_file, tmp_path):
    """No directory of the caller's, and no variable, brings a module into it."""
    tmp_path.joinpath("capsule_run.py").write_text("print('ours')")
    tmp_path.joinpath("posix.py").write_text("print('ours')")
    tmp_path.joinpath("re.py").write_text("print('ours')")
    variables = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "re.py")}
    done = cli(static_file, "--help", cwd=tmp_path, env={**os.environ, **variables})
    assert (0, "", False) == (done.returncode, done.stderr, "ours" in done.stdout.split())


def test_static_file_takes_words_that_are_no_text(static_file):
    """A word of the command line is bytes, whatever the locale says."""
    words = [static_file, "--", "printf", "%s", b"\xff\xc3\xa4"]
    done = subprocess.run(words, capture_output=True, timeout=60, env={"LC_ALL": "C"})
    assert b"\xff\xc3\xa4" == done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.needs("musl-gcc")
def test_static_file_is_built_again_with_the_same_bytes(static_file, tmp_path):
    """Another build, in another directory and from a copy of the source elsewhere, has the same bytes."""
    copy = tmp_path / "elsewhere"
    for name in ("core", "packaging", "src"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "_core"))
    build = copy / "packaging" / "build-static"
    subprocess.run([build, tmp_path / "out"], check=True, capture_output=True, timeout=600)
    assert static_file.read_bytes() == tmp_path.joinpath("out", "capsule-run").read_bytes()


def test_bill_of_materials_names_the_file_and_its_parts(static_file):
    """The CycloneDX document has the checksum of the file, and name, version and licence of each part."""
    bill = json.loads(static_file.with_name("capsule-run.cdx.json").read_text())
    digest = hashlib.sha256(static_file.read_bytes()).hexdigest()
    assert ("CycloneDX", digest) == (bill["bomFormat"], bill["metadata"]["component"]["hashes"][0]["content"])
    parts = {part["name"]: part for part in bill["components"]}
    assert {"CPython", "musl", "libgcc", "Linux headers"} == set(parts)
    assert [] == [name for name, part in parts.items() if not (part["version"] and part["licenses"] and part["purl"])]
    assert f" {parts['CPython']['version']} " in PIN.read_text()
