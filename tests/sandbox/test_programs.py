"""The programs that people and models start most often simply work: no option, no preparation, as root and as a user."""

from __future__ import annotations

import base64
import io
import os
import pty
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pytest
from inside import COMMAND

from capsule_run import run
from capsule_run.host import survey
from capsule_run.model import source

ROOM = {"memory_bytes": 1 << 30}


def says(inside, script, **fields):
    return inside.says(["sh", "-e", "-c", script], **fields)


# --- files, archives, compilers, data bases ---------------------------------------------------------------------------


@pytest.mark.needs("gcc")
def test_gcc(inside):
    """A program is compiled, linked and run in the workspace."""
    script = "echo 'int main(void) { return 3; }' > a.c; gcc -o a a.c; ./a || echo $?"
    assert "3" == says(inside, script)


@pytest.mark.needs("gcc")
def test_tmpfile(inside):
    """tmpfile(3) gives a file."""
    code = (
        '#include <stdio.h>\\nint main(void) { FILE *f = tmpfile(); return !(f && fputs("x", f) > 0 && !fclose(f)); }'
    )
    assert "" == says(inside, f"printf '%b' '{code}' > a.c; gcc -o a a.c; ./a")


@pytest.mark.needs("sqlite3")
def test_sqlite3(inside):
    """A data base in the workspace, with its write-ahead log and its locks."""
    statements = "pragma journal_mode=wal; create table t(a); insert into t values(7); select * from t;"
    assert ["wal", "7"] == says(inside, f"sqlite3 x.db '{statements}'").split()


def test_tar_unpack_keeps_times_and_modes(inside):
    """An archive is unpacked without a complaint, with modes and times."""
    script = """
        mkdir d; echo 1 > d/f; chmod 640 d/f; touch -d '2001-02-03 04:05:06' d/f
        tar czf x.tgz d; rm -r d; tar xzf x.tgz; stat -c '%a %y' d/f"""
    assert "640 2001-02-03 04:05:06.000000000 +0000" == says(inside, script, environment={"TZ": "UTC"})


def test_zip(inside):
    """A zip archive made and read."""
    code = "import zipfile as z; z.ZipFile('x.zip', 'w').writestr('a', 'b'); print(z.ZipFile('x.zip').read('a'))"
    assert "b'b'" == inside.python_says(code)


def test_locale_sorting_is_that_of_c_utf8(inside):
    """The locale is C.UTF-8: letters are sorted by code point, and are letters."""
    assert "B a é " == says(inside, "printf 'a\\né\\nB\\n' | sort | tr '\\n' ' '")
    assert "utf-8 é" == inside.python_says("import locale; print(locale.getpreferredencoding().lower(), 'é')")


# --- Python -----------------------------------------------------------------------------------------------------------


def wheel(name):
    """A wheel with one module, as base64."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}.py", "answer = 42\n")
        archive.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        archive.writestr(f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{name}-1.dist-info/RECORD", "")
    return base64.b64encode(buffer.getvalue()).decode()


def test_venv_and_pip_install_of_a_wheel_work(inside):
    """`python -m venv` in the workspace, `pip install` of a wheel that is there, and its module."""
    files = {"lonely-1-py3-none-any.whl": {"base64": wheel("lonely")}}
    script = """
        python -m venv --without-pip v; python -m pip -q --python v/bin/python install --no-index lonely-1-py3-none-any.whl
        v/bin/python -c 'import lonely, sys; print(lonely.answer, sys.prefix)'"""
    assert "42 /workspace/v" == says(inside, script, files=files, resources=ROOM, timeout_ms=60_000)


@pytest.mark.needs("package")  # pytest is beside the Python of the package
def test_pytest_writes_its_cache(inside):
    """pytest runs, and its cache directory is written without a warning."""
    files = {"test_it.py": "def test_it(tmp_path):\n    assert tmp_path.exists()\n"}
    said = says(inside, "python -m pytest -q -p no:randomly 2>&1; ls -d .pytest_cache", files=files, resources=ROOM)
    assert "1 passed" in said
    assert "arning" not in said
    assert said.endswith(".pytest_cache")


def test_multiprocessing(inside):
    """A pool, a semaphore and shared memory of Python's multiprocessing."""
    code = """
import multiprocessing as m
from multiprocessing import shared_memory
if __name__ == "__main__":
    lock, memory = m.Semaphore(), shared_memory.SharedMemory(create=True, size=8)
    with lock, m.Pool(2) as pool:
        print(pool.map(abs, [-1, -2]), len(memory.buf) >= 8)
    memory.close(); memory.unlink()
"""
    assert "[1, 2] True" == inside.python_says(code)


