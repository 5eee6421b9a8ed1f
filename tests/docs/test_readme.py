"""The README's facts that stand in the program as well."""

from __future__ import annotations

import subprocess

import pytest
from documents import README, blocks

from capsule_run.cli.help import long_help


def only(marker):
    """The one block of the README behind a marker."""
    (found,) = [block for block in blocks(README) if block.marker == marker]
    return found


def test_readme_options_are_the_long_help():
    """The README's options are what `--help` prints, to the letter."""
    assert long_help() == only("options").text


def test_readme_options_are_what_the_installed_command_prints(reader):
    """`capsule-run --help` of the environment prints the README's block."""
    assert only("options").text == subprocess.run(["capsule-run", "--help"], **reader).stdout


@pytest.mark.parametrize("marker", ["setup", "test"])
def test_readme_two_commands_set_up_and_test(marker):
    """One line sets up and ends with the first run, another runs the tests; CI reads both from here."""
    block = only(marker)
    assert ("bash", 1) == (block.language, block.text.count("\n"))
