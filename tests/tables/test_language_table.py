"""The language table, and what it makes of code."""

from __future__ import annotations

import pytest

from capsule_run._base.errors import CapsuleError
from capsule_run.request.languages import LANGUAGES, language, language_of_file, program, toolchain

SEED = ("python", "javascript", "bash")


def having(*programs):
    return lambda tools: set(tools.programs) <= set(programs)


def anything(_tools):
    return True


def test_language_table_begins_with_the_readme_languages():
    """The seed's three are there."""
    assert set(SEED) <= LANGUAGES.keys()


@pytest.mark.parametrize("row", LANGUAGES.values(), ids=LANGUAGES.keys())
def test_language_row_is_consistent(row):
    """Every language has toolchains, a file whose suffix leads back to it, and a way to get it."""
    assert row is language_of_file(row.file)
    assert row is language(row.name)
    assert row.install or row.name == "python"
    for tools in row.toolchains:
        assert tools.programs
        assert (not tools.build) == any("{}" in word for word in tools.run)


def test_language_names_and_suffixes_are_unique():
    """A name or suffix leads to one row."""
    names = [name for row in LANGUAGES.values() for name in (row.name, *row.also)]
    suffixes = [suffix for row in LANGUAGES.values() for suffix in row.suffixes]
    assert sorted(set(names)) == sorted(names)
    assert sorted(set(suffixes)) == sorted(suffixes)


@pytest.mark.parametrize(
    ("said", "meant"), [("js", "javascript"), ("C++", "c++"), ("cpp", "c++"), ("Python3", "python"), ("sh", "bash")]
)
def test_language_aliases_are_understood(said, meant):
    """What models and people write for a language is understood."""
    assert meant == language(said).name


@pytest.mark.parametrize(("said", "guess"), [("pyton", "`python`"), ("javascrpt", "`javascript`")])
def test_language_unknown_names_the_nearest(said, guess):
    """An unknown name is refused with the one that was meant."""
    with pytest.raises(CapsuleError, match=f"E1005.*did you mean {guess}"):
        language(said)


@pytest.mark.parametrize("said", [5, None, ["python"], "\0"])
def test_language_that_is_no_text_is_refused(said):
    """A language is text."""
    with pytest.raises(CapsuleError, match=r"E100[35]"):
        language(said)


def test_language_missing_is_e1010_with_what_to_install():
    """E1010 says which programs would do, and how to get them."""
    with pytest.raises(CapsuleError) as caught:
        toolchain(language("javascript"), having())
    assert caught.value.code == "E1010"
    assert "`node`, or `deno`, or `bun`" in caught.value.message
    assert "apt-get install nodejs" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "programs", "first"),
    [
        ("javascript", ("bun", "node"), "node"),
        ("javascript", ("bun",), "bun"),
        ("typescript", ("tsc",), None),
        ("typescript", ("tsc", "node"), "sh"),
        ("c", ("clang",), "sh"),
    ],
)
def test_language_toolchain_first_present_is_used(name, programs, first):
    """Which programs are there decides; one of two is not enough."""
    works = having(*programs)
    if first is None:
        with pytest.raises(CapsuleError, match="E1010"):
            program("x", language(name), lambda tools: works(tools) and "node" not in tools.programs)
    else:
        assert first == program("x", language(name), works).command[0]


def test_language_interpreted_command_is_right():
    """The interpreter gets the file by name, then the arguments."""
    made = program("print(1)", language("python"), anything, arguments=["-c", "x"])
    assert ("python", "main.py", "-c", "x") == made.command
    assert {"main.py": "print(1)"} == made.files


def test_language_compiled_command_quotes_names():
    """The compiler runs inside, and no name is a part of the shell's line."""
    made = program("int main;", language("c"), having("cc"), arguments=["$(id)", "'"], file="a b$(id).c")
    command = ("sh", "-c", 'cc -O1 -o /tmp/main "$0" -lm && exec "$@"', "a b$(id).c", "/tmp/main", "$(id)", "'")
    assert command == made.command


def test_language_file_name_cannot_be_an_option():
    """A file cannot be an option of its interpreter."""
    made = program("x", language("python"), anything, file="-c.py")
    assert ("python", "./-c.py") == made.command
    assert {"-c.py": "x"} == made.files


@pytest.mark.parametrize(
    ("code", "file"),
    [
        ("import fs from 'fs'\nfs.a()", "main.mjs"),
        ("export const a = 1", "main.mjs"),
        ("const fs = require('fs')\nimport('x')", "main.js"),
        ("important = 1", "main.js"),
        ("", "main.js"),
    ],
)
def test_language_javascript_imports_make_a_module(code, file):
    """Code with `import` statements is a module, which Node tells from the file's name."""
    assert {file: code} == program(code, language("javascript"), anything).files


@pytest.mark.parametrize(("path", "name"), [("a/b.py", "python"), ("x.tar.rs", "rust"), (".py", None), ("py", None)])
def test_language_is_known_by_the_file_suffix(path, name):
    """The suffix says the language, where there is a name before it."""
    found = language_of_file(path)
    assert name == (found.name if found else None)
