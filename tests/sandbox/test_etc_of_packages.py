"""/etc: what a package keeps there for everybody is shown by rule; secrets, services and this host's identity are not."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from capsule_run._base import known_paths

OURS = {"passwd", "group", "hostname", "hosts", "host.conf", "nsswitch.conf", "resolv.conf", "gitconfig", "localtime"}
EVERYWHERE = {path.split("/")[2] for path in (*known_paths.ETC_PATHS, *known_paths.ETC_COPIED)}
PLANTED = "planted-package-"  # other tests run at the same time
NAME = f"{PLANTED}{os.getpid()}"


def reason_hidden(name):
    """Say why the rule does not show a name of the host's /etc, or "" if it does."""
    path, stem = Path("/etc", name), name.removesuffix(".d")
    if name in OURS | EVERYWHERE | known_paths.ETC_TABLES or (name.startswith("java-") and path.is_dir()):
        return ""
    if name in known_paths.ETC_HIDDEN:
        return "never shown"
    if not path.is_dir() or path.is_symlink() or "." in name.removesuffix(".d"):
        return "a file, or a directory of a version of Python"
    if not any(Path(place, stem).exists() for place in ("/usr/share", "/usr/lib")):
        return "no program's data in /usr has this name"
    if Path("/etc/init.d", stem).exists() or any(
        Path("/usr/lib/systemd/system", f"{stem}{end}").exists() for end in (".service", "d.service")
    ):
        return "of a service"
    seen = path.stat()
    if seen.st_uid or seen.st_mode & 0o022 or seen.st_mode & 0o005 != 0o005:
        return "not root's alone, or not for everybody"
    return ""


def test_etc_shows_what_the_rule_shows(inside):
    """Every name of the host's /etc is shown, or hidden with a reason; nothing else is in it."""
    reasons = {name: reason_hidden(name) for name in os.listdir("/etc") if not name.startswith(PLANTED)}
    shown = {name for name in inside.says(["ls", "-A", "/etc"]).split("\n") if not name.startswith(PLANTED)}
    print("\n".join(f"{name}: {reason or 'shown'}" for name, reason in sorted(reasons.items())))
    assert set() == shown - OURS - EVERYWHERE - {name for name, reason in reasons.items() if not reason}
    unseen = {name for name, reason in reasons.items() if not reason} - shown
    assert not [name for name in unseen if Path("/etc", name).is_dir() and any(Path("/etc", name).iterdir())]


def test_etc_shows_only_what_everybody_may_read(inside):
    """Each plain file of the host's that is shown in /etc is root's and readable for everybody on every component of its path."""
    found = inside.says(["find", "/etc", "-type", "f", "-print0"]).rstrip("\0").split("\0")
    theirs = [Path(path) for path in found if path.split("/")[2] not in OURS and PLANTED not in path]
    assert theirs
    for path in theirs:
        modes = [each.stat() for each in (path, *path.parents)]
        assert all(mode.st_uid == 0 and mode.st_mode & 0o004 for mode in modes), path
        assert not any(stat.S_ISDIR(mode.st_mode) and not mode.st_mode & 0o001 for mode in modes), path


@pytest.mark.parametrize(
    "path",
    [
        "shadow",
        "gshadow",
        "sudoers",
        "sudoers.d",
        "ssh",
        "ssl/private",
        "machine-id",
        "fstab",
        "crontab",
        "cron.d",
        "pam.d",
        "security",
        "netplan",
        "network",
        "NetworkManager",
        "default",
        "environment",
        "apt",
        "profile",
        "profile.d",
        "pip.conf",
        "npmrc",
        "wgetrc",
        "mysql",
        "postgresql",
        "redis",
        "systemd",
        "init.d",
        "sysctl.conf",
        "ldap",
        "docker",
        "kubernetes",
        "letsencrypt",
        "maven/settings.xml",
        "subuid",
    ],
)
def test_etc_hides_secrets_and_the_hosts_identity(inside, path):
    """Accounts, keys, networks, services and what an administrator writes are not in /etc."""
    assert "hidden" == inside.says(["sh", "-c", f"test -e /etc/{path} || echo hidden"])


@pytest.mark.parametrize(
    ("name", "text"), [("os-release", "ID="), ("mime.types", "text/html"), ("debian_version", ".")]
)
def test_etc_tables_of_the_distribution_are_shown(inside, name, text):
    """Tables that every program may read have the host's content."""
    host = Path("/etc", name)
    if not host.exists():
        pytest.skip(f"needs debian: {host}")
    said = inside.says(["cat", f"/etc/{name}"], resources={"max_output_bytes": 1 << 20})
    assert (host.read_text().rstrip("\n"), True) == (said, text in said)


