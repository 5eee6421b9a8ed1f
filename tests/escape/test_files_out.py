"""Files out: what a command leaves in its workspace cannot make the collector read elsewhere, wait, or run out of memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import capsule_run

pytestmark = pytest.mark.sandbox
PACKAGES = Path(capsule_run.__file__).parents[1]
SECRET = b"the caller's own"


def out(script, collect, **options):
    """The result of a line of shell, with what is collected behind it."""
    return capsule_run.run(["sh", "-c", script], collect=collect, **options)


def reasons(result):
    return {one.path: one.reason for one in result.not_collected}


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


@pytest.mark.parametrize(
    "target", ["{secret}", "/etc/passwd", "../../../../../..{secret}", "/proc/self/environ", "real"]
)
def test_collect_link_is_not_followed(secret, target):
    """A symbolic link as the collected name brings nothing, wherever it leads, and is named as one."""
    result = out(f"echo inner > real; ln -s {target.format(secret=secret)} out.txt", ["out.txt"])
    assert ({}, {"out.txt": "symlink"}) == (result.files, reasons(result))


@pytest.mark.parametrize("pattern", ["dir/secret", "dir/*", "**/secret", "dir/**"])
def test_collect_link_on_the_way_is_not_followed(secret, pattern):
    """A directory that is a symbolic link is not entered, by a spelled-out name or by a pattern."""
    result = out(f"ln -s {secret.parent} dir", [pattern])
    assert {} == result.files


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        ("mkfifo it", "special"),
        ("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"it\")'", "special"),
        ("mkdir it", "directory"),
    ],
)
def test_collect_special_file_is_refused_without_waiting(make, reason):
    """A FIFO nobody writes to, a socket and a directory are named and not opened."""
    result = out(make, ["it"])
    assert ({}, {"it": reason}) == (result.files, reasons(result))


def test_collect_sparse_file_counts_with_its_size():
    """A file of a terabyte that holds nothing passes the limit of one file, at no cost."""
    result = out("truncate -s 200M bomb && echo small > small", ["*"], max_output="1M", disk="1G")
    assert (["small"], {"bomb": "total_limit"}) == (list(result.files), dict.fromkeys(reasons(result), "total_limit"))


def test_collect_total_limit_holds_for_many_files():
    """The total is kept, however it is cut into files; those that fit come out."""
    result = out("for i in 1 2 3 4; do head -c 400 /dev/zero > f$i; done", ["f*"], collect_bytes=1000)
    assert (["f1", "f2"], {"f3": "total_limit", "f4": "total_limit"}) == (list(result.files), reasons(result))


def test_collect_hard_links_are_counted_each():
    """A hard link can only lead to a file of the sandbox's own, and counts like a copy."""
    result = out("head -c 600 /dev/zero > a; ln a b; ln /etc/passwd c", ["*"], collect_bytes=1000)
    assert (["a"], {"b": "total_limit"}) == (list(result.files), reasons(result))


def test_collect_deep_tree_ends_at_the_bound():
    """Directories in directories end the walk, not the stack."""
    deep = "import os\nfor i in range(900):\n os.mkdir('d'); os.chdir('d')\nopen('f', 'w')"
    result = capsule_run.run(["python3", "-c", deep], collect=["**"])
    assert ({}, ["too_deep"]) == (result.files, [one.reason for one in result.not_collected])


def test_collect_names_of_any_bytes_are_kept():
    """A name of any bytes is a name: newlines, bytes that are not UTF-8, a dash in front."""
    result = out(r"""printf x > "$(printf 'a\nb')"; printf y > "$(printf '\377')"; printf z > -rf""", ["*"])
    assert {"a\nb": b"x", "\udcff": b"y", "-rf": b"z"} == {path: file.data for path, file in result.files.items()}


def test_collect_does_not_read_through_a_bind(secret):
    """A host directory shown in the workspace does not come out through it, nor does a file that is shown there."""
    binds = [
        {"source": str(secret.parent), "destination": "/workspace/shown"},
        {"source": str(secret), "destination": "/workspace/file"},
    ]
    request = {"command": ["cat", "shown/secret", "file"], "collect": ["**"], "isolation": {"binds": binds}}
    result = capsule_run.execute(capsule_run.request.parse.request_from_mapping(request))
    assert (SECRET * 2, {}, {"shown": "mount", "file": "mount"}) == (result.stdout_data, result.files, reasons(result))


def test_collect_unreadable_file_is_named(as_user):
    """For an ordinary caller a file without any right stays closed, and the result says so."""
    code = (
        "import capsule_run; r = capsule_run.run(['sh', '-c', 'echo x > f; chmod 0 f; mkdir d; chmod 0 d'],"
        " collect=['f', 'd/**']); print(sorted((one.path, one.reason) for one in r.not_collected))"
    )
    done = as_user([sys.executable, "-c", code], env={"PYTHONPATH": str(PACKAGES), "PATH": "/usr/bin:/bin"})
    assert b"[('d', 'unreadable'), ('f', 'unreadable')]\n" == done.stdout, done.stderr


@pytest.mark.parametrize("end", ["sleep 60", "kill -9 $$", "exit 7"])
def test_collect_after_timeout_or_signal_has_the_files(end):
    """After a timeout, a signal or an exit code, what was written by then is there."""
    result = out(f"echo done > part; {end}", ["part"], timeout_ms=1500)
    assert (b"done\n", False) == (result.files["part"].data, result.ok)


def test_collect_reads_after_every_process_has_ended():
    """What is collected does not change behind the result: everything inside is gone by then."""
    result = out("head -c 2000000 /dev/zero > big; (while :; do echo x >> big; done) & sleep 0.1", ["big"])
    data = result.files["big"].data
    assert len(data) == len(bytes(data))