def test_home_is_writable_for_caches(inside):
    """HOME is writable: the cache and settings directories of libraries (matplotlib, pip, npm) can be made."""
    places = ".config/matplotlib .cache/pip .npm .local/share"
    script = f'for each in {places}; do mkdir -p "$HOME/$each"; echo x > "$HOME/$each/f"; done; echo ~'
    assert "/home/user" == says(inside, script)


def test_http_server_on_loopback(inside):
    """`python -m http.server` answers on 127.0.0.1 and on localhost."""
    code = """
import subprocess, sys, time, urllib.request
server = subprocess.Popen([sys.executable, "-m", "http.server", "8123"], stdout=-3, stderr=-3)
for name in ("127.0.0.1", "localhost"):
    for _ in range(200):
        try:
            print(urllib.request.urlopen(f"http://{name}:8123/").status)
            break
        except OSError:
            time.sleep(0.05)
server.kill()
"""
    assert ["200", "200"] == inside.python_says(code).split()


# --- git and node -----------------------------------------------------------------------------------------------------

USERS = pytest.mark.parametrize("user", [1000, 0, "1000:0"])


@pytest.mark.needs("git")
@USERS
def test_git_commits_without_settings(inside, user):
    """A repository is made and committed to: nobody has to say who commits."""
    script = "git init -q .; echo x > x; git add x; git commit -qm first; git log --format='%s %an'"
    assert "first user" == says(inside, script, isolation={"user": user})


@pytest.mark.needs("git")
@USERS
@pytest.mark.parametrize("mode", ["cow", "rw", "ro"])
def test_git_in_a_shared_repository(inside, place, user, mode):
    """In a repository of the caller's, and of somebody else's, git does not speak of dubious ownership."""
    for name, owner in (("own", inside.uid), ("others", 4242)):
        repository = place / name
        commit = "git init -q . && echo x > x && git add x && git -c user.name=a -c user.email=a@b commit -qm first"
        repository.mkdir()
        subprocess.run(
            ["sh", "-c", commit], cwd=repository, check=True, env={"PATH": "/usr/bin", "HOME": "/nonexistent"}
        )
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{owner}:{owner}", repository], check=True)
        script = "git status --short; git log --format=%s"
        isolation = {"workspace": {"source": str(repository), "mode": mode}, "user": user}
        assert "first" == says(inside, script, isolation=isolation)


@pytest.mark.needs("node")
def test_node_and_npm(inside):
    """`npm init -y` writes a package.json, which node reads."""
    script = "npm init -y > /dev/null; node -p 'require(\"./package.json\").name'"
    assert "workspace" == says(inside, script, resources=ROOM)


# --- the machine that they see ----------------------------------------------------------------------------------------


def test_date_has_the_hosts_time_zone(inside):
    """`date` prints the zone that the host's /etc/localtime says."""
    zone = subprocess.run(["date", "+%Z %z"], env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=True)
    assert zone.stdout.strip() == says(inside, "date '+%Z %z'")


def test_host_tables_are_shown(inside):
    """The names of services and protocols, and what OpenSSL is set to, are those of the host, as far as it has them."""
    for name in ("services", "protocols", "ssl/openssl.cnf"):
        path = Path("/etc", name)
        expected = path.read_text() if path.is_file() else "none"
        assert expected.strip() == says(inside, f"if [ -e {path} ]; then cat {path}; else echo none; fi")


