"""What the host does in a shared directory while a run shows it: no secret that is known by its name becomes readable."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import threading
import time

import pytest

from capsule_run.engine import execute, fallbacks
from capsule_run.policy.workspace import SMALL_ENTRIES
from capsule_run.request.parse import request_from_mapping

SECRET = "hunter2"
LOOK = f"cat .env .npmrc .aws/* .ssh/* .config/gh .cargo/* .m2/* .env* .boto; grep -rs {SECRET} ."
READY = "touch /sync/ready; until [ -e /sync/go ]; do sleep 0.01; done; "


def write(path, text=SECRET):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def saved(path):
    """As an editor saves: written beside its place, and renamed over it."""
    write(path.with_name("saved~"))
    path.with_name("saved~").rename(path)


def made_again(path):
    path.unlink()
    write(path)


def moved_and_made_again(directory, name):
    directory.rename(directory.with_name("moved"))
    shutil.rmtree(directory.with_name("moved"))
    write(directory / name)


def removed_and_made_again(directory, name):
    shutil.rmtree(directory)
    write(directory / name)


def link_made_a_file(path):
    path.unlink()
    write(path)


# What lifts a mask that is a mount on the host's own file or directory.
LIFTED = {
    "a file is saved": lambda top: saved(top / ".env"),
    "a file is made again": lambda top: made_again(top / ".env"),
    "a directory is made again": lambda top: moved_and_made_again(top / ".aws", "key"),
    "a directory above is made again": lambda top: moved_and_made_again(top / ".config", "gh"),
    "the target of a link is saved": lambda top: saved(top / "settings" / "live"),
    "a directory is removed and made again": lambda top: removed_and_made_again(top / ".aws", "key"),
}
MOVED = {"a masked file is moved": lambda top: (top / ".env").rename(top / "moved")}
# Secrets that no mask can have been put on.
LATER = {
    "a file appears": lambda top: write(top / ".npmrc"),
    "a directory appears": lambda top: write(top / ".ssh" / "id_ed25519"),
    "a file appears in a directory that is there": lambda top: write(top / ".cargo" / "credentials"),
    "a file appears in a directory that was not": lambda top: write(top / ".m2" / "settings.xml"),
    "the target of a link appears": lambda top: write(top / "settings" / "later"),
    "a link becomes a file": lambda top: link_made_a_file(top / ".env.local"),
    "a link appears": lambda top: (write(top / ".s"), (top / ".boto").symlink_to("../.s"), (top / ".s").unlink()),
}


def own(inside, *paths):
    """Give it all to who runs the test's sandbox."""
    if os.geteuid() == 0:
        for path in paths:
            for each in (path, *path.rglob("*")):
                os.chown(each, inside.uid, inside.uid, follow_symlinks=False)


@pytest.fixture
def top(place, inside):
    """A project with secrets of each kind: files, directories, links, and the directories that others are looked for in."""
    top = place / "project"
    for name in (".env", ".aws/key", ".config/gh", "settings/live", ".ssh-like/open.txt"):
        write(top / name)
    write(top / ".ssh-like" / "open.txt", "no secret")
    (top / ".cargo").mkdir()
    (top / ".env.local").symlink_to("settings/live")
    (top / ".envrc").symlink_to("settings/later")
    write(top / "open.txt", "no secret")
    own(inside, top)
    return top


@pytest.fixture
def meanwhile(place, inside):
    """`meanwhile(script, action, isolation)`: the response of a run of `script` during which `action` is done."""
    sync = place / "sync"
    sync.mkdir()
    sync.chmod(0o777)
    own(inside, sync)

    def run(script, action, isolation, **fields):
        isolation = {
            **isolation,
            "binds": [*isolation.get("binds", ()), {"source": str(sync), "destination": "/sync", "mode": "rw"}],
        }
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(inside(["sh", "-c", READY + script], isolation=isolation, **fields))
        )
        thread.start()
        while not (sync / "ready").exists() and thread.is_alive():
            time.sleep(0.005)
        try:
            if thread.is_alive():
                action()
                own(inside, place)
        finally:
            (sync / "go").touch()
            thread.join()
        (answer,) = answers
        return answer

    return run


def larger(top):
    """Add as many files as make a workspace too large to be copied: it is overlaid."""
    (top / "many").mkdir(exist_ok=True)
    for number in range(SMALL_ENTRIES):
        (top / "many" / str(number)).touch()
    return str(top)


