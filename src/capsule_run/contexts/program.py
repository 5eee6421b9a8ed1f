"""The command that starts an interpreter in the sandbox, and the program that it reads from its standard input.

The texts of `inside/` travel as text: the sandbox shows no file of ours, and a list of processes stays readable.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run.request.languages import language as language_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LANGUAGES = ("python", "javascript")
_ALSO_WRITTEN = {other: name for name in LANGUAGES for other in language_row(name).also}
_TEXTS = {"python": ("python_driver.py", "python_display.py"), "javascript": ("node_driver.js",)}
# What the interpreter of a language is in the sandbox, beside `python3`, which runs the relay.
PROGRAMS = {"python": (), "javascript": ("node",)}

# The first entry of the path is the current directory: a file there must not take the place of a module that we need.
_BOOT = "import sys;sys.path[:1]=[p for p in sys.path[:1] if p];exec(sys.stdin.buffer.read({}))"

_MAIN = {
    "python": """
def interpreter(requests, messages):
    driver, display = module("python_driver.py"), module("python_display.py")
    driver.main(requests, messages, display.Display)
""",
    "javascript": """
def interpreter(requests, messages):
    os.dup2(requests, 3)
    os.dup2(messages, 4)
    os.execvp("node", ["node", "-e", TEXTS["node_driver.js"]])
""",
}
_PROGRAM = """\
import os, types
TEXTS = {texts!r}
def module(name):
    made = types.ModuleType(name)
    exec(compile(TEXTS[name], "<capsule-run " + name + ">", "exec"), made.__dict__)
    return made
{main}
module("relay.py").main(interpreter)
"""


def language_of(word: object) -> str:
    """Return the language of a context by one of its names. Raises CapsuleError E1003 or E1005."""
    accepted = "`python` or `javascript`"
    if not isinstance(word, str):
        raise CapsuleError("E1003", f"language: must be a string, got {type(word).__name__}")
    name = _ALSO_WRITTEN.get(word.lower(), word.lower())
    if name not in LANGUAGES:
        hint = "code in other languages runs with `run_code`, one program at a time"
        raise CapsuleError("E1005", f"language: a context has {accepted}, got `{word}`", hint=hint)
    return name


def command(language: object) -> tuple[str, ...]:
    """Return the command that starts an interpreter of the language in the sandbox."""
    return "python3", "-c", _BOOT.format(len(program(language_of(language))))


def program(language: str) -> bytes:
    """Return the program that this command reads, before anything else, from its standard input."""
    texts = {name: _text(name) for name in ("relay.py", *_TEXTS[language])}
    return _PROGRAM.format(texts=texts, main=_MAIN[language]).encode()


def _text(name: str) -> str:
    folder = str(globals().get("__file__", "")).rpartition("/")[0]
    try:
        with open(f"{folder}/inside/{name}", encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        # The static program has no files: its build makes a module of them.
        frozen: Mapping[str, str] = __import__(f"{__package__}._inside_texts", fromlist=["TEXTS"]).TEXTS
        return frozen[name]
