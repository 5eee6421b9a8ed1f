"""Secrets by name in a shared directory: whatever the command tries, it does not see what they hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import capsule_run
from capsule_run import CapsuleError
from capsule_run._base.known_paths import ACCOUNT_DIRECTORIES, SECRETS
from capsule_run.request.parse import request_from_mapping

SECRET = "hunter2"
PAGE = Path(__file__).parents[2] / "docs" / "files.md"


def run(script, isolation, **fields):
    return capsule_run.execute(
        request_from_mapping({"command": ["sh", "-c", script], "isolation": isolation, **fields})
    )


@pytest.fixture
def tree(tmp_path):
    """A project with every secret of the list: as a file each, those of accounts as directories."""
    place = tmp_path / "project"
    place.mkdir()
    for name in SECRETS:
        path = place / name
        if name in ACCOUNT_DIRECTORIES:
            path.mkdir(parents=True, exist_ok=True)
            (path / "key").write_text(SECRET)
        elif not path.is_dir() and not any((place / account) in path.parents for account in ACCOUNT_DIRECTORIES):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SECRET)
    (place / "open.txt").write_text("no secret")
    return place


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("mode", "fields"), [("cow", {}), ("cow", {"require": ["overlay"]}), ("copy", {}), ("ro", {}), ("rw", {})]
)
def test_secret_of_the_list_is_unreadable_in_a_workspace(tree, mode, fields):
    """In a workspace of any mode and mechanism, no file anywhere holds what secrets hold, and the others are there."""
    result = run(f"grep -rl {SECRET} . ; cat open.txt", {"workspace": {"source": str(tree), "mode": mode}}, **fields)
    assert "no secret" == result.stdout, result.stderr


@pytest.mark.sandbox
@pytest.mark.parametrize("how", ["readonly_paths", "writable_paths"])
def test_secret_of_the_list_is_unreadable_in_a_bind(tree, how):
    """The same holds for a directory that is shown elsewhere."""
    result = run(f"grep -rl {SECRET} {tree}; cat {tree}/open.txt", {how: [str(tree)]})
    assert "no secret" == result.stdout, result.stderr


@pytest.mark.sandbox
@pytest.mark.parametrize("fields", [{}, {"require": ["overlay"]}], ids=["copy", "overlay"])
@pytest.mark.parametrize(
    "attack",
    [
        "ln .env hard; cat hard",
        "mv .env moved; cat moved",
        "rm -f .env; cat .env",
        "rm -rf .ssh; cat .ssh/*",
        "mv .config elsewhere; cat elsewhere/gh",
        "mv .config elsewhere; grep -r hunter elsewhere; mkdir .config; mv elsewhere/gh .config; grep -r hunter .config",
        "mkdir d; cp -a .ssh d; cat d/.ssh/*",
        "ln -s .env soft; cat soft",
        "umount .env; umount -l .env; cat .env",
        "cat /proc/self/root/workspace/.env /proc/self/cwd/.env",
    ],
)
def test_secret_mask_cannot_be_removed(tree, attack, fields):
    """A mask cannot be moved, removed, gone around or taken off."""
    result = run(attack, {"workspace": str(tree)}, **fields)
    assert SECRET not in result.stdout + result.stderr
    assert fields.get("require", ["copy"]) == [result.isolation["workspace"]["mechanism"]]


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "attack", ["mv .config elsewhere", "mv .config elsewhere; mkdir -p .config/gh", "rm -rf .config"]
)
def test_secret_in_a_renamed_directory_is_not_deleted(tree, attack):
    """Applying changes deletes no directory with a secret that the command did not see, although a copy can rename it."""
    script = f"{attack}; echo x > .env; ls -A"
    result = run(script, {"workspace": str(tree)}, apply_changes=True)
    assert (SECRET, SECRET) == ((tree / ".config/gh").read_text(), (tree / ".env").read_text()), result.stdout
    assert "copy" == result.isolation["workspace"]["mechanism"]


@pytest.mark.sandbox
def test_secret_is_neither_collected_nor_a_change(tree):
    """What was masked is masked as well for who reads the workspace afterwards."""
    request = {"collect": ["**"], "changes": True, "resources": {"max_pids": 50}}
    result = run("rm -rf .env .ssh; true", {"workspace": str(tree)}, **request)
    assert SECRET not in "".join(file.text for file in result.files.values())
    assert () == result.changes


@pytest.mark.sandbox
def test_secret_behind_a_link_is_masked(tree):
    """Where `.env` is a link to a file of the tree, that file is masked."""
    (tree / ".env").unlink()
    (tree / "settings").mkdir()
    (tree / "settings" / "live").write_text(SECRET)
    (tree / ".env").symlink_to("settings/live")
    assert "" == run("cat .env settings/live", {"workspace": str(tree)}).stdout


@pytest.mark.sandbox
def test_secret_named_in_unmask_is_shown(tree):
    """`unmask` shows the one that it names, and the others stay masked."""
    result = run("cat .env .netrc/key", {"workspace": str(tree), "unmask": [".env"]})
    assert SECRET == result.stdout
    assert "/workspace/.env" not in result.isolation["workspace"]["masked"]


@pytest.mark.sandbox
def test_secret_name_of_an_input_file_is_shown(tree):
    """A file of its own by a secret's name is the request's choice."""
    assert "mine" == run("cat .env", {"workspace": str(tree)}, files={".env": "mine"}).stdout


@pytest.mark.sandbox
def test_secret_bound_by_name_is_shown(tree):
    """A bind whose source is the secret itself shows it, where the bind says."""
    binds = [{"source": str(tree / ".env"), "destination": "/workspace/.env"}]
    assert SECRET == run("cat .env", {"workspace": str(tree), "binds": binds}).stdout


def test_unmask_unknown_name_is_refused():
    """A slip in `unmask` is refused, with the name that was meant."""
    with pytest.raises(CapsuleError, match=r"did you mean `.npmrc`"):
        request_from_mapping({"command": ["true"], "isolation": {"unmask": [".npmcr"]}})


def test_secret_names_are_all_on_the_page():
    """docs/files.md has the names of the list, all of them and no other."""
    (paragraph,) = re.findall(r"<!-- names -->\n(.*)\.\n", PAGE.read_text())
    assert sorted(SECRETS) == sorted(re.findall(r"`([^`]+)`", paragraph))
