"""The workspace's own path: inside, it leads to /workspace, so that what was built or installed outside goes on working."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from inside import Inside, code_of

import capsule_run

SEEN = 'cd "$1" && cat file && echo edited > file && cat /workspace/file'


def owned(folder, uid):
    """A project in `folder` that belongs to who runs inside."""
    folder.joinpath("sub").mkdir(parents=True)
    for name in ("file", "sub/file"):
        folder.joinpath(name).write_text("before\n")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, -1)
    return folder


@pytest.fixture
def project(place, inside):
    """A project in /var/tmp."""
    return owned(place / "project", inside.uid)


@pytest.fixture
def beneath(inside):
    """Make a project beneath a directory of the host's that root may write to."""
    made = []

    def make(base):
        if os.geteuid() != 0 and not os.access(base, os.W_OK):
            pytest.skip("needs root")
        folder = Path(tempfile.mkdtemp(prefix="own-", dir=base))
        folder.chmod(0o755)
        made.append(folder)
        return owned(folder / "project", inside.uid)

    yield make
    for folder in made:
        shutil.rmtree(folder)


def reads_and_edits(inside, project, mode="cow", **isolation):
    """Whether the own path shows the workspace's files, and an edit there is one of the workspace."""
    isolation = {"workspace": {"source": str(project), "mode": mode}, **isolation}
    said = inside.says(["sh", "-c", SEEN, "sh", str(project)], isolation=isolation)
    return said.splitlines() == ["before", "edited"]


@pytest.mark.parametrize(
    "base",
    [
        "/var/tmp",
        "/tmp",
        "/dev/shm",
        "/srv",
        "/opt",
        "/home",
        "/mnt",
        "/etc",
        "/usr/src",
        "/usr/lib",
        "/var/lib",
        "/run",
    ],
)
def test_own_path_leads_to_the_workspace_wherever_it_lies(inside, beneath, base):
    """The own path shows what is in /workspace, and an edit through one is seen through the other; the host's file stays."""
    project = beneath(base)
    assert reads_and_edits(inside, project)
    assert "before\n" == project.joinpath("file").read_text()


@pytest.mark.parametrize("mode", ["ro", "rw", "cow"])
def test_own_path_has_the_mode_of_the_workspace(inside, project, mode):
    """What may be written through /workspace may be written through the own path, with the same effect on the host."""
    isolation = {"workspace": {"source": str(project), "mode": mode}}
    response = inside(["sh", "-c", 'echo edited > "$1/file"', "sh", project], isolation=isolation)
    assert (mode != "ro", mode == "rw") == (
        response["status"] == "success",
        project.joinpath("file").read_text() == "edited\n",
    )


@pytest.mark.parametrize(
    "name", ["a b", "-dash", "ü", "new\nline", "quote'\"", "back\\slash", "a:b,c", "$HOME", "…" * 60, "#%*?"]
)
def test_own_path_with_odd_characters(inside, place, name):
    """A directory with an odd name is at its own path, too."""
    assert reads_and_edits(inside, owned(place / name / "project", inside.uid))


def test_own_path_that_is_very_long_starts_all_the_same(inside, place):
    """A path near the kernel's limit does not stop the run."""
    deep = "/".join(["d" * 200] * 19)
    os.makedirs(place / deep)
    script = 'test -d "$1" && echo there; pwd'
    said = inside.says(["sh", "-c", script, "sh", place / deep], isolation={"workspace": str(place / deep)})
    assert "/workspace" == said.splitlines()[-1]


def test_own_path_of_the_command_line(inside, project):
    """The current directory is at its own path without any option, and `--workspace .` is; the command starts in /workspace."""
    for words in ((), ("--workspace", ".")):
        done = inside.cli(*words, "--", "sh", "-c", f"pwd; {SEEN}", "sh", str(project), cwd=project)
        assert (0, b"/workspace\nbefore\nedited\n") == (done.returncode, done.stdout), done.stderr


@pytest.mark.sandbox
def test_own_path_of_the_sdk(tmp_path):
    """A workspace that `run` and `run_code` share is at its own path."""
    (tmp_path / "file").write_text("before")
    code = f"print(open({str(tmp_path / 'file')!r}).read())"
    assert ["before", "before\n"] == [
        capsule_run.run(["cat", str(tmp_path / "file")], workspace=tmp_path).stdout,
        capsule_run.run_code(code, workspace=tmp_path).stdout,
    ]


@pytest.mark.parametrize(
    ("given", "expected"), [("", "/workspace"), ("/sub", "/workspace/sub"), ("/new/sub", "/workspace/new/sub")]
)
def test_own_path_as_working_directory(inside, project, given, expected):
    """A working directory beneath the own path is the one beneath /workspace, made where it is missing."""
    isolation = {"workspace": str(project), "working_directory": f"{project}{given}"}
    assert expected == inside.says(["pwd", "-P"], isolation=isolation)


