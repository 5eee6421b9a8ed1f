"""Code in each language that the host has: it runs, its errors name its file, and the command line does the same."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

import capsule_run
from capsule_run import CapsuleError, aio, run_code
from capsule_run.cli.exec import OPTIONS
from capsule_run.cli.own_options import split
from capsule_run.request.languages import LANGUAGES

pytestmark = pytest.mark.sandbox

# name: (capability, a program that greets its first argument, one that fails, what its error must name)
PROGRAMS = {
    "python": (
        None,
        "import sys; print('hello', sys.argv[1])",
        "x = 1\nraise KeyError(x)",
        'File "/workspace/main.py", line 2',
    ),
    "javascript": ("node", "console.log('hello', process.argv[2])", "let x = 1\nx()", "/workspace/main.js:2"),
    "bash": (None, 'echo hello "$1"', "true\nno-such-thing", "main.sh: line 2"),
    "ruby": ("ruby", "puts 'hello ' + ARGV[0]", "x = 1\nraise 'no'", "main.rb:2"),
    "perl": ("perl", 'print "hello $ARGV[0]\n"', "my $x;\ndie 'no'", "main.pl line 2"),
    "c": (
        "cc",
        '#include <stdio.h>\nint main(int n, char **v) { printf("hello %s\\n", v[1]); }',
        "int main(void) {\nreturn x; }",
        "main.c:2",
    ),
    "c++": (
        "g++",
        "#include <iostream>\nint main(int n, char **v) { std::cout << \"hello \" << v[1] << '\\n'; }",
        "int main() {\nreturn x; }",
        "main.cpp:2",
    ),
    "java": (
        "java",
        'class Hi { public static void main(String[] a) { System.out.println("hello " + a[0]); } }',
        "class Hi {\nint x = y; }",
        "Main.java:2",
    ),
    "go": (
        "go",
        'package main\nimport ("fmt"; "os")\nfunc main() { fmt.Println("hello", os.Args[1]) }',
        "package main\nfunc main() { x() }",
        "main.go:2",
    ),
    "rust": (
        "rustc",
        'fn main() { println!("hello {}", std::env::args().nth(1).unwrap()); }',
        "fn main() {\nx(); }",
        "main.rs:2",
    ),
    "typescript": (
        "typescript",
        "const n: string = process.argv[2]; console.log('hello', n)",
        "let x: any = 1\nx()",
        "main.ts:2",
    ),
}
LONGER = {"timeout_ms": 50_000}
languages = pytest.mark.parametrize("name", PROGRAMS)


def test_language_table_row_has_a_test_each():
    """No row of the table is without a test."""
    assert LANGUAGES.keys() == PROGRAMS.keys()


@languages
def test_language_program_runs_with_arguments(name, needs):
    """A program in the language runs with its arguments, and ends cleanly."""
    capability, code = PROGRAMS[name][:2]
    if capability:
        needs(capability)
    result = run_code(code, name, arguments=["you & me"], **LONGER)
    assert ("hello you & me\n", "") == (result.stdout, result.stderr)
    assert result.ok


@languages
def test_language_error_names_the_file(name, needs):
    """An error in code is reported with the name of its file and the line."""
    capability, _code, broken, named = PROGRAMS[name]
    if capability:
        needs(capability)
    result = run_code(broken, name, **LONGER)
    assert "error" == result.status
    assert named in result.stderr


def test_language_code_reads_stdin_and_files():
    """Code reads stdin, and finds the other files beside it."""
    result = run_code("import other, sys; print(other.x + sys.stdin.read())", stdin="2", files={"other.py": "x = '4'"})
    assert "42\n" == result.stdout


def test_language_output_before_a_timeout_is_kept():
    """Python does not keep back what it was asked to print."""
    assert "so far\n" == run_code("print('so far')\nwhile True: pass", timeout_ms=1500).stdout


def test_language_file_of_the_same_name_is_refused():
    """Nobody's file is put under the code without a word."""
    with pytest.raises(CapsuleError, match="E1009"):
        run_code("1", files={"main.py": "2"})


def test_run_code_unknown_argument_is_refused():
    """A misspelt argument is not passed over."""
    with pytest.raises(TypeError, match="timeout"):
        run_code("1", timeout=5)


def test_aio_runs_code_and_commands():
    """`aio` runs code and commands as the SDK does."""

    async def main():
        return await asyncio.gather(aio.run_code("print(1)", timeout_ms=9000), aio.run(["echo", "2"], timeout_ms=9000))

    assert ["1\n", "2\n"] == [result.stdout for result in asyncio.run(main())]


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def exec_(tmp_path):
    """`capsule-run exec WORDS` in a directory of its own, with some text as stdin."""

    def run(*words, text=""):
        argv = [sys.executable, "-m", "capsule_run", "exec", *words]
        return subprocess.run(argv, input=text, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)

    return run