FIXED = {
    "workspace ro": lambda top: ("/workspace", {"workspace": {"source": str(top), "mode": "ro"}}),
    "workspace cow": lambda top: ("/workspace", {"workspace": {"source": str(top), "mode": "cow"}}),
    "workspace overlay": lambda top: ("/workspace", {"workspace": {"source": larger(top), "mode": "cow"}}),
    "readonly path": lambda top: (str(top), {"readonly_paths": [str(top)]}),
    "bind ro": lambda top: ("/data", {"binds": [{"source": str(top), "destination": "/data"}]}),
    "bind ro in a workspace": lambda top: (
        "/workspace/settings",
        {
            "workspace": {"source": str(top), "mode": "cow"},
            "binds": [{"source": str(top), "destination": "/workspace/settings"}],
        },
    ),
}
LIVE = {
    "workspace rw": lambda top: ("/workspace", {"workspace": {"source": str(top), "mode": "rw"}}),
    "writable path": lambda top: (str(top), {"writable_paths": [str(top)]}),
    "bind rw": lambda top: ("/data", {"binds": [{"source": str(top), "destination": "/data", "mode": "rw"}]}),
}


@pytest.mark.sandbox
@pytest.mark.parametrize("change", [*LIFTED, *LATER])
@pytest.mark.parametrize("share", FIXED)
def test_read_only_or_copied_share_changed_by_host_shows_no_secret(top, meanwhile, share, change):
    """In a share that cannot be written through, a secret that is replaced or appears while the run lives is not readable."""
    where, isolation = FIXED[share](top)
    look = f"cd {where} && find . > /dev/null; " + LOOK
    answer = meanwhile(look, lambda: {**LIFTED, **LATER}[change](top), isolation)
    assert SECRET not in answer["stdout"] + answer["stderr"], answer
    assert "E5002" != answer.get("error", {}).get("code"), answer


@pytest.mark.sandbox
@pytest.mark.parametrize("change", [*LIFTED, *MOVED])
@pytest.mark.parametrize("share", LIVE)
def test_writable_share_whose_mask_is_lifted_ends_the_run(top, meanwhile, share, change):
    """A run that lives on when the host has taken a mask off is ended, and the result names the place."""
    where, isolation = LIVE[share](top)
    answer = meanwhile("sleep 20", lambda: {**LIFTED, **MOVED}[change](top), isolation)
    assert ("killed", "E5002") == (answer["status"], answer.get("error", {}).get("code")), answer
    assert answer["error"]["details"]["path"].startswith(where), answer


@pytest.mark.sandbox
@pytest.mark.parametrize("share", LIVE)
def test_writable_share_whose_mask_is_lifted_at_the_end_is_reported(top, meanwhile, share):
    """However short a command lives behind it, it is no success."""
    _where, isolation = LIVE[share](top)
    answer = meanwhile("true", lambda: saved(top / ".env"), isolation)
    assert "E5002" == answer.get("error", {}).get("code"), answer


@pytest.mark.sandbox
@pytest.mark.parametrize("share", ["workspace ro", "workspace rw"])
def test_share_whose_directory_is_replaced_shows_the_first_one(top, meanwhile, share):
    """A run shows the directory that was there when it started, whatever the host puts in its place, and its masks hold."""
    where, isolation = {**FIXED, **LIVE}[share](top)

    def replace():
        top.rename(top.with_name("moved"))
        write(top / ".env")
        write(top / "second.txt")

    answer = meanwhile(f"cd {where}; cat .env second.txt; cat open.txt", replace, isolation)
    assert "no secret" == answer["stdout"], answer


@pytest.mark.sandbox
def test_bind_in_a_writable_share_whose_place_is_removed_ends_the_run(top, meanwhile, place):
    """What a request shows over a path of a directory shared `rw` is guarded as a mask is."""
    write(place / "example", "no secret")
    (top / ".env").unlink()
    write(top / ".env")
    _where, isolation = LIVE["workspace rw"](top)
    isolation["binds"] = [{"source": str(place / "example"), "destination": "/workspace/.env"}]
    answer = meanwhile("sleep 20", lambda: saved(top / ".env"), isolation)
    assert ("E5002", "/workspace/.env") == (answer["error"]["code"], answer["error"]["details"]["path"]), answer


@pytest.mark.sandbox
def test_writable_share_whose_other_files_change_goes_on(top, meanwhile):
    """Neither the command nor the host ends the run by what they do beside what is masked, however much that is."""
    _where, isolation = LIVE["workspace rw"](top)
    churn = "for i in $(seq 200); do : > a; mv a b; rm b; done; mkdir .config/x; rmdir .config/x; echo went on"

    def change():
        for number in range(20_000):
            (top / f"n{number % 7}").write_text("")
            (top / f"n{number % 7}").unlink()
        (top / ".env").write_text("in place")
        (top / ".env").chmod(0o600)

    answer = meanwhile(churn, change, isolation, timeout_ms=50_000)  # 20,000 files: more events than a queue has
    assert "went on\n" == answer["stdout"], answer


