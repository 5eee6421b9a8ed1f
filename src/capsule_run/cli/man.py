"""`capsule-run man`: print a manual page (man(7)), made of the help texts, the table of options and the error catalogue."""

from __future__ import annotations

from capsule_run import __version__
from capsule_run._base.error_codes import CODES, OWN, entry
from capsule_run._base.errors import CapsuleError
from capsule_run.cli import subcommands
from capsule_run.cli.output import write_all
from capsule_run.request.option_table import GROUPS, Option
from capsule_run.request.option_table import OPTIONS as COMMON
from capsule_run.request.validators import did_you_mean, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OPTIONS: tuple[Option, ...] = ()
_EXITS = (
    ("124", "the command ran longer than its time limit"),
    ("126", "the command cannot be executed"),
    ("127", "the command was not found"),
    ("137", "a limit or a security rule ended the command"),
    ("128+N", "signal N ended the command"),
    ("125", "the sandbox or the host failed"),
    ("2", "the request or the command line is invalid"),
)


def help_text() -> str:
    """Return the text of `capsule-run man --help`."""
    return """\
capsule-run man [SUBCOMMAND]    Print a manual page

Show it with `capsule-run man | man -l -`, or store it as capsule-run.1 in a directory of $MANPATH.
"""


def main(words: Sequence[str]) -> int:
    """Print the page and return the exit code. Raises CapsuleError E1007."""
    if words and words[0] in ("-h", "--help"):
        write_all(1, help_text())
        return 0
    name = words[0] if words else ""
    if len(words) > 1 or (name and name not in subcommands.SUBCOMMANDS):
        known = ", ".join(subcommands.SUBCOMMANDS)
        why = "name one subcommand" if len(words) > 1 else f"{shown(name)} is no subcommand"
        guess = "" if len(words) > 1 else did_you_mean(name, subcommands.SUBCOMMANDS)
        raise CapsuleError("E1007", f"man: {why}{guess}", hint=f"subcommands: {known}")
    write_all(1, page(name))
    return 0


def page(name: str = "") -> str:
    """Return the manual page of the command, or of a subcommand."""
    return _subcommand_page(name) if name else _main_page()


def _escaped(text: str) -> str:
    """Return a text as roff: no backslash, hyphen, quote or dot is taken for markup."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\`")
    return "\n".join([f"\\&{line}" if line[:1] in (".", "'") else line for line in text.split("\n")])


def _head(name: str, about: str) -> str:
    title = name.upper().replace("-", "\\-")
    top = f'.TH "{title}" "1" "" "capsule\\-run {__version__}" "User Commands"'
    return f"{top}\n.SH NAME\n{_escaped(name)} \\- {_escaped(about)}\n"


def _options(options: Iterable[Option]) -> str:
    return "".join(
        [
            ".TP\n"
            + ", ".join([f"\\fB{_escaped(name)}\\fR" for name in (option.short, option.long) if name])
            + (f" \\fI{_escaped(option.metavar.strip('<>'))}\\fR" if option.metavar else "")
            + f"\n{_escaped(option.about)}\n"
            for option in options
        ]
    )


def _terms(rows: Iterable[tuple[str, str]]) -> str:
    return "".join([f".TP\n\\fB{_escaped(term)}\\fR\n{_escaped(about)}\n" for term, about in rows])


def _main_page() -> str:
    groups = "".join(
        [f".SS {name.capitalize()}\n{_options(option for option in COMMON if option.group == name)}" for name in GROUPS]
    )
    files = (
        ("capsule.toml", "defaults of a project, in the current directory or above; it can only lower limits"),
        ("~/.config/capsule-run/config.toml", "defaults of the user"),
        ("/etc/capsule-run/config.toml", "defaults and ceilings of the machine"),
    )
    variables = (
        ("CAPSULE_RUN_*", "an option: CAPSULE_RUN_MAX_PIDS=50 is --max-pids 50"),
        ("CAPSULE_CONFIG", "a configuration file that is read before the others"),
    )
    codes = [(f"{line.code} ({line.cause})", line.meaning) for line in map(entry, CODES)]
    assert {str(entry(code).exit) for code in CODES} - {OWN} <= {term for term, _ in _EXITS}
    return (
        _head("capsule-run", "run an untrusted command in a sandbox, and say exactly what happened")
        + ".SH SYNOPSIS\n.B capsule\\-run\n[\\fIOPTIONS\\fR] [\\-\\-] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]\n.br\n"
        + ".B capsule\\-run\n\\fISUBCOMMAND\\fR [\\fIARGUMENTS\\fR]\n.SH DESCRIPTION\n"
        + "Runs a command isolated from the host, within limits, without root and without a daemon.\n"
        + "The current directory is visible as a private copy at /workspace.\n"
        + "After \\fB\\-\\-\\fR every word belongs to the command.\n"
        + f".SH SUBCOMMANDS\n{_terms(subcommands.SUBCOMMANDS.items())}"
        + f".SH OPTIONS\n{groups}"
        + f".SH EXIT STATUS\nThe command's own, or\n{_terms(_EXITS)}"
        + f".SH ENVIRONMENT\n{_terms(variables)}.SH FILES\n{_terms(files)}.SH ERRORS\n{_terms(codes)}"
    )


def _subcommand_page(name: str) -> str:
    module = subcommands.module(name)
    text = _escaped(module.help_text().rstrip())
    return (
        _head(f"capsule-run-{name}", subcommands.SUBCOMMANDS[name])
        + f".SH SYNOPSIS\n.nf\n{text}\n.fi\n"
        + (f".SH OPTIONS\n{_options(module.OPTIONS)}" if module.OPTIONS else "")
        + ".SH SEE ALSO\n.BR capsule\\-run (1)\n"
    )
