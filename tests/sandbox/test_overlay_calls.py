"""rename(2) and link(2) in a workspace that is an overlay, by the helper of core/overlay_calls.c, and attacks on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import capsule_run
from capsule_run.policy.workspace import SMALL_ENTRIES

pytestmark = pytest.mark.sandbox
IDENTITY = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
RENAMES = {
    "python": """python3 -c 'import os; os.rename("a", "z")'""",
    "mv": "mv -T a z",
    "perl": """perl -e 'rename("a", "z") or die $!'""",
    "relative to a descriptor": """python3 -c 'import os; os.rename("a", "z", src_dir_fd=os.open(".", 0))'""",
    "absolute": """python3 -c 'import os; os.chdir("/"); os.rename("/workspace/a/", "/workspace/z")'""",
    "onto an empty one": """mkdir z && python3 -c 'import os; os.rename("a", "z")'""",
}
LIST = """
import os
for top, directories, files in sorted(os.walk("z")):
    for path in sorted(os.path.join(top, name) for name in [*directories, *files]):
        seen = os.lstat(path)
        content = os.readlink(path) if os.path.islink(path) else "" if os.path.isdir(path) else open(path).read()
        print(path, oct(seen.st_mode), seen.st_mtime_ns, content.strip())
"""


@pytest.fixture
def tree(tmp_path):
    """A directory that is too large to be copied, with something to rename."""
    top = tmp_path / "tree"
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "a" / "b" / "c" / "deep").write_text("deep")
    (top / "a" / "plain").write_text("plain")
    (top / "a" / "plain").chmod(0o751)
    (top / "a" / "link").symlink_to("plain")
    (top / "a" / "b").chmod(0o700)
    (top / "many").mkdir()
    for number in range(SMALL_ENTRIES):
        (top / "many" / str(number)).write_text(f"{number}\n")
    for path in sorted((top / "a").rglob("*"), reverse=True):
        os.utime(path, ns=(1, 10**18 + 1001), follow_symlinks=False)
    return top


def run(script, top, **fields):
    return capsule_run.run(["sh", "-c", script], workspace=str(top), **fields)


def python(code, top, **fields):
    return capsule_run.run(["python3", "-c", code], workspace=str(top), **fields)


def listed(top):
    """What LIST prints of the host's tree, had `a` been renamed."""
    os.rename(top / "a", top / "z")
    said = subprocess.run([sys.executable, "-c", LIST], cwd=top, capture_output=True, check=True, text=True).stdout
    os.rename(top / "z", top / "a")
    return said


@pytest.mark.parametrize("program", RENAMES.values(), ids=RENAMES)
def test_overlay_directory_that_was_there_before_can_be_renamed(tree, program):
    """rename(2) of it works, all that is in it comes along as it was, and nothing else appears."""
    result = capsule_run.run(["sh", "-c", f"{program} && python3 -c '{LIST}' && ls -A"], workspace=str(tree))
    assert "overlay" == result.isolation["workspace"]["mechanism"]
    assert (listed(tree) + "many\nz\n", "", 0) == (result.stdout, result.stderr, result.exit_code)
    assert "plain" == (tree / "a" / "plain").read_text()


@pytest.mark.needs("git")
def test_overlay_repository_can_be_cloned_and_moved(tree):
    """`git clone` of a local repository and `git mv` of a directory work on a real checkout."""
    for words in (["init", "-q"], ["add", "."], [*IDENTITY, "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=tree, check=True)
    result = run(
        "git mv a lib && git clone -q . dst && git -C dst log --format=%s && cat lib/b/c/deep; git status -s", tree
    )
    moved = "".join(f"R  a/{name} -> lib/{name}\n" for name in ("b/c/deep", "link", "plain"))
    assert ("one\ndeep" + moved + "?? dst/\n", "", 0) == (result.stdout, result.stderr, result.exit_code)


def test_overlay_hard_link_is_the_same_file(tree):
    """A link and its source are one inode, with the content, the mode and the time that the source had."""
    code = "import os; b = os.stat('a/plain'); os.link('a/plain', 'g'); s, g = os.stat('a/plain'), os.stat('g')\n"
    code += "print((s.st_ino, s.st_dev, s.st_nlink) == (g.st_ino, g.st_dev, 2))\n"
    code += "print(b.st_mode == g.st_mode, b.st_mtime_ns == g.st_mtime_ns)\n"
    code += "open('g', 'a').write('!'); print(open('a/plain').read(), sorted(os.listdir('a')))"
    result = python(code, tree)
    assert ("True\nTrue True\nplain! ['b', 'link', 'plain']\n", "") == (result.stdout, result.stderr)


def test_overlay_hard_link_of_a_file_open_for_writing_keeps_what_is_written(tree):
    """A log that is rotated by a link while it is written to loses nothing: then two numbers are the smaller evil."""
    code = "import os; f = open('a/plain', 'a'); os.link('a/plain', 'old'); f.write(' more'); f.close()\n"
    result = python(code + "print(open('a/plain').read(), '|', open('old').read())", tree)
    assert ("plain more | plain more\n", "") == (result.stdout, result.stderr)


def test_overlay_rename_keeps_open_files(tree):
    """A file that is open while its directory is renamed is the same file afterwards."""
    code = "import os; f = open('a/b/c/deep', 'a'); os.rename('a', 'z'); f.write('er'); f.close()\n"
    code += "print(open('z/b/c/deep').read())"
    result = python(code, tree)
    assert ("deeper\n", "") == (result.stdout, result.stderr)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("os.rename('a', 'many')", "ENOTEMPTY"),
        ("os.rename('a', 'a/b/x')", "EINVAL"),
        ("os.rename('a', 'none/x')", "ENOENT"),
        ("os.rename('none', 'x')", "ENOENT"),
        ("os.rename('a', 'many/1')", "ENOTDIR"),
        ("os.rename('a', '/tmp/a')", "EXDEV"),
        ("os.link('a', 'g')", "EPERM"),
        ("os.link('a/plain', 'many/1')", "EEXIST"),
    ],
)
def test_overlay_call_that_must_fail_fails_and_changes_nothing(tree, change, error):
    """The kernel's own errno comes, and the directory is as before."""
    code = f"import errno, os\ntry: {change}\nexcept OSError as e: print(errno.errorcode[e.errno])"
    result = python(code, tree)
    assert (f"{error}\n", "", ()) == (result.stdout, result.stderr, result.changes)