@pytest.mark.sandbox
def test_writable_share_in_which_a_mask_is_attacked_goes_on(top, inside):
    """The command cannot lift a mask, and what it tries is no event of the host's."""
    _where, isolation = LIVE["workspace rw"](top)
    script = "mv .env x; rm -f .env; rm -rf .aws; echo x > y; mv -f y .env; ln -f y .env; cat .env .aws/*; echo held"
    answer = inside(["sh", "-c", script], isolation=isolation)
    assert "held\n" == answer["stdout"], answer


@pytest.mark.sandbox
def test_copy_on_write_share_lets_the_command_make_what_is_missing(top, inside):
    """Names at which no secret may appear are free for the command's own files, and its changes are listed."""
    _where, isolation = FIXED["workspace cow"](top)
    made = "echo a > .npmrc; mkdir -p .m2 .ssh; echo b > .m2/settings.xml; mv .ssh .ssh2; echo c > .cargo/credentials"
    script = f"{made}; cat .npmrc .m2/* .cargo/*"
    answer = inside(["sh", "-c", script], isolation=isolation, changes=True)
    assert "a\nb\nc\n" == answer["stdout"], answer
    assert {".npmrc", ".m2", ".m2/settings.xml", ".ssh2", ".cargo/credentials"} == {
        one["path"] for one in answer["changes"]
    }


@pytest.mark.sandbox
def test_link_on_the_way_to_a_secret_is_followed(top, inside):
    """A secret behind a directory that is a link is masked where it lies."""
    (top / "conf").mkdir()
    write(top / "conf" / "config.json")
    (top / ".docker").symlink_to("conf")
    write(top / "kaggle" / "kaggle.json")
    (top / ".kaggle").symlink_to("kaggle")
    own(inside, top)
    for share in (*FIXED, *LIVE):
        where, isolation = {**FIXED, **LIVE}[share](top)
        answer = inside(
            ["sh", "-c", f"cd {where}; grep -rs {SECRET} conf kaggle .docker/ .kaggle/; echo looked"],
            isolation=isolation,
        )
        assert "looked\n" == answer["stdout"], (share, answer)


@pytest.mark.sandbox
def test_read_only_share_leads_to_no_socket_pipe_or_lock_of_the_host(top, inside, place):
    """A socket in a directory shared read-only answers nobody, a FIFO is another, and a lock is the sandbox's own."""
    os.mkfifo(top / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(top / "socket"))
    server.listen()
    own(inside, top)
    reader = os.open(top / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    code = """
import fcntl, os, socket
fcntl.flock(open("/data/open.txt"), fcntl.LOCK_EX | fcntl.LOCK_NB)
connect, flags = socket.socket(socket.AF_UNIX).connect, os.O_WRONLY | os.O_NONBLOCK
for attempt in (lambda: connect("/data/socket"), lambda: os.open("/data/pipe", flags)):
    try:
        attempt()
        print("reached")
    except OSError:
        print("refused")
"""
    try:
        with open(top / "open.txt") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert "refused\nrefused" == inside.python_says(code, isolation=FIXED["bind ro"](top)[1])
    finally:
        os.close(reader)
        server.close()


@pytest.mark.sandbox
def test_read_only_share_without_overlay_is_masked_guarded_and_noted(tmp_path, monkeypatch):
    """Where the file system refuses an overlay, masks are mounts, the host's changes end the run, and a note says the rest."""
    write(tmp_path / ".env")
    monkeypatch.setattr(fallbacks, "unsupported", {f"lower:{tmp_path.stat().st_dev}"})
    binds = [{"source": str(tmp_path), "destination": "/data"}]

    def request(*command):
        return request_from_mapping({"command": list(command), "isolation": {"binds": binds}})

    result = execute.execute(request("cat", "/data/.env"))
    assert ("success", "") == (result.status, result.stdout)
    (note,) = result.isolation["notes"]
    assert str(tmp_path) in note
    sync = tmp_path / "sync"
    sync.mkdir()
    binds.append({"source": str(sync), "destination": "/sync", "mode": "rw"})

    def save():
        while not (sync / "ready").exists() and not ended.is_set():
            time.sleep(0.005)
        saved(tmp_path / ".env")

    ended = threading.Event()
    thread = threading.Thread(target=save)
    thread.start()
    result = execute.execute(request("sh", "-c", "touch /sync/ready; sleep 20"))
    ended.set()
    thread.join()
    assert "E5002" == result.error.code