def test_exec_from_stdin(exec_):
    """Code from stdin; the program itself then reads nothing."""
    done = exec_("--lang", "python", text="import sys\nprint(6 * 7, sys.stdin.read())")
    assert (0, "42 \n", "") == (done.returncode, done.stdout, done.stderr)


def test_exec_of_a_file_runs_it(exec_, tmp_path):
    """Code from a file, which says its language, reads stdin and has arguments; the exit code is its own."""
    (tmp_path / "job.py").write_text("import sys\nprint(sys.argv, sys.stdin.read())\nsys.exit(9)")
    done = exec_("--timeout", "9000", "job.py", "--", "-a", "--", text="in")
    assert (9, "['job.py', '-a', '--'] in\n") == (done.returncode, done.stdout)


def test_exec_leaves_the_directory_unchanged(exec_, tmp_path):
    """Code is put into the private view of the directory, not into the directory."""
    (tmp_path / "main.py").write_text("mine")
    done = exec_("--lang", "python", text="open('x', 'w').write('1'); print(open('main.py').read()[:4])")
    assert (0, "open\n") == (done.returncode, done.stdout)
    assert {"main.py": "mine"} == {path.name: path.read_text() for path in tmp_path.iterdir()}


def test_exec_options_may_follow_the_file(exec_, tmp_path):
    """Options stand before and after FILE, up to `--`; of a repeated one the last counts."""
    (tmp_path / "show.py").write_text("import os, sys; print(os.environ['A'], sys.argv[1:])")
    done = exec_("--lang", "c", "show.py", "--env", "A=1", "--lang", "python", "--", "--env", "A=2")
    assert (0, "1 ['--env', 'A=2']\n") == (done.returncode, done.stdout)


def test_exec_code_of_the_command_line_gets_stdin(exec_):
    """`-c CODE` is the program, and stdin is its input."""
    done = exec_("--lang", "python", "-c", "print(input() * 2)", text="ab\n")
    assert (0, "abab\n") == (done.returncode, done.stdout)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lang", "cobol"], 'E1005: --lang: unknown language "cobol"'),
        ([], "E1007: no language is given"),
        (["--lang"], "E1007: `--lang` needs a value"),
        (["--no-such", "x.py"], "E1007: unknown option `--no-such`"),
        (["missing.py"], 'E1005: FILE: cannot read "missing.py": no such file or directory'),
        (["-c"], "E1007: `-c` needs a value: `-c <CODE>`"),
        (["-c", "1"], "E1007: no language is given"),
        (["-c", "1", "a.py"], 'E1009: the code is given by `-c`, and by the file "a.py"'),
        (["a.py", "b.py"], 'E1007: only one FILE can be run, and "a.py" is already given'),
    ],
)
def test_exec_invalid_command_line_is_refused(exec_, words, said):
    """A wrong command line is refused with what is wrong, and exit code 2."""
    done = exec_(*words)
    assert (2, True, "") == (done.returncode, f"capsule-run: {said}" in done.stderr, done.stdout)


def test_exec_with_json_is_refused(exec_):
    """`--json` reads a whole request, so it is refused, in JSON."""
    done = exec_("--lang", "python", "--json")
    assert (2, "E1007") == (done.returncode, json.loads(done.stdout)["error"]["code"])


@pytest.mark.parametrize(
    ("words", "lang", "options", "file", "arguments"),
    [
        ("--lang c", "c", "", None, ""),
        ("--lang c -", "c", "", "-", ""),
        ("--lang=c -- a b", "c", "", None, "a b"),
        ("x.c -m 1G --lang c -- x -m", "c", "-m 1G", "x.c", "x -m"),
        ("-m 1G --lang c -vt 5 x.c -- -y", "c", "-m 1G -vt 5", "x.c", "-y"),
        ("--env --lang x.py", None, "--env --lang", "x.py", ""),
        ("--env=A=b x.py", None, "--env=A=b", "x.py", ""),
    ],
)
def test_exec_option_value_is_not_the_file(words, lang, options, file, arguments):
    """An option's value is never taken for the file or for `--lang`."""
    got = split("exec", words.split(), OPTIONS)
    assert (lang, options.split(), [file] if file else [], arguments.split()) == (
        got.own.get("--lang"), [*got.options], [*got.operands], [*got.rest]
    )  # fmt: skip


def test_exec_help_names_every_language(exec_):
    """Help names every language."""
    assert [] == [name for name in LANGUAGES if name not in exec_("--help").stdout]


def test_run_code_is_public():
    """The SDK's name is the one that its error messages and help know."""
    assert "run_code" == capsule_run.run_code.__name__