def test_overlay_exchange_of_two_directories(tree):
    """RENAME_EXCHANGE of two directories that were there before."""
    code = "import ctypes; c = ctypes.CDLL(None, use_errno=True)\n"
    code += "print(c.renameat2(-100, b'a', -100, b'many', 2), ctypes.get_errno())"
    result = run(f'python3 -c "{code}"; cat a/7 many/plain; ls -A', tree)
    assert ("0 0\n7\nplaina\nmany\n", "") == (result.stdout, result.stderr)


def test_overlay_renamed_directory_is_listed_and_applied(tree):
    """The changes are those of any move, and the host has them afterwards."""
    expected = listed(tree)
    result = run("mv -T a z", tree, apply_changes=True)
    kinds = {one.path: one.kind for one in result.changes}
    assert ("deleted", "created", ()) == (kinds["a"], kinds["z"], result.not_applied)
    assert ["many", "z"] == sorted(os.listdir(tree))
    lines = [line.split() for line in expected.splitlines() if "plain" in line]
    assert oct((tree / "z" / "plain").stat().st_mode) == lines[-1][1]


def test_overlay_rename_without_space_leaves_everything(tree):
    """What does not fit on the disk goes back to its place, and the caller gets the overlay's own EXDEV."""
    for number in range(8):
        (tree / "a" / f"big{number}").write_bytes(b"x" * (1 << 20))
    code = "import errno, os\ntry: os.rename('a', 'z')\nexcept OSError as e: print(errno.errorcode[e.errno])\n"
    code += "print(len(os.listdir('a')), sorted(os.listdir('.')))\n"
    code += "print(sum(os.path.getsize(f'a/big{n}') for n in range(8)) >> 20, open('a/b/c/deep').read())"
    request = {
        "command": ["python3", "-c", code],
        "resources": {"disk_bytes": 4 << 20},
        "isolation": {"workspace": str(tree)},
    }
    result = capsule_run.execute(capsule_run.request.parse.request_from_mapping(request))
    assert ("EXDEV\n11 ['a', 'many']\n8 deep\n", "") == (result.stdout, result.stderr)


def test_overlay_rename_over_a_covered_place_leaves_everything(tree):
    """A directory in which something is mounted cannot be emptied; nothing is lost, and the mount stays."""
    (tree / "a" / "b" / "secret").mkdir()
    (tree / "other").mkdir()
    (tree / "other" / "o").write_text("other")
    code = "import errno, os\ntry: os.rename('a', 'z')\nexcept OSError as e: print(errno.errorcode[e.errno])\n"
    code += "print(open('a/b/secret/o').read(), open('a/b/c/deep').read(), sorted(os.listdir('.')), oct(os.stat('a/b').st_mode))"
    binds = [{"source": str(tree / "other"), "destination": "/workspace/a/b/secret", "mode": "ro"}]
    request = {"command": ["python3", "-c", code], "isolation": {"workspace": str(tree), "binds": binds}}
    result = capsule_run.execute(capsule_run.request.parse.request_from_mapping(request))
    assert ("EXDEV\nother deep ['a', 'many', 'other'] 0o40700\n", "") == (result.stdout, result.stderr)


