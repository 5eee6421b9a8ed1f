"""Shared paths: where they are, what may be done there, whom the files belong to, and what is refused."""

from __future__ import annotations

import json
import os
import pwd

import pytest
from inside import COMMAND, code_of


def bind(source, destination, mode="ro", **more):
    return {"binds": [{"source": str(source), "destination": destination, "mode": mode, **more}]}


def options(inside, path, **isolation):
    """The mount options of what is at `path`."""
    lines = inside.says(["cat", "/proc/self/mountinfo"], isolation=isolation).splitlines()
    return {line.split()[4]: set(line.split()[5].split(",")) for line in lines}[path]


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_bind_relative_path_is_the_callers(inside, place):
    """A relative path is one of the caller's directory, in each option; --readonly and --writable show it where it is."""
    for name in ("in", "out", "data"):
        place.joinpath(name).mkdir(mode=0o777)
        place.joinpath(name).chmod(0o777)
        place.joinpath(name, "file").write_text(name)
    script = f'cat {place}/in/file {place}/out/file /d/file; echo "$1" > {place}/out/new; echo no > {place}/in/no'
    words = ("--readonly", "in", "--writable", "./out", "--bind", "../" + place.name + "/data:/d")
    done = inside.cli("--no-workspace", *words, "--", "sh", "-c", script, "sh", "written", cwd=place)
    assert b"inoutdata" == done.stdout, done.stderr
    assert b"Read-only file system" in done.stderr
    assert "written\n" == place.joinpath("out", "new").read_text()


def test_bind_of_a_file_shows_only_it(inside, place):
    """A single file is shown, read-only or writable, and nothing beside it."""
    for name in ("one", "two", "three"):
        place.joinpath(name).write_text(f"{name}\n")
        place.joinpath(name).chmod(0o666)
        if os.geteuid() == 0:
            os.chown(place / name, inside.uid, -1)
    isolation = {
        "readonly_paths": [str(place / "one")],
        "binds": [{"source": str(place / "two"), "destination": "/data/two", "mode": "rw"}],
    }
    script = f"cat {place}/one; ls {place} /data; echo more >> /data/two; echo more >> {place}/one"
    response = inside(["sh", "-c", script], isolation=isolation)
    assert f"one\n/data:\ntwo\n\n{place}:\none\n" == response["stdout"]
    assert ("one\n", "two\nmore\n") == (place.joinpath("one").read_text(), place.joinpath("two").read_text())


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_bind_is_nosuid_and_nodev(inside, place, mode):
    """Every shared path is nosuid and nodev, in either mode."""
    assert {mode, "nosuid", "nodev"} <= options(inside, "/data", **bind(place, "/data", mode))


def in_own_mounts(inside, script, *words, **isolation):
    """A response, with the mounts that `script` makes in a mount namespace of the caller's own."""
    unshare = ["unshare", "-m"] if inside.uid == 0 else ["unshare", "-U", "-r", "-m"]
    request = json.dumps({"command": words, "isolation": isolation}).encode()
    command = [*unshare, "sh", "-e", "-c", f'{script}\nexec "$@"', "sh", *COMMAND, "--json"]
    done = inside._start(command, input=request)
    assert done.stdout, done.stderr.decode()
    return json.loads(done.stdout)


SUBMOUNTS = """
mount -t tmpfs -o suid,dev,mode=0777 top {place}/sub
mkdir -m 0777 {place}/sub/deeper
mount -t tmpfs -o suid,dev,mode=0777 deep {place}/sub/deeper
echo deep > {place}/sub/deeper/file
"""


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_bind_mode_holds_for_submounts(inside, place, mode):
    """What is mounted beneath a shared directory is shown with it, and is as read-only, nosuid and nodev as the rest."""
    place.joinpath("sub").mkdir()
    script = "cat /data/sub/deeper/file; touch /data/sub/new /data/sub/deeper/new 2>&1; cat /proc/self/mountinfo"
    response = in_own_mounts(inside, SUBMOUNTS.format(place=place), "sh", "-c", script, **bind(place, "/data", mode))
    assert response["stdout"].startswith("deep\n"), response
    mounts = [line.split() for line in response["stdout"].splitlines() if " /data" in line and " - " in line]
    assert {"/data", "/data/sub", "/data/sub/deeper"} == {mount[4] for mount in mounts}
    for mount in mounts:
        assert {mode, "nosuid", "nodev"} <= set(mount[5].split(",")), mount
    assert (2 if mode == "ro" else 0) == response["stdout"].count("Read-only file system")


# --- whom it belongs to -----------------------------------------------------------------------------------------------


def owned_by(path, uid, gid):
    path.mkdir(exist_ok=True)
    path.joinpath("secret").write_text("mine alone\n")
    for each in (path, path / "secret"):
        os.chown(each, uid, gid)
        each.chmod(0o700 if each.is_dir() else 0o600)
    return path


SCRIPT = "cat secret; echo new > new; echo more >> secret; mkdir folder; stat -c '%u:%g' . secret new folder"


