"""The subcommands: first words that name a module of `cli` and not a program.

Each module has `main`, which gets the words after it and returns the exit code, `help_text`, and `OPTIONS`, its own options.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run.host.path_resolution import is_executable
from capsule_run.host.survey import caller_path
from capsule_run.request.validators import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from capsule_run.request.option_table import Option

    class Subcommand(Protocol):
        """The module of a subcommand."""

        OPTIONS: tuple[Option, ...]

        def main(self, words: Sequence[str]) -> int: ...

        def help_text(self) -> str: ...


# name → its line in the help text
SUBCOMMANDS = {
    "exec": "Run code in a language, from a file, from stdin or with -c",
    "batch": "Run a JSON request a line, several at once; print a response a line",
    "doctor": "Check this host and print remedies; --attack tries to escape",
    "policy": "Show, compare, test and learn system call profiles",
    "config": "Show, check or write configuration files and presets",
    "mcp": "Serve the sandbox as tools to an MCP client",
    "completion": "Print completions for bash, zsh or fish",
    "man": "Print a manual page",
    "schema": "Print the JSON Schema of a request or a response",
    "help": "Print the help of a subcommand",
}


def module(name: str) -> Subcommand:
    """Import the module of a subcommand."""
    found: Subcommand = __import__(f"{__package__}.{name}", fromlist=["main"])
    return found


def run(name: str, words: Sequence[str]) -> int:
    """Run a subcommand and return its exit code. Raises CapsuleError."""
    try:
        return module(name).main(words)
    except CapsuleError as error:
        if error.code == "E1007" and any(is_executable(f"{directory}/{name}") for directory in caller_path()):
            error.hint += f"; `capsule-run -- {name}` runs the program `{name}`"
        raise


def hint_for(word: str) -> str:
    """Return the hint for a program that was not found, if its name is close to a subcommand's; else an empty text."""
    guess = word if word in SUBCOMMANDS else nearest(word, SUBCOMMANDS)
    return f"the subcommand is `capsule-run {guess}`" if guess else ""