def test_host_table_replaced_is_read_again(monkeypatch):
    """What is kept of the host for a second is not what is shown once it is no longer there: the core refuses it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        table = Path(place, "table")

        def copied(*_facts):
            seen = table.lstat()
            return (
                source.CopiedFile(
                    place="/etc/table", path=str(table), device=seen.st_dev, inode=seen.st_ino, size=seen.st_size
                ),
            )

        monkeypatch.setattr(survey, "_copied", copied)
        monkeypatch.setattr(survey, "KEPT_NS", 60 * 10**9)
        survey.forget()
        table.write_text("old")
        assert "old" == run(["cat", "/etc/table"]).stdout
        Path(place, "other").write_text("new")
        Path(place, "other").rename(table)
        assert "new" == run(["cat", "/etc/table"]).stdout
    survey.forget()


def test_nproc_believes_the_variable(inside):
    """`nproc` says what OMP_NUM_THREADS says, which a quota sets (tests/unit/test_processor_count.py)."""
    assert "1" == says(inside, "nproc", environment={"OMP_NUM_THREADS": "1"})


def test_nproc_without_a_quota_is_the_hosts(inside):
    """Without a quota `nproc` says what it says outside, and no variable is added."""
    assert f"{len(os.sched_getaffinity(0))} none" == says(inside, 'echo "$(nproc) ${OMP_NUM_THREADS-none}"')


def test_proc_self_exe_and_dev_fd(inside):
    """/proc/self/exe is the program itself, and /dev/fd its descriptors."""
    assert "/usr/bin/readlink" == os.path.realpath(says(inside, "readlink /proc/self/exe"))
    assert "through" == inside.says(["bash", "-c", "cat <(echo through)"])


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("1234:77", "uid=1234(user) gid=77(user) groups=77(user)"),
        ("1234", "uid=1234(user) gid=1234(user) groups=1234(user)"),
        ("0:5", "uid=0(root) gid=5(user) groups=5(user)"),
        ("5:0", "uid=5(user) gid=0(root) groups=0(root)"),
    ],
)
def test_user_and_group_are_as_asked(inside, user, shown):
    """`--user UID[:GID]`: `id` knows both by name, files belong to both, and the account list has the user's home."""
    script = "id; touch f; stat -c %u:%g f; getent passwd $(id -u) | cut -d: -f3,4,6"
    uid, _colon, gid = user.partition(":")
    gid = gid or uid
    said = inside.says(["sh", "-c", script], options=("--user", user)).splitlines()
    assert [shown, f"{uid}:{gid}", f"{uid}:{gid}:/home/user"] == said


def on_a_terminal(words, environment):
    """What the command line prints when its three streams are a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir("/")
        os.execve(COMMAND[0], [*COMMAND, *words], environment)
    parts = []
    try:
        while part := os.read(terminal, 4096):
            parts.append(part)
    except OSError:
        pass
    os.close(terminal)
    os.waitpid(pid, 0)
    return b"".join(parts).decode()


def test_terminal_sets_term():
    """In command mode on a terminal TERM is the caller's, so that tput and colours work; a TERM that is none is not passed."""
    environment = {"PATH": "/usr/bin", "HOME": "/tmp", "TERM": "xterm"}
    words = ["--no-workspace", "--", "sh", "-c", "echo $TERM; tput cols"]
    lines = on_a_terminal(words, environment).split()
    assert "xterm" == lines[0]
    assert lines[1].isdigit()
    assert [""] == on_a_terminal(
        ["--no-workspace", "--", "sh", "-c", "echo $TERM"], {**environment, "TERM": "a b\n"}
    ).split("\r\n")[:1]
    own = ["--no-workspace", "--env", "TERM=dumb", "--", "sh", "-c", "echo $TERM"]
    assert "dumb" == on_a_terminal(own, environment).split()[0]


def test_terminal_absent_leaves_term_unset(inside):
    """Where nothing is a terminal, TERM is not set."""
    done = inside.cli(
        "--no-workspace",
        "--",
        "sh",
        "-c",
        "echo ${TERM-none}",
        env={"PATH": "/usr/bin", "TERM": "xterm", "HOME": "/tmp"},
    )
    assert b"none\n" == done.stdout