def test_bind_of_an_ordinary_user_keeps_its_owner(as_user, place):
    """An ordinary user's shared files are the command's own inside, and what is written belongs to the user."""
    uid = as_user.uid
    shared = place / "shared"
    as_user(["mkdir", "-m", "0700", str(shared)])
    as_user(["sh", "-c", f"umask 077; echo mine alone > {shared}/secret"])
    request = {"command": ["sh", "-c", f"cd /data; {SCRIPT}"], "isolation": bind(shared, "/data", "rw")}
    response = json.loads(as_user([*COMMAND, "--json"], input=json.dumps(request).encode()).stdout)
    assert "mine alone\n" + "1000:1000\n" * 4 == response["stdout"], response
    assert {uid} == {os.stat(shared / name).st_uid for name in ("secret", "new", "folder")}


@pytest.mark.root
@pytest.mark.parametrize("owner", [(0, 0), (0, 12), (1001, 1001), (4242, 17)])
@pytest.mark.parametrize("user", [[], ["--user", "0"]])
def test_bind_of_root_keeps_the_trees_owner(inside_as_caller, place, owner, user):
    """Root shares a tree of any owner: inside it is the command's own, and what is written belongs to that owner."""
    shared = owned_by(place / "shared", *owner)
    response = inside_as_caller(
        ["sh", "-c", f"cd /data; {SCRIPT}"], isolation=bind(shared, "/data", "rw"), options=user
    )
    inside_id = "0:0\n" if user else "1000:1000\n"
    assert "mine alone\n" + inside_id * 4 == response["stdout"], response
    for name in ("secret", "new", "folder"):
        seen = shared.joinpath(name).stat()
        assert owner == (seen.st_uid, seen.st_gid)


@pytest.mark.root
def test_bind_file_of_another_owner_stays_closed(inside_as_caller, place):
    """In a tree that root shares, what belongs to somebody else than the tree is a stranger's: not readable, not writable."""
    shared = owned_by(place / "shared", 1001, 1001)
    shared.joinpath("other").write_text("root's")
    shared.joinpath("other").chmod(0o606)
    shared.joinpath("closed").write_text("root's")
    shared.joinpath("closed").chmod(0o600)
    script = "cat /data/closed; echo x > /data/other; stat -c %u /data/other"
    response = inside_as_caller(["sh", "-c", script], isolation=bind(shared, "/data", "rw"))
    assert ("65534\n", 2) == (response["stdout"], response["stderr"].count("ermission denied"))


@pytest.mark.root
def test_bind_writable_as_root_without_id_mapped_mounts_is_refused(inside_as_caller, place):
    """On a file system without id-mapped mounts root's writable share is refused, and the error names what is missing."""
    isolation = bind(place, "/data", "rw")
    response = in_own_mounts(inside_as_caller, f"mount -t ramfs -o mode=0777 none {place}", "true", **isolation)
    assert ("E2009", "a file system with id-mapped mounts") == (
        code_of(response),
        response.get("error", {}).get("details", {}).get("lacks"),
    ), response
    isolation = bind(place, "/data", "ro")
    response = in_own_mounts(inside_as_caller, f"mount -t ramfs -o mode=0777 none {place}", "ls", "/data", **isolation)
    assert "success" == response["status"], response


@pytest.mark.root
@pytest.mark.needs("setpriv")
def test_bind_writable_as_root_without_cap_sys_admin_is_refused(inside_as_caller, place):
    """Root without CAP_SYS_ADMIN, as in a container: a writable share is refused and names it, a read-only one is not."""

    def answer(mode):
        request = json.dumps({"command": ["ls", "/data"], "isolation": bind(place, "/data", mode)}).encode()
        words = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *COMMAND, "--json"]
        return json.loads(inside_as_caller._start(words, input=request).stdout)

    refused = answer("rw")
    assert ("E2009", "CAP_SYS_ADMIN") == (code_of(refused), refused.get("error", {}).get("details", {}).get("lacks"))
    assert "success" == answer("ro")["status"]


# --- what is refused, and what can be insisted on ---------------------------------------------------------------------


def test_bind_source_missing_is_e2004(inside, place):
    """A source that is not there is E2004, with its name in message and details."""
    missing = str(place / "no-such-thing")
    for isolation in (bind(missing, "/data"), {"readonly_paths": [missing]}, {"writable_paths": [missing]}):
        response = inside(["true"], isolation=isolation)
        assert ("E2004", missing) == (code_of(response), response["error"]["details"]["path"])
        assert f"`{missing}`: no such file or directory" in response["error"]["message"]


def test_bind_source_unreadable_is_e2004(as_user, place):
    """A path behind a directory that is closed to the caller is E2004, permission denied."""
    closed = place / "closed"
    closed.joinpath("inner").mkdir(parents=True)
    closed.chmod(0o700)
    if os.geteuid() == as_user.uid:
        closed.chmod(0)
    request = {"command": ["true"], "isolation": bind(closed / "inner", "/data")}
    response = json.loads(as_user([*COMMAND, "--json"], input=json.dumps(request).encode()).stdout)
    closed.chmod(0o700)
    assert "E2004" == code_of(response)
    assert "permission denied" in response["error"]["message"]


