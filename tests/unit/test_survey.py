"""What is seen of the host: `host`, on files of the test's own."""

from __future__ import annotations

import pytest

from capsule_run.host import survey


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """What is said of one file, as if it were among those that each sandbox has a copy of."""
    monkeypatch.setattr(survey, "_real", {})

    def said_of(path):
        monkeypatch.setattr(survey, "ETC_COPIED", (str(path),))
        return [(one.place, one.path, one.size) for one in survey._copied()]

    return said_of


def test_host_file_world_readable_is_copied(tmp_path, copied):
    """Also where a link leads to it; the copy lies where the link is."""
    table = tmp_path / "table"
    table.write_text("some\n")
    (tmp_path / "link").symlink_to("table")
    assert [(str(table), str(table), 5)] == copied(table)
    assert [(str(tmp_path / "link"), str(table), 5)] == copied(tmp_path / "link")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660])
def test_host_file_readable_by_root_only_is_not_copied(tmp_path, copied, mode):
    """What root alone may read is not shown to a sandbox of root's."""
    table = tmp_path / "table"
    table.write_text("secret\n")
    table.chmod(mode)
    assert [] == copied(table)


def test_host_file_missing_or_directory_is_not_copied(tmp_path, copied):
    """A directory, or nothing at all."""
    assert [] == copied(tmp_path) == copied(tmp_path / "none")
