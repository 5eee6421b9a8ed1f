"""Decide whether a command gets a terminal of its own: by `--tty`, or because people talk to it.

Loaded only if stdin is a terminal, or with `--tty`; the terminal itself is `terminal`.
"""

from __future__ import annotations

import posix

from capsule_run._base.errors import CapsuleError
from capsule_run.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.request import Request
    from capsule_run.request.fast_path import Options

# Programs that people talk to, and that need a terminal whatever their arguments are.
_FULL_SCREEN = frozenset(
    "vi vim nvim view vimdiff nano emacs mc less more most man top htop btop tmux screen watch tig lazygit ncdu gdb "
    "ipython bpython ptpython".split()
)
# Those that read commands from a terminal if they are given no program to run.
_INTERPRETERS = frozenset(
    "sh bash dash zsh fish ksh mksh ash csh tcsh python pypy node irb ghci julia R lua sqlite3 psql mysql redis-cli bc "
    "octave erl iex scala".split()
)
_STARTS_NO_PROGRAM = frozenset("-i -l -q -s --login --norc --noprofile --posix -I -E -B -f".split())


def is_for_people(command: tuple[str, ...]) -> bool:
    """Return whether a command is known to talk to a person: a shell or an interpreter without a program, an editor."""
    name = command[0].rpartition("/")[2]
    if name in _FULL_SCREEN:
        return True
    plain = name.rstrip("0123456789.") if name.startswith("py") else name
    return plain in _INTERPRETERS and _STARTS_NO_PROGRAM.issuperset(command[1:])


def check(*, captures: str) -> None:
    """Check that there is a terminal to pass on, whose output is not captured. Raises CapsuleError E1009."""
    if captures:
        raise CapsuleError(
            "E1009",
            f"`--tty` gives the command a terminal, but `{captures}` captures its output",
            hint=f"remove `--tty` or `{captures}`",
        )
    for fd, name in ((0, "stdin"), (1, "stdout")):
        if not posix.isatty(fd):
            raise CapsuleError(
                "E1009",
                f"`--tty` passes your terminal on, but {name} is none",
                hint="without `--tty` the command gets your streams as they are",
            )


def wants_terminal(options: Options, request: Request, *, passes_stdin: bool) -> bool:
    """Return whether the command gets a terminal. Raises CapsuleError E1009 if one is asked for that cannot be had."""
    if options.tty and not passes_stdin:
        raise CapsuleError(
            "E1009",
            "`--tty` passes your terminal on, but stdin is the code",
            hint="give the code as FILE, or with `-c`",
        )
    if options.tty:
        check(captures="--pretty" if options.pretty else "")
        return True
    if options.interactive or options.pretty or not passes_stdin or not is_for_people(request.command):
        return False
    missing = [name for fd, name in enumerate(("stdin", "stdout", "stderr")) if not posix.isatty(fd)]
    if not missing:
        return True
    output.notice(
        f"`{request.command[0]}` gets no terminal of its own: {missing[0]} is none",
        hint="`-it` gives one where stdin and stdout are terminals; `-i` gives none, and leaves this message out",
    )
    return False