RACE = """
import ctypes, os, threading, time
libc = ctypes.CDLL(None)
path = ctypes.create_string_buffer(64)
names = [b"a", b"/usr", b"/etc", b"/proc", b"/", b"link/x", b"a/b", b"/proc/1/root", b"/proc/self/cwd/a", b"x" * 63]
over = time.monotonic() + 1.5
def flip():
    n = 0
    while time.monotonic() < over:
        path.raw = names[n % len(names)].ljust(64, b"\\0")
        n += 1
def move(number):
    while time.monotonic() < over:
        libc.rename(path, b"t%d" % number)
        libc.link(path, b"l%d" % number)
        libc.rename(b"t%d" % number, b"a")
threads = [threading.Thread(target=flip)] + [threading.Thread(target=move, args=(n,)) for n in range(6)]
for one in threads: one.start()
for one in threads: one.join()
print("ended", os.path.isdir("/usr/bin"), sorted(os.listdir("/proc/1")) != [])
"""


def test_overlay_helper_with_arguments_that_change_harms_only_the_caller(tree, tmp_path):
    """Paths that another thread changes meanwhile: the run ends as it would, and no place outside the workspace changes."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("f")
    (tree / "link").symlink_to(outside)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    result = python(RACE, tree, timeout_ms=20_000)
    assert ("success", "ended True True\n") == (result.status, result.stdout), result.stderr
    assert before == sorted(str(path) for path in tmp_path.rglob("*"))


HOLDS = """
import os, signal, sys, threading, time
def endless(n):
    while True:
        try: os.rename("many", f"m{n}")
        except OSError: pass
        try: os.rename(f"m{n}", "many")
        except OSError: pass
for n in range(8): threading.Thread(target=endless, args=(n,), daemon=True).start()
def grow():
    for n in range(10**9):
        try: open(f"many/{n % 3000}", "w").close()
        except OSError: pass
threading.Thread(target=grow, daemon=True).start()
time.sleep(60)
"""


def test_overlay_helper_that_is_kept_busy_delays_no_clock(tree):
    """A directory that grows while it is moved keeps the helper, not the launcher: the time limit is kept."""
    result = python(HOLDS, tree, timeout_ms=1_000)
    assert "timeout" == result.status
    assert result.metrics.wall_ms < 10_000


def test_overlay_helper_is_not_seen_inside(tree):
    """No process inside can name the helper, so none can stop, trace or kill it."""
    code = "import os; os.rename('a', 'z'); print({int(p) for p in os.listdir('/proc') if p.isdigit()} == {1, os.getpid()})"
    result = python(code, tree)
    assert ("True\n", "") == (result.stdout, result.stderr)


@pytest.mark.needs("memory cgroup")
def test_overlay_helper_counts_against_the_memory_limit(tree):
    """What the helper copies is memory of the run's, where a control group holds the limit."""
    code = "import os\nos.rename('a', 'z')\nprint(sum(os.path.getsize(f'z/big{n}') for n in range(24)) >> 20)"
    for number in range(24):
        (tree / "a" / f"big{number}").write_bytes(b"x" * (1 << 20))
    result = python(code, tree, memory="256M")
    assert ("24\n", "") == (result.stdout, result.stderr)
    assert result.metrics.max_memory_bytes > 24 << 20


@pytest.mark.parametrize("profile", ["strict", "default"])
def test_overlay_helped_calls_are_still_judged(tree, profile):
    """The filter's own answer to renameat2(2) stands: a whiteout is refused where it is refused without an overlay."""
    code = "import ctypes; c = ctypes.CDLL(None, use_errno=True)\n"
    code += "print(c.renameat2(-100, b'a/plain', -100, b'z', 4), ctypes.get_errno())"
    shared = [{"source": str(tree / "many"), "destination": "/shared", "mode": "rw"}]

    def answer(**isolation):
        request = {"command": ["python3", "-c", code], "profile": profile, "isolation": {"binds": shared, **isolation}}
        result = capsule_run.execute(capsule_run.request.parse.request_from_mapping(request))
        return result.stdout, [(one["syscall"], one.get("errno"), one["count"]) for one in result.denied or ()]

    assert answer(workspace={"source": str(tree), "mode": "ro"})[1] == answer(workspace=str(tree))[1]


def test_overlay_calls_work_for_an_ordinary_user_and_root(inside, place):
    """The mechanism needs no privilege of the caller."""
    folder = Path(place) / "tree"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "f").write_text("f")
    for number in range(SMALL_ENTRIES):
        (folder / f"f{number}").write_text("f")
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, inside.uid, -1)
    script = 'python3 -c \'import os; os.rename("a", "z")\' && cat z/b/f && ln f1 g && test f1 -ef g && echo one'
    assert "fone" == inside.says(["sh", "-c", script], isolation={"workspace": str(folder)})


def test_rename_in_a_living_sandbox_is_helped_with_for_every_command(tree):
    """A command that joins a room has a launcher of its own, which helps it in the room's workspace."""
    with capsule_run.Sandbox(workspace=str(tree)) as box:
        for command in RENAMES["python"], RENAMES["mv"].replace("a z", "z a"):
            result = box.run(command)
            assert (0, "") == (result.exit_code, result.stderr)
        assert "deep" == box.run("cat a/b/c/deep").stdout
