"""Files in: each is there when the command starts, byte for byte, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest

import capsule_run
from capsule_run import CapsuleError

pytestmark = pytest.mark.sandbox
EVERY_BYTE = bytes(range(256))


@pytest.mark.parametrize(
    "content", ["héllo\n", EVERY_BYTE, b"", {"text": "x"}, {"base64": "AP8="}, {"text": b"\0" * 70_000}]
)
def test_input_file_comes_back_unchanged(content):
    """Text, bytes, base64, nothing and more than a pipe holds go in and come out unchanged."""
    expected = content.get("text", b"\0\xff") if isinstance(content, dict) else content
    expected = expected.encode() if isinstance(expected, str) else expected
    result = capsule_run.run(["true"], files={"a/b/file": content}, collect=["a/b/file"])
    assert expected == result.files["a/b/file"].data


def test_input_file_source_keeps_its_mode(tmp_path):
    """A file of the host comes in with its bytes and its mode, unless the request says another."""
    source = tmp_path / "tool"
    source.write_bytes(EVERY_BYTE)
    source.chmod(0o750)
    files = {"same": {"source": str(source)}, "other": {"source": str(source), "mode": "0600"}}
    result = capsule_run.run(["stat", "-c", "%a %s", "same", "other"], files=files)
    assert "750 256\n600 256\n" == result.stdout


def test_input_file_belongs_to_the_command():
    """The sandbox's user may change, run and remove a file that was brought in, and the folder it lies in."""
    script = "id -u; stat -c %u d d/f; d/f; echo more >> d/f; mv d e; rm -r e"
    result = capsule_run.run(["sh", "-c", script], files={"d/f": {"text": "#!/bin/sh\necho ran\n", "mode": "0755"}})
    assert ("1000\n1000\n1000\nran\n", "") == (result.stdout, result.stderr)


def test_input_files_by_the_thousand_go_in_and_out():
    """A thousand files go in and out in one request, none lost, none changed."""
    files = {f"d{n % 10}/f{n}": f"{n}".encode() * n for n in range(1000)}
    result = capsule_run.run(["true"], files=files, collect=["**"])
    assert files == {path: bytes(file) for path, file in result.files.items()}


def test_input_file_over_a_share_leaves_the_host_unchanged(tmp_path):
    """A file that comes into a copy-on-write workspace hides what lay there, for this run alone, also behind a link."""
    (tmp_path / "shown").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "shown" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "shown" / "file").write_text("host\n")
    files = {"link/new": "mine\n", "file": "mine\n"}
    result = capsule_run.run(["cat", "link/new", "file"], files=files, workspace=str(tmp_path / "shown"))
    assert "mine\nmine\n" == result.stdout, result.stderr
    assert ([], "host\n") == (os.listdir(tmp_path / "elsewhere"), (tmp_path / "shown" / "file").read_text())


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_input_file_into_a_host_directory_is_refused(tmp_path, mode):
    """With a workspace that is the host's directory itself, files are refused by name."""
    request = {
        "command": ["true"],
        "files": {"f": "x"},
        "isolation": {"workspace": {"source": str(tmp_path), "mode": mode}},
    }
    with pytest.raises(CapsuleError, match="E1009"):
        capsule_run.execute(capsule_run.request.parse.request_from_mapping(request))
    assert [] == os.listdir(tmp_path)


def _link(place):
    (place / "real").write_text("x")
    (place / "it").symlink_to("real")


def _directory(place):
    (place / "it").mkdir()


def _fifo(place):
    os.mkfifo(place / "it")


@pytest.mark.parametrize("make", [_link, _directory, _fifo, lambda _place: None])
def test_input_file_source_that_is_no_plain_file_is_e2004(tmp_path, make):
    """A link, a directory, a FIFO (without waiting for a writer) and nothing at all are E2004, which names the path."""
    make(tmp_path)
    result = capsule_run.run(["true"], files={"f": {"source": str(tmp_path / "it")}})
    assert ("error", "E2004", None) == (result.status, result.error.code, result.exit_code)
    assert str(tmp_path / "it") in result.error.message