def test_own_path_changes_are_applied(inside, project):
    """What is written through the own path is a change of the workspace."""
    script = 'echo new > "$1/sub/new"; rm "$1/file"'
    response = inside(
        ["sh", "-c", script, "sh", project],
        isolation={"workspace": str(project)},
        apply_changes=True,
        collect=["sub/new"],
    )
    kinds = [(one["kind"], one["path"]) for one in response["changes"]]
    assert [("deleted", "file"), ("created", "sub/new")] == kinds
    assert (["sub/new"], False, "new\n") == (
        list(response["files"]),
        project.joinpath("file").exists(),
        project.joinpath("sub/new").read_text(),
    )


def test_own_path_can_be_hidden(inside, project):
    """`hide_path` keeps the path's names out of the sandbox, on the command line and in JSON."""
    isolation = {"workspace": {"source": str(project), "hide_path": True}}
    script = 'test -e "$(dirname "$1")" || echo hidden; cat file'
    assert "hidden\nbefore" == inside.says(["sh", "-c", script, "sh", project], isolation=isolation)
    done = inside.cli("--workspace", f"{project}:cow,hide-path", "--", "sh", "-c", script, "sh", project)
    assert b"hidden\nbefore\n" == done.stdout


def test_own_path_of_an_empty_workspace_is_not_there(inside, project):
    """Without a shared directory nothing tells where the caller is."""
    assert "no" == inside.says(["sh", "-c", 'test -e "$1" || echo no', "sh", project], process={"cwd": project})


def test_own_path_with_the_shells_spelling(inside, place):
    """The path by which the shell knows the current directory, through a link, leads to /workspace as well."""
    project = owned(place / "real", inside.uid)
    place.joinpath("link").symlink_to("real")
    done = inside.cli(
        "--", "sh", "-c", 'cat "$1/file" "$2/file"; readlink "$1"', "sh", place / "link", project,
        cwd=project, env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "PWD": str(place / "link")},
    )  # fmt: skip
    assert b"before\nbefore\n/workspace\n" == done.stdout, done.stderr


def test_own_path_spelling_that_leads_elsewhere_is_not_made(inside, project, place):
    """A PWD that is not the current directory makes no link."""
    env = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "PWD": f"{place}/elsewhere"}
    done = inside.cli("--", "sh", "-c", 'test -e "$1" || echo no', "sh", f"{place}/elsewhere", cwd=project, env=env)
    assert b"no\n" == done.stdout


@pytest.mark.root
def test_own_path_through_a_link_of_roots(as_user, beneath):
    """A path with a link that only root can have made leads to /workspace in both spellings."""
    project = beneath("/srv")
    link = project.parent / "link"
    link.symlink_to("project")
    isolation = {"workspace": str(link)}
    assert "before\nbefore" == Inside(as_user).says(["cat", f"{link}/file", f"{project}/file"], isolation=isolation)


# --- other shares inside, around and at the own path -----------------------------------------------------------------


def venv(folder, uid):
    """A virtual environment with a module that says which file it is."""
    site = folder / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    folder.joinpath("bin").mkdir()
    folder.joinpath("bin", "tool").write_text("#!/bin/sh\necho tool of $0\n")
    folder.joinpath("bin", "tool").chmod(0o755)
    folder.joinpath("pyvenv.cfg").write_text("home = /usr/bin\n")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, -1)
    return folder


def test_own_path_with_a_tool_in_the_workspace(inside, project):
    """A tool in the shared directory is found at its path, and the directory is at its own path all the same."""
    venv(project / "v", inside.uid)
    isolation = {"workspace": str(project), "tools": [str(project / "v")]}
    assert f"tool of {project}/v/bin/tool" == inside.says(["tool"], isolation=isolation)
    assert reads_and_edits(inside, project, tools=[str(project / "v")])


def test_own_path_in_a_tool(inside, place):
    """A shared directory that lies in a tool's is the workspace at its own path, and the tool is around it."""
    tool = venv(place / "v", inside.uid)
    project = owned(tool / "src", inside.uid)
    assert reads_and_edits(inside, project, tools=[str(tool)])
    isolation = {"workspace": str(project), "tools": [str(tool)]}
    assert f"tool of {tool}/bin/tool" == inside.says(["tool"], isolation=isolation)


@pytest.mark.parametrize("mode", ["cow", "rw"])
def test_own_path_in_a_directory_shared_read_only(inside, place, project, mode):
    """In a directory that is shared read-only the workspace is at its own path, and the rest is read-only."""
    place.joinpath("beside").write_text("beside")
    assert reads_and_edits(inside, project, mode, readonly_paths=[str(place)])
    isolation = {"workspace": str(project), "readonly_paths": [str(place)]}
    assert "beside" == inside.says(["cat", place / "beside"], isolation=isolation)
    assert "success" != inside(["touch", place / "beside"], isolation=isolation)["status"]


def test_own_path_shared_read_only_as_well_is_the_workspace(inside, project):
    """`--readonly` of the shared directory itself does not bring the host's old files back to its path."""
    assert reads_and_edits(inside, project, readonly_paths=[str(project)])


