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
def test_a_link_is_not_followed(secret, target):
    """A symbolic link as the collected name brings nothing, wherever it leads, and is named as one."""
    result = out(f"echo inner > real; ln -s {target.format(secret=secret)} out.txt", ["out.txt"])
    assert ({}, {"out.txt": "symlink"}) == (result.files, reasons(result))


@pytest.mark.parametrize("pattern", ["dir/secret", "dir/*", "**/secret", "dir/**"])
def test_a_link_on_the_way_is_not_followed(secret, pattern):
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
def test_special_files_are_refused_and_not_waited_for(make, reason):
    """A FIFO nobody writes to, a socket and a directory are named and not opened."""
    result = out(make, ["it"])
    assert ({}, {"it": reason}) == (result.files, reasons(result))


def test_a_sparse_file_counts_as_what_it_claims():
    """A file of a terabyte that holds nothing passes the limit of one file, at no cost."""
    result = out("truncate -s 200M bomb && echo small > small", ["*"], max_output="1M", disk="1G")
    assert (["small"], {"bomb": "total_limit"}) == (list(result.files), dict.fromkeys(reasons(result), "total_limit"))


def test_many_files_pass_the_limit_of_all():
    """The total is kept, however it is cut into files; those that fit come out."""
    result = out("for i in 1 2 3 4; do head -c 400 /dev/zero > f$i; done", ["f*"], collect_bytes=1000)
    assert (["f1", "f2"], {"f3": "total_limit", "f4": "total_limit"}) == (list(result.files), reasons(result))


def test_hard_links_are_counted_each():
    """A hard link can only lead to a file of the sandbox's own, and counts like a copy."""
    result = out("head -c 600 /dev/zero > a; ln a b; ln /etc/passwd c", ["*"], collect_bytes=1000)
    assert (["a"], {"b": "total_limit"}) == (list(result.files), reasons(result))


def test_a_deep_tree_is_left_where_it_is_too_deep():
    """Directories in directories end the walk, not the stack."""
    deep = "import os\nfor i in range(900):\n os.mkdir('d'); os.chdir('d')\nopen('f', 'w')"
    result = capsule_run.run(["python3", "-c", deep], collect=["**"])
    assert ({}, ["too_deep"]) == (result.files, [one.reason for one in result.not_collected])


def test_odd_names_come_out_as_they_are():
    """A name of any bytes is a name: newlines, bytes that are not UTF-8, a dash in front."""
    result = out(r"""printf x > "$(printf 'a\nb')"; printf y > "$(printf '\377')"; printf z > -rf""", ["*"])
    assert {"a\nb": b"x", "\udcff": b"y", "-rf": b"z"} == {path: file.data for path, file in result.files.items()}


def test_what_a_bind_showed_is_not_the_workspace_s(secret):
    """A host directory shown in the workspace does not come out through it, nor does a file that is shown there."""
    binds = [
        {"source": str(secret.parent), "destination": "/workspace/shown"},
        {"source": str(secret), "destination": "/workspace/file"},
    ]
    request = {"command": ["cat", "shown/secret", "file"], "collect": ["**"], "isolation": {"binds": binds}}
    result = capsule_run.execute(capsule_run.request.parse.request_from_mapping(request))
    assert (SECRET * 2, {}, {"shown": "mount", "file": "mount"}) == (result.stdout_data, result.files, reasons(result))


def test_an_unreadable_file_is_named(as_user):
    """For an ordinary caller a file without any right stays closed, and the result says so."""
    code = (
        "import capsule_run; r = capsule_run.run(['sh', '-c', 'echo x > f; chmod 0 f; mkdir d; chmod 0 d'],"
        " collect=['f', 'd/**']); print(sorted((one.path, one.reason) for one in r.not_collected))"
    )
    done = as_user([sys.executable, "-c", code], env={"PYTHONPATH": str(PACKAGES), "PATH": "/usr/bin:/bin"})
    assert b"[('d', 'unreadable'), ('f', 'unreadable')]\n" == done.stdout, done.stderr


@pytest.mark.parametrize("end", ["sleep 60", "kill -9 $$", "exit 7"])
def test_files_come_out_however_it_ends(end):
    """After a timeout, a signal or an exit code, what was written by then is there."""
    result = out(f"echo done > part; {end}", ["part"], timeout_ms=1500)
    assert (b"done\n", False) == (result.files["part"].data, result.ok)


def test_a_process_left_behind_writes_no_more():
    """What is collected does not change behind the result: everything inside is gone by then."""
    result = out("head -c 2000000 /dev/zero > big; (while :; do echo x >> big; done) & sleep 0.1", ["big"])
    data = result.files["big"].data
    assert len(data) == len(bytes(data))