def test_input_files_over_the_disk_limit_are_refused():
    """Files that cannot fit are refused before anything runs, with both numbers."""
    with pytest.raises(CapsuleError, match="they take 20480 bytes, in pages of 4096, and the disk limit is 8192"):
        capsule_run.run(["true"], files={"f": b"x" * 20_000}, disk=8192)


def test_input_files_over_the_memory_limit_are_refused():
    """What lies in the workspace counts as memory, so files beyond that limit are refused as well."""
    with pytest.raises(CapsuleError, match="the memory limit is 1048576"):
        capsule_run.run(["true"], files={"f": b"x" * 2_000_000}, disk="1G", memory="1M")


def test_input_files_transfer_can_be_cancelled(tmp_path):
    """Anyone who cancels while the bytes are on their way gets an answer at once, and no room stays."""
    with (tmp_path / "big").open("wb") as file:
        file.truncate(256 << 20)
    request = capsule_run.request.parse.request_from_mapping(
        {"command": ["true"], "files": {"f": {"source": str(tmp_path / "big")}}, "resources": {"memory_bytes": 1 << 30}}
    )
    result = capsule_run.execute(request, on_start=lambda run: run.cancel(15))
    assert ("killed", "E3007") == (result.status, result.error.code)


def test_input_file_source_that_shrinks_is_refused(tmp_path):
    """A file that is shorter by the time it is sent is an error that names it, and nothing runs."""
    (tmp_path / "f").write_bytes(b"x" * 8192)
    request = capsule_run.request.parse.request_from_mapping(
        {"command": ["true"], "files": {"a": b"x" * (4 << 20), "f": {"source": str(tmp_path / "f")}}}
    )
    result = capsule_run.execute(request, on_start=lambda _run: os.truncate(tmp_path / "f", 10))
    assert ("error", "E2004", None) == (result.status, result.error.code, result.exit_code)


def test_input_files_in_json_are_text_or_base64():
    """The same in JSON: text as text, what is not UTF-8 as base64, with size and mode."""
    request = {
        "command": ["sh", "-c", "cat in > out; printf '\\377' > bin; chmod 700 bin"],
        "files": {"in": "é"},
        "collect": ["out", "bin"],
    }
    code = "from capsule_run.cli.command import main; main(['--json'])"
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(request), capture_output=True, text=True, check=True
    )
    assert {
        "bin": {"mode": "0700", "bytes": 1, "base64": "/w=="},
        "out": {"mode": "0644", "bytes": 2, "text": "é"},
    } == json.loads(done.stdout)["files"]


MEMORY = """
import capsule_run, hashlib, sys
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(sys.argv[2]))
capsule_run.run(["true"], files={"f": "x"}, collect=["f"])
before = peak()
result = capsule_run.run(
    ["mv", "in", "out"], files={"in": {"source": sys.argv[1]}}, collect=["out"], collect_bytes="2G", disk="2G", memory="3G",
    collect_to=sys.argv[3],
    timeout_ms=120_000,
)
grown = peak() - before
digest = hashlib.sha256()
with memoryview(result.files["out"].data) as view:
    for at in range(0, len(view), 1 << 20):
        digest.update(view[at : at + (1 << 20)])
print(grown, len(result.files["out"]), digest.hexdigest())
"""


@pytest.mark.slow
def test_input_file_of_a_gibibyte_costs_no_memory(tmp_path):
    """A file of 1 GiB goes in and comes out, byte for byte, while the caller's memory grows by less than 64 MiB."""
    block, digest = os.urandom(1 << 20), hashlib.sha256()
    with (tmp_path / "big").open("wb") as file:
        for _ in range(1024):
            file.write(block)
            digest.update(block)
    argv = [sys.executable, "-c", MEMORY, str(tmp_path / "big"), "VmHWM", str(tmp_path / "saved")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    grown, size, found = done.stdout.split()
    assert (1 << 30, digest.hexdigest()) == (int(size), found)
    assert int(grown) < 64 << 10
