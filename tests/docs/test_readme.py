"""The README's facts that stand in the program as well, and the options on the page of the command line."""

from __future__ import annotations

import subprocess

import pytest
from documents import DOCS, README, blocks

from capsule_run.cli.help import long_help


def only(marker, page=README):
    """The one block of a page behind a marker."""
    (found,) = [block for block in blocks(page) if block.marker == marker]
    return found


def test_readme_is_short():
    """The README is one screen of promise, set-up and examples, and leads to the pages for the rest."""
    assert len(README.read_text().splitlines()) <= 250


def test_page_of_options_is_the_long_help():
    """The options on the page are what `--help` prints, to the letter."""
    assert long_help() == only("options", DOCS / "command-line.md").text


def test_page_of_options_is_what_the_installed_command_prints(reader):
    """`capsule-run --help` of the environment prints the block of the page."""
    assert only("options", DOCS / "command-line.md").text == subprocess.run(["capsule-run", "--help"], **reader).stdout


@pytest.mark.parametrize("marker", ["setup", "test"])
def test_readme_two_commands_set_up_and_test(marker):
    """One line sets up and ends with the first run, another runs the tests; CI reads both from here."""
    block = only(marker)
    assert ("bash", 1) == (block.language, block.text.count("\n"))