@pytest.mark.parametrize("force", [False, True])
def test_bind_destination_missing_in_a_share_is_named(inside, place, force):
    """No mount point is made in a shared directory or in /usr: what is missing there is named, and the hint says who makes it."""
    destination = "/usr/no-such-directory" if force else "/outer/no-such-directory"
    binds = [*bind(place, "/outer", "rw")["binds"], *bind(place, destination, force=force)["binds"]]
    response = inside(["true"], isolation={"binds": binds})
    assert "E2002" == code_of(response), response
    assert f"`{destination}`" in response["error"]["hint"]
    assert [] == os.listdir(place)


@pytest.mark.parametrize("destination", ["/usr/local", "/usr/share/misc", "/etc", "/bin", "/sys", "/lib/x", "/run"])
def test_bind_over_the_system_is_e1005(inside, place, destination):
    """A destination of the system's is E1005, and the hint says how to insist."""
    response = inside(["true"], isolation=bind(place, destination))
    assert "E1005" == code_of(response)
    assert ",force" in response["error"]["hint"]


@pytest.mark.parametrize("destination", ["/usr/local", "/usr/share", "/etc", "/sys", "/run", "/bin"])
def test_bind_over_the_system_with_force_is_shown(inside, place, destination):
    """With `force` the path is shown over the system's directory, whatever link leads there, and is read-only as asked."""
    place.joinpath("only-here").write_text("")
    program = place / "sh"
    program.write_bytes(b"#!/usr/bin/env true\n")
    command = ["/usr/bin/ls", "-1", destination] if destination != "/bin" else ["/usr/lib/os-release"]
    response = inside(command, isolation=bind(place, destination, force=True))
    if destination == "/bin":  # /bin is /usr/bin: there is no program left
        assert "E3002" == code_of(response), response
    else:
        assert "only-here\nsh\n" == response["stdout"], response


def test_bind_force_on_the_command_line_is_the_same(inside, place):
    """`--bind SRC:DEST:ro,force` is the same."""
    place.joinpath("only-here").write_text("")
    done = inside.cli("--no-workspace", "--bind", f"{place}:/usr/local:ro,force", "--", "ls", "/usr/local")
    assert (0, b"only-here\n") == (done.returncode, done.stdout), done.stderr


@pytest.mark.parametrize("destination", ["/", "/proc", "/proc/sys", "/dev", "/dev/null", "/run/capsule/bin"])
def test_bind_over_root_proc_or_dev_is_always_refused(inside, place, destination):
    """Over `/`, /proc, /dev and our own place nothing is shown, not by force either."""
    assert "E1005" == code_of(inside(["true"], isolation=bind(place, destination, force=True)))


# --- links on the way -------------------------------------------------------------------------------------------------


def test_bind_source_link_of_the_caller_is_refused_with_its_target(inside, place):
    """A link that a run of this caller could have made is not followed: E2004 says where it leads, and that works."""
    real = place / "real"
    real.mkdir()
    real.joinpath("file").write_text("data")
    link = place / "link"
    link.symlink_to(real)
    if os.geteuid() == 0:
        os.lchown(link, inside.uid, pwd.getpwuid(inside.uid).pw_gid)
    response = inside(["cat", "/data/file"], isolation=bind(link, "/data"))
    assert ("E2004", str(real)) == (code_of(response), response["error"]["details"]["path"])
    assert "data" == inside.says(["cat", "/data/file"], isolation=bind(response["error"]["details"]["path"], "/data"))


@pytest.mark.root
def test_bind_source_link_of_the_administrator_is_followed(as_user, place):
    """A link of root's, in directories of root's that nobody else may change, is the administrator's: it is followed."""
    outer = place / "outer"
    outer.mkdir(mode=0o755)
    outer.joinpath("real").mkdir()
    outer.joinpath("real", "file").write_text("data")
    outer.joinpath("link").symlink_to("real")

    def answer():
        request = {"command": ["cat", "/data/file"], "isolation": bind(outer / "link", "/data")}
        return json.loads(as_user([*COMMAND, "--json"], input=json.dumps(request).encode()).stdout)

    assert "E2004" == code_of(answer())  # the place itself is open to everybody, who could put another `outer` there
    place.chmod(0o755)
    assert "data" == answer()["stdout"]
    outer.chmod(0o775)
    os.chown(outer, -1, pwd.getpwuid(as_user.uid).pw_gid)
    assert "E2004" == code_of(answer())  # now a group may write there
    outer.chmod(0o755)
    os.lchown(outer / "link", as_user.uid, -1)
    assert "E2004" == code_of(answer())


def test_bind_source_in_var_run_is_followed(inside, needs):
    """/var/run, a link to /run on every common host, is followed for every caller."""
    needs("var-run")
    assert "" == inside.says(["true"], isolation=bind("/var/run/lock", "/data"))