@pytest.mark.parametrize("link", ["project", "../project/", "{project}"])
def test_own_path_of_a_link_in_a_shared_directory(inside, place, project, link):
    """A link in a directory that is shared read-only, which leads to the checkout, leads to the workspace."""
    tree = place / "tree"
    tree.mkdir(mode=0o755)
    tree.joinpath("link").symlink_to(link.format(project=project) if link != "project" else "../project")
    isolation = {"workspace": str(project), "readonly_paths": [str(tree)]}
    said = inside.says(["sh", "-c", SEEN, "sh", tree / "link"], isolation=isolation)
    assert ["before", "edited"] == said.splitlines()


def test_own_path_in_a_directory_shared_writable_is_the_hosts(inside, place, project):
    """What the request shares writable stays the host's, also where the workspace lies in it; a note says so."""
    os.chown(place, inside.uid, -1)
    isolation = {"workspace": str(project), "writable_paths": [str(place)]}
    response = inside(["sh", "-c", 'echo edited > "$1/file"', "sh", project], isolation=isolation)
    assert "edited\n" == project.joinpath("file").read_text()
    assert any("not the workspace" in note for note in response["isolation"]["notes"]), response["isolation"]


def test_own_path_holds_another_bind(inside, place, project):
    """A bind to a place beneath the own path is there, and at the same place of /workspace."""
    place.joinpath("data").mkdir(mode=0o755)
    place.joinpath("data", "file").write_text("theirs\n")
    binds = [{"source": str(place / "data"), "destination": f"{project}/data", "mode": "ro"}]
    assert reads_and_edits(inside, project, binds=binds)
    isolation = {"workspace": str(project), "binds": binds}
    assert "theirs\ntheirs" == inside.says(["cat", f"{project}/data/file", "data/file"], isolation=isolation)


@pytest.mark.parametrize("mode", ["ro", "rw", "cow"])
def test_own_path_with_a_writable_directory_in_it(inside, project, mode):
    """A writable path in the workspace is written to the host through its own path and through /workspace."""
    isolation = {"workspace": {"source": str(project), "mode": mode}, "writable_paths": [str(project / "sub")]}
    inside.says(["sh", "-c", 'echo 1 > "$1/sub/one"; echo 2 > /workspace/sub/two', "sh", project], isolation=isolation)
    assert ["file", "one", "two"] == sorted(os.listdir(project / "sub"))


def test_own_path_gives_way_to_a_bind_of_another_directory(inside, place, project):
    """A bind that the request puts at the own path is what is there."""
    place.joinpath("other").mkdir(mode=0o755)
    place.joinpath("other", "file").write_text("other")
    for destination in (str(project), str(place)):
        binds = [{"source": str(place / "other"), "destination": destination, "mode": "ro"}]
        isolation = {"workspace": str(project), "binds": binds}
        assert "other" == inside.says(["cat", f"{destination}/file"], isolation=isolation)


# --- directories of the sandbox itself -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "directory",
    [
        "/",
        "/usr",
        "/usr/lib",
        "/usr/bin",
        "/usr/local",
        "/tmp",
        "/var/tmp",
        "/var",
        "/home",
        "/etc",
        "/etc/ssl",
        "/etc/alternatives",
        "/dev",
        "/dev/shm",
        "/proc",
        "/run",
    ],
)
def test_own_path_that_the_sandbox_needs_stays_the_sandboxs(inside, directory):
    """A directory of the system as workspace does not replace the one inside: programs start and private places are empty."""
    if not os.path.isdir(directory):
        pytest.skip(f"needs debian: {directory}")
    script = "cat /proc/self/comm; python3 -c 'print(1)'; ls -A /tmp /dev/shm; cut -d: -f1 /etc/passwd | head -2; ls /usr/bin/env"
    isolation = {"workspace": {"source": directory, "mode": "ro"}}
    response = inside(["sh", "-c", script], isolation=isolation)
    if code_of(response):  # some cannot be shared at all
        assert "E2" == code_of(response)[:2], response
    else:
        words = response["stdout"].split()
        assert ["cat", "1", "/dev/shm:", "/tmp:", "root", "user", "/usr/bin/env"] == words, response


def test_own_path_shows_no_secret_that_the_workspace_masks(inside, beneath):
    """A masked file is masked at the own path as well, by a link and where the workspace is mounted there."""
    for base, around in (("/var/tmp", False), ("/var/tmp", True), ("/usr/src", False)):
        project = beneath(base)
        shared = [str(project.parent), str(project / "sub")] if around else []
        project.joinpath(".env").write_text("KEY=secret")
        os.chown(project / ".env", inside.uid, -1)
        if shared:
            project.joinpath("sub", ".env").write_text("KEY=secret")
        for mode in ("cow", "ro", "rw"):
            isolation = {"workspace": {"source": str(project), "mode": mode}, "readonly_paths": shared}
            script = 'cat .env "$1/.env" "$1"/../project/.env; mv "$1/.env" "$1/x"; cat "$1/x"; ls "$1"/sub; cat "$1"/sub/.env'
            response = inside(["sh", "-c", script, "sh", project], isolation=isolation)
            assert "secret" not in response["stdout"], (base, mode)