@pytest.fixture
def package():
    """Install a package by hand: data in /usr/share and settings in /etc, with what an administrator may have put there."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    data, settings = Path("/usr/share", NAME), Path("/etc", NAME)
    data.mkdir()
    (settings / "sub").mkdir(parents=True)
    (settings / "private").mkdir(mode=0o700)
    for name in (
        "main.conf",
        "sub/more.conf",
        "sub/api-token",
        "db_password.txt",
        "server.key",
        "private/x",
        "roots",
        "groups",
    ):
        (settings / name).write_text(f"text of {name}\n")
    (settings / "roots").chmod(0o600)
    (settings / "groups").chmod(0o640)
    os.chown(settings / "groups", 0, 4)
    (settings / "link").symlink_to("/etc/shadow")
    (settings / "dangling").symlink_to("/nowhere")
    (settings / "within").symlink_to("main.conf")
    yield settings
    shutil.rmtree(data)
    shutil.rmtree(settings)


READ_ALL = "cd /etc/$1 2> /dev/null && for f in $(find . -type f -o -type l); do cat $f 2> /dev/null; done; :"


def test_etc_of_a_package_is_shown_without_secrets(inside, package):
    """Settings are readable; names of secrets, and what is only for root or a group, are not."""
    said = inside.says(["sh", "-c", READ_ALL, "sh", package.name])
    assert ["text of main.conf", "text of sub/more.conf"] == sorted(said.splitlines())


def test_etc_of_a_package_is_hidden_from_a_callers_group(as_user, package):
    """What the caller may read as a member of a group is not shown."""
    from inside import Inside

    caller = Inside(lambda argv, **options: as_user(argv, extra_groups=[4], **options))
    said = caller.says(["sh", "-c", READ_ALL, "sh", package.name])
    assert ["text of main.conf", "text of sub/more.conf"] == sorted(said.splitlines())


def test_etc_of_a_package_whole_directory_is_one_mount(inside, package):
    """A directory without secrets is shown whole, with its links."""
    for name in ("sub/api-token", "db_password.txt", "server.key", "private", "roots", "groups"):
        path = package / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    said = inside.says(["sh", "-c", 'cat "/etc/$1/within"; grep -c "/etc/$1" /proc/self/mountinfo', "sh", package.name])
    assert ["text of main.conf", "1"] == said.splitlines()


def test_etc_of_a_service_is_hidden(inside, package):
    """A directory of the name of a service is not shown: it holds passwords of databases and addresses."""
    script = Path("/etc/init.d", NAME)
    script.write_text("")
    try:
        assert "" == inside.says(["sh", "-c", READ_ALL, "sh", package.name])
    finally:
        script.unlink()


@pytest.mark.parametrize("change", ["no data", "group may write", "another owner", "not for everybody", "a link"])
def test_etc_directory_that_no_package_can_have_made_is_hidden(inside, package, change):
    """A directory without data in /usr, or that others than root may change, or not everybody may read, is not shown."""
    if change == "no data":
        Path("/usr/share", NAME).rename(f"/usr/share/{NAME}-other")
    elif change == "group may write":
        package.chmod(0o775)
    elif change == "another owner":
        os.chown(package, 1, 1)
    elif change == "not for everybody":
        package.chmod(0o750)
    else:
        package.rename(package.with_name(f"{NAME}-real"))
        package.symlink_to(f"{NAME}-real")
    try:
        assert "" == inside.says(["sh", "-c", READ_ALL, "sh", package.name])
    finally:
        if change == "no data":
            Path(f"/usr/share/{NAME}-other").rename(f"/usr/share/{NAME}")
        elif change == "a link":
            package.unlink()
            package.with_name(f"{NAME}-real").rename(package)


def test_etc_file_of_an_administrator_is_hidden(inside):
    """A file in /etc itself is not shown, whatever its mode, even if a program has its name."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for name in (NAME, f"{NAME}.conf"):
        Path("/etc", name).write_text("secret")
    try:
        assert "" == inside.says(["sh", "-c", f"cat /etc/{NAME}* 2> /dev/null; :"])
    finally:
        for name in (NAME, f"{NAME}.conf"):
            Path("/etc", name).unlink()


def test_etc_bind_into_a_package_is_shown(inside, package, place):
    """A request can show a directory that is hidden, and a file of its own in a package's directory."""
    place.joinpath("mine").write_text("mine")
    binds = [{"source": str(place / "mine"), "destination": f"/etc/{NAME}/sub/new.conf", "mode": "ro"}]
    assert "mine" == inside.says(["cat", f"/etc/{NAME}/sub/new.conf"], isolation={"binds": binds})
    isolation = {"readonly_paths": [f"/etc/{NAME}"]}
    assert "text of db_password.txt" == inside.says(["cat", f"/etc/{NAME}/db_password.txt"], isolation=isolation)


@pytest.mark.parametrize(("program", "words"), [("php", ("-m",)), ("mvn", ("-v",))])
def test_etc_lets_programs_run_as_outside(inside, program, words):
    """Programs whose packages keep settings in /etc say the same inside and outside."""
    if shutil.which(program, path="/usr/bin") is None:
        pytest.skip(f"needs {program}")
    outside = subprocess.run(
        [program, *words], capture_output=True, text=True, env={"PATH": "/usr/bin"}, cwd="/", timeout=60
    )
    said = inside.says([program, *words], resources={"memory_bytes": 1 << 30}, timeout_ms=60_000)
    assert outside.stdout.split("\n")[:2] == said.split("\n")[:2]


def test_var_shows_what_packages_make_of_their_files_and_nothing_else(inside):
    """Of /var are there, read-only, the places in the list that the host has; all else of it stays hidden."""
    there = [path for path in known_paths.VAR_PATHS if Path(path).is_dir()]
    script = "find /var -mindepth 1 -maxdepth 2 | sort; for p in $0 $@; do touch $p/x 2>/dev/null && echo written; done; true"
    shown = inside.says(["sh", "-c", script, *there]).splitlines()
    parents = {str(Path(path).parent) for path in there}
    shown = [path for path in shown if not path.startswith("/var/tmp/")]  # this package may lie there
    assert sorted({*there, *parents, "/var/tmp"}) == shown


@pytest.mark.needs("ghc")
def test_var_data_of_a_compiler_is_there(inside):
    """GHC, whose package data base in /usr is a link to /var, compiles a program."""
    assert "42" == inside.says(["sh", "-c", "echo 'main = print 42' > a.hs && ghc -v0 a.hs && ./a"], timeout_ms=60_000)
